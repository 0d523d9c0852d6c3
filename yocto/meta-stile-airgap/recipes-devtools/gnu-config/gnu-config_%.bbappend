# Debian's archive has no source of it that lasts; its scripts are on every Debian machine (package
# autotools-dev).
LIC_FILES_CHKSUM:airgap = "file://${COREBASE}/meta/files/common-licenses/GPL-3.0-with-autoconf-exception;md5=da26b415cb0faf9bfe6829f0ffa409ec"
SRC_URI:airgap = "file:///usr/share/misc/config.guess file:///usr/share/misc/config.sub file://gnu-configize.in"
S:airgap = "${UNPACKDIR}"

do_configure:prepend:airgap() {
    find ${UNPACKDIR} -mindepth 2 -name 'config.*' -exec mv {} ${S}/ \;
}

# The modules of the autoconf that is in use: the host's.
do_install:append:airgap() {
    sed -i -e 's,${datadir}/autoconf,/usr/share/autoconf,' ${D}${bindir}/gnu-configize
}
