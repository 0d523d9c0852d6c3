SUMMARY = "Screens of a Stile box"
DESCRIPTION = "Gate screen and help kiosk, drawn by the software renderer on the kernel's display interface."

inherit stile-service

# Whose libraries it opens: without them here, its package would not ask for theirs.
DEPENDS += "fontconfig libinput libxkbcommon udev"

RDEPENDS:${PN} += "stile-fonts"
