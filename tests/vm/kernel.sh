#!/bin/bash
# Prepares the kernel of the virtual machine in a folder of its own: Debian's, unpacked and not installed, and
# gpio-sim with its simulated interrupts, which Debian leaves out, built from that kernel's own source.
#
#   kernel.sh FOLDER    writes FOLDER/vmlinuz, FOLDER/release, FOLDER/modules/*.ko, FOLDER/modules/order
#
# Nothing is done when FOLDER holds a kernel that this very script prepared.
set -euo pipefail

FOLDER=$(realpath -m "${1:?usage: kernel.sh FOLDER}")
HERE=$(dirname "$(realpath "$0")")
WANTED=$(sha256sum "$HERE/kernel.sh" | cut -c1-16)
# What the guest loads; what these need is found by depmod.
MODULES="gpio-sim libcomposite dummy_hcd usb_f_hid usb_f_acm usbhid hid-generic uhid uinput evdev cdc-acm vivid
  vhci-hcd softdog"

if [ -e "$FOLDER/stamp" ] && [ "$(cat "$FOLDER/stamp")" = "$WANTED" ]; then exit 0; fi
started=$SECONDS
rm -rf "$FOLDER"
mkdir -p "$FOLDER/deb" "$FOLDER/root" "$FOLDER/build" "$FOLDER/modules"
cd "$FOLDER"
trap 'echo "kernel.sh: failed; see $FOLDER/log" >&2' ERR

# 6.12 is the series of the Raspberry Pi and Yocto kernels of these years; Debian 12 has it beside its own.
newest() { apt-cache depends "$1" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*-amd64\)$/\1/p'; }
sudo=$([ "$(id -u)" = 0 ] || echo sudo)
[ -n "$(newest linux-image-amd64)" ] || $sudo apt-get update -q
image=$(newest linux-image-6.12-amd64)
image=${image:-$(newest linux-image-amd64)}
[ -n "$image" ] || { echo "kernel.sh: the package manager knows no linux-image" >&2; exit 1; }
release=${image#linux-image-}
headers=linux-headers-$release
common=linux-headers-${release%-amd64}-common
kbuild=$(apt-cache depends "$headers" | sed -n 's/^ *Depends: \(linux-kbuild-[^ ]*\)$/\1/p')
source=linux-source-$(echo "$release" | cut -d. -f1,2)
version=$(apt-cache policy "$image" | sed -n 's/^ *Candidate: //p')
echo "kernel of the virtual machine: $release ($version)"

(cd deb && apt-get download -q "$image=$version" "$headers=$version" "$common=$version" "$kbuild=$version" \
  "$source=$version") >log 2>&1
for package in "$image" "$headers" "$common" "$kbuild"; do dpkg-deb -x deb/"$package"_*.deb root; done
dpkg-deb --fsys-tarfile deb/"$source"_*.deb | tar xO --wildcards './usr/src/linux-source-*.tar.xz' |
  tar xJ -C build --strip-components=1 --wildcards '*/drivers/gpio/gpio-sim.c' '*/drivers/gpio/gpiolib*.h' \
    '*/drivers/gpio/dev-sync-probe.*' '*/kernel/irq/irq_sim.c' 2>>log || [ -e build/kernel/irq/irq_sim.c ]

# As modules, outside of the kernel's tree:
# - irq_sim was never meant to be one. It lacks a licence tag and uses two functions that are not exported.
# - Its handler looks for pending interrupts from where it found the last one and never from the start again: two
#   lines that change at once on two processors leave it searching for ever.
# - gpio-sim gains a switch for what Raspberry Pi kernels do and others do not: a released output keeps its level.
mkdir module
cp build/kernel/irq/irq_sim.c module/irq_sim.c
cp build/drivers/gpio/*.[ch] module/
sed -i 's/handle_simple_irq(irq_to_desc(irqnum))/handle_simple_irq(irq_data_to_desc(irq_get_irq_data(irqnum)))/
  s/#include <linux\/irq_work.h>/&\n#include <linux\/irqdesc.h>\n#include <linux\/irqdomain.h>\n#include <linux\/module.h>/
  s/^\t*offset = find_next_bit(/\t\toffset = 0;\n&/' module/irq_sim.c
echo 'MODULE_DESCRIPTION("Simulated interrupts"); MODULE_LICENSE("GPL");' >>module/irq_sim.c
sed -i '/^static void gpio_sim_free/,/^}/s/__assign_bit(offset, chip->value_map,/if (!keep_released)\n\t\t\t&/
  /^static void gpio_sim_free/i static bool keep_released;\nmodule_param(keep_released, bool, 0644);\nMODULE_PARM_DESC(keep_released, "a released output keeps its level");\n' module/gpio-sim.c
if grep -q 'irq_to_desc(irqnum)' <(sed 's/irq_data_to_desc//' module/irq_sim.c); then false; fi
grep -A1 'offset = 0;$' module/irq_sim.c | grep -q find_next_bit
grep -q 'if (!keep_released)' module/gpio-sim.c
objects="irq_sim.o gpio-sim.o"
[ -e module/dev-sync-probe.c ] && objects="$objects dev-sync-probe.o"
echo "obj-m := $objects" >module/Makefile
# The packages expect to be installed: their one absolute path, and the compiler by its full name.
tree=root/usr/src/$headers
sed -i "s#include /usr/src#include $FOLDER/root/usr/src#" "$tree/Makefile"
make -C "$tree" M="$FOLDER/module" CC=gcc CONFIG_DEBUG_INFO_BTF_MODULES= modules >>log 2>&1

# Since Debian 13 the modules lie under /usr.
modules=lib/modules/$release
if [ -d "root/usr/$modules" ]; then mkdir -p root/lib && ln -s ../usr/lib/modules root/lib/modules; fi
cp module/*.ko "root/$modules/kernel/"
depmod -b root "$release"
for module in $MODULES; do
  modprobe -S "$release" -d root --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | awk '!seen[$0]++' >paths
while read -r path; do
  name=$(basename "$path" | sed 's/\.ko.*//')
  case $path in
    *.xz) xz -dc "$path" >"modules/$name.ko" ;;
    *.zst) zstd -qdc "$path" >"modules/$name.ko" ;;
    *) cp "$path" "modules/$name.ko" ;;
  esac
  strip --strip-debug "modules/$name.ko"
  echo "$name"
done <paths >modules/order
cp root/boot/vmlinuz-"$release" vmlinuz
echo "$release" >release
rm -rf deb root build paths
echo "$WANTED" >stamp
echo "prepared in $((SECONDS - started)) s: $(wc -l <modules/order) modules"
