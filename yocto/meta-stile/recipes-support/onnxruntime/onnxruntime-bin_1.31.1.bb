SUMMARY = "ONNX Runtime's shared library as its project releases it"
DESCRIPTION = "From the Python wheel of the release, of which nothing of Python is used. visiond loads it when it starts."
HOMEPAGE = "https://onnxruntime.ai/"
SECTION = "libs"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://onnxruntime/LICENSE;md5=0f7e3b1308cb5c00b372a6e78835732d"

DEPENDS += "unzip-native"

# Where the registry keeps the file of each processor.
WHEELS = "https://files.pythonhosted.org/packages"
WHEELS:x86-64 = "https://files.pythonhosted.org/packages/eb/27/c6a823bac55b2977bea2027c3ec9393a2c1002cb9a09eb40354563e02730"
WHEELS:aarch64 = "https://files.pythonhosted.org/packages/ba/e4/1ed1a7a5f4702d899091fa2b976d377995250c307326ec8dc9ae6378aa13"
WHEEL = "onnxruntime-${PV}-cp312-cp312-manylinux_2_28_${TARGET_ARCH}.whl"
# A wheel is a zip file; the fetcher goes by the name.
SRC_URI = "${WHEELS}/${WHEEL};name=${TARGET_ARCH};downloadfilename=${WHEEL}.zip"
SRC_URI[x86_64.sha256sum] = "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536"
SRC_URI[aarch64.sha256sum] = "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc"
S = "${UNPACKDIR}"

COMPATIBLE_HOST = "(x86_64|aarch64).*-linux"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -Dm 0755 ${S}/onnxruntime/capi/libonnxruntime.so.${PV} ${D}${nonarch_libdir}/stile/libonnxruntime.so
    install -Dm 0644 ${S}/onnxruntime/ThirdPartyNotices.txt ${D}${docdir}/${BPN}/ThirdPartyNotices.txt
}

FILES:${PN} = "${nonarch_libdir}/stile"
# Its project builds and strips it, with flags of its own; the plain name is what visiond opens.
INSANE_SKIP:${PN} = "already-stripped ldflags dev-so"
RDEPENDS:${PN} = "libstdc++"
