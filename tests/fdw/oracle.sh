#!/usr/bin/env bash
# The oracle's long run over the release build: QUERIES random queries (200,000), SEED (the day), JOBS processes (one per core).
# Differences are cut down and kept in target/oracle as cases; move them to tests/fdw/oracle/cases.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=target/test-venv
if ! "$venv/bin/python" -c 'import psycopg' 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt
fi
export TROUGH_PROFILE=${TROUGH_PROFILE:-release} ORACLE_OUT=${ORACLE_OUT:-$PWD/target/oracle}
export QUERIES=${QUERIES:-200000} SEED=${SEED:-$(date +%F)} JOBS=${JOBS:-$(nproc)}
[ "$TROUGH_PROFILE" = release ] && [ -z "${TROUGH_BIN:-}" ] && cargo build --release -p trough -p pg_trough
exec tests/fdw/run.sh oracle
