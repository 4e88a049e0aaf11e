"""The cluster under test: a metadata server, two sync servers, hot workers and a cold one, each a process of its own in a network
namespace of its own, with a disk and a clock of its own; and PostgreSQL with the extension, if it is installed, on the host."""

import json
import os
import pathlib
import shutil
import signal
import sqlite3
import struct
import subprocess
import tempfile
import threading

import harness
import rethinkdb

from . import disk, net

R = rethinkdb.RethinkDB()
ROOT = pathlib.Path(__file__).resolve().parents[3]
LEASE, MARGIN, COPIES = 3, 10, 2
COLD_ROWS = 7
SCHEMA = "create table w (a integer not null, n integer not null, v integer not null) strict; create index w_a on w (a, n);"
META, SYNC, READ, WRITE, MANAGE = 28015, 6111, 6444, 6222, 6112


class Node:
    """A daemon that can be killed, paused, started again; its clock can be put off."""

    def __init__(self, cluster, name, args, disk_=None):
        self.name, self.disk, self.cluster = name, disk_, cluster
        self.address = cluster.net.address(name)
        self.skew_file = cluster.dir / f"{name}.skew"
        self.skew(0)
        command = cluster.net.command(name, args)
        env = {"LD_PRELOAD": str(cluster.skew_library), "SKEW_FILE": str(self.skew_file)}
        self.lock = threading.Lock()
        self.process = harness.Process(command, cluster.dir / f"{name}.log", env)

    @property
    def pid(self):
        return self.process.p.pid

    def skew(self, seconds):
        """From now on the node's wall clock is off by so much."""
        with open(self.skew_file, "r+b" if self.skew_file.exists() else "wb") as file:
            file.write(struct.pack("q", int(seconds * 1e9)))

    def kill(self):
        with self.lock:
            self.process.kill()

    def start(self):
        with self.lock:
            if not self.process.alive():
                self.process.start()

    def stop(self):
        with self.lock:
            try:
                self.process.stop(20)
            except AssertionError:
                pass  # it is killed then; what it promises holds all the same

    def signal(self, number):
        with self.lock:
            if self.process.alive():
                os.kill(self.pid, number)

    def url(self, port, path=""):
        return f"http://{self.address}:{port}/{path}"


