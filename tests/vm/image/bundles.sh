#!/bin/bash
# Makes the bundles that the steps of vm-image install: a next version, and versions that are wrong in one way each.
#
#   bundles.sh [OUT]     OUT (default out/vm-image/bundles)/{next,unhealthy,hangs,other-board,stranger}.raucb
#
# Each is a full build of the root tree with an overlay (image/reference/build.sh); programs are not built anew.
set -euo pipefail
HERE=$(dirname "$(realpath "$0")")
cd "$HERE/../../.."
OUT=$(realpath -m "${1:-out/vm-image/bundles}")
KEYS=${KEYS:-out/keys}
TARGET=${CARGO_TARGET_DIR:-target}
mkdir -p "$OUT"
overlays=$(mktemp -d)
trap 'rm -rf "$overlays"' EXIT

# build NAME VERSION: a build with $overlays/NAME laid over the tree.
build() {
  mkdir -p "$overlays/$1"
  image/reference/build.sh --variant stile-sim --profile dev --keys "$KEYS" --version "$2" --out "out/image-$1" \
    --overlay "$overlays/$1" tree root initrd uki >"$OUT/$1.log" 2>&1 ||
    { tail -20 "$OUT/$1.log" >&2; echo "bundles.sh: $1 cannot be built; see $OUT/$1.log" >&2; exit 1; }
}

# bundle NAME WORK [ARGUMENT...]
bundle() {
  local name=$1 work=$2
  shift 2
  rm -f "$OUT/$name.raucb"
  "$TARGET/debug/osimage" bundle --keys "$KEYS" --compatible stile-x86-64 --version "$name" "$@" \
    --root "$work/root.squashfs" --verity "$work/root.verity" --kernel "$work/uki.efi" --output "$OUT/$name.raucb"
}

build next 2
bundle next out/image-next/work-stile-x86-64-sim

# A gate that ends at once: the health gate must see it.
mkdir -p "$overlays/unhealthy/usr/bin"
cp /bin/false "$overlays/unhealthy/usr/bin/gated"
build unhealthy 3
bundle unhealthy out/image-unhealthy/work-stile-x86-64-sim

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
bundle hangs out/image-hangs/work-stile-x86-64-sim

bundle other-board out/image-next/work-stile-x86-64-sim --compatible stile-raspberry-pi
stranger=$(mktemp -d)
"$TARGET/debug/osimage" keys "$stranger/keys" >/dev/null
KEYS=$stranger/keys bundle stranger out/image-next/work-stile-x86-64-sim
rm -rf "$stranger"
ls -l "$OUT"
