#!/usr/bin/env bash
# Everything that CI runs, from a fresh machine: installs, lints, unit, PostgreSQL versions, cluster, compat, fdw, chaos and the demo itself.
# Prints each stage's time and a summary. Stages may be named: tests/run.sh check fdw
set -uo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never
logs=${TEST_LOGS:-$PWD/target/test-logs}
mkdir -p "$logs"
venv=$PWD/target/test-venv

setup() { scripts/setup.sh test; }
check() { tests/check.sh; }
versions() { tests/pg-versions.sh; }
build() { cargo build --release -p trough -p pg_trough && scripts/install-extension.sh release; }
python_env() {
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt
}
pytest() { "$venv/bin/python" -m pytest -q -p no:cacheprovider "$@"; }
cluster() { pytest tests/cluster; }
compat() { pytest tests/compat; }
fdw() { TROUGH_PROFILE=release tests/fdw/run.sh; }
chaos() { pytest tests/chaos; }
demo() { DEMO_NO_BUILD=1 DEMO_STOP=1 DEMO_DIR=${TEST_DEMO_DIR:-/var/tmp/pg_trough-test-demo} DEMO_PORT=25433 DEMO_BASE_PORT=26400 scripts/demo.sh; }

all=(setup check versions build python_env cluster compat fdw chaos demo)
stages=("${@:-${all[@]}}")
export TROUGH_BIN=${TROUGH_BIN:-$PWD/target/release/trough}

passed=() failed=()
for stage in "${stages[@]}"; do
  printf '\n######## %s\n' "$stage"
  started=$SECONDS
  # A stage runs in a shell of its own, so that it stops at its first failure.
  (set -e; "$stage") 2>&1 | tee "$logs/$stage.log"
  if [ "${PIPESTATUS[0]}" = 0 ]; then
    passed+=("$stage ($((SECONDS - started)) s)")
  else
    failed+=("$stage ($((SECONDS - started)) s)")
    case $stage in setup | build | python_env) break ;; esac # nothing after it can run
  fi
done

printf '\n######## summary (%s s)\n' "$SECONDS"
[ ${#passed[@]} = 0 ] || printf 'passed  %s\n' "${passed[@]}"
[ ${#failed[@]} = 0 ] || printf 'FAILED  %s\n' "${failed[@]}"
printf '%s passed, %s failed\n' ${#passed[@]} ${#failed[@]}
[ ${#failed[@]} = 0 ]
