"""What the tests share: writers and readers that go on all the time, and what a cluster holds."""

import concurrent.futures
import contextlib
import itertools
import re
import sqlite3
import threading

import harness

# Segments that are only read, by hot workers and by cold ones, and those that are written all the time.
HOT = ["hot-100", "hot-200", "hot-300", "alone-1"]
COLD = ["cold-100", "cold-200"]
WRITTEN = ["busy-100", "busy-200", "busy-300"]


class Repeated(threading.Thread):
    """Does something again and again until it is stopped. The first failure ends it, and whoever asks for more is told."""

    def __init__(self, attempt):
        super().__init__(daemon=True)
        self.attempt, self.times, self.failure, self.stopping = attempt, 0, None, threading.Event()
        self.start()

    def run(self):
        try:
            while not self.stopping.is_set():
                self.attempt()
                self.times += 1
        except BaseException as failure:
            self.failure = failure

    def more(self, times):
        """Waits until it has done so many more, each without a failure."""
        before = self.times
        harness.wait_for("more of them", lambda: self.well() and self.times >= before + times)

    def well(self):
        if self.failure:
            raise RuntimeError(f"after {self.times} times: {self.failure!r}") from self.failure
        return True



def stop(repeated):
    """Stops them all, once none of them has failed."""
    for one in repeated:
        one.stopping.set()
    for one in repeated:
        one.join(60)
        assert not one.is_alive() and one.well()


class Writer(Repeated):
    """Inserts numbers into a segment, one at a time; each must be acknowledged."""

    def __init__(self, cluster, segment, first):
        self.cluster, self.segment, self.numbers, self.acknowledged = cluster, segment, itertools.count(first), []
        answer = cluster.provision(segment, "t")
        assert answer.status == 200, answer
        self.url = answer.json["write_url"]
        super().__init__(self.insert)

    def insert(self):
        n = next(self.numbers)
        answer = harness.http("POST", self.url, f"insert into t values ({n}, 'x')")
        if answer.status == 409 or "provision" in answer.text:
            # A promotion gave the lock back: whoever writes provisions again.
            answer = self.cluster.provision(self.segment, "t")
            assert answer.status == 200, answer
            self.url = answer.json["write_url"]
            answer = harness.http("POST", self.url, f"insert into t values ({n}, 'x')")
        assert answer.status == 200, answer
        self.acknowledged.append(n)


class Reader(Repeated):
    """Asks one worker for the same thing; each answer must be the same."""

    def __init__(self, cluster, worker, segment, sql):
        self.cluster, self.worker, self.segment, self.sql = cluster, worker, segment, sql
        self.expected = harness.wait_for(f"{segment} on worker {worker}", self.ask)
        super().__init__(self.check)

    def ask(self):
        answer = self.cluster.read(self.segment, self.sql, worker=self.worker)
        assert answer.status == 200, answer
        return answer.json

    def check(self):
        found = self.ask()
        assert found == self.expected, (self.segment, found)


def fill(cluster, segment, rows, size=10):
    """Writes rows, and waits until they are acknowledged."""
    def attempt():
        answer = cluster.provision(segment, "t")
        assert answer.status == 200, answer
        numbers = f"with recursive s(v) as (select {rows.start} union all select v + 1 from s where v < {rows.stop - 1})"
        answer = harness.http("POST", answer.json["write_url"], f"insert into t {numbers} select v, hex(randomblob({size})) from s")
        assert answer.status == 200, answer
        return True

    harness.wait_for("a write", attempt)


def promoted(cluster, segment):
    harness.wait_for(f"the promotion of {segment}", lambda: cluster.promote(segment).status == 200)


def canonical(cluster, segment):
    """The numbers in the canonical copy, which must be whole."""
    path = cluster.dir / "canonical.sqlite"
    path.write_bytes(cluster.canonical(f"{segment[:-3]}/{segment}.sqlite"))
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        return [n for (n,) in db.execute("select n from t order by n")]


def status(cluster, worker):
    return harness.http("GET", f"http://127.0.0.1:{cluster.workers[worker].read_port}/status").json


def rounds(cluster):
    """How many times the sync master has looked at everything, whether it succeeded or not."""
    text = harness.http("GET", cluster.sync_url("/metrics")).text
    found = re.search(r"^trough_sync_reconcile_seconds_count(?:\{[^}]*\})? (\S+)", text, re.M)
    return float(found[1]) if found else 0


class Renewals:
    """Counts each worker's renewals of its lease."""

    def __init__(self, cluster):
        self.cluster, self.ages, self.counts = cluster, {}, dict.fromkeys(range(len(cluster.workers)), 0)

    def all_at_least(self, times):
        for worker in self.counts:
            lease = status(self.cluster, worker)["lease"]
            assert lease["remaining"] > 0, f"worker {worker} let its lease end: {lease}"
            if lease["age"] < self.ages.get(worker, 0):
                self.counts[worker] += 1
            self.ages[worker] = lease["age"]
        return min(self.counts.values()) >= times


def placed(cluster, segments):
    """Where the segments are assigned, who serves and locks them, and which files lie on which worker."""
    def of(segment):
        known = harness.http("GET", cluster.sync_url(f"/v1/segment/{segment}")).json
        return segment, {
            "assigned": sorted(a["node"] for a in known["assignments"]),
            "served": sorted((s["node"], s["role"]) for s in known["services"] if s["alive"]),
            "locked": known["lock"] and known["lock"]["node"],
            "files": [w.data.name for w in cluster.workers if (w.data / f"{segment}.sqlite").exists()],
        }

    with concurrent.futures.ThreadPoolExecutor(len(segments)) as pool:
        return dict(pool.map(of, segments))


def stored(cluster):
    """Every name in the canonical store, with its length."""
    folders = cluster.canonical_names("")
    return {(folder, f["pathSuffix"], f["length"]) for folder in folders
            for f in cluster.hdfs.webhdfs("GET", str(cluster.store / folder), "LISTSTATUS")["FileStatuses"]["FileStatus"]}


def prepare(cluster):
    """Segments of every kind, each where it belongs."""
    assert cluster.put_schema("t", "create table t (n integer primary key, pad text) strict;").status in (201, 204)
    for segment in HOT + COLD + WRITTEN:
        fill(cluster, segment, range(0, 500), size=400)
        promoted(cluster, segment)
    cluster.reconfigure_sync(COLD_STORE_SEGMENT="segment_id.startsWith('cold')")

    def settled():
        where = placed(cluster, HOT + COLD + WRITTEN)
        hot = all(w["files"] == ["worker-1", "worker-2"] and len(w["served"]) == 2 and not w["locked"] for s, w in where.items() if s not in COLD)
        return hot and all(w["files"] == [] and w["served"] == [("cold-1", "trough-read")] for s, w in where.items() if s in COLD)
    harness.wait_for("everything in its place", settled)
