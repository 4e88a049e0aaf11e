"""Cold workers in both modes, over a directory and over HDFS: segments move between the tiers and are replaced while they are
asked, and no query fails. The mount of HDFS is a FUSE mount by rclone."""

import json
import os
import sqlite3
import subprocess
import threading
import warnings

import pytest

import fuse
import hadoop
import harness

SEGMENTS = ["100001", "100002", "200001"]


def mount_store(cluster, point):
    """A FUSE mount of the cluster's store in HDFS."""
    try:
        # A folder is believed for a second, so that what was put into it is seen soon.
        return fuse.Mount(hadoop.Hadoop(os.environ["TROUGH_TEST_HADOOP"]), str(cluster.store), point, "--dir-cache-time", "1s")
    except fuse.Missing as why:
        if os.environ.get("CI") and not isinstance(why, fuse.NoDevice):
            raise
        warnings.warn(f"SKIPPED: the FUSE mount of the live HDFS is not tested: {why}", stacklevel=1)
        pytest.skip(f"no FUSE mount: {why}")


@pytest.fixture(params=["direct", "mount"])
def cluster(tmp_path, request):
    over_hdfs = harness.STORE == "hdfs"
    folder = tmp_path / ("mounted" if over_hdfs else "store")
    cold = {"COLD_MODE": request.param, "COLD_CHECK": 1, "COLD_STORAGE_PATH": f"{folder}/{{prefix}}/{{segment_id}}.sqlite"}
    settings = {"MINIMUM_ASSIGNMENTS": 1, "MAXIMUM_ASSIGNMENTS": 1, "COLD_STORE_SEGMENT": "false"}
    c = harness.Cluster(tmp_path, workers=1, settings=settings, cold=[cold])
    c.mode = request.param
    mount = None
    try:
        if over_hdfs and request.param == "mount":
            mount = mount_store(c, folder)
        yield c
    finally:
        for process in [*c.workers, c.sync, c.meta]:
            process.kill()
        if mount:
            mount.stop()


class Client:
    """A client that asks all the time, as `trough shell` does: it finds the copies by itself."""

    def __init__(self, cluster, segments, sql):
        url = harness.metadata_url(cluster.meta_port)
        self.log = cluster.dir / "client.log"
        with open(self.log, "wb") as log:
            self.p = subprocess.Popen([harness.BIN, "shell", "-u", url, "-f", "raw", *segments], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=log, text=True)
        self.segments, self.sql = segments, sql
        self.answers, self.failed, self.stopping = [], None, False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while not self.stopping:
                self.p.stdin.write(self.sql + "\n")
                self.p.stdin.flush()
                rows = []
                for _ in self.segments:
                    line = self.p.stdout.readline()
                    if line.startswith("+++++"):
                        line = self.p.stdout.readline()
                    rows += [list(row.values()) for row in json.loads(line)]
                self.answers.append(sorted(rows))
        except (OSError, ValueError) as e:
            self.failed = e

    def alive(self):
        assert self.failed is None, f"a query failed: {self.failed}\n{self.log.read_text()}"
        return True

    def asked_again(self, times=20):
        """Waits until it has asked so many times more."""
        before = len(self.answers)
        harness.wait_for("more queries", lambda: self.alive() and len(self.answers) >= before + times)

    def stop(self):
        self.stopping = True
        self.thread.join(60)
        self.p.stdin.close()
        assert self.p.wait(30) == 0, self.log.read_text()
        self.alive()


def canonical(segment):
    """Where it lies in the store."""
    return f"{segment[:-3]}/{segment}.sqlite"


def fill(cluster):
    assert cluster.put_schema("t", "create table t (n integer primary key, text text) strict;").status in (201, 204)
    for at, segment in enumerate(SEGMENTS):
        answer = cluster.provision(segment, "t")
        assert answer.status == 200, answer
        values = ", ".join(f"({i}, 'row {i} of {segment}')" for i in range(1, 500 + at))
        assert harness.http("POST", answer.json["write_url"], f"insert into t values {values}").status == 200
        assert cluster.promote(segment).status == 200


def serves(cluster, segment, worker):
    return cluster.read(segment, "select 1 one from t limit 1", worker=worker).status == 200


def turn(cluster, expression, cold):
    """Changes what is cold, and waits until each segment is where it belongs and nowhere else."""
    cluster.reconfigure_sync(COLD_STORE_SEGMENT=expression)
    for segment in SEGMENTS:
        here, there = (1, 0) if segment in cold else (0, 1)
        harness.wait_for(f"{segment} on worker {here} alone", lambda: serves(cluster, segment, here) and not serves(cluster, segment, there))
        assert (cluster.workers[0].data / f"{segment}.sqlite").exists() == (segment not in cold)


