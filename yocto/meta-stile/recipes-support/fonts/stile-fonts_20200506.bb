SUMMARY = "NanumSquare, the face of a box's screens"
DESCRIPTION = "Two files of the Nanum fonts: every Hangul syllable and the letters of our screens."
HOMEPAGE = "https://tracker.debian.org/pkg/fonts-nanum"
SECTION = "fonts"
LICENSE = "OFL-1.1"
LIC_FILES_CHKSUM = "file://usr/share/doc/fonts-nanum/copyright;md5=b71dca8ccd2db5ab2ab0c763066f2d3c"

# Their maker publishes installers; Debian's package has the files themselves.
SRC_URI = "http://deb.debian.org/debian/pool/main/f/fonts-nanum/fonts-nanum_${PV}-1_all.deb;subdir=${BP}"
SRC_URI[sha256sum] = "5e86c346e6485b694e1f0ebd27132892fcf014d1b975de4fd21d1654ddf37043"

inherit allarch

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    for face in NanumSquareR NanumSquareB; do
        install -Dm 0644 ${S}/usr/share/fonts/truetype/nanum/$face.ttf ${D}${datadir}/fonts/truetype/nanum/$face.ttf
    done
}
FILES:${PN} = "${datadir}/fonts"
