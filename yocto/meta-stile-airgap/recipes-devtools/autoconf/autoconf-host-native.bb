SUMMARY = "The host's autoconf"
DESCRIPTION = "autoreconf of Debian 12 and 13 lacks the option by which openembedded-core leaves out some of its steps; \
here it has it."
HOMEPAGE = "https://www.gnu.org/software/autoconf/"
SECTION = "devel"
LICENSE = "GPL-3.0-only"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/GPL-3.0-only;md5=c79ff39f19dfec6d293b95dea7b07891"

inherit native

PROVIDES += "autoconf-native"

SRC_URI = "file://autoreconf"
S = "${UNPACKDIR}"

INHIBIT_DEFAULT_DEPS = "1"

do_install() {
    install -Dm 0755 ${S}/autoreconf ${D}${bindir}/autoreconf
}
