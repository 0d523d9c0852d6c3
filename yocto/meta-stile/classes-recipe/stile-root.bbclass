# The root of a box: what core-image makes of packages, and then the same as the reference image.
inherit core-image

IMAGE_FEATURES += "read-only-rootfs"
IMAGE_LINGUAS = ""
NO_RECOMMENDATIONS = "1"
IMAGE_FSTYPES = "squashfs-zst"
EXTRA_IMAGECMD:squashfs-zst = "-Xcompression-level 19 -b 128K -no-xattrs -all-root -sort ${STILE_TOP}/image/reference/root.sort"
do_image_squashfs_zst[file-checksums] += "${STILE_TOP}/image/reference/root.sort:True"
# The slot holds 768 MiB; a release may take 256 MB packed.
IMAGE_ROOTFS_MAXSIZE = "786432"

# Programs that core-image's packages bring and that nobody on a box may run: shells, logins, package
# managers.
STILE_NOT_ON_A_BOX ?= "\
    */bin/sh */bin/bash */bin/dash */bin/ash */sbin/agetty */sbin/getty */bin/login */sbin/sulogin */bin/su */bin/sudo \
    */bin/opkg* */bin/dpkg* */bin/apt* */bin/busybox* */sbin/ldconfig \
"

ROOTFS_POSTPROCESS_COMMAND += "stile_root_users stile_root_presets stile_root_etc"
# Last of all: until then the package manager looks at what it installed.
IMAGE_PREPROCESS_COMMAND += "stile_root_prune"

# Users and groups from the two files that the reference image takes, by the program that it uses.
stile_root_users() {
    find ${IMAGE_ROOTFS}${nonarch_libdir}/sysusers.d -name '*.conf' ! -name '00-stile.conf' ! -name 'stile-base.conf' -delete
    python3 ${STILE_TOP}/image/reference/tree.py users ${IMAGE_ROOTFS}
}

# What starts: our preset, which ends in `disable *`.
stile_root_presets() {
    rm -rf ${IMAGE_ROOTFS}${sysconfdir}/systemd/system/*.wants
    systemctl --root=${IMAGE_ROOTFS} preset-all --preset-mode=enable-only
}

stile_root_prune() {
    # Patterns, not names of files that happen to be here.
    set -f
    for pattern in ${STILE_NOT_ON_A_BOX}; do
        find ${IMAGE_ROOTFS} -path "$pattern" \( -type f -o -type l \) -delete
    done
    set +f
    find ${IMAGE_ROOTFS} -type f -perm /6000 -exec chmod ug-s {} +
    rm -rf ${IMAGE_ROOTFS}/boot ${IMAGE_ROOTFS}${sysconfdir}/init.d ${IMAGE_ROOTFS}${sysconfdir}/rc*.d
    find ${IMAGE_ROOTFS}${localstatedir} -mindepth 1 -delete
}

# /etc is read-only; what a box is, is in /run/stile.
stile_root_etc() {
    cp -a --no-preserve=ownership ${STILE_TOP}/image/reference/root/etc/. ${IMAGE_ROOTFS}${sysconfdir}/
    python3 ${STILE_TOP}/image/reference/tree.py links ${IMAGE_ROOTFS} ${STILE_TOP}/image/reference/root.links
    install -d ${IMAGE_ROOTFS}/mnt ${IMAGE_ROOTFS}${nonarch_libdir}/stile
    {
        echo 'NAME=Stile'
        echo 'ID=stile'
        echo 'PRETTY_NAME="Stile ${STILE_VERSION}"'
        echo 'VERSION_ID=${STILE_VERSION}'
        echo 'IMAGE_ID=${STILE_COMPATIBLE}'
        echo 'IMAGE_VERSION=${STILE_VERSION}'
        echo 'VARIANT_ID=${STILE_VARIANT}'
    } > ${IMAGE_ROOTFS}${nonarch_libdir}/os-release
}
do_rootfs[file-checksums] += "\
    ${STILE_TOP}/image/reference/tree.py:True ${STILE_TOP}/image/reference/root:True \
    ${STILE_TOP}/image/reference/root.links:True \
"
do_rootfs[depends] += "systemd-systemctl-native:do_populate_sysroot"
