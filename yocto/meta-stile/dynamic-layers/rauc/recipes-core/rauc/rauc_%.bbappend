# stile-base has RAUC's configuration and says which slot runs; the caretaker says when a slot is good.
do_install:append:stile() {
    rm -f ${D}${systemd_system_unitdir}/rauc-mark-good.service
}
SYSTEMD_SERVICE:${PN}-mark-good:stile = ""
# The bus of a box is dbus-broker, beside which dbus cannot be installed.
RDEPENDS:${PN}-service:remove:stile = "dbus"
RDEPENDS:${PN}-service:append:stile = " ${VIRTUAL-RUNTIME_dbus}"
