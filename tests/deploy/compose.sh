#!/usr/bin/env bash
# The compose file with a real Docker engine, but without an image registry: base images and the servers of others are made here, from Debian's
# packages and the jars of tests/hadoop. Needs root, dockerd, docker-compose or the compose plugin, and mmdebstrap. Not part of CI.
#
#   tests/deploy/compose.sh [BINARY] [EXTENSION]     default: target/release/trough, target/release/libpg_trough.so
#
# What is real: the engine, the steps of the final stages of docker/Dockerfile, the compose file, its settings, secrets, health
# checks, order and networks, the daemons, HDFS, PostgreSQL, Prometheus. What stands in: the base images; RethinkDB, by `trough meta` and two
# proxies to it; the compilation, by what is built already. What is left out: Grafana, which Debian does not package.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$(realpath "${1:-target/release/trough}") extension=$(realpath "${2:-target/release/libpg_trough.so}")
work=${DEPLOY_DIR:-$PWD/target/deploy}
mkdir -p "$work"
say() { printf '== %s\n' "$*"; }
export DOCKER_BUILDKIT=1 COMPOSE_PROJECT_NAME=trough-test
docker=/usr/bin/docker
[ -x "$docker" ] || docker=docker
compose() { if $docker compose version >/dev/null 2>&1; then $docker compose "$@"; else docker-compose "$@"; fi; }

# An engine of its own, in a network of its own: nothing of this machine's network or firewall is touched.
engine=
if [ -z "${DOCKER_HOST:-}" ]; then
  export DOCKER_HOST=unix://$work/docker.sock
  say "starting an engine"
  unshare -n -m sh -c "ip link set lo up; mount --make-rprivate /; exec dockerd --host $DOCKER_HOST --data-root $work/docker \
    --exec-root $work/exec --pidfile $work/docker.pid" >"$work/dockerd.log" 2>&1 &
  engine=$!
  timeout 60 sh -c "until $docker version >/dev/null 2>&1; do sleep 0.2; done"
fi
stop() {
  [ -n "${DEPLOY_KEEP:-}" ] || compose -f "$work/compose.yml" down -v >/dev/null 2>&1 || true
  if [ -n "$engine" ]; then kill "$(cat "$work/docker.pid")" && wait "$engine" || true; fi
}
trap stop EXIT

say "making the base images"
[ -f "$work/slim.tar" ] || mmdebstrap --quiet --variant=minbase bookworm "$work/slim.tar"
[ -f "$work/full.tar" ] || mmdebstrap --quiet --variant=apt \
  --include=ca-certificates,python3-minimal,libpython3-stdlib,openjdk-17-jre-headless,postgresql-15,prometheus,procps bookworm "$work/full.tar"
have() { $docker image inspect "$1" >/dev/null 2>&1; }
have stand-in:slim || $docker import "$work/slim.tar" stand-in:slim >/dev/null
have stand-in:full || $docker import "$work/full.tar" stand-in:full >/dev/null

