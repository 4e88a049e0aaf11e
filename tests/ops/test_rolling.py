"""A rolling upgrade between two binaries, node by node and back, under queries and writes. OLD_TROUGH_BIN names the older one."""

import os
import threading

import pytest

import harness
import support
from test_shutdown import Queries

OLD = os.environ.get("OLD_TROUGH_BIN")
pytestmark = pytest.mark.skipif(not OLD, reason="OLD_TROUGH_BIN is not set")


class Writes:
    """Writes and promotes by the sync server, one row after the other, and remembers what was acknowledged."""

    def __init__(self, cluster, segment):
        self.cluster, self.segment = cluster, segment
        self.acknowledged, self.tries, self.stopped = [], 0, threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stopped.is_set():
            self.tries += 1
            try:
                answer = self.cluster.provision(self.segment, "t")
                if answer.status != 200:
                    continue
                answer = harness.http("POST", answer.json["write_url"], f"insert into t values ({self.tries}, '')")
                if answer.status == 200:
                    self.acknowledged.append(self.tries)
            except OSError:
                pass

    def wait_for_more(self, n=10):
        there = len(self.acknowledged)
        harness.wait_for("writes to go on", lambda: len(self.acknowledged) >= there + n, timeout=90)

    def end(self):
        self.stopped.set()
        self.thread.join()


def replace(process, binary):
    assert process.stop(timeout=60) == 0
    process.args[0] = binary
    process.start()


def test_node_by_node_and_back(tmp_path, monkeypatch):
    new = harness.BIN
    monkeypatch.setattr(harness, "BIN", OLD)
    cluster = support.start(tmp_path, workers=3, settings={"SHUTDOWN_GRACE": 20})
    monkeypatch.setattr(harness, "BIN", new)
    writes = queries = None
    try:
        segments = [f"u-{n}" for n in range(9)]
        support.make(cluster, *segments)
        queries = Queries(cluster, segments)
        writes = Writes(cluster, "w")
        for binary in (new, OLD, new):
            # Workers first, one at a time; then the sync servers. Back in the other order.
            order = [*cluster.workers, cluster.sync] if binary == new else [cluster.sync, *reversed(cluster.workers)]
            for process in order:
                replace(process, binary)
                if process is cluster.sync:
                    harness.wait_for("a sync master", lambda: support.view(cluster)["standing"] == "master"
                                     and support.view(cluster)["cluster"]["epoch"] > 0)
                else:
                    support.up(process)
                    name = process.log.with_suffix("").name
                    wanted = {s for s, nodes in support.assigned(cluster).items() if name in nodes}
                    harness.wait_for(f"{name}'s service rows", lambda: wanted <= served(cluster, name))
                queries.wait_for_more(10)
                writes.wait_for_more(5)
            if binary == new:
                view = support.view(cluster)
                assert {w["protocol"] for w in view["cluster"]["workers"]} == {2}, view
                support.admin_json(cluster, "throttle", "move_segments=77")
            support.promote(cluster, "w")
        assert support.view(cluster)["controls"]["throttles"]["move_segments"]["set"] == 77, "kept by the old version"
        code, error = queries.end()
        assert code == 0 and error == "", error
        writes.end()
        support.promote(cluster, "w")
        support.at_rest(cluster, [*segments, "w"])
        rows = set()
        for worker in range(3):
            answer = cluster.read("w", "select n from t", worker=worker)
            rows = {row["n"] for row in answer.json} if answer.status == 200 else rows
        assert set(writes.acknowledged) <= rows
        print(f"{len(queries.answered)} queries, none failed; {len(writes.acknowledged)} of {writes.tries} writes acknowledged, none lost")
    finally:
        for load in (queries, writes):
            if load:
                load.stopped.set()
        support.kill(cluster)


def served(cluster, name):
    with support.metadata(cluster) as conn:
        rows = support.r.table("services").get_all(name, index="node").run(conn)
        return {row["segment"] for row in rows if row.get("role") == "trough-read" and row.get("segment")}
