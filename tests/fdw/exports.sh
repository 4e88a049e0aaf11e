#!/bin/sh
# The install script and the upgrade scripts together declare exactly the functions that the library exports: whoever has not yet
# updated the extension runs the new library with the functions of the old script.
#   tests/fdw/exports.sh LIBRARY
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
exported=$(nm -D --defined-only "$1" | sed -n 's/.* pg_finfo_//p' | sort -u)
declared=$(sed -n "s/.*'MODULE_PATHNAME', '\([a-z0-9_]*\)'.*/\1/p" "$root"/sql/pg_trough--*.sql | sort -u)
if [ "$exported" != "$declared" ]; then
    echo "the library's functions and those that sql/ declares differ:" >&2
    printf '%s\n' "$exported" >"${TMPDIR:-/tmp}/exported.$$"
    printf '%s\n' "$declared" | diff "${TMPDIR:-/tmp}/exported.$$" - >&2 || true
    rm -f "${TMPDIR:-/tmp}/exported.$$"
    exit 1
fi
