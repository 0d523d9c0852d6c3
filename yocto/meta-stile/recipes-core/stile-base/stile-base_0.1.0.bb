SUMMARY = "Users, limits, logs, network and presets of a Stile box"
DESCRIPTION = "appliance/systemd/root as it lies, the rules of the slots and RAUC's configuration."
SECTION = "base"

inherit stile-source

STILE_FILES = "appliance/systemd/root appliance/manifests image/reference/boot"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

STILE_RAUC_CONFIG = "system.conf"
STILE_RAUC_CONFIG:rpi = "system.raspberry-pi.conf"
PACKAGE_ARCH = "${MACHINE_ARCH}"

do_install() {
    cp -R --no-dereference --preserve=mode,links ${S}/appliance/systemd/root/. ${D}/
    install -Dm 0644 ${S}/image/reference/boot/61-stile-slots.rules ${D}${nonarch_libdir}/udev/rules.d/61-stile-slots.rules
    install -Dm 0644 ${S}/image/reference/boot/${STILE_RAUC_CONFIG} ${D}${sysconfdir}/rauc/system.conf
    install -d ${D}${datadir}/stile/manifests ${D}${datadir}/stile/keys
    for manifest in ${S}/appliance/manifests/*.toml; do
        case $manifest in
        *-sim.toml) ;;
        *) install -m 0644 $manifest ${D}${datadir}/stile/manifests/ ;;
        esac
    done
    # The broker's files come with the broker; the operator's keys are no part of a checkout.
    rm -rf ${D}${sysconfdir}/mosquitto
    if [ -n "${STILE_KEYS}" ]; then
        install -m 0644 ${STILE_KEYS}/provision.pub ${D}${datadir}/stile/keys/
        install -m 0644 ${STILE_KEYS}/rauc-ca.pem ${D}${sysconfdir}/rauc/keyring.pem
    fi
}
STILE_KEYS ??= ""

FILES:${PN} = "${sysconfdir} ${nonarch_libdir} ${datadir}"
# rauc asks for a configuration.
RPROVIDES:${PN} = "virtual-rauc-conf"
