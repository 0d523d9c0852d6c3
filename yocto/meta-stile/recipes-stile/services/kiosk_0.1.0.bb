SUMMARY = "Screens of a Stile box"
DESCRIPTION = "Gate screen and help kiosk, drawn by the software renderer on the kernel's display interface."

inherit stile-service

RDEPENDS:${PN} += "stile-fonts"
