SUMMARY = "A prebuilt Rust toolchain"
DESCRIPTION = "rustc and cargo of the folder STILE_RUST, see conf/distro/include/rust-bin.inc."
HOMEPAGE = "https://www.rust-lang.org/"
SECTION = "devel"
LICENSE = "Apache-2.0 | MIT"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"

inherit native

PROVIDES += "rust-native cargo-native"
INHIBIT_DEFAULT_DEPS = "1"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

STILE_RUST ??= "/usr"

# The version is part of what is built with it.
def rust_bin_version(d):
    import subprocess
    rustc = os.path.join(d.getVar("STILE_RUST"), "bin/rustc")
    try:
        return subprocess.run([rustc, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        bb.fatal("no Rust toolchain in STILE_RUST: %s" % error)

# Scripts and no links: rustc finds its library beside the place that it was started from.
python do_install() {
    bb.note(rust_bin_version(d))
    folder = d.expand("${D}${bindir}")
    bb.utils.mkdirhier(folder)
    for program in ("rustc", "cargo", "rustdoc"):
        path = os.path.join(folder, program)
        with open(path, "w") as script:
            script.write('#!/bin/sh\nexec "%s/bin/%s" "$@"\n' % (d.getVar("STILE_RUST"), program))
        os.chmod(path, 0o755)
}
