SUMMARY = "All programs of a Stile box, built once"
DESCRIPTION = "The workspace in one run of cargo; the recipe of each service takes its program from here."

require stile-programs.inc

STILE_FILES = "Cargo.toml Cargo.lock appliance drivers models/recognition image/osimage tests/vm/Cargo.toml tests/vm/src"

# zxing-cpp is C++ and brings its own CMake build; video headers are read by clang; the screen is drawn
# without a desktop.
DEPENDS += "clang-native cmake-native fontconfig libinput libxkbcommon udev"

# clang reads the target's headers, not those of the build machine.
export BINDGEN_EXTRA_CLANG_ARGS = "--sysroot=${STAGING_DIR_TARGET}"

PROGRAMS = "gated gate-failsafe code-reader cartd visiond console caretaker"

do_compile() {
    set --
    for program in ${PROGRAMS}; do set -- "$@" --package $program@${PV}; done
    oe_cargo_build --bins "$@"
    # A feature of one program would be one of all that are built with it.
    oe_cargo_build --bin kiosk --package kiosk --no-default-features --features linuxkms
    # The simulated box's, with devices of the kernel's simulators.
    oe_cargo_build --bin vm-guest --package vm
}

do_install() {
    for program in ${PROGRAMS} kiosk vm-guest; do
        install -Dm 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/$program ${D}${libexecdir}/stile-programs/$program
    done
}

# Nothing of it is installed as it is.
PACKAGES = ""
SYSROOT_DIRS += "${libexecdir}"
INHIBIT_SYSROOT_STRIP = "1"
