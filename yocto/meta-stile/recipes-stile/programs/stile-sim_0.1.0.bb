SUMMARY = "What a simulated Stile box has besides"
DESCRIPTION = "The program that plays shopper with the kernel's device simulators, its unit and its modules."

require stile-programs.inc

DEPENDS += "clang-native"

do_compile() {
    oe_cargo_build --bin vm-guest --package vm
}

do_install() {
    install -Dm 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/vm-guest ${D}${nonarch_libdir}/stile/vm-guest
    cp -R --no-dereference --preserve=mode,links ${S}/tests/vm/image/sim/. ${D}/
}

FILES:${PN} += "${nonarch_libdir}"
RRECOMMENDS:${PN} = "\
    kernel-module-gpio-sim kernel-module-dummy-hcd kernel-module-libcomposite kernel-module-usb-f-hid \
    kernel-module-vivid kernel-module-uinput \
"
