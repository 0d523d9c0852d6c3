SUMMARY = "The host's gcc and binutils under the target's name"
DESCRIPTION = "For a target whose processor and C library are of the same kind as the build machine's: the programs of \
Debian, told where the target's files are."
HOMEPAGE = "https://tracker.debian.org/pkg/gcc-defaults"
SECTION = "devel"
LICENSE = "GPL-3.0-only"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/GPL-3.0-only;md5=c79ff39f19dfec6d293b95dea7b07891"

inherit cross

PN = "host-toolchain-cross-${TARGET_ARCH}"
PROVIDES = "virtual/cross-cc virtual/cross-c++ virtual/cross-binutils"
INHIBIT_DEFAULT_DEPS = "1"
TOOLCHAIN = "host"
# The one processor that the build machine's own compiler writes for.
COMPATIBLE_HOST = "x86_64.*-linux"

SRC_URI = "file://driver"
S = "${UNPACKDIR}"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${bindir}
    for tool in gcc g++; do
        install -m 0755 ${S}/driver ${D}${bindir}/${TARGET_PREFIX}$tool
    done
    for tool in cpp gcc-ar gcc-nm gcc-ranlib addr2line ar as elfedit gprof ld ld.bfd nm \
        objcopy objdump ranlib readelf size strings strip; do
        ln -s /usr/bin/${TARGET_ARCH}-linux-gnu-$tool ${D}${bindir}/${TARGET_PREFIX}$tool
    done
}

# Links to programs of the host are what this recipe is for.
INSANE_SKIP += "already-stripped"

require chosen.inc
