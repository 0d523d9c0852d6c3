# A slot and a disk of it: dm-verity over the root, the kernel that pins its hash, and osimage, which puts
# the disk together from the layouts that the reference image uses too.
#
# Keys are a folder that `osimage keys` made: STILE_KEYS in a site file. Without it nothing is signed and no
# bundle made.
inherit python3native
require conf/image-uefi.conf

STILE_KEYS ??= ""
STILE_LAYOUT:x86-64 = "${STILE_TOP}/image/layouts/x86-64-efi.toml"
STILE_LAYOUT:aarch64 = "${STILE_TOP}/image/layouts/raspberry-pi.toml"
STILE_COMPATIBLE:x86-64 = "stile-x86-64"
STILE_COMPATIBLE:aarch64 = "stile-raspberry-pi"
STILE_VARIANT ??= "stile"
STILE_VERSION ??= "${DISTRO_VERSION}"
# Salt and id of the hash tree would otherwise be drawn by chance; they are the reference image's.
STILE_VERITY_SALT = "${@__import__('hashlib').sha256(b'stile verity salt').hexdigest()}"
STILE_VERITY_UUID = "53746c65-0000-4000-8000-766572697479"
STILE_CMDLINE_FILES:x86-64 = "${STILE_REFERENCE}/cmdline.${STILE_VARIANT}"
STILE_CMDLINE_FILES:aarch64 = "${STILE_REFERENCE}/cmdline.raspberry-pi"

STILE_SECURE_BOOT ??= "0"
# Debian's kernel does it by itself when the firmware says that it checked; the kernel's own makers' does not.
STILE_LOCKDOWN = "${@'lockdown=integrity' if d.getVar('STILE_SECURE_BOOT') == '1' else ''}"

STILE_ROOT_IMAGE = "${IMGDEPLOYDIR}/${IMAGE_LINK_NAME}.squashfs-zst"
STILE_SLOT = "${WORKDIR}/slot"

STILE_INITRD_MODULES:x86-64 = "${STILE_REFERENCE}/initrd.modules.x86-64.list"
STILE_INITRD_MODULES:aarch64 = "${STILE_REFERENCE}/initrd.modules.raspberry-pi.list"

do_stile_slot[depends] += "cryptsetup-native:do_populate_sysroot osimage-native:do_populate_sysroot \
    dosfstools-native:do_populate_sysroot mtools-native:do_populate_sysroot zstd-native:do_populate_sysroot \
    cpio-native:do_populate_sysroot kmod-native:do_populate_sysroot virtual/kernel:do_deploy"
do_stile_slot[file-checksums] += "\
    ${STILE_REFERENCE}/initrd.rules:True ${STILE_INITRD_MODULES}:True ${STILE_REFERENCE}/secure-boot.sh:True \
"
do_stile_slot[depends] += "${@'systemd-boot:do_deploy systemd-boot-native:do_populate_sysroot python3-pefile-native:do_populate_sysroot' \
    if d.getVar('TARGET_ARCH') == 'x86_64' else 'rpi-bootfiles:do_deploy'}"
do_stile_slot[depends] += "${@'rauc-native:do_populate_sysroot' if d.getVar('STILE_KEYS') else ''}"
do_stile_slot[dirs] = "${STILE_SLOT}"
do_stile_slot[cleandirs] = "${STILE_SLOT}"

stile_cmdline() {
    printf 'root=/dev/mapper/root rootfstype=squashfs ro systemd.verity=yes roothash=%s ' "$(cat roothash)"
    printf 'systemd.verity_root_data=/dev/stile/root systemd.verity_root_hash=/dev/stile/verity '
    printf 'systemd.verity_root_options=panic-on-corruption systemd.machine_id=firmware panic=-1 '
    printf 'systemd.gpt_auto=no quiet loglevel=4'
    for file in ${STILE_CMDLINE_FILES}; do
        [ ! -e "$file" ] || sed 's/#.*//; /^ *$/d' "$file" | while read -r line; do printf ' %s' "$line"; done
    done
    [ -z "${STILE_LOCKDOWN}" ] || printf ' ${STILE_LOCKDOWN}'
}

stile_slot_verity() {
    cp -L ${STILE_ROOT_IMAGE} root.squashfs
    veritysetup format --salt=${STILE_VERITY_SALT} --uuid=${STILE_VERITY_UUID} --root-hash-file=roothash \
        root.squashfs root.verity
    stile_cmdline > cmdline.txt
}

# The initial RAM disk: what of the root opens the root, by the reference image's rules.
stile_slot_initrd() {
    for folder in dev proc sys run tmp var sysroot etc; do install -d initrd/$folder; done
    for link in bin sbin lib lib64; do
        [ ! -L ${IMAGE_ROOTFS}/$link ] || cp -P ${IMAGE_ROOTFS}/$link initrd/
    done
    python3 ${STILE_REFERENCE}/tree.py pick ${IMAGE_ROOTFS} ${STILE_REFERENCE}/initrd.rules initrd
    python3 ${STILE_REFERENCE}/tree.py modules ${IMAGE_ROOTFS} ${STILE_INITRD_MODULES} initrd
    depmod -b initrd $(ls ${IMAGE_ROOTFS}${nonarch_libdir}/modules)
    ln -s usr/lib/systemd/systemd initrd/init
    ln -sf ../usr/lib/os-release initrd/etc/initrd-release
    ln -sf initrd.target initrd/usr/lib/systemd/system/default.target
    : > initrd/etc/machine-id
    find initrd -exec touch -h -d @${SOURCE_DATE_EPOCH} {} +
    (cd initrd && find . -mindepth 1 -print0 | sort -z |
        cpio --quiet --reproducible --null --create --format=newc --owner=0:0) | zstd -q -19 -T1 -f -o initrd.cpio.zst
}

