#!/usr/bin/env bash
# Draws a progress bar while a process runs, or (PID 0) until the count is reached.
#   scripts/progress.sh PID LABEL TOTAL SQL      SQL gives the count so far; it is asked once a second
set -euo pipefail
pid=$1 label=$2 total=$3 sql=$4
deadline=$((SECONDS + ${PROGRESS_TIMEOUT:-600}))
last=
while :; do
  alive=no
  if [ "$pid" != 0 ] && kill -0 "$pid" 2>/dev/null; then alive=yes; fi
  done=$(psql -X -q -Atc "$sql" 2>/dev/null || echo 0)
  done=${done:-0}
  if [ -t 1 ]; then
    width=$((done >= total ? 40 : done * 40 / total))
    printf '\r  [%-40s] %s of %s %s ' "$(printf '%*s' "$width" '' | tr ' ' '#')" "$done" "$total" "$label"
  elif [ "$done" != "$last" ]; then
    printf '  %s of %s %s\n' "$done" "$total" "$label"
    last=$done
  fi
  if [ "$done" -ge "$total" ] || { [ "$pid" != 0 ] && [ $alive = no ]; }; then break; fi
  if [ $SECONDS -ge $deadline ]; then
    echo "gave up waiting for $label: $done of $total" >&2
    exit 1
  fi
  read -rt 1 <> <(:) || true
done
if [ -t 1 ]; then echo; fi
