#!/bin/sh
# RUSTC_WORKSPACE_WRAPPER of run.sh: what the targets test and the targets are compiled with libFuzzer's counters. Stable Rust has LLVM's pass, but no
# flag of its own for it.
set -eu
rustc=$1
shift
crate=
previous=
for argument in "$@"; do
  [ "$previous" != --crate-name ] || crate=$argument
  previous=$argument
done
case $crate in
  trough_core | trough_pushdown | trough_reql | trough_client | trough_config | trough_meta | reql_wire | meta_query | query_frames | results | settings | segments | expressions)
    exec "$rustc" "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
  *) exec "$rustc" "$@" ;;
esac
