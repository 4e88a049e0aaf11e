#!/usr/bin/env bash
# Runs each query of sql/demo/queries.sql twice, over the foreign tables (schema archive) and over plain tables of the same
# rows (schema plain), shows the first answer with both times, and fails if any two answers differ.
#   scripts/demo-queries.sh OUTDIR [brief]       brief: one line per query
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1 brief=${2:-}
rm -rf "$out"
mkdir -p "$out"

# A query begins at a line `-- N. title` and ends before the next.
awk -v out="$out" '/^-- [0-9]+\. /{ n++; file = sprintf("%s/%02d.sql", out, n) } n { print > file }' sql/demo/queries.sql

run() { # schema, file: the answer to standard output, milliseconds to FILE.ms
  PGOPTIONS="-c client_min_messages=warning -c search_path=$1,public" psql -X -q -v ON_ERROR_STOP=1 -P pager=off \
    -c '\timing on' -f "$2" >"$3.raw"
  awk '/^Time: /{ ms = $2 } END { printf "%.1f", ms }' "$3.raw" >"$3.ms"
  grep -v '^Time: ' "$3.raw" >"$3.answer" || true
}

failed=0 count=0
for sql in "$out"/*.sql; do
  name=${sql%.sql}
  title=$(head -1 "$sql" | sed 's/^-- //')
  run archive "$sql" "$name.foreign"
  explain=no
  grep -qi '^EXPLAIN' "$sql" && explain=yes
  if [ $explain = no ]; then run plain "$sql" "$name.plain"; fi
  if [ "$brief" != brief ]; then
    printf '\n%s\n' "$title"
    sed 1d "$sql" | sed '/^$/d; s/^/    /'
    echo
    head -${QUERY_LINES:-20} "$name.foreign.answer"
  fi
  if [ $explain = yes ]; then continue; fi
  count=$((count + 1))
  if cmp -s "$name.foreign.answer" "$name.plain.answer"; then
    verdict="the same answer"
  else
    verdict="DIFFERENT"
    failed=$((failed + 1))
  fi
  printf '%s: %s; foreign table %s ms, plain table %s ms\n' "$title" "$verdict" "$(cat "$name.foreign.ms")" "$(cat "$name.plain.ms")"
  if [ "$verdict" = DIFFERENT ]; then diff "$name.plain.answer" "$name.foreign.answer" | head -20 || true; fi
done
echo
if [ $failed -gt 0 ]; then
  echo "$failed of $count answers differ (see $out)" >&2
  exit 1
fi
echo "$count queries, the same answers from the foreign tables and from plain PostgreSQL tables"
