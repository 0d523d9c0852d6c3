# ttyrun keeps init quiet where a console may be absent. It comes from a git repository alone, and the console of
# a machine that is brought up is there.
RDEPENDS:${PN}:remove:airgap = "ttyrun"

do_install:append:airgap() {
    sed -i 's,respawn:[^ ]*/ttyrun [^ ]* ,respawn:,' ${D}${sysconfdir}/inittab
}
