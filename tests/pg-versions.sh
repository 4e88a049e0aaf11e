#!/usr/bin/env bash
# The extension compiles for every supported PostgreSQL, with the bindings that pgrx-pg-sys carries for its documentation,
# so that no PostgreSQL of that version is needed. What it does not show is that the library links and runs there.
#
#   tests/pg-versions.sh [VERSION ...]
#
# A first run takes some minutes, later ones under ten seconds a version. PG_VERSIONS_DIR is where it builds.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${PG_VERSIONS_DIR:-${CARGO_TARGET_DIR:-$PWD/target}/pg-versions}
export DOCS_RS=1 RUSTC_WRAPPER=$PWD/tests/rustc-docsrs.sh
for version in "${@:-14 15 16 17 18}"; do
  for v in $version; do
    started=$SECONDS
    cargo check --quiet -p pg_trough --lib --no-default-features --features "pg$v"
    echo "ok    PostgreSQL $v ($((SECONDS - started)) s)"
  done
done
