"""One cluster (`trough dev`), a PostgreSQL with the extension and a collector of spans, with a workload behind them."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import types

import psycopg
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import collector  # noqa: E402
import harness  # noqa: E402

SCHEMA = "CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT);"
ENVIRONMENT = {
    "TROUGH_LOG_FORMAT": "json",
    "TROUGH_ACCESS_LOG": "true",
    # Every query is slow.
    "TROUGH_SLOW_QUERY": "0.000001",
    "TROUGH_COLD_STORE_SEGMENT": 'segment_id.startsWith("cold-")',
    "TROUGH_COLD_MODE": "direct",
    "OTEL_BSP_SCHEDULE_DELAY": "100",
}


def profile():
    return "debug" if "/debug/" in harness.BIN else "release"


class Stack:
    """Where everything is."""

    def __init__(self, directory, base, pg_port, spans):
        self.dir, self.base, self.pg_port, self.spans = directory, base, pg_port, spans
        self.cluster = directory / "cluster"
        self.url = f"rethinkdb://127.0.0.1:{base}/trough_configuration"
        self.daemons = {
            "meta": f"http://127.0.0.1:{base + 2}",
            "sync": f"http://127.0.0.1:{base + 1}",
            "worker-1": f"http://127.0.0.1:{base + 10}",
            "worker-2": f"http://127.0.0.1:{base + 20}",
            "cold-1": f"http://127.0.0.1:{base + 30}",
        }
        self.dsn = f"host=127.0.0.1 port={pg_port} user=postgres dbname=postgres"

    def psql(self, sql, **variables):
        """What psql prints, errors and all."""
        settings = [f"-v{name}={value}" for name, value in variables.items()]
        command = ["psql", "-X", "-q", "-A", "-t", *settings, "-d", self.dsn, "-c", sql]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def log(self, part):
        """The lines of a part's log, which are JSON objects."""
        lines = (self.cluster / "logs" / f"{part}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def logged(self, trace, message=None):
        """What any worker logged under a trace."""
        found = []
        for part in self.daemons:
            for line in self.log(part):
                if line.get("span", {}).get("trace") == trace and message in (None, line.get("message")):
                    found.append(types.SimpleNamespace(part=part, **{k.replace(".", "_"): v for k, v in line.items()}))
        return found

    def wait_logged(self, trace, message):
        return harness.wait_for(f"{message!r} of trace {trace}", lambda: self.logged(trace, message))

    def pg_log(self):
        return (self.dir / "pg/server.log").read_text()


@pytest.fixture(scope="session")
def stack():
    directory = pathlib.Path(tempfile.mkdtemp(prefix="trough-obs-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    directory.chmod(0o755)
    base, (pg_port,) = harness.free_base_port(), harness.free_ports(1)
    subprocess.run([ROOT / "scripts/install-extension.sh", profile()], check=True, stdout=subprocess.DEVNULL)
    with collector.Collector() as spans:
        stack = Stack(directory, base, pg_port, spans)
        environment = {**ENVIRONMENT, "TROUGH_OTLP_ENDPOINT": spans.endpoint}
        ready = directory / "ready"
        with open(ready, "wb") as out:
            arguments = [harness.BIN, "dev", "--dir", stack.cluster, "--workers", "2", "--cold-workers", "1", "--base-port", str(base)]
            dev = harness.Process([str(a) for a in arguments], directory / "dev.log", environment, out)
        failed = True
        try:
            subprocess.run([ROOT / "scripts/pg.sh", "start", directory / "pg", str(pg_port)], check=True)
            harness.wait_for("the cluster", lambda: "ready" in ready.read_text() or not dev.alive(), timeout=90)
            assert dev.alive(), (directory / "dev.log").read_text()
            workload(stack)
            yield stack
            failed = False
        finally:
            subprocess.run([ROOT / "scripts/pg.sh", "stop", directory / "pg"], check=False)
            dev.stop()
            if not failed and not os.environ.get("TROUGH_KEEP"):
                shutil.rmtree(directory)


def workload(stack):
    """A little of everything: provisioning, writes, promotions, hot and cold copies, queries, failures."""
    with psycopg.connect(stack.dsn, autocommit=True) as db:
        db.execute("CREATE EXTENSION pg_trough")
        db.execute(f"CREATE SERVER archive FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb '{stack.url}')")
        db.execute("CREATE USER MAPPING FOR PUBLIC SERVER archive")
        db.execute("SELECT trough.register_schema('archive', 'obs', %s)", [SCHEMA])
        db.execute(
            "CREATE FOREIGN TABLE t (segment text OPTIONS (segment 'true'), k bigint OPTIONS (trusted 'true'), v text) SERVER archive OPTIONS (table 't', schema 'obs')"
        )
        for segment in ["hot-1", "hot-2", "cold-1"]:
            if segment.startswith("cold-"):
                put_cold(stack, segment)
                continue
            db.execute("INSERT INTO t SELECT %s, g, md5(g::text) FROM generate_series(1, 2000) g", [segment])
            db.execute("SELECT trough.promote('archive', %s)", [segment])
        tiers = "SELECT count(*) FROM trough.segments('archive') WHERE segment = %s AND healthy AND tier = %s"
        for segment, tier, copies in [("hot-1", "hot", 2), ("hot-2", "hot", 2), ("cold-1", "cold", 1)]:
            served = lambda: db.execute(tiers, [segment, tier]).fetchone()[0] >= copies  # noqa: E731
            harness.wait_for(f"{copies} copies of {segment}", served, timeout=60)
        assert db.execute("SELECT count(*), max(v) FROM t WHERE segment LIKE 'hot-%'").fetchone()[0] == 4000
        assert db.execute("SELECT count(v) FROM t WHERE segment = 'cold-1'").fetchone()[0] == 2000


def put_cold(stack, segment):
    """A cold segment comes into the store from outside: provisioning one is refused."""
    import sqlite3

    folder = stack.cluster / "store" / segment[:3]
    folder.mkdir(parents=True, exist_ok=True)
    made = stack.dir / f"{segment}.sqlite"
    with sqlite3.connect(made) as db:
        db.executescript(SCHEMA)
        db.executemany("INSERT INTO t VALUES (?, ?)", ((k, "x" * 100) for k in range(2000)))
    db.close()
    os.replace(made, folder / f"{segment}.sqlite")


TRACE = re.compile(r"trough trace ([0-9a-f]{32})")
