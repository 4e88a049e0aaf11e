#!/usr/bin/env bash
# Makes the Debian packages of what is built: `trough`, and `postgresql-VERSION-pg-trough`. Prints their names.
#
#   scripts/deb.sh [DIR]        into DIR, or target/debian; PG_MAJOR names PostgreSQL's version, 15 by default
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:-target/debian}
pg_major=${PG_MAJOR:-15}
bin=${CARGO_TARGET_DIR:-target}/release/trough
[ -x "$bin" ] || { echo "deb.sh: $bin is missing; build it with: make build" >&2; exit 1; }
cargo deb --version >/dev/null 2>&1 || {
  echo "deb.sh: installing cargo-deb" >&2
  cargo install --quiet --locked cargo-deb
}

rm -rf target/pages
"$bin" pages target/pages
mkdir -p "$dir"
variant=()
[ "$pg_major" = 15 ] || variant=(--variant "pg$pg_major")
# What `make build` built is packaged as it is; an extension for another version is built in a folder of its own.
cargo deb --quiet --no-build -p trough --output "$dir/"
cargo deb --quiet --no-build -p pg_trough "${variant[@]}" --output "$dir/"
ls -1 "$dir"/*.deb
