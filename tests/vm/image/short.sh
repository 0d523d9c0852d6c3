#!/bin/bash
# The short form of the image's proof, for every `make test`: builds the image with programs of the dev profile and
# without a screen, starts it in QEMU, and lets a shopper in. Some minutes; the long form is `make vm-image-test`.
#
# Without Debian's archive there is no image; then it says so and is content.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../../.."
OUT=out/short
export STILE_PROGRAMS='gated gate-failsafe code-reader cartd console caretaker'
mkdir -p $OUT
build() { image/reference/build.sh --variant stile-sim --profile dev --out $OUT "$@"; }

if ! { make .cache/vm/packages.stamp .cache/image/packages.stamp && build packages kernel; } >$OUT/packages.log 2>&1; then
  echo "the image's start: skipped: no data (Debian's packages cannot be had: $(tail -1 $OUT/packages.log))"
  exit 0
fi
build programs keys tree root initrd uki esp image >$OUT/build.log 2>&1 || { tail -30 $OUT/build.log >&2; exit 1; }
"${CARGO_TARGET_DIR:-target}/debug/vm-image" --image $OUT/stile-x86-64-sim.img --out $OUT/vm prove boot
rm -rf $OUT/vm/boot/disk.raw $OUT/vm/fresh.raw
