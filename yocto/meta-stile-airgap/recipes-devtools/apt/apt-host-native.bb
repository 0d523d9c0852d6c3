SUMMARY = "The host's apt and dpkg"
DESCRIPTION = "Packages are put into a root file system by the dpkg and the apt of the Debian machine that builds, with the \
configuration that openembedded-core's own apt brings."
HOMEPAGE = "https://tracker.debian.org/pkg/apt"
SECTION = "devel"
LICENSE = "GPL-3.0-only"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/GPL-3.0-only;md5=c79ff39f19dfec6d293b95dea7b07891"

inherit native

PROVIDES += "apt-native dpkg-native"

SRC_URI = "file://apt.conf.sample file://dpkg"
S = "${UNPACKDIR}"

INHIBIT_DEFAULT_DEPS = "1"

do_install() {
    install -Dm 0644 ${S}/apt.conf.sample ${D}${sysconfdir}/apt/apt.conf.sample
    install -Dm 0755 ${S}/dpkg ${D}${bindir}/dpkg
    for tool in apt-get apt-cache apt-ftparchive dpkg-deb dpkg-query dpkg-split dpkg-trigger dpkg-realpath; do
        ln -s /usr/bin/$tool ${D}${bindir}/$tool
    done
}
