#!/bin/bash
# Makes the reference image from Debian packages and our own programs. No root rights are needed, and nothing of the
# machine that builds gets into the image but the programs that cargo built on it.
#
#   build.sh [--board x86-64|raspberry-pi] [--variant stile|stile-sim] [--profile release|image|dev] [--version V]
#            [--keys FOLDER] [--out FOLDER] [--overlay FOLDER] [--update] [STEP...]
#
# --overlay  is copied over the root tree last, so that tests can make versions that differ, or are broken
# --update   asks Debian for newer packages; otherwise those of the last time are taken
# STEP...    only these steps (they are the functions below, in order; each leaves files in OUT/work-NAME)
#
# Same inputs, same bytes: SOURCE_DATE_EPOCH (the time of the last commit) is the time of every file.
set -euo pipefail
export LC_ALL=C TZ=UTC
umask 022

HERE=$(dirname "$(realpath "$0")")
TOP=$(realpath "$HERE/../..")
cd "$TOP"

BOARD=x86-64 VARIANT=stile PROFILE=release VERSION='' KEYS=out/keys OUT=out/image UPDATE='' OVERLAY='' STEPS=()
while [ $# -gt 0 ]; do
  case $1 in
    --board) BOARD=$2; shift 2 ;;
    --variant) VARIANT=$2; shift 2 ;;
    --profile) PROFILE=$2; shift 2 ;;
    --version) VERSION=$2; shift 2 ;;
    --keys) KEYS=$2; shift 2 ;;
    --out) OUT=$2; shift 2 ;;
    --overlay) OVERLAY=$(realpath "$2"); shift 2 ;;
    --update) UPDATE=yes; shift ;;
    -*) echo "build.sh: unknown option $1" >&2; exit 2 ;;
    *) STEPS+=("$1"); shift ;;
  esac
done
case $VARIANT in stile | stile-sim) ;; *) echo "build.sh: no variant $VARIANT" >&2; exit 2 ;; esac
case $PROFILE in
  release | image) CARGO_FOLDER=$PROFILE ;;
  dev) CARGO_FOLDER=debug ;;
  *) echo "build.sh: no profile $PROFILE" >&2; exit 2 ;;
esac

# How hard to compress: for people who wait for a download, or for tests.
if [ "$VARIANT:$PROFILE" = stile-sim:release ] || [ "$PROFILE" = dev ]; then LEVEL=6; else LEVEL=19; fi

# Our programs; a crate that is missing fails the build. STILE_PROGRAMS names fewer of them, to try other parts alone.
PROGRAMS=(${STILE_PROGRAMS-gated gate-failsafe code-reader cartd visiond kiosk console caretaker})
case $BOARD in
  x86-64)
    ARCH=amd64 TRIPLET=x86_64-linux-gnu COMPATIBLE=stile-x86-64 LAYOUT=image/layouts/x86-64-efi.toml
    ALL=(packages kernel programs keys tree root initrd uki esp image pack bundle bom) ;;
  raspberry-pi)
    ARCH=arm64 TRIPLET=aarch64-linux-gnu COMPATIBLE=stile-raspberry-pi LAYOUT=image/layouts/raspberry-pi.toml
    ALL=(packages kernel programs keys tree root initrd boot image pack bundle bom) ;;
  *) echo "build.sh: no board $BOARD" >&2; exit 2 ;;
