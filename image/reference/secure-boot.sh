#!/bin/bash
# Signs for UEFI Secure Boot, with the key of a folder that `osimage keys` made; for this image and for bitbake's.
#
#   secure-boot.sh sign KEYS FILE...   signs programs of the firmware where they lie
#   secure-boot.sh enrol KEYS FOLDER   makes FOLDER/{PK,KEK,db}.auth, from which systemd-boot gives a firmware in
#                                      setup mode that key
#
# systemd-boot offers that in its menu (loader.conf(5), secure-boot-enroll) and does nothing by itself, because a board
# whose graphics card wants a key of somebody else's shows nothing any more.
#
# Signatures hold the time: SOURCE_DATE_EPOCH. Needs sbsigntool, efitools, faketime.
set -euo pipefail
export LC_ALL=C TZ=UTC
: "${SOURCE_DATE_EPOCH:?}"

what=$1 key=$2/secureboot.key.pem cert=$2/secureboot.cert.pem
shift 2
time=$(date -u -d "@$SOURCE_DATE_EPOCH" '+%Y-%m-%d %H:%M:%S')
case $what in
  sign)
    for file; do
      # It tells of every gap between sections on its standard error.
      said=$(faketime -f "$time" sbsign --key "$key" --cert "$cert" --output "$file" "$file" 2>&1) ||
        { echo "secure-boot.sh: $file cannot be signed: $said" >&2; exit 1; }
    done
    ;;
  enrol)
    owner=53746c65-0000-4000-8000-736563757265
    list=$(mktemp)
    trap 'rm -f "$list"' EXIT
    mkdir -p "$1"
    cert-to-efi-sig-list -g $owner "$cert" "$list"
    for name in PK KEK db; do
      faketime -f "$time" sign-efi-sig-list -g $owner -t "$time" -k "$key" -c "$cert" $name "$list" "$1/$name.auth" >/dev/null
    done
    ;;
  *) echo "secure-boot.sh: sign or enrol, not $what" >&2; exit 2 ;;
esac