def put(cluster, segment, text):
    """Puts another file into the store, as any program may: by a rename."""
    path = cluster.dir / "new.sqlite"
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as db:
        db.execute("create table t (n integer primary key, text text) strict")
        db.executemany("insert into t values (?, ?)", ((i, text) for i in range(1, 3000)))
    db.close()
    cluster.put_canonical(canonical(segment), path.read_bytes())


def test_segments_move_between_the_tiers_while_they_are_asked(cluster):
    fill(cluster)
    client = Client(cluster, SEGMENTS, "select count(*) n, sum(n) s, max(text) m from t;")
    client.asked_again()
    turn(cluster, "segment_id.startsWith('1')", ["100001", "100002"])
    client.asked_again()
    status = harness.http("GET", f"http://127.0.0.1:{cluster.workers[1].read_port}/status").json
    assert (status["tier"], status["cold_mode"], status["segments"]) == ("cold", cluster.mode, 2)
    assert status["engine"]["remote"]["fetches"] > 0 if cluster.mode == "direct" else status["engine"]["remote"]["fetches"] == 0
    refused = cluster.provision("100001")
    assert refused.status == 400 and "read-only cold storage range" in refused.text, refused
    assert cluster.write("100001", "delete from t", worker=1).status >= 400, "a cold worker writes nothing"

    body = cluster.query(["100001", "100002"], "select count(*) n, sum(n) s from t where n > 10", worker=1,
                         reduce="select sum(n) n, sum(s) s from partial").text
    assert f'{{"n":{489 + 490},"s":{sum(range(11, 500)) + sum(range(11, 501))}}}' in body, body

    turn(cluster, "false", [])
    client.asked_again()
    client.stop()
    assert all(answer == client.answers[0] and len(answer) == 3 for answer in client.answers), "the same answer, every time"


def test_a_replaced_file_is_picked_up_without_a_failed_query(cluster):
    fill(cluster)
    turn(cluster, "segment_id.startsWith('1')", ["100001", "100002"])
    client = Client(cluster, ["100001"], "select min(text) a, max(text) b, count(*) n from t;")
    client.asked_again()
    for text in ["second", "third"]:
        put(cluster, "100001", text)
        harness.wait_for(text, lambda: client.alive() and client.answers[-1] == [[text, text, 2999]])
    client.asked_again()
    client.stop()
    seen = [answer[0] for answer in client.answers]
    distinct = [row for at, row in enumerate(seen) if at == 0 or row != seen[at - 1]]
    assert [row[2] for row in distinct] == [499, 2999, 2999], f"each version once, in order, whole: {distinct}"


def test_what_is_no_segment_is_named_and_harms_nobody(cluster):
    fill(cluster)
    turn(cluster, "segment_id.startsWith('1')", ["100001", "100002"])
    whole = cluster.canonical(canonical("100001"))
    wal = whole[:18] + b"\2\2" + whole[20:]
    bad = {"100003": (b"\0", "too short"), "100004": (whole[:-4096], "truncated"), "100005": (wal, "WAL"), "100006": (os.urandom(9000), "not a database")}
    for segment, (data, _) in bad.items():
        cluster.put_canonical(canonical(segment), data)
    with sqlite3.connect(cluster.dir / "wide.sqlite") as db:
        db.executescript("pragma page_size = 65536; vacuum; create table t (n integer primary key, text text)")
        db.executemany("insert into t values (?, ?)", ((i, f"row {i}" * 20) for i in range(1, 5000)))
    db.close()
    cluster.put_canonical(canonical("100007"), (cluster.dir / "wide.sqlite").read_bytes())
    for segment, (_, why) in bad.items():
        def named():
            answer = cluster.read(segment, "select count(*) n from t", worker=1)
            return answer.status >= 500 and f"segment '{segment}'" in answer.text and why in answer.text
        harness.wait_for(f"{segment} to be refused: {why}", named)
    harness.wait_for("pages of 64 KiB", lambda: cluster.read("100007", "select sum(n) s from t", worker=1).json == [{"s": sum(range(5000))}])
    assert cluster.read("100001", "select count(*) n from t", worker=1).json == [{"n": 499}]
    mixed = cluster.query(["100001", "100004"], "select count(*) n from t", worker=1).text
    assert "truncated" in mixed and "499" in mixed, mixed
