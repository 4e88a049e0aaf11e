#!/usr/bin/env bash
# TPC-H: starts a PostgreSQL and a cluster of its own on loopback, loads the tables at SCALE (0.1) over SEGMENTS (50) segments, into local
# tables, and into partitioned tables of a second database behind postgres_fdw, and runs the 22 queries over each. Answers must be equal.
# Prints each query's times.
#
#   tests/tpch/run.sh [--keep] [query ...]
#
# SCALE, SEGMENTS, RUNS (3; the fastest counts), NUMBERS=numeric|double (how SQLite and all tables hold decimals), TROUGH_PROFILE=debug,
# EQUAL_ONLY=1 (no postgres_fdw, one run), TPCH_DIR (where everything lies; removed at the end unless --keep).
set -euo pipefail
cd "$(dirname "$0")/../.."
keep=
[ "${1:-}" = --keep ] && { keep=1; shift; }
profile=${TROUGH_PROFILE:-release}
trough=${TROUGH_BIN:-${CARGO_TARGET_DIR:-$PWD/target}/$profile/trough}
scale=${SCALE:-0.1}
[ -x "$trough" ] || { echo "$trough is missing; build it: cargo build --release -p trough -p pg_trough" >&2; exit 1; }
scripts/install-extension.sh "$profile" >/dev/null

venv=$PWD/target/test-venv
if ! { "$venv/bin/python" -c 'import psycopg' && [ -x "$venv/bin/tpchgen-cli" ]; } 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt
fi

dir=${TPCH_DIR:-$(mktemp -d "${TMPDIR:-/tmp}/trough-tpch-XXXXXX")}
mkdir -p "$dir"
chmod 755 "$dir"
read -r port base_port < <(python3 scripts/free-ports.py)
cleanup() {
  if [ -n "$keep" ]; then
    echo "left running: PGHOST=$dir/pg PGPORT=$port PGUSER=postgres PGDATABASE=tpch; cluster pid $(cat "$dir/cluster.pid")"
    return
  fi
  if [ -f "$dir/cluster.pid" ]; then
    kill -TERM "$(cat "$dir/cluster.pid")" 2>/dev/null || true
    tail --pid="$(cat "$dir/cluster.pid")" -f /dev/null 2>/dev/null || true
  fi
  scripts/pg.sh stop "$dir/pg" 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT

if [ ! -f "$dir/tbl/.done" ]; then
  mkdir -p "$dir/tbl"
  "$venv/bin/tpchgen-cli" tbl -s "$scale" --output-dir "$dir/tbl" >/dev/null
  touch "$dir/tbl/.done"
fi
scripts/pg.sh start "$dir/pg" "$port" shared_buffers=512MB work_mem=64MB max_connections=40 max_wal_size=4GB fsync=off
mkdir -p "$dir/cluster"
"$trough" dev --dir "$dir/cluster" --workers 2 --base-port "$base_port" >"$dir/ready" 2>"$dir/cluster.log" &
echo $! >"$dir/cluster.pid"
for _ in $(seq 300); do
  grep -q '^ready ' "$dir/ready" && break
  kill -0 "$(cat "$dir/cluster.pid")" 2>/dev/null || { tail -20 "$dir/cluster.log" >&2; exit 1; }
  read -rt 0.1 <> <(:) || true
done
export PGHOST=$dir/pg PGPORT=$port PGUSER=postgres PGDATABASE=tpch
export TROUGH_URL; TROUGH_URL=$(awk '/^ready /{print $2}' "$dir/ready")
PGDATABASE=postgres psql -X -q -c 'DROP DATABASE IF EXISTS tpch' -c 'DROP DATABASE IF EXISTS tpch_remote' -c 'CREATE DATABASE tpch' -c 'CREATE DATABASE tpch_remote' 2>/dev/null
"$venv/bin/python" tests/tpch/tpch.py --tbl "$dir/tbl" --scale "$scale" --segments "${SEGMENTS:-50}" --runs "${RUNS:-3}" --numbers "${NUMBERS:-numeric}" \
  ${EQUAL_ONLY:+--equal-only} "$@"
