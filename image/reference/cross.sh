#!/bin/bash
# Makes what cargo needs to build programs for arm64 on another processor, and prints it as shell variables:
#
#   eval "$(image/reference/cross.sh CACHE)"; cargo build --target aarch64-unknown-linux-gnu …
#
# The compiler is Debian's cross compiler, the C library its own; the other libraries (of the screen and of devices)
# are packages of the building machine's release for arm64, unpacked below CACHE and not installed.
set -euo pipefail
CACHE=$(realpath -m "${1:?cross.sh CACHE}")
LIBRARIES=libudev-dev,libinput-dev,libxkbcommon-dev,libfontconfig-dev
MIRROR=${MIRROR:-http://deb.debian.org/debian}
TRIPLET=aarch64-linux-gnu
TARGET=aarch64-unknown-linux-gnu
SUITE=$(. /etc/os-release && echo "$VERSION_CODENAME")

for tool in $TRIPLET-gcc $TRIPLET-g++ mmdebstrap; do
  command -v $tool >/dev/null || { echo "cross.sh: $tool is missing (gcc-$TRIPLET, g++-$TRIPLET, mmdebstrap)" >&2; exit 1; }
done
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$TARGET" ]; then
  rustup target add $TARGET >&2
fi

sysroot=$CACHE/sysroot-$SUITE
wanted=$(sha256sum <"$0")
if [ "$(cat "$sysroot/stamp" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$sysroot" "$CACHE/sysroot-debs" && mkdir -p "$sysroot" "$CACHE/sysroot-debs"
  mmdebstrap --quiet --variant=extract --architectures=arm64 --mode=unshare --skip=check/empty --include=$LIBRARIES \
    --extract-hook="copy-out /var/cache/apt/archives $CACHE/sysroot-debs" "$SUITE" /dev/null "$MIRROR" \
    >"$CACHE/sysroot.log" 2>&1 || { echo "cross.sh: mmdebstrap failed; see $CACHE/sysroot.log" >&2; exit 1; }
  for deb in "$CACHE"/sysroot-debs/archives/*.deb; do
    # The compiler brings its own C library; two would be mixed.
    case $(basename "$deb") in libc6* | libc-dev-bin* | libgcc-s1* | linux-libc-dev*) continue ;; esac
    dpkg-deb -x "$deb" "$sysroot"
  done
  rm -rf "$CACHE/sysroot-debs"
  echo "$wanted" >"$sysroot/stamp"
fi

variable() { printf 'export %s=%q\n' "$1" "$2"; }
variable CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER $TRIPLET-gcc
variable CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS \
  "-L native=$sysroot/usr/lib/$TRIPLET -C link-arg=-Wl,-rpath-link,$sysroot/usr/lib/$TRIPLET -C link-arg=-Wl,-rpath-link,$sysroot/lib/$TRIPLET"
variable CC_aarch64_unknown_linux_gnu $TRIPLET-gcc
variable CXX_aarch64_unknown_linux_gnu $TRIPLET-g++
variable AR_aarch64_unknown_linux_gnu $TRIPLET-ar
variable BINDGEN_EXTRA_CLANG_ARGS_aarch64_unknown_linux_gnu "--target=$TRIPLET -isystem /usr/$TRIPLET/include"
variable PKG_CONFIG_ALLOW_CROSS 1
variable PKG_CONFIG_SYSROOT_DIR "$sysroot"
variable PKG_CONFIG_LIBDIR "$sysroot/usr/lib/$TRIPLET/pkgconfig:$sysroot/usr/share/pkgconfig"
