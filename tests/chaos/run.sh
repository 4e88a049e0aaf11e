#!/usr/bin/env bash
# The long run of the fault suite: MINUTES (60), SEED (a new one, printed), CHAOS_DIR (a new directory in /var/tmp), KINDS (all).
# Needs root, a release build (TROUGH_BIN) and tests/requirements.txt.
set -euo pipefail
cd "$(dirname "$0")/../.."
export TROUGH_BIN=${TROUGH_BIN:-$PWD/target/release/trough}
python=$PWD/target/test-venv/bin/python
[ -x "$python" ] || { echo "no $python: run tests/run.sh python_env" >&2; exit 1; }
[ -x "$TROUGH_BIN" ] || { echo "no $TROUGH_BIN: run make build" >&2; exit 1; }
cd tests/chaos
exec "$python" -m suite run --minutes "${MINUTES:-60}" ${SEED:+--seed "$SEED"} ${CHAOS_DIR:+--dir "$CHAOS_DIR"} ${KINDS:+--kinds "$KINDS"}
