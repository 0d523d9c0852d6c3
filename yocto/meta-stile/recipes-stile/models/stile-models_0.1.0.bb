SUMMARY = "Trained models of a Stile box"
DESCRIPTION = "The people detector and the card that says what it was trained on."
SECTION = "apps"

inherit stile-source allarch

STILE_FILES = "models/onnx"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${datadir}/stile/models
    install -m 0644 ${S}/models/onnx/* ${D}${datadir}/stile/models/
}
FILES:${PN} = "${datadir}/stile"
