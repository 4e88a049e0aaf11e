"""kill -9 of a worker during writes, a thousand times: every acknowledged write is there."""

import os
import random
import threading

import harness

ROUNDS = int(os.environ.get("CHAOS_KILLS", "1000"))
SEGMENTS = ["chaos-1", "chaos:2"]
WRITERS = 4


class Writer(threading.Thread):
    """Inserts numbers of its own one by one, and remembers those that were acknowledged."""

    def __init__(self, cluster, number):
        super().__init__(daemon=True)
        self.cluster, self.number, self.segment = cluster, number, SEGMENTS[number % len(SEGMENTS)]
        self.acked, self.stopping, self.next = [], threading.Event(), 0

    def run(self):
        while not self.stopping.is_set():
            n = self.next * WRITERS + self.number
            self.next += 1
            try:
                answer = self.cluster.write(self.segment, f"insert into w values ({n}, 'writer {self.number}')", timeout=20)
            except OSError:
                self.stopping.wait(0.01)  # the worker is down: ask again soon
                continue
            if answer.status == 200:
                self.acked.append(n)
            else:
                assert "Server Error" in answer.text, answer
                self.stopping.wait(0.01)


def test_acknowledged_writes_survive_sigkill(tmp_path):
    cluster = harness.Cluster(tmp_path, workers=1)
    try:
        assert cluster.put_schema("chaos", "create table w (n integer primary key, t text) strict;").status in (201, 204)
        for segment in SEGMENTS:
            assert cluster.provision(segment, "chaos").status == 200
        writers = [Writer(cluster, i) for i in range(WRITERS)]
        for writer in writers:
            writer.start()
        worker, dice = cluster.workers[0], random.Random(7)
        for round_ in range(ROUNDS):
            # Kill only once writes have been acknowledged since the last start, at a random moment after that.
            before = sum(len(w.acked) for w in writers)
            goal = before + dice.randint(1, 20)
            harness.wait_for(f"writes after start {round_}", lambda: sum(len(w.acked) for w in writers) >= goal, every=0.002)
            worker.kill()
            worker.start()
            if round_ % 200 == 199:
                print(f"{round_ + 1} kills, {goal} acknowledged writes", flush=True)
        for writer in writers:
            writer.stopping.set()
            writer.join(30)
        harness.wait_for("the worker after the last kill", lambda: cluster.read(SEGMENTS[0], "select 1").status == 200)
        for segment in SEGMENTS:
            rows = harness.wait_for("a read", lambda s=segment: cluster.read(s, "select n from w").json)
            present = {row["n"] for row in rows}
            acked = {n for w in writers if w.segment == segment for n in w.acked}
            assert acked and not acked - present, f"{len(acked - present)} of {len(acked)} acknowledged writes are lost"
            assert cluster.read(segment, "select count(*) c, count(distinct n) d from w").json[0] == {"c": len(present), "d": len(present)}
        print(f"{ROUNDS} kills, {sum(len(w.acked) for w in writers)} acknowledged writes, none lost")
    finally:
        for process in [*cluster.workers, cluster.sync, cluster.meta]:
            process.kill()
