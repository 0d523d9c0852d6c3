SUMMARY = "The image of a Stile box, for those who develop it"
require stile-image.inc

# A shell on the serial console, a debugger, and what shows what the kernel does. Never for a store.
STILE_VARIANT = "stile-dev"
STILE_PRUNE = "0"
IMAGE_INSTALL += "bash coreutils gdbserver openssh strace usbutils v4l-utils libgpiod-tools"
