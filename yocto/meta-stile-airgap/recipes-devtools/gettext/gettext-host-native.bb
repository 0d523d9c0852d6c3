SUMMARY = "The host's gettext"
DESCRIPTION = "Its programs are found on the path; a configured package also copies files of gettext's into its own sources."
HOMEPAGE = "https://www.gnu.org/software/gettext/"
SECTION = "libs"
LICENSE = "GPL-3.0-only"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/GPL-3.0-only;md5=c79ff39f19dfec6d293b95dea7b07891"

inherit native

PROVIDES += "gettext-native gettext-minimal-native"
INHIBIT_DEFAULT_DEPS = "1"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

# The other such file, config.rpath, is autotools-host's.
# nooelint: oelint.vars.pathhardcode
do_install() {
    install -Dm 0644 /usr/share/gettext/po/Makefile.in.in ${D}${datadir}/gettext/po/Makefile.in.in
    sed '/^#/d' /usr/share/gettext/po/remove-potcdate.sin > ${D}${datadir}/gettext/po/remove-potcdate.sed
    # Defaults of variables that an older gettext's Makefile does not know.
    : > ${D}${datadir}/gettext/po/Makevars.template.minimal
}
