# TOOLCHAIN = "host": the compiler and the linker of the Debian machine that builds, for a target of its own
# kind.
#
# Building gcc takes most of the time of a first build. This gives a first image without it; glibc is built
# all the same, so programs are linked with the library of the image, and only the compiler's own two
# libraries are the host's.
inherit toolchain/gcc

PREFERRED_PROVIDER_virtual/${MLPREFIX}cross-cc = "host-toolchain-cross-${TARGET_ARCH}"
PREFERRED_PROVIDER_virtual/${MLPREFIX}cross-c++ = "host-toolchain-cross-${TARGET_ARCH}"
PREFERRED_PROVIDER_virtual/${MLPREFIX}compilerlibs = "host-toolchain-libs"

# Debian 12's gcc does not know it.
DEBUG_PREFIX_MAP_EXTRA = ""
