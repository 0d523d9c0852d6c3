# Debian's tarball has no libbacktrace, which the first of them changes too; the others change what it brings.
SRC_URI:remove:airgap = "\
    file://0008-Use-libtool-2.4.patch \
    file://0009-Fix-rpath-in-libtool-when-sysroot-is-enabled.patch \
    file://0010-sync-with-OE-libtool-changes.patch \
"
