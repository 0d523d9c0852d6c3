#!/bin/bash
# Makes the bundles that the steps of vm-image install: a next version, and versions that are wrong in one way each.
#
#   [KEYS=…] [IMAGE=out/image] [BUILDER=…] [RAUC=…] bundles.sh [OUT]
#   makes OUT/{next,served,unhealthy,hangs,other-board,stranger}.raucb; OUT is out/vm-image/bundles unless said.
#
# Each is a full build of the root tree with an overlay; programs are not built anew. BUILDER is the command that does it,
# called as `BUILDER NAME VERSION OVERLAY FOLDER`, to leave FOLDER/{root.squashfs,root.verity,uki.efi}: here the reference
# image's (image/reference/build.sh); yocto/scripts/version.sh is bitbake's. RAUC is the tested image's unless said.
# Most come from a disk, where an index of what a slot holds spares nothing; emulated, making it takes minutes a slot
# (all of its 768 MiB are read and hashed). The one that is fetched from a server has it, as `osimage bundle` makes it.
set -euo pipefail
HERE=$(dirname "$(realpath "$0")")
cd "$HERE/../../.."
OUT=$(realpath -m "${1:-out/vm-image/bundles}")
KEYS=${KEYS:-out/keys}
IMAGE=${IMAGE:-out/image}
BUILDER=${BUILDER:-reference}
RAUC=${RAUC:-$IMAGE/work-stile-x86-64-sim/rauc}
OSIMAGE=${OSIMAGE:-$IMAGE/work-stile-x86-64-sim/programs/osimage}
mkdir -p "$OUT"
# Beside the builds, so that files can be linked.
overlays=$(mktemp -d "$OUT/overlays.XXXXXX")
trap 'rm -rf "$overlays"' EXIT

# reference NAME VERSION OVERLAY FOLDER: the programs are those of the tested image.
reference() {
  mkdir -p "$4"
  rm -rf "$4/programs" && cp -al "$IMAGE/work-stile-x86-64-sim/programs" "$4/programs"
  image/reference/build.sh --variant stile-sim --profile dev --keys "$KEYS" --version "$2" --out "out/image-$1" \
    --overlay "$3" tree root initrd uki
}

# built NAME: where a build leaves what it made.
built() {
  if [ "$BUILDER" = reference ]; then echo "out/image-$1/work-stile-x86-64-sim"; else echo "$OUT/$1"; fi
}

# build NAME VERSION: a build with $overlays/NAME laid over the tree; its bundle becomes NAME.raucb.
build() {
  local name=$1 version=$2 work
  work=$(built "$name")
  mkdir -p "$overlays/$name"
  "$BUILDER" "$name" "$version" "$overlays/$name" "$work" >"$OUT/$name.log" 2>&1 ||
    { tail -20 "$OUT/$name.log" >&2; echo "bundles.sh: $name cannot be built; see $OUT/$name.log" >&2; exit 1; }
  bundle "$name" "$work" "$version" "$KEYS" stile-x86-64
}

# bundle NAME WORK VERSION KEYS COMPATIBLE [ADAPTIVE]: what was built in WORK, signed by these keys and for this board.
bundle() {
  local name=$1 work=$2 version=$3 keys=$4 compatible=$5 adaptive=${6:-} folder=$overlays/$1.bundle
  mkdir "$folder"
  cp "$work/root.squashfs" "$folder/root.img"
  cp "$work/root.verity" "$folder/verity.img"
  cp "$work/uki.efi" "$folder/kernel.img"
  truncate -s %4096 "$folder"/*.img
  {
    printf '[update]\ncompatible=%s\nversion=%s\n\n[bundle]\nformat=verity\n' "$compatible" "$version"
    for part in verity kernel root; do
      printf '\n[image.%s]\nfilename=%s.img\n' $part $part
      [ -z "$adaptive" ] || [ $part = verity ] || echo "adaptive=$adaptive"
    done
  } >"$folder/manifest.raucm"
  rm -f "$OUT/$name.raucb"
  "$RAUC" bundle --cert="$keys/rauc.cert.pem" --key="$keys/rauc.key.pem" \
    --keyring="$keys/rauc-ca.pem" "$folder" "$OUT/$name.raucb" >>"$OUT/$name.log" 2>&1 ||
    { tail "$OUT/$name.log" >&2; exit 1; }
  rm -rf "$folder"
}

build next 2

# A gate that ends at once: the health gate must see it.
mkdir -p "$overlays/unhealthy/usr/bin"
cp /bin/false "$overlays/unhealthy/usr/bin/gated"
build unhealthy 3

# A box that stops in the middle of its start: one program takes every processor at real-time priority.
mkdir -p "$overlays/hangs/usr/lib/systemd/system/sysinit.target.wants"
cat >"$overlays/hangs/usr/lib/systemd/system/hang.service" <<'END'
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/usr/lib/stile/vm-guest hang
CPUSchedulingPolicy=fifo
CPUSchedulingPriority=99
END
ln -s ../hang.service "$overlays/hangs/usr/lib/systemd/system/sysinit.target.wants/hang.service"
build hangs 4

next=$(built next)
bundle served "$next" 2 "$KEYS" stile-x86-64 block-hash-index
bundle other-board "$next" 2 "$KEYS" stile-raspberry-pi
"$OSIMAGE" keys "$overlays/stranger" --name "A stranger" >/dev/null
bundle stranger "$next" 2 "$overlays/stranger" stile-x86-64
ls -l "$OUT"/*.raucb