class Cluster:
    """Starts everything; `stop` removes everything but logs and history."""

    def __init__(self, directory, workers=3, cold=1, syncs=2, disk_mb=192, settings=None):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.store = self.dir / "store"
        self.store.mkdir()
        self.skew_library = self.dir / "skew.so"
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", str(self.skew_library), str(pathlib.Path(__file__).with_name("skew.c"))], check=True
        )
        self.net, self.disks, self.nodes, self.postgres = net.Network(), {}, {}, None
        self.syncs = [f"sync{i}" for i in range(1, syncs + 1)]
        self.hot = [f"worker{i}" for i in range(1, workers + 1)]
        self.cold = [f"cold{i}" for i in range(1, cold + 1)]
        self.workers = self.hot + self.cold
        try:
            self._start(disk_mb, settings or {})
        except BaseException:
            self.stop()
            raise

    def _start(self, disk_mb, settings):
        for name in ["meta", *self.syncs, *self.workers]:
            self.net.add(name)
        for name in ["meta", *self.hot]:
            self.disks[name] = disk.Disk(self.dir / name, disk_mb)
        meta = self.net.address("meta")
        # Without a password it listens on loopback only.
        self.net.expose_loopback("meta", META)
        self.nodes["meta"] = Node(
            self, "meta", [harness.BIN, "meta", "--dir", str(self.disks["meta"].data), "--listen", f"127.0.0.1:{META}"], self.disks["meta"]
        )
        harness.wait_for("the metadata server", lambda: self.db().close() is None)
        common = {
            "RETHINKDB_HOSTS": [f"{meta}:{META}"],
            "STORE": f"file://{self.store}",
            "HDFS_PATH": str(self.store),
            "STORE_TIMEOUT": 5,
            "ANONYMOUS": "admin",
            "LEASE": LEASE,
            "SYNC_LOOP_TIMING": 1,
            "ELECTION_CYCLE": 1,
            "HOST_CHECK_WAIT_PERIOD": 1,
            "MINIMUM_ASSIGNMENTS": COPIES,
            "MAXIMUM_ASSIGNMENTS": COPIES,
            "MOVE_GRACE": 8,
            "STORAGE_IN_BYTES": 10**12,
            "READ_PORT": READ,
            "WRITE_PORT": WRITE,
            "SYNC_SERVER_PORT": SYNC,
            "SYNC_LOCAL_PORT": MANAGE,
            "COLD_MODE": "direct",
            "COLD_CHECK": 1,
            "COLD_STORE_SEGMENT": 'segment_id.startsWith("cold-")',
            "UPLOAD_GRACE": 60,
            "SHUTDOWN_GRACE": 3,
            "LOG_LEVEL": "info,trough_worker::fresh=debug",
            **settings,
        }
        for name in self.syncs:
            self._daemon("sync", name, common)
        for name in self.workers:
            self._daemon("worker", name, common, cold=name in self.cold)
        for name in self.syncs + self.workers:
            harness.wait_for(f"{name}", lambda name=name: self.ready(name))
        harness.wait_for("the schema", lambda: self.on_master("PUT", "schema/chaos/sql", SCHEMA).status in (201, 204))
        if self.cold:
            self._cold_segments()
        self.postgres = Postgres(self) if Postgres.installed() else None

    def _daemon(self, role, name, common, cold=False):
        address, disk_ = self.net.address(name), self.disks.get(name)
        data = disk_.data if disk_ else self.dir / name
        data.mkdir(exist_ok=True)
        own = {"HOSTNAME": name, "LISTEN": address, "EXTERNAL_IP": address, "LOCAL_DATA": str(data)}
        own |= {"RUN_AS_COLD_STORAGE_NODE": True} if cold else {}
        path = self.dir / f"{name}.yml"
        path.write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in {**common, **own}.items()))
        self.nodes[name] = Node(self, name, [harness.BIN, role, "--config", str(path)], disk_)

    def _cold_segments(self):
        folder = self.store / "cold-s"
        folder.mkdir()
        for i in range(100, 103):
            path = folder / f"cold-s{i}.sqlite"
            with sqlite3.connect(f"{path}.new") as db:
                db.executescript(SCHEMA)
                db.executemany("insert into w values (0, ?, 0)", [(n,) for n in range(COLD_ROWS)])
            db.close()
            os.rename(f"{path}.new", path)

    def cold_segments(self):
        return [f"cold-s{i}" for i in range(100, 103)] if self.cold else []

    def ready(self, name, timeout=3):
        port = SYNC if name in self.syncs else READ
        return harness.http("GET", self.nodes[name].url(port, "readyz"), timeout=timeout).status == 200

    def db(self, timeout=3):
        try:
            return R.connect(self.net.address("meta"), META, db="trough_configuration", timeout=timeout)
        except rethinkdb.errors.ReqlDriverError as e:
            raise ConnectionError(str(e)) from e

    def on_master(self, method, path, body=None, timeout=20):
        """A request to any sync server; one that is not the master passes it on."""
        failure = None
        for name in self.syncs:
            try:
                return harness.http(method, self.nodes[name].url(SYNC, path), body, timeout=timeout)
            except OSError as e:
                failure = e
        raise failure

    def master(self):
        """The name of the sync master, as the database has it."""
        with self.db() as db:
            row = R.table("services").get("trough-sync-master").run(db)
        return next((name for name in self.syncs if row and self.net.address(name) in (row.get("url") or "")), None)

    def canonical(self, segment):
        return self.store / segment[:-3] / f"{segment}.sqlite"

    def stop(self):
        for node in self.nodes.values():
            node.signal(signal.SIGCONT)
        for disk_ in self.disks.values():
            disk_.thaw()
        for node in self.nodes.values():
            node.kill()
        if self.postgres:
            self.postgres.stop()
        for disk_ in self.disks.values():
            disk_.close()
        self.net.close()


class Postgres:
    """PostgreSQL with one server and the foreign table `w` over all segments."""

    def __init__(self, cluster):
        # Below a directory that its user can reach, which those of tests are not.
        self.above, self.log = pathlib.Path(tempfile.mkdtemp(prefix="trough-chaos-pg-", dir="/var/tmp")), cluster.dir / "postgres.log"
        self.above.chmod(0o755)
        self.dir = self.above / "pg"
        [self.port] = harness.free_ports(1)
        self.script("start", self.dir, self.port, "max_connections=60", "fsync=off")
        url = f"rethinkdb://{cluster.net.address('meta')}:{META}/trough_configuration"
        with self.connect() as db:
            for statement in (
                "create extension if not exists pg_trough",
                f"create server archive foreign data wrapper trough_fdw options (rethinkdb '{url}', request_timeout '20000')",
                "create foreign table w (segment text options (segment 'true'), a bigint, n bigint, v bigint)"
                " server archive options (schema 'chaos')",
            ):
                db.execute(statement)

    @staticmethod
    def installed():
        """Whether there is a PostgreSQL with the extension."""
        config = os.environ.get("PG_CONFIG", "/usr/lib/postgresql/15/bin/pg_config")
        if not shutil.which(config):
            return False
        library = subprocess.run([config, "--pkglibdir"], capture_output=True, text=True, check=True).stdout.strip()
        return (pathlib.Path(library) / "pg_trough.so").exists()

    def connect(self):
        import psycopg

        return psycopg.connect(host=str(self.dir), port=self.port, user="postgres", dbname="postgres", autocommit=True)

    def script(self, *args):
        subprocess.run([str(ROOT / "scripts/pg.sh"), *map(str, args)], check=True, stdin=subprocess.DEVNULL)

    def stop(self):
        self.script("stop", self.dir)
        shutil.copyfile(self.dir / "server.log", self.log)
        shutil.rmtree(self.above, ignore_errors=True)
