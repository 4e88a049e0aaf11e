#!/usr/bin/env bash
# The benchmarks: starts the demo's PostgreSQL and cluster on ports of its own, loads the demo's data and what the peers
# need, runs every benchmark beside its peer, and prints a table of ratios.
#   tests/bench/run.sh [--only NAME] [--large]
set -euo pipefail
cd "$(dirname "$0")/../.."
export DEMO_DIR=${BENCH_DIR:-/var/tmp/pg_trough-bench} DEMO_PORT=25434 DEMO_BASE_PORT=26500 DEMO_LOAD_ONLY=1
trap 'scripts/demo.sh stop >/dev/null' EXIT
scripts/demo.sh
export PGHOST=127.0.0.1 PGPORT=$DEMO_PORT PGUSER=postgres PGDATABASE=demo
psql -X -q -v ON_ERROR_STOP=1 -v port="$DEMO_PORT" -f tests/bench/peers.sql
# Surplus copies, left by writing and moving, are collected first: the benchmarks ask workers directly.
scripts/progress.sh 0 "cluster at rest" 1 "SELECT (count(*) = (SELECT count(*) FROM trough.assignments('archive')))::int FROM trough.segments('archive')"
cargo run --release -p trough-bench -- --pg "host=127.0.0.1 port=$DEMO_PORT user=postgres dbname=demo" --cluster "$DEMO_DIR/cluster" "$@"
