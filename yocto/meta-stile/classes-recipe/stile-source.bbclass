# Files of the checkout that this layer lies in.
inherit externalsrc

LICENSE = "GPL-3.0-only"
LIC_FILES_CHKSUM = "file://LICENSE;md5=1ebbd3e34237af26da5dc08a4e440464"
EXTERNALSRC = "${STILE_TOP}"
EXTERNALSRC_BUILD = "${WORKDIR}/build"
# No links in the checkout.
EXTERNALSRC_SYMLINKS = ""
# Files and folders of the checkout that a recipe takes.
STILE_FILES ??= ""

# In the place of externalsrc's, which asks git for a hash of the whole tree: every commit would build everything
# anew.
def srctree_hash_files(d, srcdir=None):
    return " ".join("%s/%s:True" % (d.getVar("STILE_TOP"), name) for name in d.getVar("STILE_FILES").split())
