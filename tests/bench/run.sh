#!/usr/bin/env bash
# The benchmarks: starts the demo's PostgreSQL and cluster on ports of its own, loads the demo's data and what the peers
# need, runs every benchmark beside its peer, and prints a table of ratios.
#   tests/bench/run.sh [--only NAME] [--large]
# What a run has loaded (14,000,000 rows in 14,000 segments) the next one uses again; BENCH_FRESH=1 loads it anew.
# Benchmarks named in `alone` start servers of their own; named by --only, they run without PostgreSQL and what it loads.
set -euo pipefail
cd "$(dirname "$0")/../.."
export DEMO_DIR=${BENCH_DIR:-/var/tmp/pg_trough-bench} DEMO_PORT=${BENCH_PORT:-25434} DEMO_BASE_PORT=${BENCH_BASE_PORT:-26500}
export PROGRESS_TIMEOUT=${PROGRESS_TIMEOUT:-1800}
alone=" cold "
only=$(printf '%s\n' "$@" | awk 'last == "--only" { print } /^--only=/ { print substr($0, 8) } { last = $0 }')
scripts/setup.sh test
if [ -n "$only" ] && [[ $alone == *" $only "* ]]; then
  cargo build --release -p trough
  exec cargo run --release -p trough-bench -- --cluster "$DEMO_DIR/cluster" "$@"
fi
loaded=$DEMO_DIR/loaded
if [ -n "${BENCH_FRESH:-}" ]; then rm -f "$loaded"; fi
trap 'scripts/demo.sh stop >/dev/null' EXIT
if [ -f "$loaded" ]; then DEMO_START_ONLY=1 scripts/demo.sh; else DEMO_LOAD_ONLY=1 scripts/demo.sh; fi
export PGHOST=127.0.0.1 PGPORT=$DEMO_PORT PGUSER=postgres PGDATABASE=demo
if [ ! -f "$loaded" ]; then
  psql -X -q -v ON_ERROR_STOP=1 -v port="$DEMO_PORT" -f tests/bench/peers.sql
  psql -X -q -v ON_ERROR_STOP=1 -f tests/bench/small.sql &
  small=$!
  scripts/progress.sh $small "segments of small" 10000 "SELECT count(*) FROM trough.locks('archive') WHERE segment ~ '^small-'"
  wait $small
  # In batches: each is one request, which ends within its time limit on a busy machine too.
  psql -X -q -v ON_ERROR_STOP=1 -f sql/demo/promote.sql
  scripts/progress.sh 0 "write locks released" 10000 "SELECT 10000 - count(*) FROM trough.locks('archive')"
  touch "$loaded"
fi
# Surplus copies, left by writing and moving, are collected first: the benchmarks ask workers directly.
scripts/progress.sh 0 "cluster at rest" 1 "SELECT (count(*) = (SELECT count(*) FROM trough.assignments('archive')))::int FROM trough.segments('archive') WHERE segment !~ '^(copied|bench-writes)-'"
cargo run --release -p trough-bench -- --pg "host=127.0.0.1 port=$DEMO_PORT user=postgres dbname=demo" --cluster "$DEMO_DIR/cluster" "$@"
