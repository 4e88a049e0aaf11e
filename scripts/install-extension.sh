#!/bin/sh
# Installs the built extension into the PostgreSQL that pg_config names: the library, the control file, the SQL scripts.
#
#   scripts/install-extension.sh [debug|release]
#
# DESTDIR, if set, is put before every path. The library is replaced by rename, so that running backends keep theirs.
set -eu

profile=${1:-debug}
root=$(cd "$(dirname "$0")/.." && pwd)
pg_config=${PG_CONFIG:-${PGRX_PG_CONFIG_PATH:-/usr/lib/postgresql/15/bin/pg_config}}
[ -x "$pg_config" ] || pg_config=$(command -v pg_config) || { echo "install-extension.sh: no pg_config; set PG_CONFIG" >&2; exit 1; }

library=${CARGO_TARGET_DIR:-$root/target}/$profile/libpg_trough.so
[ -f "$library" ] || { echo "install-extension.sh: $library is missing; build it with: cargo build -p pg_trough" >&2; exit 1; }

lib=${DESTDIR:-}$("$pg_config" --pkglibdir)
share=${DESTDIR:-}$("$pg_config" --sharedir)/extension
mkdir -p "$lib" "$share"

place() {
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    mv -f "$2.new" "$2"
}

place "$library" "$lib/pg_trough.so" 755
for file in "$root"/sql/pg_trough.control "$root"/sql/pg_trough--*.sql; do
    place "$file" "$share/$(basename "$file")" 644
done
echo "installed pg_trough ($profile) into $lib and $share"
