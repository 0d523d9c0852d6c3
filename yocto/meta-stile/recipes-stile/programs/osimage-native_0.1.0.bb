SUMMARY = "The technician's tool: assembles, signs and bundles disk images"
DESCRIPTION = "Of the build machine, so that an image of this build and the reference image are put together by one program."

require stile-programs.inc

STILE_FILES = "Cargo.toml Cargo.lock image/osimage"

do_compile() {
    oe_cargo_build --bin osimage --package osimage
}

do_install() {
    install -Dm 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/osimage ${D}${bindir}/osimage
}

inherit native
