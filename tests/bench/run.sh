#!/usr/bin/env bash
# The benchmarks: starts the demo's PostgreSQL and cluster on ports of its own, loads the demo's data and what the peers
# need, runs every benchmark beside its peer, and prints a table of ratios.
#   tests/bench/run.sh [--only NAME] [--large] [--listing-hdfs FILES]
# What a run has loaded (14,000,000 rows in 14,000 segments) the next one uses again; BENCH_FRESH=1 loads it anew.
# `--only copies` and `--only listing` need HDFS alone, `--only cold` and `--only shell` start servers of their own: none of them needs PostgreSQL nor that data;
# `--only master` (which is run only when it is named, and takes minutes) needs nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
export DEMO_DIR=${BENCH_DIR:-/var/tmp/pg_trough-bench} DEMO_PORT=${BENCH_PORT:-25434} DEMO_BASE_PORT=${BENCH_BASE_PORT:-26500}
export PROGRESS_TIMEOUT=${PROGRESS_TIMEOUT:-1800}
hadoop=$DEMO_DIR/bench-hadoop

# HDFS for the rows that need it. A million files want more heap than a test's name node has.
start_hdfs() {
  scripts/setup.sh hdfs
  mkdir -p "$DEMO_DIR"
  export HADOOP_USER_NAME=trough # whom its directories belong to
  HADOOP_HEAP=${HADOOP_HEAP:-1536m} tests/lib/hadoop.py start "$hadoop"
}
stop_hdfs() {
  if [ -f "$hadoop/hadoop.json" ]; then tests/lib/hadoop.py stop "$hadoop"; fi
  rm -rf "$hadoop"
}
run_bench() {
  cargo run --release -p trough-bench -- --pg "host=127.0.0.1 port=$DEMO_PORT user=postgres dbname=demo" --cluster "$DEMO_DIR/cluster" --hadoop "$hadoop" "$@"
}

only=$(printf '%s\n' "$@" | awk 'last == "--only" { print } /^--only=/ { print substr($0, 8) } { last = $0 }')
case $only in
  master | cold | shell)
    scripts/setup.sh test
    cargo build --release -p trough -p pg_trough # the same packages as elsewhere, so that nothing is compiled twice
    mkdir -p "$DEMO_DIR"
    run_bench "$@"
    exit
    ;;
  copies | listing)
    trap stop_hdfs EXIT
    start_hdfs
    run_bench "$@"
    exit
    ;;
esac

loaded=$DEMO_DIR/loaded
if [ -n "${BENCH_FRESH:-}" ]; then rm -f "$loaded"; fi
trap 'stop_hdfs; scripts/demo.sh stop >/dev/null' EXIT
if [ -f "$loaded" ]; then DEMO_START_ONLY=1 scripts/demo.sh; else DEMO_LOAD_ONLY=1 scripts/demo.sh; fi
export PGHOST=127.0.0.1 PGPORT=$DEMO_PORT PGUSER=postgres PGDATABASE=demo
if [ ! -f "$loaded" ]; then
  psql -X -q -v ON_ERROR_STOP=1 -v port="$DEMO_PORT" -f tests/bench/peers.sql
  psql -X -q -v ON_ERROR_STOP=1 -f tests/bench/small.sql &
  small=$!
  scripts/progress.sh $small "segments of small" 10000 "SELECT count(*) FROM trough.locks('archive') WHERE segment ~ '^small-'"
  wait $small
  psql -X -q -v ON_ERROR_STOP=1 -f sql/demo/promote.sql
  scripts/progress.sh 0 "write locks released" 10000 "SELECT 10000 - count(*) FROM trough.locks('archive')"
  touch "$loaded"
fi
# Surplus copies, left by writing and moving, are collected first: the benchmarks ask workers directly.
scripts/progress.sh 0 "cluster at rest" 1 "SELECT (count(*) = (SELECT count(*) FROM trough.assignments('archive')))::int FROM trough.segments('archive') WHERE segment !~ '^(copied|bench-writes)-'"
if [ -z "$only" ]; then
  scripts/setup.sh test # what the cold tier's peers need
  start_hdfs
fi
run_bench "$@"
