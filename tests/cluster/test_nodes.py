"""Three nodes of RethinkDB, as production has them: everything starts at once on empty ones, and one is killed or stands still.

Only where the tests are to run over RethinkDB, as it takes three of them.
"""

import json
import subprocess
import time

import pytest

import harness
import rethink

pytestmark = pytest.mark.skipif(harness.METADATA != "rethinkdb", reason="three nodes of RethinkDB: only with TROUGH_TEST_METADATA=rethinkdb")

TABLES = {"services", "assignment", "lock", "schema", "trough"}


class Trough:
    """Two sync servers and three workers, all started at the same moment."""

    def __init__(self, directory, nodes):
        self.dir, self.nodes = directory, nodes
        store = directory / "store"
        store.mkdir()
        common = {"RETHINKDB_HOSTS": nodes.hosts, "STORE": f"file://{store}", "EXTERNAL_IP": "127.0.0.1", "LISTEN": "127.0.0.1",
                  "LOG_LEVEL": "INFO", "SYNC_LOOP_TIMING": 5, "LEASE": 45, "STORAGE_IN_BYTES": 10**12}
        ports = iter(harness.free_ports(2 + 3 * 3))
        self.processes, self.ports = {}, {}
        for name in ("sync-1", "sync-2", "worker-1", "worker-2", "worker-3"):
            role, self.ports[name] = name.split("-")[0], next(ports)
            own = {"SYNC_SERVER_PORT": self.ports[name]} if role == "sync" else {
                "READ_PORT": self.ports[name], "WRITE_PORT": next(ports), "SYNC_LOCAL_PORT": next(ports), "LOCAL_DATA": str(directory / name)}
            (directory / name).mkdir()
            (directory / f"{name}.yml").write_text(json.dumps({**common, **own, "HOSTNAME": name}))
            self.processes[name] = harness.Process([harness.BIN, role, "--config", str(directory / f"{name}.yml")], directory / f"{name}.log")

    def wait(self):
        for name, port in self.ports.items():
            harness.wait_for(name, lambda port=port: harness.http("GET", f"http://127.0.0.1:{port}/readyz").status == 200, timeout=90)

    def sync(self, path, body, method="POST"):
        """Asks any sync server, as clients do."""
        for name in ("sync-1", "sync-2"):
            answer = harness.http(method, f"http://127.0.0.1:{self.ports[name]}{path}", body)
            if answer.status < 300:
                break
        return answer

    def provision(self, segment):
        return self.sync("/provision", {"segment": segment, "schema": "t"})

    def shell(self, *commands):
        args = [arg for command in commands for arg in ("-c", command)]
        return subprocess.run([harness.BIN, "shell", "-f", "csv", "-u", self.nodes.url, *args], capture_output=True, text=True, timeout=60)

    def doctor(self):
        return subprocess.run([harness.BIN, "doctor", "--config", str(self.dir / "worker-1.yml")], capture_output=True, text=True, timeout=120).stdout

    def kill(self):
        for process in self.processes.values():
            process.kill()


@pytest.fixture
def nodes(tmp_path):
    nodes = rethink.Nodes(tmp_path / "rethinkdb")
    yield nodes
    nodes.kill()


@pytest.fixture
def trough(tmp_path, nodes):
    trough = Trough(tmp_path, nodes)
    try:
        trough.wait()
        yield trough
    finally:
        trough.kill()


def test_everything_starts_at_once(trough, nodes):
    """Database and tables are there once, whoever made them, with three replicas and every index."""
    named = lambda: sorted(db["name"] for db in nodes.rows("db_config") if db["name"].startswith("trough"))
    harness.wait_for("one database", lambda: named() == ["trough_configuration"])
    configs = lambda: [c for c in nodes.rows("table_config") if c["db"] == "trough_configuration"]
    harness.wait_for("each table once", lambda: len(configs()) == len(TABLES))
    assert {c["name"] for c in configs()} == TABLES
    assert [len(c["shards"][0]["replicas"]) for c in configs()] == [3] * len(TABLES)
    assert {c["name"]: sorted(c["indexes"]) for c in configs()}["services"] == ["node", "role", "segment"]
    assert "5 tables with their indexes" in trough.doctor()


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_a_node_goes(trough, nodes, fault):
    """Reads go on, provisions and writes after seconds, and nothing that was acknowledged is lost. The node has the primary replica of `services`."""
    harness.wait_for("the schema", lambda: trough.sync("/schema/t/sql", "create table t (n integer primary key);", method="PUT").status < 300)
    url = harness.wait_for("a segment", lambda: trough.provision("base").json.get("write_url"))
    acknowledged = [0]
    assert harness.http("POST", url, "insert into t values (0)").status == 200
    node = nodes.primary("services")
    other = (node + 1) % 3
    if fault == "killed":
        nodes.processes[node].kill()
    else:
        nodes.freeze(node)
    try:
        gone = time.monotonic()
        read = trough.shell("connect base", "select count(*) c from t;")
        assert read.returncode == 0 and "1" in read.stdout, read
        # Without the metadata, as the lease runs.
        for n in range(1, 10):
            assert harness.http("POST", url, f"insert into t values ({n})").status == 200
            acknowledged.append(n)
        harness.wait_for("a provision", lambda: trough.provision("during").status == 200, timeout=90)
        took = time.monotonic() - gone
        assert took < 60, took
        if fault == "killed":
            advice = harness.wait_for("doctor's advice", lambda: (lambda text: text if "is disconnected" in text else None)(trough.doctor()), timeout=90)
            assert f"RethinkDB server n{node + 1} is disconnected" in advice and f"127.0.0.1:{nodes.ports[node]} does not answer" in advice, advice
    finally:
        if fault == "killed":
            nodes.processes[node].start()
        else:
            nodes.thaw(node)
    harness.wait_for("its return", lambda: len(nodes.rows("server_status", other)) == 3)
    harness.wait_for("a provision afterwards", lambda: trough.provision("after").status == 200)
    rows = trough.shell("connect base", "select n from t order by n;")
    assert [int(n) for n in rows.stdout.split()[1:]] == acknowledged, rows
    logs = "".join(process.log.read_text() for name, process in trough.processes.items() if name.startswith("worker"))
    assert "lease had run out" not in logs
