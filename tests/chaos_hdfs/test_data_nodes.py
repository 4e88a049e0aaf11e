"""Data nodes are killed while cold segments are read and while segments are promoted."""

import threading

import pytest

import harness
import support

COLD_WORKER = 1
ROWS = range(0, 1500)
# Reads every page; the cache of blocks is smaller than the segment, so each query goes to the data nodes.
SCAN = "select count(*) c, sum(length(pad)) l, sum(n) s from t"


@pytest.fixture
def cluster(tmp_path, hdfs):
    settings = {"MINIMUM_ASSIGNMENTS": 1, "MAXIMUM_ASSIGNMENTS": 1, "STORE_TIMEOUT": 3, "PROMOTION_BANDWIDTH": 6_000_000}
    cold = {"COLD_MODE": "direct", "COLD_CHECK": 1, "COLD_CACHE_BYTES": 1 << 20, "COLD_READ_TIMEOUT": 10}
    c = harness.Cluster(tmp_path, workers=1, settings=settings, cold=[cold], hdfs=hdfs)
    assert c.put_schema("t", "create table t (n integer primary key, pad text) strict;").status in (201, 204)
    yield c
    for process in [*c.workers, c.sync, c.meta]:
        process.kill()


def test_killed_while_cold_segments_are_read(cluster, hdfs):
    for segment in ["cold-100", "cold-200"]:
        support.fill(cluster, segment, ROWS, size=2000)
        support.promoted(cluster, segment)
    cluster.reconfigure_sync(COLD_STORE_SEGMENT="segment_id.startsWith('cold')")
    readers = [support.Reader(cluster, COLD_WORKER, segment, SCAN) for segment in ["cold-100", "cold-200"] for _ in range(2)]
    assert readers[0].expected == [{"c": len(ROWS), "l": len(ROWS) * 4000, "s": sum(ROWS)}]
    for role in ["datanode-1", "datanode-2"]:
        for reader in readers:
            reader.more(3)
        hdfs.kill(role)
        # The other one has every block.
        for reader in readers:
            reader.more(5)
        hdfs.run(role)
    fetched = support.status(cluster, COLD_WORKER)["engine"]["remote"]["fetches"]
    readers[0].more(2)
    assert support.status(cluster, COLD_WORKER)["engine"]["remote"]["fetches"] > fetched, "from the data nodes, not from memory"
    support.stop(readers)

    # Nobody has the blocks: an error that says so, and no crash.
    for role in ["datanode-1", "datanode-2"]:
        hdfs.kill(role)
    answer = harness.wait_for("an error", lambda: refused(cluster))
    assert "cold-100" in answer.text and "none of the data nodes that have it answers" in answer.text, answer
    assert cluster.workers[COLD_WORKER].alive()
    for role in ["datanode-1", "datanode-2"]:
        hdfs.run(role)
    expected = readers[0].expected
    harness.wait_for("the answer again", lambda: cluster.read("cold-100", SCAN, worker=COLD_WORKER).json == expected)


def refused(cluster):
    answer = cluster.read("cold-100", SCAN, worker=COLD_WORKER)
    return answer.status >= 500 and answer


@pytest.mark.parametrize("killed", [["datanode-1"], ["datanode-1", "datanode-2"]], ids=["one", "all"])
def test_killed_while_segments_are_promoted(cluster, hdfs, killed):
    for segment in ["seg-100", "seg-200"]:
        support.fill(cluster, segment, range(0, 10))
        support.promoted(cluster, segment)
        support.fill(cluster, segment, range(10, 2010), size=2000)
    answers = {}
    threads = [threading.Thread(target=lambda s=s: answers.update({s: cluster.promote(s)})) for s in ["seg-100", "seg-200"]]
    for thread in threads:
        thread.start()
    harness.wait_for("two uploads in the middle", lambda: [
        p for p in support.status(cluster, 0)["promotions"]["in_flight"] if p["stage"] == "upload" and 0 < p["done"] < p["bytes"]][1:])
    for role in killed:
        hdfs.kill(role)
    # Writes go on meanwhile, whatever becomes of the promotions.
    for segment in ["seg-100", "seg-200"]:
        support.fill(cluster, segment, range(5000, 5001))
    for thread in threads:
        thread.join()
    for role in killed:
        hdfs.run(role)
    for segment, answer in answers.items():
        found = harness.wait_for("the canonical copy", lambda s=segment: support.canonical(cluster, s))
        if answer.status == 200:
            assert found[:2010] == list(range(2010)), segment
        else:
            assert "unavailable" in answer.text, answer
            assert found in (list(range(10)), list(range(2010))), segment
    if len(killed) == 2:
        assert [a.status for a in answers.values() if a.status == 200] == [], "there was nobody to write to"
    for segment in ["seg-100", "seg-200"]:
        support.fill(cluster, segment, range(6000, 6001))
        support.promoted(cluster, segment)
        assert support.canonical(cluster, segment) == [*range(2010), 5000, 6000], segment
