SUMMARY = "What a simulated Stile box has besides"
DESCRIPTION = "The program that plays shopper with the kernel's device simulators, its unit and its modules."

inherit stile-service

# Not below /usr/bin, and no unit of the services.
STILE_PROGRAMS = ""
STILE_UNITS = ""

do_install() {
    install -Dm 0755 ${STAGING_LIBEXECDIR}/stile-programs/vm-guest ${D}${nonarch_libdir}/stile/vm-guest
    cp -R --no-dereference --preserve=mode,links ${S}/tests/vm/image/sim/. ${D}/
    install -d ${D}${datadir}/stile/manifests
    install -m 0644 ${S}/appliance/manifests/*-sim.toml ${D}${datadir}/stile/manifests/
}

STILE_FILES = "appliance/manifests tests/vm/image/sim"

FILES:${PN} += "${nonarch_libdir} ${datadir}/stile"
