SUMMARY = "The kernel's script that joins configuration fragments"
DESCRIPTION = "Recipes configured like the kernel ask for kern-tools, of which they use this one script."
HOMEPAGE = "https://www.kernel.org/"
SECTION = "devel"
LICENSE = "GPL-2.0-only"
LIC_FILES_CHKSUM = "file://COPYING;md5=6bc538ed5bd9a7fc9398086aedcd7e46"

inherit native

PROVIDES += "kern-tools-native"

SRC_URI = "${KERNELORG_MIRROR}/linux/kernel/v6.x/linux-${PV}.tar.xz"
DEBIAN_UNPACK = "0"
S = "${UNPACKDIR}/linux-${PV}"

INHIBIT_DEFAULT_DEPS = "1"

# Two files of a large tarball. Within the task: what comes after it looks whether S is there.
python do_unpack:append() {
    bb.build.exec_func("unpack_script", d)
}
unpack_script() {
    mkdir -p ${S}
    tar --extract --strip-components=1 --directory ${S} --file ${UNPACKDIR}/*.tar.xz --wildcards \
        '*/COPYING' '*/scripts/kconfig/merge_config.sh'
}

do_install() {
    install -Dm 0755 ${S}/scripts/kconfig/merge_config.sh ${D}${bindir}/merge_config.sh
}
