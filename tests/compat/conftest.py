"""The metadata server of the compatibility tests (`trough meta`, the `rethinkdb` of PATH with TROUGH_TEST_METADATA=rethinkdb, or the
server that RETHINKDB_URL names), connections to it through RethinkDB's own driver, and a cluster of ours over it."""

import os
import pathlib
import signal
import socket
import sys
import time

import doublethink
import pytest
from rethinkdb import RethinkDB

# The workers of the cluster that most tests share.
RUST = ("127.0.0.11", "127.0.0.12")
REAL = os.environ.get("RETHINKDB_URL")
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lib"))


import harness  # noqa: E402
import hosts  # noqa: E402

# Whether the tests run over `trough meta`.
OURS = not REAL and harness.METADATA == "meta"


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"metadata: {f'the RethinkDB server {REAL}' if REAL else harness.metadata_name()}")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A sync server and two workers; segments whose names begin with `cold` belong to the cold tier."""
    c = hosts.Hosts(tmp_path_factory.mktemp("cluster"), COLD_STORE_SEGMENT="segment_id.startsWith('cold')")
    c.sync()
    for host in RUST:
        c.worker(host)
    yield c
    c.stop()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Meta:
    """The process, which can be killed and started again on the same directory."""

    def __init__(self, directory):
        self.directory = directory
        self.host, self.port = "127.0.0.1", free_port()
        self.process = None

    def start(self):
        self.process = harness.start_metadata(self.directory / "data", self.port, self.directory / "meta.log")
        listens = lambda: not self.process.alive() or socket.create_connection((self.host, self.port), timeout=1).close() is None
        harness.wait_for("the metadata server", listens, every=0.02)
        if not self.process.alive():
            raise RuntimeError(self.process.tail())

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.alive():
            self.process.p.send_signal(how)
            self.process.p.wait(timeout=30)


class RealServer:
    """A server that is there already."""

    def __init__(self):
        self.host, self.port = hosts.real_server()


@pytest.fixture(scope="session")
def meta(tmp_path_factory):
    if REAL:
        yield RealServer()
        return
    server = Meta(tmp_path_factory.mktemp("meta"))
    server.start()
    yield server
    server.stop()
    assert server.process.p.returncode == 0, "SIGTERM did not stop the metadata server cleanly"


@pytest.fixture(scope="session")
def r():
    return RethinkDB()


@pytest.fixture
def conn(meta, r):
    """A connection whose default database is new."""
    connection = r.connect(meta.host, meta.port)
    name = f"compat_{time.monotonic_ns()}"
    r.db_create(name).run(connection)
    connection.use(name)
    yield connection
    r.db_drop(name).run(connection)
    connection.close()


@pytest.fixture
def rr(meta, r):
    """doublethink's entry, on a new database."""
    name = f"doublethink_{time.monotonic_ns()}"
    connection = r.connect(meta.host, meta.port)
    r.db_create(name).run(connection)
    yield doublethink.Rethinker(f"{meta.host}:{meta.port}", name)
    r.db_drop(name).run(connection)
    connection.close()


@pytest.fixture
def own_meta(tmp_path):
    """A metadata server of one test's own, to be killed."""
    server = Meta(tmp_path)
    server.start()
    yield server
    server.stop(signal.SIGKILL)
