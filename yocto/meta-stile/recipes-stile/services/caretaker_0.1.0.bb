SUMMARY = "What a Stile box is, whether it is well, and which slot it starts from"
DESCRIPTION = "Reads the provisioning file at each start, marks a slot good or goes back, and is RAUC's boot loader backend."

inherit stile-service

STILE_UNITS = "\
    caretaker-first-boot.service caretaker-health.service caretaker-watch.service caretaker-give-up.service \
    caretaker-deadline.timer \
"

do_install:append() {
    install -d ${D}${nonarch_libdir}/stile
    ln -s ${bindir}/caretaker ${D}${nonarch_libdir}/stile/boot-backend
}
FILES:${PN} += "${nonarch_libdir}/stile"
