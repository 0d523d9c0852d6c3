# Debian's tarball has no manual: it is under the GFDL.
do_configure:prepend:airgap() {
    sed -i '/^all-subdirs *=/,/[^\\]$/s/ manual\( \|$\)/\1/' ${S}/Makeconfig
}
