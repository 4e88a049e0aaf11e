"""/livez, /readyz and /status on every listener of every daemon; who is ready only when."""

import json
import subprocess

import harness
import pytest


def listeners(stack):
    base = stack.base
    yield from (("meta", base + 2), ("sync", base + 1))
    for i, part in enumerate(["worker-1", "worker-2", "cold-1"]):
        for offset in range(3):
            yield part, base + 10 * (i + 1) + offset


def test_every_listener_tells_its_health(stack):
    for part, port in listeners(stack):
        url = f"http://127.0.0.1:{port}"
        assert harness.http("GET", url + "/livez").text == "alive\n", part
        assert harness.http("GET", url + "/readyz").text == "ready\n", part
        assert harness.http("GET", url + "/metrics").status == 200, part
        status = harness.http("GET", url + "/status").json
        assert status["node"] and status["version"], part


def settings(directory, base, **more):
    """A worker's or sync server's settings file."""
    directory.mkdir(exist_ok=True)
    (directory / "store").mkdir(exist_ok=True)
    values = {
        "HOSTNAME": "n", "LISTEN": "127.0.0.1", "RETHINKDB_HOSTS": [f"127.0.0.1:{base}"], "STORE": str(directory / "store"),
        "LOCAL_DATA": str(directory / "data"), "SYNC_SERVER_PORT": base + 1, "READ_PORT": base + 10, "WRITE_PORT": base + 11,
        "SYNC_LOCAL_PORT": base + 12, "SYNC_LOOP_TIMING": 1, "ELECTION_CYCLE": 1, "LEASE": 5, "HOST_CHECK_WAIT_PERIOD": 1, **more,
    }
    path = directory / "settings.yml"
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()))
    return str(path)


@pytest.fixture
def alone(tmp_path):
    """Starts parts one by one."""
    base, started = harness.free_base_port(), []

    def start(*arguments):
        part = harness.Process([harness.BIN, *arguments], tmp_path / f"{arguments[0]}.log")
        started.append(part)
        return part

    yield base, tmp_path, start
    for part in reversed(started):
        part.kill()


def meta(start, base, directory):
    start("meta", "--dir", str(directory / "meta"), "--listen", f"127.0.0.1:{base}", "--http", f"127.0.0.1:{base + 2}")
    harness.wait_for("the metadata", lambda: harness.http("GET", f"http://127.0.0.1:{base + 2}/readyz").status == 200)


def readyz(port):
    answer = harness.http("GET", f"http://127.0.0.1:{port}/readyz")
    return answer.status, answer.text


def test_a_sync_server_is_ready_when_it_knows_the_master_and_has_listed(alone):
    base, directory, start = alone
    file = settings(directory, base)
    (directory / "store").rmdir()
    start("sync", "--config", file)
    harness.wait_for("no master", lambda: readyz(base + 1)[0] == 503 and "no sync master is known" in readyz(base + 1)[1])
    meta(start, base, directory)
    # It is master now, and its store is not mounted.
    harness.wait_for("no listing", lambda: readyz(base + 1) == (503, "not ready: this sync master has not listed the canonical store yet\n"))
    (directory / "store").mkdir()
    harness.wait_for("ready", lambda: readyz(base + 1)[0] == 200)


def test_a_worker_is_ready_when_it_has_told_what_it_serves(alone):
    base, directory, start = alone
    file = settings(directory, base)
    start("worker", "--config", file)
    harness.wait_for("no metadata", lambda: readyz(base + 10) == (503, "not ready: RethinkDB does not answer yet\n"))
    assert harness.http("GET", f"http://127.0.0.1:{base + 10}/livez").status == 200
    meta(start, base, directory)
    harness.wait_for("ready", lambda: {readyz(base + 10 + i)[0] for i in range(3)} == {200})


def test_a_worker_that_starts_again_is_ready_only_with_its_rows(alone):
    """At the first moment of readiness, what is assigned and lies on the disk is served, and told to clients."""
    base, directory, start = alone
    file = settings(directory, base, MINIMUM_ASSIGNMENTS=1, MAXIMUM_ASSIGNMENTS=1)
    meta(start, base, directory)
    start("sync", "--config", file)
    worker = start("worker", "--config", file)
    harness.wait_for("ready", lambda: readyz(base + 10)[0] == 200 and readyz(base + 1)[0] == 200)
    sync = f"http://127.0.0.1:{base + 1}"
    assert harness.http("PUT", sync + "/schema/s/sql", "CREATE TABLE t (k);").status in (200, 201, 204)
    ids = [f"s{i}" for i in range(20)]
    made = harness.http("POST", sync + "/v1/provision", {"segments": ids, "schema": "s"}).json
    assert all(result.get("write_url") for result in made["results"]), made
    assert harness.http("POST", sync + "/v1/promote", {"segments": ids}).status == 200
    status = f"http://127.0.0.1:{base + 10}/status"
    harness.wait_for("assignments", lambda: harness.http("GET", status).json["assigned"] == len(ids))
    worker.kill()
    worker.start()
    harness.wait_for("ready again", lambda: readyz(base + 10)[0] == 200, every=0.005)
    now = harness.http("GET", status).json
    assert now["segments"] == len(ids) and now["service_rows_waiting"] == 0
    shell = [harness.BIN, "shell", "-u", f"rethinkdb://127.0.0.1:{base}/trough_configuration", "-c", "SELECT count(*) FROM t", "s0"]
    assert subprocess.run(shell, capture_output=True, timeout=60).returncode == 0
    for segment in ids:
        answer = harness.http("POST", f"http://127.0.0.1:{base + 10}/?segment={segment}", "SELECT count(*) AS n FROM t")
        assert answer.json == [{"n": 0}], segment
