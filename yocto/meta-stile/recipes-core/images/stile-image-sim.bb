SUMMARY = "The image of a Stile box, with simulated devices around it"
require stile-image.inc

# The kernel's device simulators, a serial console, and the program that plays shopper: tests/vm/image.
STILE_VARIANT = "stile-sim"
IMAGE_INSTALL += "stile-sim"
STILE_OWN_PACKAGES += "stile-sim"
