SUMMARY = "TPM 2.0 software stack"
DESCRIPTION = "The parts by which systemd seals the key of the state partition to the machine's TPM: ESYS, marshalling, \
response codes and the kernel's device. No feature API, no policies, no other way to a TPM."
HOMEPAGE = "https://github.com/tpm2-software/tpm2-tss"
BUGTRACKER = "https://github.com/tpm2-software/tpm2-tss/issues"
SECTION = "libs"
LICENSE = "BSD-2-Clause"
LIC_FILES_CHKSUM = "file://LICENSE;md5=500b2e742befc3da00684d8a1d5fd9da"
CVE_PRODUCT = "tpm2_software_stack"

DEPENDS = "autoconf-archive-native openssl"

SRC_URI = "https://github.com/tpm2-software/tpm2-tss/releases/download/${PV}/tpm2-tss-${PV}.tar.gz"
SRC_URI[sha256sum] = "37f1580200ab78305d1fc872d89241aaee0c93cbe85bc559bf332737a60d3be8"

inherit autotools pkgconfig

EXTRA_OECONF = "\
    --disable-fapi --disable-policy --disable-doxygen-doc --disable-static \
    --disable-tcti-cmd --disable-tcti-i2c-ftdi --disable-tcti-i2c-helper --disable-tcti-libtpms \
    --disable-tcti-mssim --disable-tcti-pcap --disable-tcti-spi-ftdi --disable-tcti-spi-helper \
    --disable-tcti-spi-ltt2go --disable-tcti-spidev --disable-tcti-swtpm \
    --with-crypto=ossl --with-udevrulesdir=${nonarch_libdir}/udev/rules.d \
"
# Installing to a folder, it makes no users; and it looks for what would.
CACHED_CONFIGUREVARS = "ac_cv_prog_systemd_sysusers=yes ac_cv_prog_systemd_tmpfiles=yes"

# Only root opens the TPM of a box: no user of its own.
do_install:append() {
    rm -rf ${D}${sysconfdir} ${D}${localstatedir} ${D}/run ${D}${nonarch_libdir}/udev
}

# By the names under which systemd's recipe asks for them.
PACKAGES =+ "libtss2 libtss2-tcti-device"
ALLOW_EMPTY:${PN} = "1"
FILES:libtss2 = "\
    ${libdir}/libtss2-esys.so.* ${libdir}/libtss2-mu.so.* ${libdir}/libtss2-rc.so.* ${libdir}/libtss2-sys.so.* \
    ${libdir}/libtss2-tctildr.so.* \
"
FILES:libtss2-tcti-device = "${libdir}/libtss2-tcti-device.so.*"