esac
NAME=$COMPATIBLE${VARIANT#stile}
CACHE=$TOP/.cache/image/$ARCH
WORK=$TOP/$OUT/work-$NAME
IMAGE=$TOP/$OUT/$NAME
TARGET=${CARGO_TARGET_DIR:-$TOP/target}
SUITES=(trixie trixie-updates trixie-security)
MIRROR=${MIRROR:-http://deb.debian.org/debian}
SECURITY_MIRROR=${SECURITY_MIRROR:-http://deb.debian.org/debian-security}
# The salt and ids of everything that would otherwise be drawn by chance.
SALT=$(printf 'stile verity salt' | sha256sum | cut -c1-64)
UUID=53746c65-0000-4000-8000-766572697479

: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH
# For tools that write the time of day into what they make.
AT_FIXED_TIME=(faketime -f "$(date -u -d "@$SOURCE_DATE_EPOCH" '+%Y-%m-%d %H:%M:%S')")
CRATES_VERSION=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
VERSION=${VERSION:-$CRATES_VERSION.$(git rev-list --count HEAD)}

# Two builds at once share downloads and what is unpacked of them: one of them waits.
locked() {
  exec 9>"$CACHE/lock"
  flock 9
  "$@"
  exec 9>&-
}
say() { echo "image: $*"; }
die() { echo "image: $*" >&2; exit 1; }
lines() { sed 's/#.*//; /^ *$/d' "$@"; }
# Every file and folder below $1 gets the same time.
same_time() { find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }

# --- Debian's packages, downloaded and unpacked, without running any of their scripts -----------------------
packages() {
  local lists=(packages/base.list "packages/$BOARD.list") hooks=() wanted sources=() suite
  wanted=$( (cd "$HERE" && cat "${lists[@]}" && echo "${SUITES[@]}" "$MIRROR") | sha256sum | cut -c1-16)
  if [ -z "$UPDATE" ] && [ "$(cat "$CACHE/packages.stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
  for suite in "${SUITES[@]}"; do
    case $suite in
      *-security) sources+=("deb $SECURITY_MIRROR $suite main") ;;
      *) sources+=("deb $MIRROR $suite main") ;;
    esac
  done
  say "downloading Debian packages (${SUITES[0]}, $ARCH)"
  rm -rf "$CACHE/debs" "$CACHE"/base-*
  mkdir -p "$CACHE/debs"
  if [ "$BOARD" = raspberry-pi ]; then
    # The kernel, and Raspberry Pi's firmware, which Debian keeps in a section of its own: without what they depend on.
    sources+=("deb $MIRROR ${SUITES[0]} non-free-firmware")
    hooks+=(--extract-hook='export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"; cd "$1/var/cache/apt/archives" &&
      apt-get download -q raspi-firmware $(apt-cache depends linux-image-arm64 | sed -n "s/^ *Depends: \(linux-image-[0-9].*\)/\1/p")')
  fi
  mmdebstrap --quiet --variant=extract --architectures="$ARCH" --mode=unshare --skip=check/empty \
    --include="$(cd "$HERE" && lines "${lists[@]}" | paste -sd,)" \
    "${hooks[@]}" --extract-hook="copy-out /var/cache/apt/archives $CACHE/debs" "${SUITES[0]}" /dev/null "${sources[@]}" \
    >"$CACHE/packages.log" 2>&1 || die "mmdebstrap failed; see $CACHE/packages.log"
  echo "$wanted" >"$CACHE/packages.stamp"
}

# --- Debian's kernel, the same package that tests/vm/kernel.sh prepares its simulators for ------------------
kernel() {
  if [ "$BOARD" = raspberry-pi ]; then kernel_arm64; return; fi
  tests/vm/kernel.sh "$TOP/.cache/vm/kernel"
  RELEASE=$(cat .cache/vm/kernel/release)
  KERNEL=$CACHE/kernel-$RELEASE
  if [ -e "$KERNEL/stamp" ]; then return; fi
  say "unpacking the kernel $RELEASE"
  rm -rf "$KERNEL" && mkdir -p "$KERNEL/deb" "$KERNEL/root"
  (cd "$KERNEL/deb" && apt-get download -q "linux-image-$RELEASE") >"$KERNEL/log" 2>&1 ||
    die "linux-image-$RELEASE cannot be downloaded any more: remove .cache/vm/kernel"
  dpkg-deb -x "$KERNEL"/deb/*.deb "$KERNEL/root"
  mkdir -p "$KERNEL/root/lib"
  [ ! -d "$KERNEL/root/usr/lib/modules" ] || mv "$KERNEL/root/usr/lib/modules" "$KERNEL/root/lib/"
  depmod -b "$KERNEL/root" "$RELEASE"
  touch "$KERNEL/stamp"
}

kernel_arm64() {
  local deb=("$CACHE"/debs/archives/linux-image-*.deb)
  [ -e "${deb[0]}" ] || die "the step packages has not run"
  RELEASE=$(dpkg-deb -f "${deb[0]}" Package | sed 's/linux-image-//')
  KERNEL=$CACHE/kernel-$RELEASE
  if [ -e "$KERNEL/stamp" ]; then return; fi
  say "unpacking the kernel $RELEASE"
  rm -rf "$KERNEL" && mkdir -p "$KERNEL/deb" "$KERNEL/root/lib"
  cp "${deb[0]}" "$KERNEL/deb/"
  dpkg-deb -x "${deb[0]}" "$KERNEL/root"
  [ ! -d "$KERNEL/root/usr/lib/modules" ] || mv "$KERNEL/root/usr/lib/modules" "$KERNEL/root/lib/"
  depmod -b "$KERNEL/root" "$RELEASE"
  touch "$KERNEL/stamp"
}

# --- our own programs ---------------------------------------------------------------------------------------
programs() {
  local crates=() program flags=(--profile "$PROFILE") epoch=$SOURCE_DATE_EPOCH
  local for_board=() built=$TARGET/$CARGO_FOLDER strip=strip
  [ "$PROFILE" = dev ] || flags+=(--locked)
  for program in "${PROGRAMS[@]}"; do
    [ -e "appliance/$program/Cargo.toml" ] || die "there is no appliance/$program"
    [ "$program" = kiosk ] || crates+=(-p "$program@$CRATES_VERSION")
  done
  [ "$VARIANT" = stile ] || crates+=(-p vm)
  # Not the time of the image: C parts look at it, and every commit would build them and all that stands on them anew.
  unset SOURCE_DATE_EPOCH
  rm -rf "$WORK/programs" && mkdir -p "$WORK/programs"
  # What the steps below run, on this machine.
  cargo build "${flags[@]}" --bins -p osimage
  strip -o "$WORK/programs/osimage" "$built/osimage"
  if [ "$BOARD" = raspberry-pi ]; then
    eval "$("$HERE/cross.sh" "$CACHE")"
    for_board=(--target aarch64-unknown-linux-gnu)
    built=$TARGET/aarch64-unknown-linux-gnu/$CARGO_FOLDER strip=$TRIPLET-strip
  fi
  [ ${#crates[@]} -eq 0 ] || cargo build "${flags[@]}" "${for_board[@]}" --bins "${crates[@]}"
  for program in "${PROGRAMS[@]}" $([ "$VARIANT" = stile ] || echo vm-guest); do
    [ "$program" = kiosk ] || $strip -o "$WORK/programs/$program" "$built/$program"
  done
  # The screen without a desktop. The next `cargo test` puts the other one back in its place.
  if [[ " ${PROGRAMS[*]} " == *" kiosk "* ]]; then
    cargo build "${flags[@]}" "${for_board[@]}" -p kiosk --bin kiosk --no-default-features --features linuxkms
    $strip -o "$WORK/programs/kiosk" "$built/kiosk"
  fi
  export SOURCE_DATE_EPOCH=$epoch
}

# --- keys: the operator's, or new ones for development ------------------------------------------------------
keys() {
  if [ -e "$KEYS" ]; then return; fi
  [ "$KEYS" = out/keys ] || die "there is no folder of keys $KEYS"
  say "making development keys in $KEYS"
  mkdir -p out
  "$WORK/programs/osimage" keys "$KEYS" --name "Stile development"
}

# --- the root tree ------------------------------------------------------------------------------------------
# Debian's part, kept from build to build as long as packages and rules are the same: $BASE.
base() {
  local package deb rules
  rules=$( (cd "$HERE" && cat files.rules tree.py packages/without.list "$CACHE/packages.stamp" &&
    ls "$CACHE/debs/archives") | sha256sum | cut -c1-16)
  BASE=$CACHE/base-$rules
  if [ -e "$BASE/etc" ]; then return; fi
  say "unpacking packages"
  rm -rf "$CACHE"/base-*
  mkdir -p "$BASE.new"
  for deb in "$CACHE"/debs/archives/*.deb; do
    package=$(dpkg-deb -f "$deb" Package)
    if lines "$HERE/packages/without.list" | grep -qx "$package"; then continue; fi
    if [[ $package == linux-image-* || $package == raspi-firmware ]]; then continue; fi
    dpkg-deb -x "$deb" "$BASE.new"
  done
  rm -rf "$BASE.new/var" "$BASE.new/boot"
  rm -rf "$CACHE/efi"
  [ ! -d "$BASE.new/usr/lib/systemd/boot/efi" ] || cp -a "$BASE.new/usr/lib/systemd/boot/efi" "$CACHE/efi"
  cat "$BASE.new"/usr/share/ca-certificates/mozilla/*.crt >"$CACHE/ca-certificates.crt"
  python3 "$HERE/tree.py" prune "$BASE.new" "$HERE/files.rules"
  mkdir -p "$BASE.new/etc/ssl/certs"
  mv "$CACHE/ca-certificates.crt" "$BASE.new/etc/ssl/certs/ca-certificates.crt"
  rm -rf "$BASE.new/usr/share/ca-certificates"
  mv "$BASE.new" "$BASE"
}

tree() {
  local program manifest
  locked base
  say "root tree"
  rm -rf "$WORK/tree" && mkdir -p "$WORK"
  cp -a "$BASE" "$WORK/tree"
  ls -d "$CACHE"/debs/archives/*.deb "$KERNEL"/deb/*.deb >"$WORK/debs"
  local tree=$WORK/tree
  (cd "$tree" && mkdir -p dev proc sys run tmp var mnt root etc/rauc usr/lib/stile usr/share/stile/{models,keys})

  for program in "${PROGRAMS[@]}"; do
    [ -e "$WORK/programs/$program" ] || die "$WORK/programs/$program is missing: run the step programs"
    install -m 755 "$WORK/programs/$program" "$tree/usr/bin/$program"
  done
  ln -sf ../../bin/caretaker "$tree/usr/lib/stile/boot-backend"

  # Units, configuration, users: the services' own (also for the production image), then this image's.
  find appliance/systemd -maxdepth 1 -type f ! -name '*.md' -exec cp -t "$tree/usr/lib/systemd/system/" {} +
  cp -a appliance/systemd/root/. "$HERE/root/." "$tree/"
  python3 "$HERE/tree.py" links "$tree" "$HERE/root.links"
  cp "$HERE"/boot/*.rules "$tree/usr/lib/udev/rules.d/"
  case $BOARD in
    x86-64) cp "$HERE/boot/system.conf" "$tree/etc/rauc/system.conf" ;;
    raspberry-pi) cp "$HERE/boot/system.raspberry-pi.conf" "$tree/etc/rauc/system.conf" ;;
  esac
  mkdir -p "$tree/usr/share/stile/manifests"
  for manifest in appliance/manifests/*.toml; do
    case $VARIANT:$manifest in stile:*-sim.toml) ;; *) cp "$manifest" "$tree/usr/share/stile/manifests/" ;; esac
  done
  cp models/onnx/* "$tree/usr/share/stile/models/"
  runtime
  install -m 644 "$ONNXRUNTIME" "$tree/usr/lib/stile/libonnxruntime.so"
  cp "$KEYS/provision.pub" "$tree/usr/share/stile/keys/"
  cp "$KEYS/rauc-ca.pem" "$tree/etc/rauc/keyring.pem"

  local variant=$VARIANT
  if [ "$(realpath "$KEYS")" = "$TOP/out/keys" ]; then variant="$VARIANT, development keys"; fi
  cat >"$tree/usr/lib/os-release" <<END
NAME=Stile
ID=stile
ID_LIKE=debian
PRETTY_NAME="Stile $VERSION"
VERSION_ID=$VERSION
IMAGE_ID=$COMPATIBLE
IMAGE_VERSION=$VERSION
VARIANT="$variant"
VARIANT_ID=$VARIANT
END

  # Modules, with an index of their own.
  python3 "$HERE/tree.py" modules "$KERNEL/root" "$HERE/modules.$BOARD.list" "$tree"
  if [ "$VARIANT" = stile-sim ]; then sim "$tree"; fi
  depmod -b "$tree" "$RELEASE"

  python3 "$HERE/tree.py" check "$tree"
  python3 "$HERE/tree.py" users "$tree"
  systemctl --root="$tree" preset-all --preset-mode=enable-only >/dev/null 2>&1
  # This machine's knows no other processor's libraries; Debian's loader finds them in its own folder without a cache.
  if [ "$BOARD" = x86-64 ]; then ldconfig -r "$tree"; fi
  rm -rf "$tree/var/cache" "$tree/etc/systemd/system/"*.wants/systemd-networkd-wait-online.service
  [ -z "$OVERLAY" ] || cp -a "$OVERLAY/." "$tree/"
  find "$tree" -type d -exec chmod 755 {} +
  find "$tree" -type f -perm /6000 -exec chmod ug-s {} +
  chmod 1777 "$tree/tmp"; chmod 700 "$tree/root"
  same_time "$tree"
  if find "$tree" -name '*.so*' -o -path '*/bin/*' | grep -E '/(bash|dash|sh|perl|python[0-9.]*|dpkg|apt)$'; then
    die "a shell, an interpreter or a package manager is in the tree"
  fi
}

# ONNX Runtime for the board, from its Python wheel: $ONNXRUNTIME.
runtime() {
  local from=.cache/onnxruntime strip=strip version
  version=$(sed -n 's/^ORT_VERSION := //p' Makefile)
  ONNXRUNTIME=$CACHE/libonnxruntime-$version.so
  if [ -e "$ONNXRUNTIME" ]; then return; fi
  if [ "$BOARD" = raspberry-pi ]; then
    from=$CACHE/onnxruntime strip=$TRIPLET-strip
    python3 models/onnxruntime.py "$version" "$from" aarch64
  fi
  $strip --strip-unneeded -o "$ONNXRUNTIME.new" "$from/libonnxruntime.so"
  mv "$ONNXRUNTIME.new" "$ONNXRUNTIME"
}

# The simulators of the kernel's devices, for tests.
sim() {
  local module name
  mkdir -p "$1/usr/lib/modules/$RELEASE/stile-sim"
  for module in .cache/vm/kernel/modules/*.ko; do
    name=$(basename "$module")
    if [ -z "$(find "$1/usr/lib/modules/$RELEASE" -name "$name" -o -name "${name//-/_}")" ]; then
      cp "$module" "$1/usr/lib/modules/$RELEASE/stile-sim/"
    fi
  done
  if [ -d tests/vm/image/sim ]; then cp -a tests/vm/image/sim/. "$1/"; fi
  install -m 755 "$WORK/programs/vm-guest" "$1/usr/lib/stile/vm-guest"
}

# --- squashfs and its hashes --------------------------------------------------------------------------------
root() {
  say "root file system"
  rm -f "$WORK"/root.squashfs "$WORK"/root.verity
  # Debian's files first, what each release changes last: a box that updates itself fetches what it has not got, and
  # one longer file would move all that follows it.
  mksquashfs "$WORK/tree" "$WORK/root.squashfs" -noappend -all-root -no-xattrs -comp zstd \
    -Xcompression-level $LEVEL -b 128K -sort "$HERE/root.sort" -quiet -no-progress
  veritysetup format --salt="$SALT" --uuid="$UUID" --root-hash-file="$WORK/roothash" \
    "$WORK/root.squashfs" "$WORK/root.verity" >/dev/null
  chmod 644 "$WORK/root.verity" "$WORK/roothash"
}

# --- the initial RAM disk: systemd, udev, verity, caretaker -------------------------------------------------
initrd() {
  local initrd=$WORK/initrd
  say "initial RAM disk"
  rm -rf "$initrd" && mkdir -p "$initrd"/{dev,proc,sys,run,tmp,var,sysroot,etc}
  for link in bin sbin lib lib64; do ln -s usr/$link "$initrd/$link"; done
  python3 "$HERE/tree.py" pick "$WORK/tree" "$HERE/initrd.rules" "$initrd"
  python3 "$HERE/tree.py" modules "$KERNEL/root" "$HERE/initrd.modules.$BOARD.list" "$initrd"
  depmod -b "$initrd" "$RELEASE"
  ln -s usr/lib/systemd/systemd "$initrd/init"
  ln -sf ../usr/lib/os-release "$initrd/etc/initrd-release"
  ln -sf initrd.target "$initrd/usr/lib/systemd/system/default.target"
  : >"$initrd/etc/machine-id"
  if [ "$BOARD" = x86-64 ]; then ldconfig -r "$initrd"; fi
  rm -rf "$initrd/var/cache"
  same_time "$initrd"
  (cd "$initrd" && find . -mindepth 1 -print0 | sort -z |
    cpio --quiet --reproducible --null --create --format=newc --owner=0:0) |
    zstd -q -$LEVEL -T1 -f -o "$WORK/initrd.cpio.zst"
}

# The hash tree's root pins every byte of the root; a byte that is not as it was panics, and the panic is kept.
cmdline() {
  echo -n "root=/dev/mapper/root rootfstype=squashfs ro systemd.verity=yes roothash=$(cat "$WORK/roothash")" \
    "systemd.verity_root_data=/dev/stile/root systemd.verity_root_hash=/dev/stile/verity" \
    "systemd.verity_root_options=panic-on-corruption systemd.machine_id=firmware panic=-1" \
    "systemd.gpt_auto=no quiet loglevel=4 $(lines "$HERE/cmdline.$BOARD" "$HERE/cmdline.$VARIANT" 2>/dev/null | paste -sd' ')"
}

# --- the unified kernel image: what the firmware starts, signed as one when a key is given ------------------
uki() {
  local stub=$CACHE/efi/linuxx64.efi.stub align end section file vma arguments=()
  say "unified kernel image"
  cmdline >"$WORK/cmdline"
  echo -n "$RELEASE" >"$WORK/uname"
  cp "$KERNEL/root/boot/vmlinuz-$RELEASE" "$WORK/vmlinuz"
  align=$(objdump -p "$stub" | sed -n 's/^SectionAlignment\s*//p')
  align=$((16#$align))
  end=$(objdump -hw "$stub" | awk '/^ *[0-9]+ /{print "0x" $3, "0x" $4}' |
    while read -r size vma; do echo $((size + vma)); done | sort -n | tail -1)
  for section in osrel:tree/usr/lib/os-release cmdline:cmdline uname:uname initrd:initrd.cpio.zst linux:vmlinuz; do
    file=$WORK/${section#*:}
    vma=$(((end + align - 1) / align * align))
    end=$((vma + $(stat -Lc %s "$file")))
    arguments+=(--add-section ".${section%%:*}=$file" --change-section-vma ".${section%%:*}=$vma")
  done
  "${AT_FIXED_TIME[@]}" objcopy "${arguments[@]}" "$stub" "$WORK/uki.efi"
  cp "$CACHE/efi/systemd-bootx64.efi" "$WORK/systemd-boot.efi"
  if [ -e "$KEYS/secureboot.key.pem" ]; then
    "$HERE/secure-boot.sh" sign "$KEYS" "$WORK/uki.efi" "$WORK/systemd-boot.efi"
  fi
}

# --- the EFI system partition -------------------------------------------------------------------------------
esp() {
  local esp=$WORK/esp.img folder=$WORK/esp
  say "EFI system partition"
  rm -rf "$esp" "$folder" && mkdir -p "$folder"/{EFI/BOOT,EFI/stile,loader/entries}
  cp "$WORK/systemd-boot.efi" "$folder/EFI/BOOT/BOOTX64.EFI"
  cp "$WORK/uki.efi" "$folder/EFI/stile/a.efi"
  printf 'timeout 0\neditor no\nauto-entries no\nauto-firmware no\nconsole-mode keep\nsecure-boot-enroll manual\n' >"$folder/loader/loader.conf"
  # The one slot of a new box is tried for ever: there is nothing to go back to.
  printf 'title Stile a, generation 1\nefi /EFI/stile/a.efi\n' >"$folder/loader/entries/stile-000001-a.conf"
  [ ! -e "$KEYS/secureboot.key.pem" ] || "$HERE/secure-boot.sh" enrol "$KEYS" "$folder/loader/keys/auto"
  same_time "$folder"
  truncate -s 256M "$esp"
  mkfs.vfat --invariant -F 32 -n ESP -i 53544C45 "$esp" >/dev/null
  mcopy -s -m -i "$esp" "$folder"/* ::
}

# --- a Raspberry Pi's boot partition, and the one that chooses it -------------------------------------------
boot() {
  local folder=$WORK/boot firmware=$WORK/firmware select=$WORK/select
  say "boot partitions"
  rm -rf "$folder" "$firmware" "$select" && mkdir -p "$folder/overlays" "$firmware" "$select"
  dpkg-deb -x "$CACHE"/debs/archives/raspi-firmware_*.deb "$firmware"
  cp "$firmware"/usr/lib/raspi-firmware/{bootcode.bin,start4.elf,fixup4.dat} "$folder/"
  cp "$KERNEL"/root/usr/lib/linux-image-*/broadcom/bcm271[12]-rpi-*.dtb "$folder/"
  cp "$KERNEL/root/boot/vmlinuz-$RELEASE" "$WORK/vmlinuz"
  # The firmware unpacks nothing bigger than it expects; the kernel is put there unpacked.
  gzip -dc "$WORK/vmlinuz" >"$folder/kernel.img" 2>/dev/null || cp "$WORK/vmlinuz" "$folder/kernel.img"
  cp "$WORK/initrd.cpio.zst" "$folder/initrd.img"
  { cmdline; echo; } >"$folder/cmdline.txt"
  cp "$HERE/config.txt" "$folder/config.txt"
  # `osimage bundle` reads there what this boot partition belongs to.
  cp "$WORK/tree/usr/lib/os-release" "$folder/os-release"
  # Partitions 3 and 4 of the layout; the caretaker writes this file anew, in the same words.
  printf '[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=4\n' >"$select/autoboot.txt"
  cp "$firmware/usr/lib/raspi-firmware/bootcode.bin" "$select/"
  same_time "$folder"; same_time "$select"
  rm -f "$WORK/boot.img" "$WORK/select.img"
  truncate -s 128M "$WORK/boot.img"
  truncate -s 16M "$WORK/select.img"
  mkfs.vfat --invariant -F 32 -n BOOT -i 53544C42 "$WORK/boot.img" >/dev/null
  mkfs.vfat --invariant -F 16 -n SELECT -i 53544C53 "$WORK/select.img" >/dev/null
  mcopy -s -m -i "$WORK/boot.img" "$folder"/* ::
  mcopy -s -m -i "$WORK/select.img" "$select"/* ::
}

# --- the disk image -----------------------------------------------------------------------------------------
image() {
  local contents
  say "disk image $IMAGE.img"
  case $BOARD in
    x86-64) contents=(esp="$WORK/esp.img" kernel-a="$WORK/uki.efi") ;;
    raspberry-pi) contents=(select="$WORK/select.img" boot-a="$WORK/boot.img") ;;
  esac
  contents+=(root-a="$WORK/root.squashfs" verity-a="$WORK/root.verity")
  "$WORK/programs/osimage" assemble --layout "$LAYOUT" --output "$IMAGE.img" "${contents[@]/#/--content=}"
}

# --- what is given away: packed image, signature, update bundle, bill of materials --------------------------
pack() {
  say "packing"
  zstd -q -f -$LEVEL -T0 "$IMAGE.img" -o "$IMAGE.img.zst"
  "$WORK/programs/osimage" sign "$IMAGE.img" --key "$KEYS/release.key"
  ls -l "$IMAGE".img* | awk '{print "image: " $5 " bytes  " $9}'
}

bundle() {
  local tree=$TOP/$OUT/work-stile-x86-64${VARIANT#stile}/tree third=kernel=$WORK/uki.efi
  [ -e "$tree/usr/bin/rauc" ] || die "the PC's image is built first: its RAUC makes the bundle"
  say "update bundle"
  if [ "$BOARD" = raspberry-pi ]; then third=boot=$WORK/boot.img; fi
  # RAUC as the PC's image has it, with its own libraries.
  printf '#!/bin/sh\nexec %q --library-path %q %q "$@"\n' "$tree/lib64/ld-linux-x86-64.so.2" \
    "$tree/usr/lib/x86_64-linux-gnu" "$tree/usr/bin/rauc" >"$WORK/rauc"
  chmod +x "$WORK/rauc"
  rm -f "$IMAGE.raucb"
  "$WORK/programs/osimage" bundle --layout "$LAYOUT" --keys "$KEYS" --rauc "$WORK/rauc" --compatible "$COMPATIBLE" \
    --version "$VERSION" --content "$third" --content root="$WORK/root.squashfs" --content verity="$WORK/root.verity" \
    --output "$IMAGE.raucb"
}

bom() {
  say "bill of materials and licences"
  # The boot manager and the kernel lie outside of the root tree.
  rm -rf "$WORK/boot-files" && mkdir -p "$WORK/boot-files/usr/lib/systemd/boot" "$WORK/boot-files/boot"
  [ ! -d "$CACHE/efi" ] || cp -r "$CACHE/efi" "$WORK/boot-files/usr/lib/systemd/boot/"
  [ ! -d "$WORK/firmware" ] || cp -r "$WORK/firmware/usr" "$WORK/boot-files/"
  cp "$WORK/vmlinuz" "$WORK/boot-files/boot/vmlinuz-$RELEASE"
  ARCH=$ARCH python3 "$HERE/bom.py" "$WORK" "$TOP/$OUT" "$NAME" "$VERSION" "${PROGRAMS[@]}"
}

main() {
  for step in "${STEPS[@]:-}"; do
    [ -z "$step" ] || declare -F "$step" >/dev/null || die "no step $step"
  done
  mkdir -p "$WORK" "$CACHE"
  python3 "$HERE/tests.py" 2>"$WORK/tests.log" || { cat "$WORK/tests.log" >&2; die "the scripts' own tests fail"; }
  for step in "${ALL[@]}"; do
    # The kernel's step names its folder for the others.
    if [ ${#STEPS[@]} -eq 0 ] || [ "$step" = kernel ] || [[ " ${STEPS[*]} " == *" $step "* ]]; then
      started=$SECONDS
      case $step in packages | kernel) locked $step ;; *) $step ;; esac
      echo "image: $step: $((SECONDS - started)) s"
    fi
  done
}

# In one function, so that a build goes on unharmed while somebody edits this file.
main
exit
