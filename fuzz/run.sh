#!/usr/bin/env bash
# Fuzzing with libFuzzer on stable Rust. Every target first runs over its corpus and over the inputs that once failed.
#
#   fuzz/run.sh                     all targets, 60 seconds each, two at a time
#   fuzz/run.sh TARGET [SECONDS]    one of them; 0 seconds: only what is kept
#   fuzz/run.sh minimise            makes the kept corpora anew from what they and target/fuzz/corpus reach
#
# A corpus is kept as corpus/TARGET.tar.gz: thousands of files of a few bytes.
#
# FUZZ_SECONDS and FUZZ_JOBS change the 60 and the 2. What it finds, and a corpus that grows, lie in target/fuzz. An input that failed:
# fuzz/run.sh TARGET 0 after it was put into fuzz/regressions/TARGET.
set -euo pipefail
cd "$(dirname "$0")"
targets=(reql_wire meta_query query_frames results settings segments expressions)
work=$(realpath -m "../target/fuzz")
bins=${CARGO_TARGET_DIR:-$(realpath -m ../target)}/debug

# The same packages as in the unit tests, so that what they depend on is compiled already. Optimised a little: more inputs in a minute
# than the time that it takes to compile.
build() {
  RUSTC_WORKSPACE_WRAPPER=$PWD/rustc.sh cargo build --quiet --locked --workspace --exclude pg_trough --exclude trough-bench \
    "${targets[@]/#/--bin=}" --config 'profile.dev.opt-level=1' --config 'profile.dev.debug=false'
}

# Unpacks the kept corpora.
unpack() {
  local target
  for target in "${targets[@]}"; do
    rm -rf "$work/kept/$target" && mkdir -p "$work/kept/$target"
    [ ! -f "corpus/$target.tar.gz" ] || tar -xzf "corpus/$target.tar.gz" -C "$work/kept/$target"
  done
}

# The same files give the same archive.
pack() { tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' -C "$1" -c . | gzip -9n >"$2"; }

# The inputs of some formats are made of words that chance would not find.
dictionary() { [ ! -f "dictionaries/$1" ] || echo "-dict=dictionaries/$1"; }

# What a target died of without being able to say so.
rescue() { # findings
  [ -s "$FUZZ_CURRENT" ] || return 0
  local name
  name=$1/died-$(sha1sum "$FUZZ_CURRENT" | cut -c1-40)
  cp "$FUZZ_CURRENT" "$name"
  echo "fuzz: the last input: $name, in base64:"
  head -c 4096 "$name" | base64
}

run() { # target, seconds
  local target=$1 seconds=$2 log=$work/$1.log
  local corpus=$work/corpus/$target findings=$work/findings/$target
  local kept=$work/kept/$target
  mkdir -p "$corpus" "$findings" "regressions/$target"
  export FUZZ_CURRENT=$work/$target.current
  # 20 seconds at most for one input, and 2 GB of memory: far beyond what any may take.
  local options=(-timeout=20 -rss_limit_mb=2048 -artifact_prefix="$findings/" -print_final_stats=1)
  if ! "$bins/$target" "${options[@]}" -runs=0 "$kept" "regressions/$target" >"$log" 2>&1; then
    tail -20 "$log"
    echo "fuzz: $target fails on an input that is kept (log: $log)"
    rescue "$findings"
    return 1
  fi
  if [ "$seconds" != 0 ]; then
    # shellcheck disable=SC2046
    if ! "$bins/$target" "${options[@]}" $(dictionary "$target") -max_total_time="$seconds" "$corpus" "$kept" "regressions/$target" "$work/seeds/$target" >>"$log" 2>&1; then
      tail -20 "$log"
      echo "fuzz: $target has found an input that fails: see $findings (log: $log)"
      rescue "$findings"
      return 1
    fi
  fi
  awk -v target="$target" '
    /cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "corp:") corp = $(i + 1) } }
    /average_exec_per_sec/ { speed = $2 } /number_of_executed_units/ { units = $2 }
    END { printf "fuzz: %-13s %9d inputs, %6d a second, coverage %5d, corpus %s\n", target, units, speed, cov, corp }' "$log"
}

minimise() {
  local target
  for target in "${targets[@]}"; do
    mkdir -p "$work/corpus/$target" corpus "$work/minimised"
    rm -rf "$work/minimised/$target" && mkdir "$work/minimised/$target"
    "$bins/$target" -merge=1 -timeout=20 -rss_limit_mb=2048 "$work/minimised/$target" "$work/kept/$target" "$work/corpus/$target" "$work/seeds/$target" >"$work/$target.merge.log" 2>&1
    # Short inputs cover nearly all: what is kept stays small.
    rm -rf "$work/kept/$target" && mkdir "$work/kept/$target"
    find "$work/minimised/$target" -type f -size -2k -printf '%s %p\n' | sort -n | awk '{ total += $1; if (total < 250000 && NR <= 3000) print $2 }' |
      while read -r file; do cp "$file" "$work/kept/$target/"; done
    pack "$work/kept/$target" "corpus/$target.tar.gz"
    echo "fuzz: $target keeps $(find "$work/kept/$target" -type f | wc -l) inputs, $(stat -c %s "corpus/$target.tar.gz") bytes packed"
  done
}

build
./seed.py "$work/seeds"
unpack
case ${1:-all} in
  minimise) minimise ;;
  all)
    failed=0 jobs=${FUZZ_JOBS:-2} running=0
    for target in "${targets[@]}"; do
      if [ "$running" -ge "$jobs" ]; then
        wait -n || failed=1
        running=$((running - 1))
      fi
      run "$target" "${FUZZ_SECONDS:-60}" &
      running=$((running + 1))
    done
    while [ "$running" -gt 0 ]; do
      wait -n || failed=1
      running=$((running - 1))
    done
    exit "$failed"
    ;;
  *) run "$1" "${2:-${FUZZ_SECONDS:-60}}" ;;
esac
