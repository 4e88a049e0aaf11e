"""The metadata server of the compatibility tests (`trough meta`, or the real server that RETHINKDB_URL names), connections to it
through RethinkDB's own driver, and a cluster of ours over it."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import doublethink
import pytest
from rethinkdb import RethinkDB

# The workers of the cluster that most tests share.
RUST = ("127.0.0.11", "127.0.0.12")
REAL = os.environ.get("RETHINKDB_URL")
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lib"))
BIN = os.environ.get("TROUGH_BIN", str(ROOT / "target/release/trough"))


import hosts  # noqa: E402


def pytest_report_header():
    return f"metadata: the RethinkDB server {REAL}" if REAL else "metadata: trough meta (RETHINKDB_URL names a real server instead)"


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
        log = open(self.directory / "meta.log", "ab")
        self.process = subprocess.Popen(
            [BIN, "meta", "--dir", str(self.directory / "data"), "--listen", f"127.0.0.1:{self.port}"],
            stdout=log,
            stderr=log,
        )
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                threading.Event().wait(0.02)
        raise RuntimeError((self.directory / "meta.log").read_text())

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(timeout=30)


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
    assert server.process.returncode == 0, "SIGTERM did not stop the metadata server cleanly"


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
    """A `trough meta` of one test's own, to be killed."""
    server = Meta(tmp_path)
    server.start()
    yield server
    server.stop(signal.SIGKILL)
