#!/bin/sh
# A private PostgreSQL cluster on loopback, for tests, the demo and benchmarks.
#
#   scripts/pg.sh start DIR PORT [setting=value ...]   creates the cluster on first use, starts it, waits until it answers
#   scripts/pg.sh stop DIR                             stops it at once and cleanly
#   scripts/pg.sh url DIR                              prints the connection string of the running cluster
#
# PostgreSQL refuses to run as root; as root, the server runs as the user postgres, who must be able to reach DIR.
# Connections over the Unix socket in DIR and over 127.0.0.1 are trusted; nothing else is listened on.
set -eu

pg_config=${PG_CONFIG:-${PGRX_PG_CONFIG_PATH:-/usr/lib/postgresql/15/bin/pg_config}}
[ -x "$pg_config" ] || pg_config=$(command -v pg_config) || { echo "pg.sh: no pg_config; set PG_CONFIG" >&2; exit 1; }
bin=$("$pg_config" --bindir)

as_server() {
    if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }

start() {
    dir=$1 port=$2
    shift 2
    mkdir -p "$dir"
    if [ "$(id -u)" = 0 ]; then chown postgres "$dir"; fi
    if [ ! -f "$dir/data/PG_VERSION" ]; then
        as_server "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --lc-collate=C --lc-ctype=C.UTF-8 --no-sync >"$dir/initdb.log" 2>&1 \
            || { cat "$dir/initdb.log" >&2; exit 1; }
    fi
    if as_server "$bin/pg_ctl" -D "$dir/data" status >/dev/null 2>&1; then
        echo "pg.sh: already running in $dir" >&2
        return 0
    fi
    options="-c port=$port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$dir"
    for setting in "$@"; do options="$options -c $setting"; done
    as_server "$bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" -w -t 60 -o "$options" start >/dev/null \
        || { tail -20 "$dir/server.log" >&2; exit 1; }
}

stop() {
    if as_server "$bin/pg_ctl" -D "$1/data" status >/dev/null 2>&1; then
        as_server "$bin/pg_ctl" -D "$1/data" -m fast -w -t 60 stop >/dev/null
    fi
}

url() {
    port=$(sed -n 4p "$1/data/postmaster.pid")
    echo "host=$1 port=$port user=postgres dbname=postgres"
}

case "${1:-}" in
    start) [ $# -ge 3 ] || usage; shift; start "$@" ;;
    stop) [ $# -eq 2 ] || usage; stop "$2" ;;
    url) [ $# -eq 2 ] || usage; url "$2" ;;
    *) usage ;;
esac
