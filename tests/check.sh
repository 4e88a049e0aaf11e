#!/usr/bin/env bash
# Format, lints and unit tests: what `make test` runs first.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --all --check

step "the extension carries no server code"
tree=$(cargo tree -p pg_trough -e normal,build --prefix none | awk '{print $1}' | sort -u)
for forbidden in axum rusqlite libsqlite3-sys hdfs-native hdrs opendal; do
  if grep -qx "$forbidden" <<<"$tree"; then
    echo "pg_trough depends on $forbidden; a PostgreSQL backend must carry no server code:" >&2
    cargo tree -p pg_trough -i "$forbidden" >&2
    exit 1
  fi
done

step "lints"
cargo clippy --workspace --all-targets -- -D warnings

# With the fuzz targets, so that fuzz/run.sh finds all that they depend on compiled.
step "unit tests"
cargo test --workspace --exclude pg_trough --exclude trough-bench
