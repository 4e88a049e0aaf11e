#!/usr/bin/env bash
# Everything that CI runs, from a fresh machine: installs, a real HDFS and an S3-compatible server, lints, unit, PostgreSQL versions, cluster, compat, shell, page, fdw, bi, chaos,
# fuzzing, the build with libhdfs, packages and the demo itself. The servers are started once, for all stages; without Java or Maven Central CI fails, and elsewhere its tests are skipped.
# Prints each stage's time and a summary. Stages may be named: tests/run.sh check fdw
set -uo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never
logs=${TEST_LOGS:-$PWD/target/test-logs}
mkdir -p "$logs"
venv=$PWD/target/test-venv

hadoop=${TROUGH_TEST_HADOOP:-}

setup() { scripts/setup.sh test; }
# Starts HDFS, unless the caller has one running.
hdfs() {
  if [ -n "$hadoop" ]; then
    tests/lib/hadoop.py url "$hadoop"
  elif ! tests/lib/hadoop.py start "$servers/hadoop"; then
    [ -z "${CI:-}" ] || return 1
    echo "WARNING: no HDFS: everything that needs one is SKIPPED" >&2
  fi
}
# An S3-compatible server, unless the caller has one running.
s3() { [ -n "${TROUGH_TEST_S3:-}" ] || "$venv/bin/python" tests/lib/s3.py start "$servers/s3"; }
# Azurite, which speaks as Azure Blob Storage does, from npm where there is one, unless the caller has one running.
azure() {
  [ -z "${TROUGH_TEST_AZURE:-}" ] || return 0
  export PATH=$PATH:$PWD/target/azurite/node_modules/.bin
  if ! command -v azurite-blob >/dev/null && command -v npm >/dev/null; then
    npm install --silent --no-fund --no-audit --prefix target/azurite azurite@3.37.0 || true
  fi
  if command -v azurite-blob >/dev/null; then
    tests/lib/azure.py start "$servers/azure"
  else
    echo "WARNING: no azurite-blob (npm: azurite): azblob:// is NOT TESTED" >&2
  fi
}
# fake-gcs-server, which speaks as Google Cloud Storage does, where it is installed, unless the caller has one running.
gcs() {
  [ -z "${TROUGH_TEST_GCS:-}" ] || return 0
  if command -v fake-gcs-server >/dev/null; then
    tests/lib/gcs.py start "$servers/gcs"
  else
    echo "WARNING: no fake-gcs-server (Go: github.com/fsouza/fake-gcs-server): gs:// is NOT TESTED" >&2
  fi
}
store() { cargo test -p trough-store; }
check() { tests/check.sh; }
versions() { tests/pg-versions.sh; }
build() { cargo build --release -p trough -p pg_trough && scripts/install-extension.sh release; }
python_env() {
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r tests/compat/original.txt
}
pytest() { "$venv/bin/python" -m pytest -q -p no:cacheprovider "$@"; }
cluster() { pytest -rs tests/cluster; }
# The same with TLS, tokens and a password everywhere; then what is tested of these themselves.
secure() { TROUGH_TEST_SECURE=1 pytest tests/cluster && pytest tests/secure; }
cluster_hdfs() {
  if [ -z "${TROUGH_TEST_HDFS:-}" ]; then
    [ -z "${CI:-}" ] || { echo "TROUGH_TEST_HDFS is not set: in CI HDFS must be tested" >&2; return 1; }
    echo "SKIPPED: no HDFS" >&2
    return 0
  fi
  TROUGH_TEST_STORE=hdfs pytest tests/cluster
}
# What operators do to a running cluster; OLD_TROUGH_BIN adds a rolling upgrade from that binary.
ops() { pytest -rs tests/ops; }
compat() { pytest -rs tests/compat; }
shell() { pytest tests/shell; }
# The status page, in a real browser.
page() { pytest tests/page; }
fdw() { TROUGH_PROFILE=release tests/fdw/run.sh; }
# What BI tools connect with has a Python environment of its own.
bi() {
  local python=$PWD/target/bi-venv/bin/python
  [ -x "$python" ] || python3 -m venv "${python%/bin/python}"
  "$python" -m pip install --quiet --disable-pip-version-check -r tests/bi/requirements.txt
  "$python" -m pytest -q -p no:cacheprovider tests/bi
}
# Metrics, traces, logs, and a real Prometheus over them.
obs() { pytest -rs tests/obs; }
chaos() { pytest tests/chaos; }
# These kill servers, so they start an HDFS of their own.
chaos_hdfs() {
  if ! tests/lib/hadoop.py fetch >/dev/null; then
    [ -z "${CI:-}" ] || return 1
    echo "SKIPPED: no HDFS" >&2
    return 0
  fi
  pytest -rs tests/chaos_hdfs
}
# An HA name service of two: takes minutes, so it runs only when it is named.
chaos_ha() { pytest -rs tests/chaos_ha; }
# An HDFS that asks for Kerberos tickets, where Debian's krb5-kdc, krb5-admin-server and krb5-user are: likewise.
kerberos() { pytest -rs tests/kerberos; }
# The feature `hdrs`: libhdfs in a JVM. Built in debug, so that the binary of the other stages stays as it is.
hdrs() {
  if [ -z "${TROUGH_TEST_HDFS:-}" ]; then
    [ -z "${CI:-}" ] || { echo "TROUGH_TEST_HDFS is not set: in CI HDFS must be tested" >&2; return 1; }
    echo "SKIPPED: no HDFS" >&2
    return 0
  fi
  JAVA_HOME=$(java -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java.home = //p')
  CLASSPATH=$(tests/lib/hadoop.py classpath)
  export JAVA_HOME CLASSPATH LD_LIBRARY_PATH=$JAVA_HOME/lib/server LIBHDFS_OPTS="-Xrs -Xmx512m"
  # The same packages as in `check`, so that what they need is compiled already.
  local packages=(--workspace --exclude pg_trough --exclude trough-bench)
  cargo clippy --workspace --features trough/hdrs --all-targets -- -D warnings
  cargo test "${packages[@]}" --features trough/hdrs --lib --test conformance -- hdrs
  # Named together with a test, it shares what the tests were linked from.
  cargo build "${packages[@]}" --features trough/hdrs --bin trough --test conformance
  TROUGH_BIN=$PWD/target/debug/trough TROUGH_HDFS_CLIENT=hdrs TROUGH_TEST_STORE=hdfs pytest tests/cluster/test_promotion.py -k among
}
# Packages, units, compose file and Dockerfile; with what `build` built.
deploy() {
  cargo deb --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-deb
  pytest -rs tests/deploy
}
# Every target over what is kept of it, then FUZZ_SECONDS (60) of new inputs; two targets at a time.
fuzz() { fuzz/run.sh; }
# The tour is taken twice, as it may be run again and again.
demo() { DEMO_NO_BUILD=1 DEMO_STOP=1 DEMO_TOURS=2 DEMO_DIR=${TEST_DEMO_DIR:-/var/tmp/pg_trough-test-demo} DEMO_PORT=25433 DEMO_BASE_PORT=26400 scripts/demo.sh; }

all=(setup python_env hdfs s3 azure gcs check versions build cluster ops secure cluster_hdfs compat shell page fdw bi obs chaos chaos_hdfs fuzz hdrs deploy demo)
stages=("${@:-${all[@]}}")
export TROUGH_BIN=${TROUGH_BIN:-$PWD/target/release/trough}

# A stage that needs servers and is named alone gets them, too.
case " ${stages[*]} " in
  *" hdfs "*) ;;
  *" check "* | *" store "*) stages=(python_env hdfs s3 azure gcs "${stages[@]}") ;;
  *" cluster_hdfs "* | *" hdrs "*) stages=(hdfs "${stages[@]}") ;;
