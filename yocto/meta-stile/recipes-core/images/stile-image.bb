SUMMARY = "The root file system of a Stile box"
DESCRIPTION = "Read-only root with the services, the message broker and systemd; osimage makes a disk of it."
LICENSE = "GPL-3.0-only"

inherit core-image

IMAGE_FEATURES += "read-only-rootfs"
IMAGE_LINGUAS = ""
IMAGE_INSTALL = "packagegroup-core-boot mosquitto stile"

# osimage puts the image of a disk together from this and the boot partition.
IMAGE_FSTYPES = "squashfs-zst"

# 256 MiB compressed is what a box may take; the slot holds 768.
IMAGE_ROOTFS_MAXSIZE = "786432"
