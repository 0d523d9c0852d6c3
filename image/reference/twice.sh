#!/bin/bash
# Builds an image twice from the same inputs and compares every file that ships: same inputs, same bytes.
#
#   twice.sh [options of build.sh]
#
# Downloads and programs are taken from the cache and from cargo; trees, file systems and disk image are made anew.
set -euo pipefail
HERE=$(dirname "$(realpath "$0")")
cd "$HERE/../.."
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
for number in 1 2; do
  rm -rf out/twice-$number
  "$HERE/build.sh" "$@" --out out/twice-$number
  # A second build must not gain from being in the same second, hour of the day or folder.
  sleep 2
done
status=0
cd out/twice-1
for file in *.img *.bmap *.json *.tsv work-*/{root.squashfs,root.verity,uki.efi,esp.img}; do
  [ -e "$file" ] || continue
  if cmp -s "$file" "../twice-2/$file"; then echo "same: $file"; else echo "differs: $file"; status=1; fi
done
exit $status
