# Files of the checkout that this layer lies in.
inherit externalsrc

LICENSE = "GPL-3.0-only"
LIC_FILES_CHKSUM = "file://LICENSE;md5=1ebbd3e34237af26da5dc08a4e440464"
SRC_URI = ""
EXTERNALSRC = "${STILE_TOP}"
EXTERNALSRC_BUILD = "${WORKDIR}/build"
# No links in the checkout.
EXTERNALSRC_SYMLINKS = ""
# externalsrc asks git for a hash of the whole tree otherwise, and every commit would build everything anew:
# recipes name what they take.
STILE_FILES ??= ""
do_install[file-checksums] += "${@' '.join('%s/%s:True' % (d.getVar('STILE_TOP'), f) for f in d.getVar('STILE_FILES').split())}"
