SUMMARY = "The initial RAM disk of a Stile box"
DESCRIPTION = "systemd, udev and veritysetup open the root of the slot that runs; the caretaker says which one that is."
SECTION = "images"
LICENSE = "GPL-3.0-only"

inherit core-image

PACKAGE_INSTALL = "systemd udev kmod cryptsetup caretaker stile-base-initramfs base-files"
NO_RECOMMENDATIONS = "1"
IMAGE_FEATURES = ""
IMAGE_LINGUAS = ""
INITRAMFS_MAXSIZE = "131072"
IMAGE_FSTYPES = "${INITRAMFS_FSTYPES}"
IMAGE_NAME_SUFFIX = ""

ROOTFS_POSTPROCESS_COMMAND += "stile_initramfs_finish"
stile_initramfs_finish() {
    ln -sf ${nonarch_libdir}/systemd/systemd ${IMAGE_ROOTFS}/init
    ln -sf ..${nonarch_libdir}/os-release ${IMAGE_ROOTFS}${sysconfdir}/initrd-release
    ln -sf initrd.target ${IMAGE_ROOTFS}${systemd_system_unitdir}/default.target
    : > ${IMAGE_ROOTFS}${sysconfdir}/machine-id
}
