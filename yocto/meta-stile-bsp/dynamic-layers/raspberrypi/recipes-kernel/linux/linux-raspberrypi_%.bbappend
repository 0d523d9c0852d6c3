FILESEXTRAPATHS:prepend:stile := "${STILE_KERNEL_FRAGMENTS}:"
SRC_URI:append:stile = " file://stile.cfg file://raspberry-pi.cfg"