say "building the final stages of docker/Dockerfile"
context=$work/context
rm -rf "$context" && mkdir -p "$context/out/lib" "$context/out/extension" "$context/jars"
cp "$bin" "$context/out/trough"
cp "$extension" "$context/out/lib/pg_trough.so"
cp sql/pg_trough.control sql/pg_trough--*.sql "$context/out/extension/"
cp tests/deploy/images/* tests/lib/proxy.py "$context/"
cp target/hadoop/jars/*.jar "$context/jars/"
# The stages that compile are replaced by what is compiled; ca-certificates is in the base already, as there is no network to fetch it by.
python3 - "$context/Dockerfile" <<'PY'
import re, sys
text = open("docker/Dockerfile").read()
stages = re.split(r"(?m)^(?=FROM )", text)
final = [s for s in stages if re.match(r"FROM \S+ AS (trough|postgres)\n", s)]
assert len(final) == 2, stages
final = "".join(final)
final, replaced = re.subn(r"apt-get update \\\n +&& apt-get install -y --no-install-recommends ca-certificates \\\n +&& rm -rf /var/lib/apt/lists/\* \\\n +&& ", "", final)
assert replaced == 1
head = """ARG PG_MAJOR=15
ARG DEBIAN_IMAGE=stand-in:slim
ARG POSTGRES_IMAGE=stand-in:full
FROM stand-in:slim AS build-trough
COPY out/trough /out/trough
FROM stand-in:slim AS build-extension
COPY out/lib /out/lib
COPY out/extension /out/extension
"""
tail = """
FROM stand-in:full AS hadoop
COPY hdfs /usr/local/bin/hdfs
COPY jars /opt/hadoop/jars
COPY log4j.properties /opt/hadoop/etc/hadoop/
# Servers without the web pages, which their jars do not hold.
RUN mkdir -p /opt/hadoop/etc/hadoop/webapps/hdfs /opt/hadoop/etc/hadoop/webapps/datanode
FROM stand-in:full AS rethinkdb
COPY out/trough rethinkdb /usr/local/bin/
COPY proxy.py /usr/local/lib/stand-in/proxy.py
FROM postgres AS postgres-run
COPY postgres /usr/local/bin/entrypoint
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["entrypoint"]
FROM stand-in:full AS prometheus
ENTRYPOINT ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
"""
open(sys.argv[1], "w").write(head + final + tail)
PY
for image in trough:trough hadoop:apache/hadoop:3.3.6 rethinkdb:rethinkdb:2.4.4-bookworm-slim postgres-run:pg_trough prometheus:prom/prometheus:v3.4.0; do
  $docker build --quiet --target "${image%%:*}" --tag "${image#*:}" "$context" >/dev/null
done
$docker images --format '   {{.Repository}}:{{.Tag}} {{.Size}}'

say "starting the compose file"
docker/secrets.sh >/dev/null
# Only what cannot be had is taken out: Grafana, and for docker-compose 1 the project's name.
python3 - "$work/compose.yml" <<'PY'
import os, re, resource, sys
text = open("docker/compose.yml").read()
text = re.sub(r"(?m)^name: .*\n", "", text)
text = re.sub(r"(?ms)^  grafana:\n    image.*?(?=^networks:)", "\n", text)
text = text.replace("{ context: .., dockerfile: docker/Dockerfile", "{ context: " + os.getcwd() + ", dockerfile: docker/Dockerfile")
# An engine that may not raise limits gives what it has.
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
text = text.replace("nofile: 1048576", f"nofile: {min(1048576, most) if most > 0 else 1048576}")
text = re.sub(r"(?<=[\"' ])\./", os.getcwd() + "/docker/", text)
open(sys.argv[1], "w").write(text)
PY
services=$(compose -f "$work/compose.yml" config --services)
[ -f docker/prometheus/prometheus.yml ] || services=$(grep -v prometheus <<<"$services")
started=$SECONDS
# shellcheck disable=SC2086
compose -f "$work/compose.yml" up -d --no-build $services >"$work/up.log" 2>&1 || { tail -20 "$work/up.log"; exit 1; }
healthy() { compose -f "$work/compose.yml" exec -T postgres pg_isready -h 127.0.0.1 -q; }
timeout 120 bash -c "$(declare -f compose healthy); docker=$docker work=$work; until healthy >/dev/null 2>&1; do sleep 0.5; done" ||
  { compose -f "$work/compose.yml" logs --tail 20 postgres; exit 1; }
echo "   up after $((SECONDS - started)) s"
compose -f "$work/compose.yml" ps

say "writing, promoting, copying, reading"
sql() { compose -f "$work/compose.yml" exec -T -u postgres postgres psql -X -v ON_ERROR_STOP=1 -U postgres archive "$@"; }
sql -q <<'SQL'
INSERT INTO visits (segment, day, url, status, bytes)
SELECT 'site-' || n % 20, '2026-01-01', 'http://example.com/' || n, 200 + n % 3, n FROM generate_series(1, 2000) n;
SELECT count(*) AS promoted FROM trough.promote('archive', ARRAY(SELECT segment FROM trough.locks('archive'))) WHERE error IS NULL;
SELECT status, count(*), sum(bytes) FROM visits GROUP BY status ORDER BY status;
SQL
sql -Atc "SELECT count(DISTINCT segment) || ' segments, ' || count(*) || ' rows' FROM visits" | tee "$work/before"
say "copies on all zones"
timeout 90 bash -c "$(declare -f compose); docker=$docker; until [ \"\$(compose -f $work/compose.yml exec -T -u postgres postgres psql -XAt -U postgres archive -c \
  \"SELECT count(*) FROM trough.segments('archive') WHERE healthy\")\" = 40 ]; do sleep 1; done"
sql -c "SELECT node, tier, count(*) AS segments FROM trough.segments('archive') GROUP BY 1, 2 ORDER BY 1" -c "SELECT * FROM trough.workers('archive')"
say "a worker is stopped: everything is still there"
compose -f "$work/compose.yml" stop worker-1 >/dev/null 2>&1
sql -Atc "SELECT count(DISTINCT segment) || ' segments, ' || count(*) || ' rows' FROM visits" | diff - "$work/before"
compose -f "$work/compose.yml" start worker-1 >/dev/null 2>&1
if grep -q prometheus <<<"$services"; then
  say "what Prometheus scrapes"
  compose -f "$work/compose.yml" exec -T prometheus promtool query instant http://127.0.0.1:9090 'up'
fi
say "trough doctor, in a container"
compose -f "$work/compose.yml" exec -T worker-2 trough doctor | tail -12
say "all is well"
