"""SIGTERM under load: requests go elsewhere or finish, nothing acknowledged is lost, and mastership changes hands at once."""

import json
import re
import subprocess
import threading
import time

import pytest

import harness
import support


@pytest.fixture
def cluster(tmp_path):
    c = support.start(tmp_path, workers=3, settings={"ELECTION_CYCLE": 10, "SHUTDOWN_GRACE": 20})
    yield c
    support.kill(c)


class Queries:
    """One shell that asks the same segments again and again, and says so if a single statement fails."""

    def __init__(self, cluster, segments):
        self.p = subprocess.Popen([harness.BIN, "shell", "-u", support.url(cluster), "-f", "csv", *segments],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.asked, self.stopped = 0, threading.Event()
        self.answered = []
        self.threads = [threading.Thread(target=self.ask), threading.Thread(target=self.listen)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        # As many as the pipe takes; the shell runs one after the other.
        try:
            while not self.stopped.is_set():
                self.p.stdin.write(f"merge select count(*) n, {self.asked} ask from t;\n")
                self.p.stdin.flush()
                self.asked += 1
                while self.asked - len(self.answered) > 20 and not self.stopped.is_set():
                    self.stopped.wait(0.002)
            self.p.stdin.close()
        except BrokenPipeError:
            pass

    def listen(self):
        for line in self.p.stdout:
            if re.fullmatch(r"\d+,\d+", line.strip()):
                self.answered.append(tuple(map(int, line.strip().split(","))))

    def wait_for_more(self, n):
        there = len(self.answered)
        harness.wait_for("queries to go on", lambda: len(self.answered) >= there + n or self.p.poll() is not None)

    def end(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(60)
        error = self.p.stderr.read()
        return self.p.wait(60), error


def test_a_worker_that_stops_costs_no_query(cluster):
    segments = [f"q-{n}" for n in range(9)]
    support.make(cluster, *segments)
    copied = {w: copies(w) for w in cluster.workers}
    load = Queries(cluster, segments)
    load.wait_for_more(20)
    for worker in cluster.workers:
        began = time.monotonic()
        assert worker.stop() == 0
        load.wait_for_more(20)
        worker.start()
        support.up(worker)
        print(f"a worker was away for {time.monotonic() - began:.2f} s")
        harness.wait_for("its service rows", lambda: served(cluster, worker))
        load.wait_for_more(20)
    code, error = load.end()
    assert code == 0 and error == "", error
    assert len(load.answered) == load.asked and {n for n, _ in load.answered} == {len(segments)}
    support.at_rest(cluster, segments)
    # Nothing was copied for it: neither by those that were restarted nor by the others. A restart begins at 0.
    assert [copies(w) for w in cluster.workers] == [0] * 3, copied


def copies(worker):
    text = harness.http("GET", f"http://127.0.0.1:{worker.read_port}/metrics").text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("trough_worker_copies_total"))


def served(cluster, worker):
    name = support.status(worker)["node"]
    wanted = {s for s, nodes in support.assigned(cluster).items() if name in nodes}
    with support.metadata(cluster) as conn:
        rows = support.r.table("services").get_all(name, index="node").run(conn)
        return wanted <= {row.get("segment") for row in rows if row["role"] == "trough-read"}


def test_acknowledged_writes_outlive_a_stop_and_the_lock_is_kept(cluster):
    support.write(cluster, "w", 0)
    url = cluster.provision("w", "t").json["write_url"]
    worker = next(w for w in cluster.workers if f":{w.write_port}/" in url)
    acknowledged, stopped = [0], threading.Event()

    def writer():
        n = 1
        while not stopped.is_set():
            try:
                if harness.http("POST", url, f"insert into t values ({n}, '')").status == 200:
                    acknowledged.append(n)
            except OSError:
                pass
            n += 1

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        for _ in range(2):
            there = len(acknowledged)
            harness.wait_for("writes", lambda: len(acknowledged) > there + 20)
            assert worker.stop() == 0
            assert [row["node"] for row in support.rows(cluster, "lock") if row["segment"] == "w"] == [name_of(worker)]
            worker.start()
            support.up(worker)
    finally:
        stopped.set()
        thread.join()
    read = harness.http("POST", f"http://127.0.0.1:{worker.read_port}/?segment=w", "select n from t").json
    assert set(acknowledged) <= {row["n"] for row in read}
    support.promote(cluster, "w")
    support.at_rest(cluster, ["w"])


def name_of(worker):
    return worker.log.with_suffix("").name


def two_on_a_worker(cluster, prefix):
    """Two written segments under locks of one worker: of four, three workers have two on one of them."""
    held = {}
    for n in range(4):
        segment = f"{prefix}-{n}"
        support.write(cluster, segment, *range(120))
        url = cluster.provision(segment, "t").json["write_url"]
        worker = next(w for w in cluster.workers if f":{w.write_port}/" in url)
        held.setdefault(worker, []).append(segment)
    worker = max(held, key=lambda w: len(held[w]))
    return worker, held[worker][:2]


def promoting(cluster, worker, bandwidth, segments):
    """Begins to promote two segments of the worker; the second waits for the bandwidth that the first took. Gives its thread and answers."""
    support.admin_json(cluster, "throttle", f"promotion_bandwidth={bandwidth}")
    harness.wait_for("the limit", lambda: support.status(worker)["limits"]["promotion_bandwidth"] == bandwidth)
    support.promote(cluster, segments[0])
    answers = []
    thread = threading.Thread(target=lambda: answers.append(cluster.promote(segments[1])))
    thread.start()
    harness.wait_for("the upload", lambda: any(p["stage"] == "upload" for p in support.status(worker)["promotions"]["in_flight"]))
    return thread, answers


def test_a_promotion_in_flight_finishes_or_is_told(cluster):
    worker, segments = two_on_a_worker(cluster, "slow")
    thread, answers = promoting(cluster, worker, 20_000, segments)
    assert worker.stop(timeout=60) == 0
    thread.join()
    # Within SHUTDOWN_GRACE it finished.
    assert answers[0].status == 200, answers
    worker.start()
    support.up(worker)
    support.at_rest(cluster, segments)

    # One that takes longer is told so, the canonical copy stays as it was, and it can be promoted again.
    worker, segments = two_on_a_worker(cluster, "slower")
    worker.stop()
    worker.env["TROUGH_SHUTDOWN_GRACE"] = "0.5"
    worker.start()
    support.up(worker)
    thread, answers = promoting(cluster, worker, 2_000, segments)
    assert worker.stop(timeout=30) == 0
    thread.join()
    assert answers[0].status >= 500, answers
    late = segments[1]
    assert not list(cluster.store.rglob(f"{late}.sqlite"))
    assert [row["under_promotion"] for row in support.rows(cluster, "lock") if row["segment"] == late] == [False]
    worker.start()
    support.up(worker)
    support.admin_json(cluster, "throttle", "--reset")
    harness.wait_for("the promotion", lambda: cluster.promote(late).status == 200)
    support.at_rest(cluster, segments)


def test_mastership_changes_hands_at_once(cluster, tmp_path):
    port = harness.free_ports(1)[0]
    second = cluster.role("sync", {"HOSTNAME": "sync-2", "SYNC_SERVER_PORT": port, "LOCAL_DATA": str(tmp_path / "sync-2")}, name="sync-2")
    try:
        harness.wait_for("the second sync server", lambda: harness.http("GET", f"http://127.0.0.1:{port}/readyz").status == 200)
        stopped, failed, done = threading.Event(), [], []

        def provision():
            n = 0
            while not stopped.is_set():
                answer = harness.http("POST", f"http://127.0.0.1:{port}/v1/provision", {"segments": [f"load-{n}"], "schema": "t"})
                results = answer.json.get("results", [{}]) if answer.status == 200 else [{}]
                (done if "write_url" in results[0] else failed).append(answer)
                n += 1

        thread = threading.Thread(target=provision)
        thread.start()
        harness.wait_for("provisioning by the second server", lambda: len(done) > 10 or failed)
        assert json.loads(harness.http("GET", f"http://127.0.0.1:{port}/status").body)["standing"] == "follower"
        began = time.monotonic()
        cluster.sync.p.terminate()
        harness.wait_for("the second to be master", lambda: harness.http("GET", f"http://127.0.0.1:{port}/status").json["standing"] == "master", every=0.01)
        took = time.monotonic() - began
        assert cluster.sync.stop() == 0
        there = len(done)
        harness.wait_for("provisioning to go on", lambda: len(done) > there + 10 or failed)
        stopped.set()
        thread.join()
        assert failed == []
        print(f"the second sync server was master after {took:.2f} s")
        # An election is held every ten seconds; a mastership lasts thirty.
        assert took < 5
    finally:
        second.kill()