# A PC: kernel, initial RAM disk and command line as one file, which the firmware starts and can check.
stile_slot_pc() {
    ukify build --stub=${DEPLOY_DIR_IMAGE}/linux${EFI_ARCH}.efi.stub --linux=${DEPLOY_DIR_IMAGE}/${KERNEL_IMAGETYPE} \
        --initrd=initrd.cpio.zst --cmdline=@cmdline.txt \
        --os-release=@${IMAGE_ROOTFS}${nonarch_libdir}/os-release --output=kernel.efi
    cp -L ${DEPLOY_DIR_IMAGE}/systemd-boot${EFI_ARCH}.efi boot-manager.efi
    truncate -s 256M esp.img
    mkfs.vfat --invariant -F 32 -n ESP -i 53544C45 esp.img
    mmd -i esp.img ::EFI ::EFI/BOOT ::EFI/stile ::loader ::loader/entries
    if [ "${STILE_SECURE_BOOT}" = 1 ]; then
        ${STILE_REFERENCE}/secure-boot.sh sign ${STILE_KEYS} kernel.efi boot-manager.efi
        ${STILE_REFERENCE}/secure-boot.sh enrol ${STILE_KEYS} keys/auto
        mcopy -s -i esp.img keys ::loader/
    fi
    mcopy -i esp.img boot-manager.efi ::EFI/BOOT/BOOTX64.EFI
    mcopy -i esp.img kernel.efi ::EFI/stile/a.efi
    printf 'timeout 0\neditor no\nauto-entries no\nauto-firmware no\nconsole-mode keep\nsecure-boot-enroll manual\n' > loader.conf
    # The one slot of a new box is tried for ever: there is nothing to go back to.
    printf 'title Stile a, generation 1\nefi /EFI/stile/a.efi\n' > a.conf
    mcopy -i esp.img loader.conf ::loader/loader.conf
    mcopy -i esp.img a.conf ::loader/entries/stile-000001-a.conf
    set -- --content esp=esp.img --content kernel-a=kernel.efi
    stile_disk kernel=kernel.efi "$@"
}

# A Raspberry Pi: a boot partition a slot, and one that chooses between them (tryboot).
stile_slot_pi() {
    install -d boot/overlays select
    cp -L ${DEPLOY_DIR_IMAGE}/bootfiles/start4.elf ${DEPLOY_DIR_IMAGE}/bootfiles/fixup4.dat boot/
    cp -L ${DEPLOY_DIR_IMAGE}/bcm271*.dtb boot/
    cp -L ${DEPLOY_DIR_IMAGE}/${KERNEL_IMAGETYPE} boot/kernel.img
    cp initrd.cpio.zst boot/initrd.img
    cp ${STILE_REFERENCE}/config.txt boot/config.txt
    { cat cmdline.txt; echo; } > boot/cmdline.txt
    cp ${IMAGE_ROOTFS}${nonarch_libdir}/os-release boot/os-release
    printf '[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=4\n' > select/autoboot.txt
    cp -L ${DEPLOY_DIR_IMAGE}/bootfiles/bootcode.bin boot/
    cp -L ${DEPLOY_DIR_IMAGE}/bootfiles/bootcode.bin select/
    truncate -s 128M boot.img
    truncate -s 16M select.img
    mkfs.vfat --invariant -F 32 -n BOOT -i 53544C42 boot.img
    mkfs.vfat --invariant -F 16 -n SELECT -i 53544C53 select.img
    mcopy -s -m -i boot.img boot/* ::
    mcopy -s -m -i select.img select/* ::
    stile_disk boot=boot.img --content select=select.img --content boot-a=boot.img
}

stile_disk() {
    third=$1
    shift
    osimage assemble --layout ${STILE_LAYOUT} --output disk.img "$@" \
        --content root-a=root.squashfs --content verity-a=root.verity
    if [ -n "${STILE_KEYS}" ]; then
        osimage sign disk.img --key ${STILE_KEYS}/release.key
        osimage bundle --layout ${STILE_LAYOUT} --keys ${STILE_KEYS} --compatible ${STILE_COMPATIBLE} \
            --version ${STILE_VERSION} --content $third --content root=root.squashfs \
            --content verity=root.verity --output update.raucb
    fi
}

fakeroot do_stile_slot() {
    cd ${STILE_SLOT}
    stile_slot_verity
    stile_slot_initrd
    if [ "${TARGET_ARCH}" = x86_64 ]; then stile_slot_pc; else stile_slot_pi; fi
    for file in disk.img disk.img.bmap disk.img.sig update.raucb; do
        [ ! -e $file ] || install -m 0644 $file ${IMGDEPLOYDIR}/${IMAGE_NAME}-$file
        [ ! -e $file ] || ln -sf ${IMAGE_NAME}-$file ${IMGDEPLOYDIR}/${IMAGE_LINK_NAME}-$file
    done
}
addtask stile_slot after do_image_squashfs_zst before do_image_complete
