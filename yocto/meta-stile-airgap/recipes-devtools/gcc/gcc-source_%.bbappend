DEBIAN_NESTED:airgap = "gcc-${PV}.tar.xz"
