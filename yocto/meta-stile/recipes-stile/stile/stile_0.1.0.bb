SUMMARY = "The services of a Stile box"
DESCRIPTION = "gated, cartd, visiond, kiosk and console, each with its unit and its user."
SECTION = "apps"
LICENSE = "GPL-3.0-only"
LIC_FILES_CHKSUM = "file://LICENSE;md5=1ebbd3e34237af26da5dc08a4e440464"

inherit cargo cargo-update-recipe-crates externalsrc systemd useradd

# Written by `bitbake -c update_crates stile` from Cargo.lock; not part of the layer yet.
include ${BPN}-crates.inc

# The checkout that this layer is part of.
SRC_URI = ""
EXTERNALSRC = "${@os.path.realpath('${THISDIR}/../../../..')}"

# zxing-cpp is C++ and brings its own CMake build.
DEPENDS += "cmake-native"

SERVICES = "gated cartd visiond kiosk console"
CARGO_BUILD_FLAGS += "--package gated --package gate-failsafe --package cartd --package visiond --package kiosk --package console"

SYSTEMD_PACKAGES = "${@' '.join('${PN}-' + service for service in d.getVar('SERVICES').split())}"
SYSTEMD_SERVICE:${PN}-gated = "gated.service"
SYSTEMD_SERVICE:${PN}-cartd = "cartd.service"
SYSTEMD_SERVICE:${PN}-visiond = "visiond.service"
SYSTEMD_SERVICE:${PN}-kiosk = "kiosk.service"
SYSTEMD_SERVICE:${PN}-console = "console.service"
# The kiosk opens desktop windows only by now; a box has no desktop.
SYSTEMD_AUTO_ENABLE:${PN}-kiosk = "disable"

# One user for each service, without home and shell, and the groups that own their devices.
USERADD_PACKAGES = "${PN}-common"
USERADD_PARAM:${PN}-common = "\
    --system --no-create-home --shell /sbin/nologin --user-group gated; \
    --system --no-create-home --shell /sbin/nologin --user-group cartd; \
    --system --no-create-home --shell /sbin/nologin --user-group visiond; \
    --system --no-create-home --shell /sbin/nologin --user-group kiosk; \
    --system --no-create-home --shell /sbin/nologin --user-group console"
GROUPADD_PARAM:${PN}-common = "--system gpio; --system hidraw"

do_install() {
    for service in ${SERVICES}; do
        install -Dm 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/$service ${D}${bindir}/$service
        install -Dm 0644 ${S}/appliance/systemd/$service.service ${D}${systemd_system_unitdir}/$service.service
    done
    install -Dm 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/gate-failsafe ${D}${bindir}/gate-failsafe
    install -Dm 0644 ${S}/appliance/systemd/root/usr/lib/udev/rules.d/60-stile.rules ${D}${nonarch_base_libdir}/udev/rules.d/60-stile.rules
    install -Dm 0644 ${S}/README.md ${D}${docdir}/stile/README.md
    install -d ${D}${sysconfdir}/stile
    for model in ${S}/models/onnx/*; do
        install -Dm 0644 $model ${D}${datadir}/stile/models/$(basename $model)
    done
}

PACKAGES =+ "${PN}-common ${PN}-gated ${PN}-cartd ${PN}-visiond ${PN}-kiosk ${PN}-console"
FILES:${PN}-common = "${nonarch_base_libdir}/udev ${sysconfdir}/stile"
FILES:${PN}-gated = "${bindir}/gated ${bindir}/gate-failsafe"
FILES:${PN}-cartd = "${bindir}/cartd"
FILES:${PN}-visiond = "${bindir}/visiond ${datadir}/stile/models"
FILES:${PN}-kiosk = "${bindir}/kiosk"
FILES:${PN}-console = "${bindir}/console"

RDEPENDS:${PN}-gated = "${PN}-common"
RDEPENDS:${PN}-cartd = "${PN}-common"
RDEPENDS:${PN}-visiond = "${PN}-common"
RDEPENDS:${PN}-kiosk = "${PN}-common"
RDEPENDS:${PN}-console = "${PN}-common"
# Loaded at run time; comes from meta-onnxruntime, which is not part of the kas files yet.
RRECOMMENDS:${PN}-visiond = "onnxruntime"
ALLOW_EMPTY:${PN} = "1"
RDEPENDS:${PN} = "${PN}-cartd ${PN}-console ${PN}-gated ${PN}-kiosk ${PN}-visiond"
