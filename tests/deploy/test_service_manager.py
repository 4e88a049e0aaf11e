"""What a service manager hears of the daemons (sd_notify), and what `trough health` says of them."""

import contextlib
import json
import os
import signal
import socket
import subprocess

import pytest
from harness import BIN, Process, free_ports, http, wait_for

WATCHDOG = 3.0


class Manager:
    """The datagram socket of one unit."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.heard = []

    def listen(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard += self.socket.recv(4096).decode().splitlines()
        return self.heard

    def environment(self):
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(int(WATCHDOG * 1e6))}


class Units:
    """Metadata server, sync server and worker, each under a manager; started one by one."""

    def __init__(self, directory):
        self.dir = directory
        (directory / "store").mkdir()
        self.meta_port, self.sync_port, self.read, write, manage = free_ports(5)
        self.settings = directory / "settings.yml"
        settings = {"RETHINKDB_HOSTS": [f"127.0.0.1:{self.meta_port}"], "STORE": f"file://{directory}/store", "HOSTNAME": "w1",
                    "LOCAL_DATA": str(directory / "w1"), "SYNC_SERVER_PORT": self.sync_port, "READ_PORT": self.read, "WRITE_PORT": write,
                    "SYNC_LOCAL_PORT": manage, "ELECTION_CYCLE": 1, "SYNC_LOOP_TIMING": 1}
        self.settings.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
        self.started = []

    def start(self, role):
        manager = Manager(self.dir / f"{role}.notify")
        arguments = ["--dir", str(self.dir / "meta"), "--listen", f"127.0.0.1:{self.meta_port}"] if role == "meta" else ["--config", str(self.settings)]
        process = Process([BIN, role, *arguments], self.dir / f"{role}.log", manager.environment())
        self.started.append(process)
        return process, manager

    def health(self, *arguments):
        done = subprocess.run([BIN, "health", *arguments, "--config", str(self.settings)], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout.strip()

    def port(self, role):
        return {"sync": self.sync_port, "worker": self.read}[role]


@pytest.fixture
def units(tmp_path):
    units = Units(tmp_path)
    yield units
    for process in units.started:
        if process.alive():
            process.p.send_signal(signal.SIGCONT)
            process.kill()


def ready(manager):
    return "READY=1" in manager.listen()


def test_each_daemon_is_ready_when_it_serves_and_tells_that_it_stops(units):
    meta, meta_manager = units.start("meta")
    wait_for("the metadata server to be ready", lambda: ready(meta_manager))
    assert units.health("meta") == (0, "ready")
    for role in ("sync", "worker"):
        code, said = units.health(role)
        assert code == 1 and said.startswith("not ready: "), said
        process, manager = units.start(role)
        wait_for(f"{role} to be ready", lambda: ready(manager))
        assert http("GET", f"http://127.0.0.1:{units.port(role)}/readyz").status == 200, "it says so no sooner than /readyz does"
        assert units.health(role) == (0, "ready")
        assert "STATUS=serving" in manager.heard
        seen = len(manager.heard)
        wait_for("signs of life", lambda: manager.listen()[seen:].count("WATCHDOG=1") >= 2)
        assert process.stop() == 0
        assert manager.listen()[-1] != "READY=1" and "STOPPING=1" in manager.heard
        assert manager.heard.index("READY=1") < manager.heard.index("STOPPING=1")
    assert meta.stop() == 0
    assert "STOPPING=1" in meta_manager.listen()


def test_without_the_metadata_a_worker_waits_and_says_for_what(units):
    worker, manager = units.start("worker")
    wait_for("what it waits for", lambda: "STATUS=RethinkDB does not answer yet" in manager.listen())
    wait_for("signs of life meanwhile", lambda: manager.listen().count("WATCHDOG=1") >= 2)
    assert not ready(manager)
    assert units.health() == (1, "not ready: RethinkDB does not answer yet")
    _, meta_manager = units.start("meta")
    wait_for("the metadata server", lambda: ready(meta_manager))
    wait_for("the worker to be ready", lambda: ready(manager))
    assert units.health() == (0, "ready")
    assert worker.stop() == 0


def test_a_daemon_that_stands_still_gives_no_sign_of_life(units):
    _, meta_manager = units.start("meta")
    wait_for("the metadata server", lambda: ready(meta_manager))
    worker, manager = units.start("worker")
    wait_for("the worker", lambda: ready(manager))
    worker.p.send_signal(signal.SIGSTOP)
    wait_for("it to stand still", lambda: open(f"/proc/{worker.p.pid}/stat").read().rpartition(")")[2].split()[0] == "T")
    manager.listen()
    seen = len(manager.heard)
    # The other one goes on: once it has given signs for longer than the watchdog waits, the worker has been silent as long.
    meta_seen = len(meta_manager.listen())
    wait_for("time to pass", lambda: meta_manager.listen()[meta_seen:].count("WATCHDOG=1") > 4, timeout=60)
    assert manager.listen()[seen:] == []
    worker.p.send_signal(signal.SIGCONT)
    wait_for("signs of life", lambda: "WATCHDOG=1" in manager.listen()[seen:])


def test_no_manager_no_messages(units):
    environment = {key: value for key, value in os.environ.items() if key not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
    meta = Process([BIN, "meta", "--dir", str(units.dir / "meta"), "--listen", f"127.0.0.1:{units.meta_port}"], units.dir / "meta.log", environment)
    units.started.append(meta)
    wait_for("the metadata server", lambda: units.health("meta")[0] == 0)
    assert "service manager" not in meta.tail()
