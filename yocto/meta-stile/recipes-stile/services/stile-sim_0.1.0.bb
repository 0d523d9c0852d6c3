SUMMARY = "What a simulated Stile box has besides"
DESCRIPTION = "The program that plays shopper with the kernel's device simulators, its unit and its modules."

inherit stile-service

# Not below /usr/bin, and no unit of the services.
STILE_PROGRAMS = ""
STILE_UNITS = ""

do_install() {
    install -Dm 0755 ${STAGING_LIBEXECDIR}/stile-programs/vm-guest ${D}${nonarch_libdir}/stile/vm-guest
    cp -R --no-dereference --preserve=mode,links ${S}/tests/vm/image/sim/. ${D}/
}

do_install[file-checksums] += "${STILE_TOP}/tests/vm/image/sim:True"

FILES:${PN} += "${nonarch_libdir}"
