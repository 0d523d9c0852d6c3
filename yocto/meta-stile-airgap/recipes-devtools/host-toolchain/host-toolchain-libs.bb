SUMMARY = "The libraries of the host's compiler"
DESCRIPTION = "libgcc_s and libstdc++ of the Debian machine that builds."
HOMEPAGE = "https://tracker.debian.org/pkg/gcc-defaults"
SECTION = "libs"
LICENSE = "GPL-3.0-with-GCC-exception"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/GPL-3.0-with-GCC-exception;md5=aef5f35c9272f508be848cd99e0151df"

DEPENDS += "virtual/cross-cc virtual/libc"
PROVIDES = "virtual/compilerlibs libgcc"
INHIBIT_DEFAULT_DEPS = "1"
TOOLCHAIN = "host"
COMPATIBLE_HOST = "x86_64.*-linux"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

# What the host's compiler itself would link with.
do_install() {
    install -d ${D}${base_libdir} ${D}${libdir}
    install -m 0644 $(gcc -print-file-name=libgcc_s.so.1) ${D}${base_libdir}/libgcc_s.so.1
    # Debian's compiler names the loader in /lib64.
    ln -s .${base_libdir} ${D}/lib64
    cp -P $(dirname $(realpath $(gcc -print-file-name=libstdc++.so.6)))/libstdc++.so.6* ${D}${libdir}/
}

PACKAGES = "libgcc libstdc++"
FILES:libgcc = "${base_libdir}/libgcc_s.so.1 /lib64"
FILES:libstdc++ = "${libdir}/libstdc++.so.6*"
RDEPENDS:libstdc++ = "libgcc"
# Debian has stripped them; asked of the recipe before it is asked of its packages.
INSANE_SKIP:${PN} = "already-stripped"
INSANE_SKIP:libgcc = "already-stripped ldflags usrmerge"
INSANE_SKIP:libstdc++ = "already-stripped ldflags"

require chosen.inc
