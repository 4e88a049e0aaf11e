#!/usr/bin/env bash
# Makes the Debian packages of what `make build` built: `trough`, and `postgresql-15-pg-trough`. Prints their names.
#
#   scripts/deb.sh [DIR]                 into DIR, or target/debian
#   PG_MAJOR=17 scripts/deb.sh [DIR]     builds the extension for that PostgreSQL, and makes its package alone
#
# DEB_FAST=1 packs less tightly, in a fraction of the time.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(realpath -m "${1:-target/debian}")
pg_major=${PG_MAJOR:-15}
cargo deb --version >/dev/null 2>&1 || {
  echo "deb.sh: installing cargo-deb" >&2
  cargo install --quiet --locked cargo-deb
}
mkdir -p "$dir"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
pages=target/pages
changelog() { # package, where its list of changes is
  printf '%s (%s-1) unstable; urgency=medium\n\n  * What has changed: %s\n\n -- pg_trough developers <pg-trough@users.noreply.github.com>  %s\n' \
    "$1" "$version" "$2" "$(date -Ru -d "@$(git log -1 --format=%ct 2>/dev/null || echo 0)")"
}
# What lintian is told of the extension's package.
overrides() { printf '# It is not uploaded to Debian.\n%s: initial-upload-closes-no-bugs *\n' "$1" >"$pages/$1.lintian-overrides"; }
deb() { cargo deb --quiet --no-build --strip ${DEB_FAST:+--fast} --output "$dir/" "$@"; }

if [ "$pg_major" != 15 ]; then
  export PGRX_PG_CONFIG_PATH=/usr/lib/postgresql/$pg_major/bin/pg_config CARGO_TARGET_DIR=$PWD/target/pg$pg_major
  [ -x "$PGRX_PG_CONFIG_PATH" ] || { echo "deb.sh: install postgresql-server-dev-$pg_major first" >&2; exit 1; }
  cargo build --release -p pg_trough --no-default-features --features "pg$pg_major"
  mkdir -p "$pages"
  overrides "postgresql-$pg_major-pg-trough"
  changelog "postgresql-$pg_major-pg-trough" https://github.com/pg-trough/pg_trough >"$pages/changelog-pg"
  deb -p pg_trough --variant "pg$pg_major"
  exit
fi

bin=${CARGO_TARGET_DIR:-target}/release/trough
[ -x "$bin" ] || { echo "deb.sh: $bin is missing; build it with: make build" >&2; exit 1; }
# What the package holds beside the program.
rm -rf "$pages"
"$bin" pages "$pages"
mkdir -p "$pages/man" "$pages/doc"
mv "$pages"/*.1 "$pages/man/"
cp README.md docs/*.md "$pages/doc/"
gzip -9nc CHANGELOG.md >"$pages/doc/changelog.gz"
changelog trough /usr/share/doc/trough/changelog.gz >"$pages/changelog"
overrides postgresql-15-pg-trough
changelog postgresql-15-pg-trough https://github.com/pg-trough/pg_trough >"$pages/changelog-pg"
for part in grafana prometheus; do [ ! -d "docker/$part" ] || cp -r "docker/$part" "$pages/doc/"; done

deb -p trough
deb -p pg_trough
