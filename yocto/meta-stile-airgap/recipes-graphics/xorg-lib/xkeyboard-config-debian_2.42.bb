SUMMARY = "Keyboard configuration database"
DESCRIPTION = "Layouts of keyboards, from Debian's package of them: the archive keeps that longer than its source."
HOMEPAGE = "https://tracker.debian.org/pkg/xkeyboard-config"
SECTION = "x11/libs"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://usr/share/doc/xkb-data/copyright;md5=624d3d555a66b60624a252c263bc834b"

PROVIDES = "xkeyboard-config"

SRC_URI = "${DEBIAN_ARCHIVE}/pool/main/x/xkeyboard-config/xkb-data_${PV}-1_all.deb;subdir=${BP}"
SRC_URI[sha256sum] = "196ff18533382f64e057ea49df2bb486bd4275a4cc0917361edb560b8756dada"

inherit allarch

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${datadir}/X11
    cp -R --no-dereference --preserve=mode,links ${S}/usr/share/X11/xkb ${D}${datadir}/X11/
}

FILES:${PN} = "${datadir}/X11"
RPROVIDES:${PN} = "xkeyboard-config"

# Chosen by airgap.inc; it needs that file's archive.
DEBIAN_ARCHIVE ?= "http://deb.debian.org/debian"
