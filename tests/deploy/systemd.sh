#!/usr/bin/env bash
# The packages under a real systemd, in a container made of Debian's packages: units start when their daemons are ready, under all of their
# restrictions; writes and promotions work; the watchdog restarts a daemon that stands still; an upgrade restarts, a purge leaves the data.
# Needs root, dockerd (see compose.sh), and the packages of `make deb`. Not part of CI.
#
#   DOCKER_HOST=… tests/deploy/systemd.sh [DIR OF PACKAGES]
set -euo pipefail
cd "$(dirname "$0")/../.."
debs=$(realpath "${1:-target/debian}")
work=${DEPLOY_DIR:-$PWD/target/deploy}
base=${DEPLOY_BASE:-$work/installed.tar} # as tests/deploy/test_packages.py makes it
docker image inspect trough-systemd >/dev/null 2>&1 || docker import "$base" trough-systemd >/dev/null
name=trough-systemd-$$
trap 'docker rm -f "$name" >/dev/null' EXIT
docker run -d --name "$name" --cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add SYS_PTRACE --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
  --tmpfs /run --tmpfs /tmp --tmpfs /sys/fs/cgroup:rw,mode=755 -e container=docker -v "$debs:/debs:ro" --network none trough-systemd /sbin/init >/dev/null
inside() { docker exec "$name" sh -ec "$1"; }
say() { printf '== %s\n' "$*"; }
timeout 60 sh -c "until docker exec $name systemctl is-system-running --wait >/dev/null 2>&1; do sleep 0.5; done"

say "install"
inside 'dpkg -i /debs/*.deb >/tmp/dpkg 2>&1 || { cat /tmp/dpkg; exit 1; }'
say "start: metadata, sync server, worker, cold worker"
inside 'timeout 120 systemctl start trough-meta trough-sync trough-worker trough-cold'
inside 'for u in meta sync worker cold; do systemctl show -P Id -P ActiveState -P StatusText trough-$u | paste -sd" "; done'
inside 'for part in worker sync meta; do trough health $part; done'
inside 'pid=$(systemctl show -P MainPID trough-worker); grep -E "^(Uid|NoNewPrivs|Seccomp|CapBnd|CapEff):" /proc/$pid/status | paste -sd" "'

say "SQL through the installed extension, to the canonical store"
inside 'pg_ctlcluster 15 main start || { pg_createcluster 15 main >/dev/null; pg_ctlcluster 15 main start; }'
docker exec -i -u postgres "$name" psql -X -q -v ON_ERROR_STOP=1 <<'SQL'
CREATE EXTENSION pg_trough;
CREATE SERVER archive FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb 'rethinkdb://127.0.0.1:28015/trough_configuration');
CREATE USER MAPPING FOR CURRENT_USER SERVER archive;
SELECT trough.register_schema('archive', 'log', 'CREATE TABLE log (n INTEGER NOT NULL, t TEXT) STRICT;');
IMPORT FOREIGN SCHEMA "log" FROM SERVER archive INTO public;
INSERT INTO log SELECT 'day-' || n % 3, n, 'x' FROM generate_series(1, 300) n;
SELECT count(*) AS promoted FROM trough.promote('archive', ARRAY['day-0', 'day-1', 'day-2']) WHERE error IS NULL;
SELECT count(DISTINCT segment), count(*), sum(n) FROM log;
SQL
inside 'find /var/lib/trough/store -name "*.sqlite" | wc -l'

say "the watchdog: a worker that stands still is restarted"
inside 'mkdir -p /run/systemd/system/trough-worker.service.d
printf "[Service]\nWatchdogSec=3\n" >/run/systemd/system/trough-worker.service.d/watchdog.conf
systemctl daemon-reload; systemctl restart trough-worker
old=$(systemctl show -P MainPID trough-worker); kill -STOP $old
timeout 60 sh -c "until [ \$(systemctl show -P NRestarts trough-worker) = 1 ] && trough health worker >/dev/null; do sleep 0.2; done"
systemctl show -P NRestarts -P StatusText trough-worker | paste -sd" "'

say "upgrade"
inside 'old=$(systemctl show -P MainPID trough-sync); dpkg -i /debs/trough_*.deb >/tmp/dpkg 2>&1 || { cat /tmp/dpkg; exit 1; }
new=$(systemctl show -P MainPID trough-sync); [ "$new" != "$old" ] && [ "$new" != 0 ] && trough health sync'
docker exec -u postgres "$name" psql -XAtc 'SELECT count(*) || $$ rows$$ FROM log'

say "purge"
inside 'dpkg -P postgresql-15-pg-trough trough 2>&1 | grep "holds data"; ! systemctl is-active trough-worker trough-sync trough-cold trough-meta
[ ! -e /etc/trough ] && [ ! -e /usr/bin/trough ] && ls /var/lib/trough /var/lib/trough/worker'
say "all is well"
