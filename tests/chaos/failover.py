#!/usr/bin/env python3
"""How long it takes until what died does not matter any more, over a cluster in network namespaces (root):

- a worker is killed while a client asks for all segments through SQL: the errors that it sees (there must be none), the longest that
  one of its queries took, and how long until a query that began after the kill was answered;
- until every segment has all its copies again;
- the sync master is killed: until another provisions.

    tests/chaos/failover.py [--segments 60] [--rounds 3]
"""

import argparse
import pathlib
import sys
import tempfile
import threading
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "lib"), str(pathlib.Path(__file__).resolve().parent)]

import harness  # noqa: E402  the paths must stand before
from suite.cluster import COPIES, LEASE, Cluster, R  # noqa: E402

MOVE_GRACE = 8
ROWS = 20


class Asker(threading.Thread):
    """Asks through SQL without a pause, for one segment and for all in turn; remembers what was wrong, and when each query ran."""

    def __init__(self, cluster, segments):
        super().__init__(daemon=True)
        self.cluster, self.segments, self.over = cluster, segments, threading.Event()
        self.errors, self.queries = [], []

    def run(self):
        with self.cluster.postgres.connect() as db:
            number = 0
            while not self.over.is_set():
                segment = self.segments[number % len(self.segments)]
                one = number % 2
                statement = f"select count(*) from w where segment = '{segment}'" if one else "select count(*) from w"
                wanted, begun = ROWS if one else ROWS * len(self.segments), time.monotonic()
                try:
                    got = db.execute(statement).fetchone()[0]
                    if got != wanted:
                        self.errors.append(f"{statement}: {got} rows, not {wanted}")
                except Exception as e:  # whatever the client sees is an error
                    self.errors.append(f"{statement}: {e}")
                self.queries.append((begun, time.monotonic()))
                number += 1


def fill(cluster, segments):
    for segment in segments:
        answer = cluster.on_master("POST", "provision", {"segment": segment, "schema": "chaos"})
        assert answer.status == 200, answer
        values = ", ".join(f"(1, {n}, {n})" for n in range(ROWS))
        assert harness.http("POST", answer.json["write_url"], f"insert into w values {values}").status == 200
        assert cluster.on_master("POST", "promote", {"segment": segment}).status == 200
    wait_for_copies(cluster, segments, cluster.hot)


def wait_for_copies(cluster, segments, alive):
    def whole():
        with cluster.db() as db:
            serving = {}
            for row in R.table("services").filter({"role": "trough-read"}).run(db):
                serving.setdefault(row["segment"], set()).add(row["node"])
            locked = {row["segment"] for row in R.table("lock").run(db)}
        return not locked & set(segments) and all(len(serving.get(s, set()) & set(alive)) >= COPIES for s in segments)

    harness.wait_for("all copies", whole, timeout=180, every=0.1)


def kill_worker(cluster, segments, name):
    asker = Asker(cluster, segments)
    asker.start()
    harness.wait_for("queries", lambda: len(asker.queries) > 20)
    killed = time.monotonic()
    cluster.nodes[name].kill()
    harness.wait_for("a query after the kill", lambda: sum(begun > killed for begun, _ in asker.queries) > 2)
    wait_for_copies(cluster, segments, [n for n in cluster.hot if n != name])
    replicated = time.monotonic() - killed
    asker.over.set()
    asker.join()
    after = [(begun, end) for begun, end in asker.queries if end > killed]
    cluster.nodes[name].start()
    harness.wait_for(name, lambda: cluster.ready(name), timeout=60)
    wait_for_copies(cluster, segments, cluster.hot)
    return {
        "queries during it": len(after),
        "errors": asker.errors,
        "longest query (s)": max(end - begun for begun, end in after),
        "answered again after (s)": min(end for begun, end in after if begun > killed - 0.001) - killed,
        "all copies again after (s)": replicated,
    }


def kill_master(cluster, number):
    master = harness.wait_for("a master", cluster.master)
    killed = time.monotonic()
    cluster.nodes[master].kill()
    harness.wait_for("another master", lambda: (now := cluster.master()) and now != master, timeout=60, every=0.02)
    elected = time.monotonic() - killed
    harness.wait_for(
        "a provisioning", lambda: cluster.on_master("POST", "provision", {"segment": f"after-{number}", "schema": "chaos"}).status == 200
    )
    provisioned = time.monotonic() - killed
    cluster.nodes[master].start()
    harness.wait_for(master, lambda: cluster.ready(master), timeout=60)
    return {"another master after (s)": elected, "provisions again after (s)": provisioned}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trough-failover-", dir="/var/tmp") as directory:
        cluster = Cluster(pathlib.Path(directory) / "cluster", cold=0, settings={"MOVE_GRACE": MOVE_GRACE})
        try:
            assert cluster.postgres, "there is no PostgreSQL with the extension"
            segments = [f"fail-{i:04d}" for i in range(args.segments)]
            fill(cluster, segments)
            print(f"{args.segments} segments, {len(cluster.hot)} workers, {COPIES} copies")
            print(f"LEASE {LEASE}, MOVE_GRACE {MOVE_GRACE}, ELECTION_CYCLE 1, SYNC_LOOP_TIMING 1")
            bad = []
            for number in range(args.rounds):
                name = cluster.hot[number % len(cluster.hot)]
                for what, result in (
                    ("worker killed", kill_worker(cluster, segments, name)),
                    ("sync master killed", kill_master(cluster, number)),
                ):
                    bad += result.get("errors", [])
                    shown = {k: len(v) if k == "errors" else v for k, v in result.items()}
                    print(
                        f"{what}: " + ", ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items()),
                        flush=True,
                    )
            for error in bad[:10]:
                print(f"ERROR {error}")
            return bool(bad)
        finally:
            cluster.stop()


if __name__ == "__main__":
    sys.exit(main())
