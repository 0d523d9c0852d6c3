#!/bin/bash
# Fuzzes with libFuzzer on the stable toolchain. The coverage flags are rustc's own; C code (libosdp) is counted
# through src/trace.c.
#
#   run.sh build                 the binary
#   run.sh TARGET SECONDS        one target; what it finds is kept in $WORK/TARGET, crashes in artifacts/
#   run.sh all SECONDS           every target in turn, SECONDS each
#   run.sh minimise [TARGET…]    writes the committed corpora anew from $WORK: at most 200 files of at most 4 KiB
#   run.sh log                   runs and executions so far, from $WORK/log
set -euo pipefail
cd "$(dirname "$0")"
TRIPLE=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
WORK=${WORK:-$CARGO_TARGET_DIR/corpus}
BINARY=$CARGO_TARGET_DIR/$TRIPLE/release/fuzz
LENGTH_MAX=4096
FILES_MAX=200

build() {
  cp ../../Cargo.lock Cargo.lock
  local rust="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
  rust+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
  rust+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
  local c=CFLAGS_${TRIPLE//-/_}
  env RUSTFLAGS="$rust" "$c=-fsanitize-coverage=trace-pc,trace-cmp" \
    cargo build --release --target "$TRIPLE" --features libfuzzer --bin fuzz
}

targets() { sed -n 's/^    ("\([a-z_]*\)", .*),$/\1/p' src/lib.rs; }

seeds() { [ -d "$WORK/.seeds" ] || cargo run --quiet --bin seeds -- "$WORK/.seeds"; }

run() {
  local target=$1 seconds=$2
  mkdir -p "$WORK/$target" artifacts "corpus/$target"
  seeds
  local before status=0
  before=$(find "$WORK/$target" -type f | wc -l)
  local words=()
  case $target in bus_json | manifest) words=(-dict=words.dict) ;; esac
  TARGET=$target nice -n 19 "$BINARY" "${words[@]}" -max_total_time="$seconds" -max_len=$LENGTH_MAX -timeout=10 -rss_limit_mb=3000 \
    -reload=0 -print_final_stats=1 -artifact_prefix="artifacts/$target-" \
    "$WORK/$target" "corpus/$target" "$WORK/.seeds/$target" >"$WORK/$target.log" 2>&1 || status=$?
  local runs cover
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$WORK/$target.log")
  cover=$(grep -o 'cov: [0-9]* ft: [0-9]*' "$WORK/$target.log" | tail -1)
  echo "$(date -u +%FT%TZ) $target $seconds s: ${runs:-0} executions, $cover, files $before -> \
$(find "$WORK/$target" -type f | wc -l), exit $status" | tee -a "$WORK/log"
}

minimise() {
  seeds
  for target in ${*:-$(targets)}; do
    local merged
    merged=$(mktemp -d)
    TARGET=$target "$BINARY" -merge=1 -max_len=$LENGTH_MAX -rss_limit_mb=3000 "$merged" "corpus/$target" \
      "$WORK/.seeds/$target" "$WORK/$target" >/dev/null 2>&1
    # Regressions stay whatever they cover. The others are named by their hashes, so the first by name are any.
    mkdir -p "corpus/$target"
    find "corpus/$target" -type f ! -name 'regression-*' -delete
    local room=$((FILES_MAX - $(find "corpus/$target" -type f | wc -l)))
    find "$merged" -type f -size -9 -printf '%f\n' | sort | sed -n "1,${room}p" | while read -r name; do
      cp "$merged/$name" "corpus/$target/"
    done
    rm -r "$merged"
    echo "$target: $(find "corpus/$target" -type f | wc -l) files, $(du -sb "corpus/$target" | cut -f1) bytes"
  done
}

case ${1:-} in
  build) build ;;
  all) for target in $(targets); do run "$target" "$2"; done ;;
  minimise) shift; minimise "$@" ;;
  log) awk '{ runs[$2] += $5; seconds[$2] += $3 } END { for (t in runs) print t, runs[t], "executions in", seconds[t], "s" }' \
    "$WORK/log" | sort ;;
  '') sed -n '2,10p' "$0" ;;
  *) run "$1" "$2" ;;
esac
