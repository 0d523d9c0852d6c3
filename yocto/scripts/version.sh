#!/bin/bash
# A version of stile-image-sim by bitbake, for tests/vm/image/bundles.sh: its BUILDER.
#
#   version.sh NAME VERSION OVERLAY FOLDER
#
# Runs where bitbake does (its environment, BUILDDIR), with STILE_KEYS in the build's configuration. Leaves
# FOLDER/{root.squashfs,root.verity,uki.efi}, from the bundle that bitbake made. Needs squashfs-tools.
set -euo pipefail
version=$2 overlay=$3 folder=$4
: "${BUILDDIR:?no build folder: initialise bitbake first}"

rm -rf "$folder"
mkdir -p "$folder"
chmod -R a+rX "$overlay"
export STILE_VERSION=$version STILE_OVERLAY=$overlay
export BB_ENV_PASSTHROUGH_ADDITIONS="${BB_ENV_PASSTHROUGH_ADDITIONS:-} STILE_VERSION STILE_OVERLAY"
bitbake stile-image-sim
bundles=("$BUILDDIR"/tmp/deploy/images/*/stile-image-sim-*.rootfs-update.raucb)
[ ${#bundles[@]} = 1 ] && [ -e "${bundles[0]}" ] ||
  { echo "version.sh: not one bundle of stile-image-sim in $BUILDDIR: ${bundles[*]}" >&2; exit 1; }
# A bundle is a squashfs with a signature behind it.
unsquashfs -quiet -no-progress -force -dest "$folder" "${bundles[0]}"
mv "$folder/root.img" "$folder/root.squashfs"
mv "$folder/verity.img" "$folder/root.verity"
mv "$folder/kernel.img" "$folder/uki.efi"
grep -qx "version=$version" "$folder/manifest.raucm" ||
  { echo "version.sh: the bundle is not of version $version" >&2; exit 1; }
