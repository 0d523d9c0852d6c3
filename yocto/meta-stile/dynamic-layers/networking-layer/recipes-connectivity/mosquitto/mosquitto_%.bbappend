# The bus of one box: our unit and our configuration, as the reference image has them.
do_install:append:stile() {
    install -m 0644 ${STILE_TOP}/appliance/systemd/mosquitto.service ${D}${systemd_system_unitdir}/mosquitto.service
    install -m 0644 ${STILE_TOP}/appliance/systemd/root/etc/mosquitto/mosquitto.conf \
        ${D}${sysconfdir}/mosquitto/mosquitto.conf
}
do_install[file-checksums] .= "${STILE_MOSQUITTO_FILES}"
STILE_MOSQUITTO_FILES = ""
STILE_MOSQUITTO_FILES:stile = " ${STILE_TOP}/appliance/systemd/mosquitto.service:True ${STILE_TOP}/appliance/systemd/root/etc/mosquitto/mosquitto.conf:True"
# Its user has a number in stile-base.