esac
declare -A running=() began=()
servers=$(mktemp -d "${TMPDIR:-/var/tmp}/trough-test-servers.XXXXXX")
finish() {
  [ "${#running[@]}" = 0 ] || kill "${running[@]}" 2>/dev/null
  [ ! -f "$servers/hadoop/hadoop.json" ] || tests/lib/hadoop.py stop "$servers/hadoop"
  [ ! -f "$servers/s3/s3.json" ] || "$venv/bin/python" tests/lib/s3.py stop "$servers/s3"
  [ ! -f "$servers/azure/azure.json" ] || tests/lib/azure.py stop "$servers/azure"
  [ ! -f "$servers/gcs/gcs.json" ] || tests/lib/gcs.py stop "$servers/gcs"
  rm -rf "$servers"
}
trap finish EXIT

passed=() failed=()
# Counts a stage. Fails if nothing can run after it.
ended() { # stage, exit status, seconds
  if [ "$2" = 0 ]; then
    passed+=("$1 ($3 s)")
    return 0
  fi
  failed+=("$1 ($3 s)")
  case $1 in setup | hdfs | s3 | azure | build | python_env) return 1 ;; esac
}

# Stages that wait more than they compute run beside the next ones, of which none may measure or wait for anything but compilers and fuzzers.
aside=(chaos_hdfs)
for stage in "${stages[@]}"; do
  printf '\n######## %s\n' "$stage"
  started=$SECONDS
  # What a stage before has started.
  if [ -z "${TROUGH_TEST_HDFS:-}" ] && [ -f "${hadoop:-$servers/hadoop}/hadoop.json" ]; then
    export TROUGH_TEST_HADOOP=${hadoop:-$servers/hadoop}
    TROUGH_TEST_HDFS=$(tests/lib/hadoop.py url "$TROUGH_TEST_HADOOP") && export TROUGH_TEST_HDFS
  fi
  for service in s3 azure gcs; do
    variable=TROUGH_TEST_${service^^}
    if [ -z "${!variable:-}" ] && [ -f "$servers/$service/$service.json" ]; then
      export "$variable=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["address"])' "$servers/$service/$service.json")"
    fi
  done
  # A stage runs in a shell of its own, so that it stops at its first failure.
  if [[ " ${aside[*]} " == *" $stage "* ]] && [ "${#stages[@]}" -gt 1 ]; then
    echo "goes on beside the next stages, which leave it the processor; what it prints comes at the end"
    (set -e; "$stage") >"$logs/$stage.log" 2>&1 &
    running[$stage]=$! began[$stage]=$started
    renice -n 5 $$ >/dev/null
    continue
  fi
  (set -e; "$stage") 2>&1 | tee "$logs/$stage.log"
  ended "$stage" "${PIPESTATUS[0]}" $((SECONDS - started)) || break
done
for stage in "${!running[@]}"; do
  wait "${running[$stage]}"
  outcome=$?
  printf '\n######## %s\n' "$stage"
  cat "$logs/$stage.log"
  ended "$stage" "$outcome" $((SECONDS - began[$stage]))
  unset "running[$stage]"
done

printf '\n######## summary (%s s)\n' "$SECONDS"
[ ${#passed[@]} = 0 ] || printf 'passed  %s\n' "${passed[@]}"
[ ${#failed[@]} = 0 ] || printf 'FAILED  %s\n' "${failed[@]}"
printf '%s passed, %s failed\n' ${#passed[@]} ${#failed[@]}
[ ${#failed[@]} = 0 ]
