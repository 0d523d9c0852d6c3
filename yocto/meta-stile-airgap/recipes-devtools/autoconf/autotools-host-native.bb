SUMMARY = "The host's autoconf and automake"
DESCRIPTION = "autoreconf and aclocal of Debian 12 lack options that openembedded-core gives them; here they have them."
HOMEPAGE = "https://www.gnu.org/software/autoconf/"
SECTION = "devel"
LICENSE = "GPL-3.0-only"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/GPL-3.0-only;md5=c79ff39f19dfec6d293b95dea7b07891"

inherit native

PROVIDES += "autoconf-native automake-native"

SRC_URI = "file://aclocal file://autoreconf"
S = "${UNPACKDIR}"

INHIBIT_DEFAULT_DEPS = "1"

# nooelint: oelint.vars.pathhardcode
do_install() {
    install -d ${D}${bindir}
    install -m 0755 ${S}/aclocal ${S}/autoreconf ${D}${bindir}/
    # Looked for beside a gettext that was built here.
    install -Dm 0755 /usr/share/gettext/config.rpath ${D}${datadir}/gettext/config.rpath
}

# Packages that call no autoreconf get their config.guess and config.sub by gnu-configize.
RDEPENDS:${PN} = "gnu-config-native"
