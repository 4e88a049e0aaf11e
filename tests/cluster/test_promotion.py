"""Promotion: whatever happens on the way, the canonical copy is the old file or the new one, whole, and the next promotion succeeds."""

import contextlib
import sqlite3
import threading

import pytest

import harness

# In the order in which a promotion goes through them; CRASH_AT ends the worker's process there as SIGKILL would.
STEPS = ["SnapshotTaken", "Begun", "DirectoryMade", "TemporaryMade", "HalfWritten", "Written", "Synced", "Verified", "Checked",
         "Renamed", "Durable", "Recorded"]


@pytest.fixture
def cluster(tmp_path, request):
    c = harness.Cluster(tmp_path, workers=1, settings={"MINIMUM_ASSIGNMENTS": 1, "MAXIMUM_ASSIGNMENTS": 1, **getattr(request, "param", {})})
    assert c.put_schema("t", "create table t (n integer primary key, pad text) strict;").status in (201, 204)
    yield c
    for process in [*c.workers, c.sync, c.meta]:
        process.kill()


def up(cluster):
    worker = cluster.workers[0]
    harness.wait_for("the worker", lambda: harness.http("GET", f"http://127.0.0.1:{worker.read_port}/readyz").status == 200)


def write(cluster, segment, rows, size=10):
    def attempt():
        answer = cluster.provision(segment, "t")
        assert answer.status == 200, answer
        url = answer.json["write_url"]
        numbers = f"with recursive s(v) as (select {rows.start} union all select v + 1 from s where v < {rows.stop - 1})"
        answer = harness.http("POST", url, f"insert into t {numbers} select v, hex(randomblob({size})) from s")
        assert answer.status == 200, answer
        return True

    harness.wait_for("a write", attempt)


def prefix(segment):
    return segment[:-3] or "."


def canonical(cluster, segment):
    """The rows of the canonical copy, which must be whole."""
    path = cluster.dir / "canonical.sqlite"
    path.write_bytes(cluster.canonical(f"{prefix(segment)}/{segment}.sqlite"))
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        return [n for (n,) in db.execute("select n from t order by n")]


def status(cluster):
    return harness.http("GET", f"http://127.0.0.1:{cluster.workers[0].read_port}/status").json


def test_killed_at_every_step(cluster):
    worker = cluster.workers[0]
    for step in STEPS:
        segment = f"at-{step}"
        write(cluster, segment, range(0, 10))
        assert cluster.promote(segment).status == 200
        worker.stop()
        worker.env["TROUGH_CRASH_AT"] = step
        worker.start()
        up(cluster)
        write(cluster, segment, range(10, 15))
        answer = cluster.promote(segment)
        assert answer.status >= 500 and answer.text.strip(), (step, answer)
        harness.wait_for(f"the end of the process at {step}", lambda: not worker.alive())
        del worker.env["TROUGH_CRASH_AT"]
        expected = range(15) if STEPS.index(step) >= STEPS.index("Renamed") else range(10)
        assert canonical(cluster, segment) == list(expected), step
        worker.start()
        up(cluster)
        write(cluster, segment, range(15, 20))
        harness.wait_for("the next promotion", lambda s=segment: cluster.promote(s).status == 200)
        assert canonical(cluster, segment) == list(range(20)), step
        assert cluster.read(segment, "select count(*) c from t").json == [{"c": 20}]


@pytest.mark.parametrize("cluster", [{"UPLOAD_GRACE": 2}], indirect=True)
def test_unfinished_uploads_are_collected(cluster):
    worker = cluster.workers[0]
    worker.stop()
    worker.env["TROUGH_CRASH_AT"] = "HalfWritten"
    worker.start()
    up(cluster)
    write(cluster, "half", range(0, 10))
    cluster.promote("half")
    harness.wait_for("the end of the process", lambda: not worker.alive())
    uploads = lambda: [name for name in cluster.canonical_names(prefix("half")) if "_COPYING_" in name]
    assert uploads()
    harness.wait_for("the collection", lambda: not uploads())


@pytest.mark.parametrize("cluster", [{"PROMOTION_BANDWIDTH": 3_000_000, "PROMOTION_POOL_SIZE": 2}], indirect=True)
def test_promotions_are_throttled_and_seen(cluster):
    """2 × 6 MB at 3 MB/s: there is time to see them; the third waits for its turn."""
    for segment in "abc":
        write(cluster, segment, range(0, 600), size=5000)
    answers = {}
    threads = [threading.Thread(target=lambda s=s: answers.update({s: cluster.promote(s)})) for s in "abc"]
    for thread in threads:
        thread.start()
    seen = harness.wait_for("two uploads and one that waits", lambda: [
        p for p in [status(cluster)["promotions"]]
        if sorted(f["stage"] for f in p["in_flight"]) == ["upload", "upload", "waiting"] and any(0 < f["done"] < f["bytes"] for f in p["in_flight"])])
    assert seen[0]["count"] == 3
    # Writes go on meanwhile, and each promotion is of one state.
    write(cluster, "a", range(600, 610))
    for thread in threads:
        thread.join()
    assert [answers[s].status for s in "abc"] == [200] * 3, answers
    assert canonical(cluster, "b") == list(range(600))
    assert canonical(cluster, "a") in (list(range(600)), list(range(610)))
    assert status(cluster)["promotions"] == {"count": 0, "in_flight": []}


def test_promotions_among_writes(cluster):
    """Writers go on while a segment is promoted again and again: each canonical copy is a prefix, and the last one has everything."""
    write(cluster, "busy", range(0, 1))
    stop, failures, acknowledged = threading.Event(), [], []

    def writer():
        n = 1
        while not stop.is_set():
            answer = cluster.provision("busy", "t")
            url = answer.json.get("write_url")
            answer = harness.http("POST", url, f"insert into t values ({n}, 'x')") if url else answer
            if answer.status == 200:
                acknowledged.append(n)
                n += 1
            elif "Server Error" not in answer.text:
                failures.append(answer)

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        for _ in range(20):
            before = len(acknowledged)
            assert cluster.promote("busy").status == 200
            rows = canonical(cluster, "busy")
            assert rows == list(range(len(rows))) and len(rows) > before
    finally:
        stop.set()
        thread.join()
    assert not failures and len(acknowledged) > 20
    write(cluster, "busy", range(10_000, 10_001))
    harness.wait_for("the last promotion", lambda: cluster.promote("busy").status == 200)
    assert canonical(cluster, "busy") == [0, *acknowledged, 10_000]


def test_a_corrupt_copy_is_quarantined_with_the_reason(cluster):
    write(cluster, "rot", range(0, 1000))
    assert cluster.promote("rot").status == 200
    worker = cluster.workers[0]
    harness.wait_for("the release of the lock", lambda: harness.http("GET", cluster.sync_url("/v1/segment/rot")).json["lock"] is None)
    worker.stop()
    path = worker.data / "rot.sqlite"
    stamp = path.stat()
    data = bytearray(path.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    path.write_bytes(data)
    import os
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    worker.start()
    up(cluster)

    def healed():
        answer = cluster.read("rot", "select count(pad) c from t")
        assert answer.status != 200 or answer.json == [{"c": 1000}], answer
        return answer.status == 200 and status(cluster)["quarantine"]

    kept = harness.wait_for("the quarantine and a good copy", healed)
    assert kept[0]["segment"] == "rot" and kept[0]["reason"] and (worker.data / "quarantine" / kept[0]["file"]).read_bytes() == bytes(data)
