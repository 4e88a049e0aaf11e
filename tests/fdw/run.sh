#!/usr/bin/env bash
# The extension's tests: starts a PostgreSQL and a cluster (`trough dev`) of its own on loopback, runs sql/*.sql in order
# and compares what psql prints with expected/*.out, then runs the oracle (oracle/): random queries with pushdown, without it and over
# local tables.
#
#   tests/fdw/run.sh [--accept] [--keep] [NAME ...]
#
# NAME picks files of sql/ (01_options …; setup always runs). --accept makes what came the expected output. --keep leaves
# everything running and prints how to reach it. TROUGH_PROFILE=release tests release builds. Of the oracle, QUERIES is the number of
# random queries, SEED their seed, JOBS the processes; NAME may be `oracle` or `python_trough`.
set -euo pipefail
cd "$(dirname "$0")/../.."

profile=${TROUGH_PROFILE:-debug}
trough=${TROUGH_BIN:-${CARGO_TARGET_DIR:-$PWD/target}/$profile/trough}
accept= keep= names=()
while [ $# -gt 0 ]; do
  case $1 in
    --accept) accept=1 ;;
    --keep) keep=1 ;;
    -*) echo "unknown option $1" >&2; exit 2 ;;
    *) names+=("$1") ;;
  esac
  shift
done

[ -x "$trough" ] || { echo "$trough is missing; build it: cargo build -p trough -p pg_trough" >&2; exit 1; }
scripts/install-extension.sh "$profile" >/dev/null

dir=$(mktemp -d "${TMPDIR:-/tmp}/trough-fdw-XXXXXX")
chmod 755 "$dir"
read -r port base_port < <(python3 scripts/free-ports.py)

cleanup() {
  if [ -n "$keep" ]; then
    echo "left running: PGHOST=$dir/pg PGPORT=$port PGUSER=postgres PGDATABASE=regress; cluster $(cat "$dir/ready"), pid $(cat "$dir/cluster.pid")"
    return
  fi
  if [ -f "$dir/cluster.pid" ]; then
    kill -TERM "$(cat "$dir/cluster.pid")" 2>/dev/null || true
    tail --pid="$(cat "$dir/cluster.pid")" -f /dev/null 2>/dev/null || true
  fi
  scripts/pg.sh stop "$dir/pg" 2>/dev/null || true
  if [ -z "${failed:-}" ]; then rm -rf "$dir"; else echo "logs and output are in $dir" >&2; fi
}
failed=1
trap cleanup EXIT

scripts/pg.sh start "$dir/pg" "$port" max_connections=40
mkdir -p "$dir/cluster" "$dir/results"
: >"$dir/ready"
# Segments of this name are the cold worker's once they are promoted.
TROUGH_COLD_STORE_SEGMENT='segment_id.startsWith("cold-")' \
  "$trough" dev --dir "$dir/cluster" --workers 2 --cold-workers 1 --base-port "$base_port" >"$dir/ready" 2>"$dir/cluster.log" &
echo $! >"$dir/cluster.pid"
for _ in $(seq 300); do
  grep -q '^ready ' "$dir/ready" && break
  kill -0 "$(cat "$dir/cluster.pid")" 2>/dev/null || { echo "the cluster did not start:" >&2; tail -20 "$dir/cluster.log" >&2; exit 1; }
  read -rt 0.1 <> <(:) || true
done
grep -q '^ready ' "$dir/ready" || { echo "the cluster was not ready in 30 s:" >&2; tail -20 "$dir/cluster.log" >&2; exit 1; }

export PGHOST=$dir/pg PGPORT=$port PGUSER=postgres PGDATABASE=regress
export PGOPTIONS='-c client_min_messages=warning -c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres'
export FDW_CLUSTER=$dir/cluster
export TROUGH_URL; TROUGH_URL=$(awk '/^ready /{print $2}' "$dir/ready")
PGDATABASE=postgres psql -X -q -c 'CREATE DATABASE regress'

# What differs from run to run: ports, workers' names, the directory, bytes (workers add up in any order).
# The trace ids in errors go, whatever else their context says.
untraced() { sed -z -E -e 's/\nCONTEXT:  trough trace [0-9a-f]{32}\n(COPY [^\n]*, line|SQL statement|SQL function|PL\/pgSQL function|unnamed portal|portal)/\nCONTEXT:  \1/g' -e 's/\nCONTEXT:  trough trace [0-9a-f]{32}\n/\n/g'; }
stable() { sed -E -e 's#^psql:[^ ]+: ##' -e "s#$dir#DIR#g" -e 's#127\.0\.0\.1:[0-9]+#HOST:PORT#g' -e "s/worker-[0-9]+/WORKER/g" -e "s/Bytes Fetched: [0-9]+/Bytes Fetched: N/"; }

bad=0 count=0
tests/fdw/exports.sh "${CARGO_TARGET_DIR:-$PWD/target}/$profile/libpg_trough.so" && echo "ok    exports" || bad=1
for file in tests/fdw/sql/*.sql; do
  name=$(basename "$file" .sql)
  if [ ${#names[@]} -gt 0 ] && [ "$name" != 00_setup ] && ! printf '%s\n' "${names[@]}" | grep -qx "$name"; then continue; fi
  count=$((count + 1))
  psql -X -a -q -v ON_ERROR_STOP=0 -v VERBOSITY=default -P pager=off -P null=NULL -f "$file" 2>&1 | stable | untraced >"$dir/results/$name.out" || true
  if [ -n "$accept" ]; then cp "$dir/results/$name.out" "tests/fdw/expected/$name.out"; fi
  if diff -u "tests/fdw/expected/$name.out" "$dir/results/$name.out" >"$dir/results/$name.diff"; then
    echo "ok    $name"
  else
    echo "FAIL  $name"
    head -60 "$dir/results/$name.diff"
    bad=$((bad + 1))
  fi
done

if [ ${#names[@]} -eq 0 ]; then
  python3 tests/fdw/cancel.py "$dir" --rounds "${ROUNDS:-100}" || bad=$((bad + 1))
  python3 tests/fdw/stream.py "$dir" --mb "${STREAM_MB:-200}" || bad=$((bad + 1))
  python3 tests/fdw/wide.py --segments "${WIDE_SEGMENTS:-300}" --ids "${WIDE_IDS:-5000}" || bad=$((bad + 1))
fi
python=$PWD/target/test-venv/bin/python
[ -x "$python" ] || python=python3
if [ ${#names[@]} -eq 0 ] || printf '%s\n' "${names[@]}" | grep -qx python_trough; then
  "$python" tests/fdw/python_trough.py "$dir" || bad=$((bad + 1))
fi
if [ ${#names[@]} -eq 0 ] || printf '%s\n' "${names[@]}" | grep -qx oracle; then
  out=${ORACLE_OUT:-$dir/results}
  mkdir -p "$out"
  PYTHONPATH=$PWD/tests/fdw "$python" -m oracle --queries "${QUERIES:-5000}" --seed "${SEED:-1}" --jobs "${JOBS:-2}" --out "$out" || bad=$((bad + 1))
fi
if grep -q 'TRAP:\|PANIC:\|terminated by signal' "$dir/pg/server.log"; then
  echo "FAIL  PostgreSQL's log:" && grep 'TRAP:\|PANIC:\|terminated by signal' "$dir/pg/server.log"
  bad=$((bad + 1))
fi
[ $bad = 0 ] && failed=
echo "$count files, $bad failed"
[ $bad = 0 ]
