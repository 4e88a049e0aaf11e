"""Copies that are interrupted go on from what is on the disk; what nobody wants any more goes."""

import contextlib
import os
import sqlite3

import pytest

import hadoop
import harness

BYTES = 40 << 20
ENOUGH = 16 << 20


@pytest.fixture
def cluster(tmp_path):
    c = harness.Cluster(tmp_path, workers=1, settings={"MINIMUM_ASSIGNMENTS": 1, "MAXIMUM_ASSIGNMENTS": 1, "COPY_BANDWIDTH": 8 << 20})
    yield c
    for process in [*c.workers, c.sync, c.meta]:
        process.kill()


def database(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("create table t (n integer primary key, b blob)")
        db.execute("with recursive i(n) as (select 1 union all select n + 1 from i where n < ?) insert into t select n, randomblob(4000) from i",
                   (BYTES // 4096,))
        db.commit()
    return path.read_bytes()


def metric(worker, name):
    text = harness.http("GET", f"http://127.0.0.1:{worker.read_port}/metrics").text
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in text.splitlines() if line.startswith(f"trough_worker_{name}_total"))


def killed_while_copying(cluster, segment):
    """Kills the worker in the middle of the copy. Returns how many bytes of it lie on the disk."""
    worker = cluster.workers[0]

    def far_enough():
        flights = harness.http("GET", f"http://127.0.0.1:{worker.read_port}/status").json["copies"]["in_flight"]
        return any(f["segment"] == segment and ENOUGH <= f["done"] < BYTES * 3 // 4 for f in flights)

    harness.wait_for(f"a part of {segment}", far_enough)
    worker.kill()
    return (worker.data / f".{segment}.sqlite._COPYING_.part").stat().st_size


def test_a_killed_worker_goes_on_with_its_copy(cluster, tmp_path):
    worker = cluster.workers[0]
    content = database(tmp_path / "big.sqlite")
    cluster.put_canonical("res/resumed.sqlite", content)
    there = killed_while_copying(cluster, "resumed")
    assert ENOUGH <= there < len(content)

    worker.env["TROUGH_COPY_BANDWIDTH"] = "0"
    worker.start()
    harness.wait_for("the copy", lambda: cluster.read("resumed", "select count(*) n from t").json == [{"n": BYTES // 4096}])
    assert (worker.data / "resumed.sqlite").read_bytes() == content
    assert metric(worker, "resumed_bytes") == there
    assert metric(worker, "copied_bytes") == len(content) - there, "nothing was fetched twice"
    assert not list(worker.data.glob(".*_COPYING_*"))


def test_a_part_of_an_older_version_is_not_used(cluster, tmp_path):
    worker = cluster.workers[0]
    cluster.put_canonical("rep/replaced.sqlite", database(tmp_path / "old.sqlite"))
    killed_while_copying(cluster, "replaced")
    new = database(tmp_path / "new.sqlite")
    replace(cluster, "rep/replaced.sqlite", new)
    worker.env["TROUGH_COPY_BANDWIDTH"] = "0"
    worker.start()
    harness.wait_for("the new version", lambda: (worker.data / "replaced.sqlite").read_bytes() == new)
    assert metric(worker, "resumed_bytes") == 0
    harness.wait_for("that nothing is left", lambda: not list(worker.data.glob(".*_COPYING_*")))


def replace(cluster, path, content):
    if harness.STORE == "hdfs":  # the shell's rename does not replace
        hadoop.Hadoop(os.environ["TROUGH_TEST_HADOOP"]).webhdfs("DELETE", str(cluster.store / path), "DELETE")
    cluster.put_canonical(path, content)


def test_an_abandoned_part_is_removed(cluster, tmp_path):
    worker = cluster.workers[0]
    cluster.put_canonical("aba/abandoned.sqlite", database(tmp_path / "big.sqlite"))
    killed_while_copying(cluster, "abandoned")
    answer = harness.http("DELETE", cluster.sync_url("/v1/segment/abandoned"))
    # What is to be done at the worker fails, as it is gone; nothing is assigned to it any more.
    failed = [step["step"] for step in answer.json["steps"] if step.get("error")]
    assert not {"delete assignments", "delete the canonical file"} & set(failed), answer
    worker.start()
    harness.wait_for("that the part goes", lambda: not list(worker.data.glob(".*_COPYING_*")))
    assert not (worker.data / "abandoned.sqlite").exists()
