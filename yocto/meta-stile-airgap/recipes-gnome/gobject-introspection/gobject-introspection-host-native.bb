SUMMARY = "The host's introspection macros"
DESCRIPTION = "Recipes copy them into sources that may describe their interfaces; nothing here does."
HOMEPAGE = "https://gi.readthedocs.io/"
SECTION = "libs"
LICENSE = "GPL-2.0-or-later"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/GPL-2.0-or-later;md5=fed54355545ffd980b814dab4a3b312c"

inherit native

PROVIDES += "gobject-introspection-native"
INHIBIT_DEFAULT_DEPS = "1"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

# nooelint: oelint.vars.pathhardcode
do_install() {
    install -Dm 0644 /usr/share/aclocal/introspection.m4 ${D}${datadir}/aclocal/introspection.m4
}
