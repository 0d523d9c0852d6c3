# What a box asks of its kernel; linux-yocto has the rest.
FILESEXTRAPATHS:prepend:stile := "${STILE_KERNEL_FRAGMENTS}:"

STILE_FRAGMENTS = ""
STILE_FRAGMENTS:qemux86-64 = "file://stile.cfg file://x86-64.cfg file://qemu.cfg"
STILE_FRAGMENTS:genericx86-64 = "file://stile.cfg file://x86-64.cfg file://pc.cfg"
SRC_URI:append:stile = " ${STILE_FRAGMENTS}"
require stile-secure-boot.inc

# A wish that the kernel's configuration does not fulfil is an error, not a note.
KCONF_BSP_AUDIT_LEVEL:stile = "2"
KMETA_AUDIT_WERROR:stile = "1"
