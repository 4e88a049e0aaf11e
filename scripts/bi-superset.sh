#!/usr/bin/env bash
# Apache Superset over the running demo, without a screen: installs it from PyPI, makes a database, a dataset, charts and a
# dashboard by its REST API, fetches the charts' data, holds them against plain PostgreSQL tables, and, where there is a
# Chromium, has it draw the dashboard.
#
#   make demo && scripts/bi-superset.sh [HOST:PORT [PICTURE]]     127.0.0.1:25432, target/superset/dashboard.png
#
# A first run takes some minutes: it installs 800 MB below target/superset. PYTHON is a Python of version 3.10 to 3.12.
set -euo pipefail
cd "$(dirname "$0")/.."
address=${1:-127.0.0.1:25432}
home=$PWD/target/superset
picture=$(realpath -m "${2:-$home/dashboard.png}")
venv=$home/venv
url=
pid=

mkdir -p "$home"
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r scripts/superset/requirements.txt

[ -f "$home/secret" ] || (umask 077 && "$venv/bin/python" -c 'import secrets; print(secrets.token_hex(32))' >"$home/secret")
SUPERSET_SECRET=$(cat "$home/secret")
export SUPERSET_SECRET SUPERSET_HOME=$home SUPERSET_CONFIG_PATH=$PWD/scripts/superset/superset_config.py FLASK_APP='superset.app:create_app()'
if [ ! -f "$home/made" ]; then
  echo "Superset's own tables, roles and administrator …"
  {
    "$venv/bin/superset" db upgrade
    "$venv/bin/superset" fab create-admin --username admin --password "$SUPERSET_SECRET" --firstname Ada --lastname Min --email admin@example.org
    "$venv/bin/superset" init
  } >"$home/made.log" 2>&1 || { tail -20 "$home/made.log" >&2; exit 1; }
  touch "$home/made"
fi

stop() {
  [ -n "$pid" ] || return 0
  kill "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  pid=
}
trap stop EXIT
start() {
  local port; port=$(python3 scripts/free-ports.py | cut -d' ' -f1)
  "$venv/bin/superset" run -h 127.0.0.1 -p "$port" --with-threads >>"$home/superset.log" 2>&1 &
  pid=$!
  url=http://127.0.0.1:$port
  for _ in $(seq 120); do
    curl -sf "$url/health" >/dev/null && return
    kill -0 "$pid" 2>/dev/null || break
    read -rt 0.5 <> <(:) || true
  done
  echo "Superset did not start:" >&2
  tail -20 "$home/superset.log" >&2
  exit 1
}

psql -X -q -v ON_ERROR_STOP=1 -h "${address%:*}" -p "${address#*:}" -U postgres demo -c 'SET client_min_messages = warning' -f sql/demo/bi.sql
start
"$venv/bin/python" scripts/superset/drive.py "$url" "$address" "$SUPERSET_SECRET" | tee "$home/driven"
stop

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$browser" ]; then
  echo "no Chromium: no picture"
  exit 0
fi
SUPERSET_PUBLIC_ROLE=Admin start
# --no-sandbox: as root, Chromium has none.
timeout 300 "$browser" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$home/browser" --hide-scrollbars \
  --window-size=1200,720 --virtual-time-budget=60000 --screenshot="$picture" "$url$(tail -1 "$home/driven")" >"$home/browser.log" 2>&1 \
  || { tail -5 "$home/browser.log" >&2; exit 1; }
echo "the dashboard: $picture"
