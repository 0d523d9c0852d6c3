SUMMARY = "Linux headers for the C library, from Debian's source package"
DESCRIPTION = "The series of Debian's stable kernel, which is also the one that a box runs in an air-gapped build."
SECTION = "devel"
LICENSE = "GPL-2.0-only"

require recipes-kernel/linux-libc-headers/linux-libc-headers.inc

LIC_FILES_CHKSUM = "file://COPYING;md5=6bc538ed5bd9a7fc9398086aedcd7e46"
