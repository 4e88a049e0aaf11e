"""A cluster as it stands in production: each host is an address of its own (127.0.0.N) with the same ports on all, so that
nodes find one another by name and port alone, as the Python trough does. Metadata: as tests/lib/harness.py starts them, or the
server that RETHINKDB_URL names, whose database trough_configuration must not exist and is made and dropped."""

import json
import os
import pathlib
import socket
import sys
import urllib.parse

import harness
from rethinkdb import RethinkDB

r = RethinkDB()
DATABASE = "trough_configuration"
REAL = os.environ.get("RETHINKDB_URL")


def real_server():
    """Host and port of the server that RETHINKDB_URL names."""
    url = urllib.parse.urlsplit(REAL)
    return url.hostname, url.port or 28015


class Metadata:
    """The metadata server of one test."""

    def __init__(self, directory):
        self.process = None
        if REAL:
            self.host, self.port = real_server()
            with self.connect() as connection:
                if DATABASE in r.db_list().run(connection):
                    raise RuntimeError(f"the server of RETHINKDB_URL has a database {DATABASE}: the tests make and drop one")
            return
        self.host, (self.port,) = "127.0.0.1", harness.free_ports(1)
        self.process = harness.start_metadata(directory / "meta", self.port, directory / "meta.log")
        harness.wait_for("the metadata server", lambda: socket.create_connection((self.host, self.port), timeout=1).close() is None)

    def connect(self):
        return r.connect(self.host, self.port, db=DATABASE)

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    @property
    def url(self):
        return f"rethinkdb://{self.address}/{DATABASE}"

    def stop(self):
        if self.process:
            self.process.stop()
            return
        with self.connect() as connection:
            if DATABASE in r.db_list().run(connection):
                r.db_drop(DATABASE).run(connection)


class Hosts:
    """Metadata, a store and hosts that are started one by one."""

    SYNC = "127.0.0.2"

    def __init__(self, directory, **settings):
        self.dir = pathlib.Path(directory)
        self.store = self.dir / "store"
        self.store.mkdir()
        self.meta = Metadata(self.dir)
        names = ("READ_PORT", "WRITE_PORT", "SYNC_LOCAL_PORT", "SYNC_SERVER_PORT")
        self.ports = dict(zip(names, harness.free_ports(len(names))))
        self.common = {
            **self.ports, "RETHINKDB_HOSTS": [self.meta.address], "HDFS_PATH": str(self.store), "ELECTION_CYCLE": 1,
            "SYNC_LOOP_TIMING": 1, "HOST_CHECK_WAIT_PERIOD": 0.5, "STORAGE_IN_BYTES": 10**12, "MINIMUM_ASSIGNMENTS": 2,
            "MAXIMUM_ASSIGNMENTS": 2, **settings,
        }
        self.processes = {}

    def run(self, sql):
        """Runs a ReQL statement; a cursor comes as a list."""
        with self.meta.connect() as connection:
            result = sql.run(connection)
            return list(result) if hasattr(result, "__next__") else result

    def start(self, role, host, **settings):
        """Starts `trough ROLE`, or the simulated Python worker, as the host; waits until it is there."""
        both = {**self.common, "HOSTNAME": host, "LOCAL_DATA": str(self.dir / f"{host}-{role}"), **settings}
        if role == "python":
            path = self.dir / f"{host}.json"
            path.write_text(json.dumps(both))
            script = pathlib.Path(__file__).with_name("python_worker.py")
            args = [sys.executable, str(script), str(path)]
        else:
            path = self.dir / f"{host}-{role}.yml"
            ours = {"LISTEN": host, "STORE": f"file://{self.store}", "LOG_LEVEL": "INFO", **both}
            path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in ours.items()))
            args = [harness.BIN, role, "--config", str(path)]
        process = harness.Process(args, self.dir / f"{host}-{role}.log")
        process.config, process.data = path, pathlib.Path(both["LOCAL_DATA"])
        self.processes[host, role] = process
        return process

    def sync(self, **settings):
        process = self.start("sync", self.SYNC, **settings)
        harness.wait_for("the sync server", lambda: harness.http("GET", self.sync_url("/readyz")).status == 200)
        return process

    def worker(self, host, **settings):
        process = self.start("worker", host, **settings)
        harness.wait_for("a worker", lambda: harness.http("GET", self.url(host, "READ_PORT", "/readyz")).status == 200)
        return process

    def python(self, host, **settings):
        process = self.start("python", host, **settings)
        connect = lambda: socket.create_connection((host, self.ports["SYNC_LOCAL_PORT"]), timeout=1).close() is None
        harness.wait_for("a Python worker", connect)
        harness.wait_for("a Python worker's heartbeat", lambda: self.run(r.table("services").get(f"trough-nodes:{host}:None")))
        return process

    def stop_host(self, host, role, kill=False):
        process = self.processes.pop((host, role))
        process.kill() if kill or role == "python" else process.stop()

    def stop(self):
        for (_, role), process in reversed(self.processes.items()):
            process.kill() if role == "python" else process.stop()
        self.meta.stop()

    def url(self, host, port, path="/"):
        return f"http://{host}:{self.ports[port]}{path}"

    def sync_url(self, path):
        return self.url(self.SYNC, "SYNC_SERVER_PORT", path)

    def read(self, host, segment, sql, **kwargs):
        return harness.http("POST", self.url(host, "READ_PORT", f"/?segment={harness.quote(segment)}"), sql, **kwargs)

    def provision(self, segment, schema="default"):
        return harness.http("POST", self.sync_url("/provision"), {"segment": segment, "schema": schema})

    def promote(self, segment):
        return harness.http("POST", self.sync_url("/promote"), {"segment": segment})

    def put_segment(self, segment, content):
        """A canonical file."""
        path = self.store / segment[:-3] / f"{segment}.sqlite"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def readers(self, segment):
        """The nodes whose read rows of the segment pass the original's live filter."""
        alive = lambda svc: r.now().sub(svc["last_heartbeat"]).lt(svc["ttl"])
        rows = r.table("services", read_mode="outdated").get_all(segment, index="segment").filter({"role": "trough-read"}).filter(alive)
        return sorted(row["node"] for row in self.run(rows))

    def placement(self):
        """Every assignment: who holds what on which ring."""
        rows = self.run(r.table("assignment").has_fields("segment"))
        return {(row["segment"], row["node"]): row["hash_ring"] for row in rows}
