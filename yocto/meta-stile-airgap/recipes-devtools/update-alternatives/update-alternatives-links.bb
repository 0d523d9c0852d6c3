SUMMARY = "Alternatives as links, decided while an image is made"
DESCRIPTION = "Of several programs of one name the one of the highest priority gets the link. A box with a read-only root \
changes none later."
HOMEPAGE = "https://docs.yoctoproject.org/ref-manual/classes.html#update-alternatives"
SECTION = "base"
LICENSE = "GPL-3.0-only"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/GPL-3.0-only;md5=c79ff39f19dfec6d293b95dea7b07891"

inherit allarch

PROVIDES += "virtual/update-alternatives"

SRC_URI = "file://update-alternatives"
S = "${UNPACKDIR}"

RPROVIDES:${PN} += "update-alternatives"
INHIBIT_DEFAULT_DEPS = "1"

do_install() {
    install -Dm 0755 ${S}/update-alternatives ${D}${bindir}/update-alternatives
}

BBCLASSEXTEND = "native"
