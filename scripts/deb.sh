#!/usr/bin/env bash
# Makes the Debian packages of what `make build` built: `trough`, and `postgresql-15-pg-trough`. Prints their names.
#
#   scripts/deb.sh [DIR]                 into DIR, or target/debian
#   PG_MAJOR=17 scripts/deb.sh [DIR]     builds the extension for that PostgreSQL, and makes its package alone
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(realpath -m "${1:-target/debian}")
pg_major=${PG_MAJOR:-15}
cargo deb --version >/dev/null 2>&1 || {
  echo "deb.sh: installing cargo-deb" >&2
  cargo install --quiet --locked cargo-deb
}
mkdir -p "$dir"
deb() { cargo deb --quiet --no-build --output "$dir/" "$@"; }

if [ "$pg_major" != 15 ]; then
  export PGRX_PG_CONFIG_PATH=/usr/lib/postgresql/$pg_major/bin/pg_config CARGO_TARGET_DIR=$PWD/target/pg$pg_major
  [ -x "$PGRX_PG_CONFIG_PATH" ] || { echo "deb.sh: install postgresql-server-dev-$pg_major first" >&2; exit 1; }
  cargo build --release -p pg_trough --no-default-features --features "pg$pg_major"
  deb -p pg_trough --variant "pg$pg_major"
  ls -1 "$dir/postgresql-$pg_major"-*.deb
  exit
fi

bin=${CARGO_TARGET_DIR:-target}/release/trough
[ -x "$bin" ] || { echo "deb.sh: $bin is missing; build it with: make build" >&2; exit 1; }
# What the package holds beside the program.
pages=target/pages
rm -rf "$pages"
"$bin" pages "$pages"
mkdir -p "$pages/man" "$pages/doc"
mv "$pages"/*.1 "$pages/man/"
cp README.md docs/*.md "$pages/doc/"
for part in grafana prometheus; do [ ! -d "docker/$part" ] || cp -r "docker/$part" "$pages/doc/"; done

deb -p trough
deb -p pg_trough
ls -1 "$dir"/trough_*.deb "$dir"/postgresql-15-*.deb
