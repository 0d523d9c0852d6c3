# The root of a box: what core-image makes of packages, made small and whole by the program and the rules of
# the reference image (image/reference: tree.py, files.rules), and then users, presets and /etc as there.
inherit core-image

IMAGE_FEATURES += "read-only-rootfs"
IMAGE_LINGUAS = ""
NO_RECOMMENDATIONS = "1"
# Taken away by the rules, with everything else that nobody needs.
ROOTFS_RO_UNNEEDED = ""
IMAGE_FSTYPES = "squashfs-zst"
EXTRA_IMAGECMD:squashfs-zst = "-Xcompression-level 19 -b 128K -no-xattrs -all-root -sort ${STILE_REFERENCE}/root.sort"
do_image_squashfs_zst[file-checksums] += "${STILE_REFERENCE}/root.sort:True"
# The slot holds 768 MiB; a release may take 256 MB packed.
IMAGE_ROOTFS_MAXSIZE = "786432"

# Whose files stay as they are, whatever the rules say of the system below them.
STILE_OWN_PACKAGES = "\
    stile-base stile-fonts stile-models onnxruntime-bin \
    caretaker cartd code-reader console gated kiosk visiond \
"
# Files of other packages that are ours by an append, and what the rules look for in Debian's folders.
STILE_OWN_FILES = "\
    etc/mosquitto/mosquitto.conf usr/lib/systemd/system/mosquitto.service usr/lib/modules/* \
    etc/ssl/certs/ca-certificates.crt \
"
# A shell and its like, for those who develop: the rules are not applied.
STILE_PRUNE ?= "1"
# A folder that is copied over the root last, so that tests can make versions that differ, or are broken.
STILE_OVERLAY ??= ""

# Compares users with sysusers.d before ours are written (stile_root_users): fourteen warnings of what is not so.
ROOTFS_POSTPROCESS_COMMAND:remove = "systemd_sysusers_check"

# Last of all: until then the package manager looks at what it installed.
IMAGE_PREPROCESS_COMMAND += "stile_root_rules stile_root_prune stile_root_etc stile_root_users stile_root_finish"

# "+ path" for each file of our packages, then the reference image's rules.
python stile_root_rules() {
    import json
    import oe.packagedata
    paths = d.getVar("STILE_OWN_FILES").split()
    for package in d.getVar("STILE_OWN_PACKAGES").split():
        data = oe.packagedata.read_pkgdatafile(d.expand("${PKGDATA_DIR}/runtime/" + package))
        for key, value in data.items():
            if key.split(":")[0] == "FILES_INFO":
                paths += [path.lstrip("/") for path in json.loads(value)]
    with open(d.expand("${STILE_REFERENCE}/files.rules")) as rules:
        text = rules.read()
    with open(d.expand("${WORKDIR}/files.rules"), "w") as out:
        out.writelines("+ %s\n" % path for path in sorted(paths))
        out.write(text)
}

stile_root_prune() {
    # Certificates of authorities are in one file, as programs open it.
    if [ -d ${IMAGE_ROOTFS}${datadir}/ca-certificates ]; then
        rm -rf ${IMAGE_ROOTFS}${sysconfdir}/ssl/certs
        install -d ${IMAGE_ROOTFS}${sysconfdir}/ssl/certs
        cat ${IMAGE_ROOTFS}${datadir}/ca-certificates/mozilla/*.crt > ${IMAGE_ROOTFS}${sysconfdir}/ssl/certs/ca-certificates.crt
        rm -rf ${IMAGE_ROOTFS}${datadir}/ca-certificates
    fi
    rm -rf ${IMAGE_ROOTFS}${sysconfdir}/systemd/system
    if [ "${STILE_PRUNE}" = 1 ]; then
        python3 ${STILE_REFERENCE}/tree.py prune ${IMAGE_ROOTFS} ${WORKDIR}/files.rules
    fi
    find ${IMAGE_ROOTFS} -type f -perm /6000 -exec chmod ug-s {} +
    rm -rf ${IMAGE_ROOTFS}/boot ${IMAGE_ROOTFS}/init
    find ${IMAGE_ROOTFS}${localstatedir} -mindepth 1 -delete
}

# /etc is read-only; what a box is, is in /run/stile. One unit of systemd's is another one here.
stile_root_etc() {
    cp -a --no-preserve=ownership ${STILE_REFERENCE}/root/. ${IMAGE_ROOTFS}/
    python3 ${STILE_REFERENCE}/tree.py links ${IMAGE_ROOTFS} ${STILE_REFERENCE}/root.links
    for folder in dev proc sys run tmp var mnt root; do install -d ${IMAGE_ROOTFS}/$folder; done
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

# Users and groups from the two files that the reference image takes, by the program that it uses.
stile_root_users() {
    find ${IMAGE_ROOTFS}${nonarch_libdir}/sysusers.d -name '*.conf' ! -name '00-stile.conf' ! -name 'stile-base.conf' -delete
    python3 ${STILE_REFERENCE}/tree.py users ${IMAGE_ROOTFS}
}

# What starts: our preset, which ends in `disable *`.
stile_root_finish() {
    systemctl --root=${IMAGE_ROOTFS} preset-all --preset-mode=enable-only
    rm -f ${IMAGE_ROOTFS}${sysconfdir}/systemd/system/*.wants/systemd-networkd-wait-online.service
    find ${IMAGE_ROOTFS} -type d -exec chmod 755 {} +
    chmod 1777 ${IMAGE_ROOTFS}/tmp
    chmod 700 ${IMAGE_ROOTFS}/root
    [ -z "${STILE_OVERLAY}" ] || cp -a --no-preserve=ownership ${STILE_OVERLAY}/. ${IMAGE_ROOTFS}/
}

do_image[file-checksums] += "\
    ${STILE_REFERENCE}/tree.py:True ${STILE_REFERENCE}/root:True ${STILE_REFERENCE}/root.links:True \
    ${STILE_REFERENCE}/files.rules:True \
    ${@d.expand('${STILE_OVERLAY}:True') if d.getVar('STILE_OVERLAY') else ''} \
"
do_image[depends] += "systemd-systemctl-native:do_populate_sysroot"
