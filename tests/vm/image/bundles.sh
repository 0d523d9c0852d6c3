#!/bin/bash
# Makes the bundles that the steps of vm-image install: a next version, and versions that are wrong in one way each.
#
#   [KEYS=…] [IMAGE=out/image] bundles.sh [OUT]     OUT (default out/vm-image/bundles)/{next,unhealthy,hangs,other-board,stranger}.raucb
#
# Each is a full build of the root tree with an overlay (image/reference/build.sh); programs are not built anew.
set -euo pipefail
HERE=$(dirname "$(realpath "$0")")
cd "$HERE/../../.."
OUT=$(realpath -m "${1:-out/vm-image/bundles}")
KEYS=${KEYS:-out/keys}
IMAGE=${IMAGE:-out/image}
mkdir -p "$OUT"
# Beside the builds, so that files can be linked.
overlays=$(mktemp -d "$OUT/overlays.XXXXXX")
trap 'rm -rf "$overlays"' EXIT

# build NAME VERSION [STEP...]: a build with $overlays/NAME laid over the tree; its bundle becomes NAME.raucb. The
# programs are those of the tested image.
build() {
  local name=$1 version=$2 work=out/image-$1/work-stile-x86-64-sim
  mkdir -p "$overlays/$name" "$work"
  rm -rf "$work/programs" && cp -al "$IMAGE/work-stile-x86-64-sim/programs" "$work/programs"
  image/reference/build.sh --variant stile-sim --profile dev --keys "$KEYS" --version "$version" --out "out/image-$name" \
    --overlay "$overlays/$name" tree root initrd uki bundle >"$OUT/$name.log" 2>&1 ||
    { tail -20 "$OUT/$name.log" >&2; echo "bundles.sh: $name cannot be built; see $OUT/$name.log" >&2; exit 1; }
  mv "out/image-$name/stile-x86-64-sim.raucb" "$OUT/$name.raucb"
}

# rebundle NAME KEYS COMPATIBLE: the content of the next version, signed by these keys and for this board.
rebundle() {
  local work=out/image-next/work-stile-x86-64-sim
  rm -f "$OUT/$1.raucb"
  "$work/programs/osimage" bundle --layout image/layouts/x86-64-efi.toml --keys "$2" --rauc "$work/rauc" --compatible "$3" \
    --version 2 --content kernel="$work/uki.efi" --content root="$work/root.squashfs" \
    --content verity="$work/root.verity" --output "$OUT/$1.raucb" >"$OUT/$1.log" 2>&1 || { tail "$OUT/$1.log" >&2; exit 1; }
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

rebundle other-board "$KEYS" stile-raspberry-pi
"$IMAGE/work-stile-x86-64-sim/programs/osimage" keys "$overlays/stranger" --name "A stranger" >/dev/null
rebundle stranger "$overlays/stranger" stile-x86-64
ls -l "$OUT"/*.raucb
