SUMMARY = "The host's gtkdocize"
DESCRIPTION = "Packages call it when they are configured anew, whether or not their documents are made."
HOMEPAGE = "https://gitlab.gnome.org/GNOME/gtk-doc"
SECTION = "devel"
LICENSE = "GPL-2.0-only"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/GPL-2.0-only;md5=801f80980d171dd6425610833a22dbe6"

inherit native

PROVIDES += "gtk-doc-native"

SRC_URI = "file://gtkdocize"
S = "${UNPACKDIR}"

INHIBIT_DEFAULT_DEPS = "1"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -Dm 0755 ${S}/gtkdocize ${D}${bindir}/gtkdocize
}
