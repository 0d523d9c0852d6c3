SUMMARY = "Nothing: the host's compiler has its first library already"
DESCRIPTION = "Recipes that ask for the library with which a C library is built find it in the host's compiler."
HOMEPAGE = "https://tracker.debian.org/pkg/gcc-defaults"
SECTION = "devel"
LICENSE = "GPL-3.0-with-GCC-exception"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/GPL-3.0-with-GCC-exception;md5=aef5f35c9272f508be848cd99e0151df"

inherit nopackages

DEPENDS += "virtual/cross-cc"
PROVIDES = "libgcc-initial"
INHIBIT_DEFAULT_DEPS = "1"
TOOLCHAIN = "host"
COMPATIBLE_HOST = "x86_64.*-linux"

require chosen.inc
