# A prebuilt library for machines with an older C library comes from the Yocto Project's server; native
# programs run on the machine that built them.
SRC_URI:remove:airgap = "http://downloads.yoctoproject.org/mirror/sources/pseudo-prebuilt-2.33.tar.xz;subdir=${BB_GIT_DEFAULT_DESTSUFFIX}/prebuilt;name=prebuilt"
SRC_URI:remove:airgap = "file://older-glibc-symbols.patch"
# The host's SQLite (libsqlite3-dev).
MAKEOPTS:airgap = ""
# A tool of the host is never brought from shared state.
PSEUDO_SETSCENE_DEPS:airgap = ""
do_compile:prepend:airgap() {
    install -d ${STAGING_INCDIR_NATIVE} ${STAGING_LIBDIR_NATIVE}
    ln -sf /usr/include/sqlite3.h ${STAGING_INCDIR_NATIVE}/sqlite3.h
    ln -sf $(gcc -print-file-name=libsqlite3.so) ${STAGING_LIBDIR_NATIVE}/libsqlite3.so
}
