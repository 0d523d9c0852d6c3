SUMMARY = "Linux from Debian's source package"
DESCRIPTION = "The kernel series of Debian's stable release, without Debian's patches, with the options that a Stile box \
needs and no others."
HOMEPAGE = "https://tracker.debian.org/pkg/linux"
SECTION = "kernel"
LICENSE = "GPL-2.0-only"
LIC_FILES_CHKSUM = "file://COPYING;md5=6bc538ed5bd9a7fc9398086aedcd7e46"

DEPENDS += "elfutils-native openssl-native"

inherit kernel

FILESEXTRAPATHS:prepend := "${STILE_KERNEL_FRAGMENTS}:"

# The class debian-source puts the tarball in the place of the first entry.
SRC_URI = "${KERNELORG_MIRROR}/linux/kernel/v6.x/linux-${PV}.tar.xz \
           file://base.cfg \
           file://stile.cfg \
           file://x86-64.cfg \
           file://qemu.cfg \
"
require recipes-kernel/linux/stile-secure-boot.inc
S = "${UNPACKDIR}/linux-${PV}"

LINUX_VERSION = "${PV}"
COMPATIBLE_MACHINE = "^qemux86-64-airgap$"

# In the order in which they are read; a later one decides.
FRAGMENTS = "base.cfg stile.cfg x86-64.cfg qemu.cfg ${STILE_SECURE_BOOT_FRAGMENT}"

# Everything that no fragment asks for is off.
do_configure() {
    for fragment in ${FRAGMENTS}; do cat ${UNPACKDIR}/$fragment; done > ${B}/.wanted
    oe_runmake -C ${S} O=${B} KCONFIG_ALLCONFIG=${B}/.wanted allnoconfig
}

# An option that another one hides is dropped without a word by the kernel's own tools.
do_configure[postfuncs] += "check_wanted"
python check_wanted() {
    wanted = {}
    with open(d.expand("${B}/.wanted")) as lines:
        for line in lines:
            if line.startswith("CONFIG_") and "=" in line:
                key, value = line.strip().split("=", 1)
                wanted[key] = value
    with open(d.expand("${B}/.config")) as lines:
        got = dict(line.strip().split("=", 1) for line in lines if line.startswith("CONFIG_"))
    lost = sorted(key for key, value in wanted.items() if value != got.get(key, "n"))
    if lost:
        bb.fatal("the kernel's configuration lacks what the fragments ask for: %s" % " ".join(lost))
}
