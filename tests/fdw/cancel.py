"""Statements that end early at a random moment: by pg_cancel_backend, by psql's Ctrl-C, by statement_timeout, by
pg_terminate_backend, or while a worker hangs (its process is stopped). Each must end at once; afterwards the backend has the threads,
descriptors and memory that it had, nothing runs by trough.activity(), and the workers are idle.

Needs what run.sh sets up; DIR/cluster/pids.json names the workers' processes.
"""

import argparse
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time

SLOW = "SELECT trough.query('archive', '^s', 'WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c')"
WIDE = "SELECT count(*) FROM item a, item b WHERE a.n <> b.n"
PLAIN = "SELECT count(*) FROM item WHERE n % 3 = 1"
ENDLESS = "SELECT count(*) FROM endless WHERE md5(i::text) = ''"
ASYNC = "SELECT count(*) FROM (SELECT i FROM endless UNION ALL SELECT n FROM item UNION ALL SELECT i FROM endless) u WHERE md5(i::text) = ''"
CURSOR = "BEGIN; DECLARE c CURSOR FOR SELECT i FROM endless WHERE md5(i::text) = ''; MOVE ALL FROM c; COMMIT"
WRITE = "INSERT INTO item (segment, kind, n) SELECT 's1', 'early', 1 FROM generate_series(1, 100000000)"
STATEMENTS = [SLOW, WIDE, PLAIN, ENDLESS, ASYNC, CURSOR, WRITE]
# How much more of the backend's memory is no leak: what the allocator keeps.
SLACK_MB = 24


class Session:
    """A psql that stays; lines of its output come by a thread."""

    def __init__(self):
        self.psql = subprocess.Popen(["psql", "-X", "-q", "-A", "-t"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True, bufsize=1)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        self.pid = int(self.ask("SELECT pg_backend_pid();")[0])

    def read(self):
        for line in self.psql.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def send(self, text):
        self.psql.stdin.write(text + "\n\\echo ~done~\n")
        self.psql.stdin.flush()

    def wait(self, seconds=30):
        got, end = [], time.monotonic() + seconds
        while True:
            line = self.lines.get(timeout=max(0.01, end - time.monotonic()))
            if line is None or line == "~done~":
                return got
            got.append(line)

    def ask(self, text):
        self.send(text)
        return self.wait()

    def held(self):
        base = f"/proc/{self.pid}"
        return len(os.listdir(f"{base}/fd")), len(os.listdir(f"{base}/task"))


def psql(text):
    return subprocess.run(["psql", "-X", "-q", "-A", "-t", "-c", text], capture_output=True, text=True).stdout


def workers(dir):
    pids = json.load(open(f"{dir}/cluster/pids.json"))
    return [(p if isinstance(p, int) else p["pid"]) for name, p in pids.items() if name.startswith(("worker", "cold"))]


def anonymous_mb(pid):
    """Memory of a process that is neither of a file nor shared."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


def ticks(pid):
    """The processor time that a process has used."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def idle(pids):
    """Whether processes use less than a tenth of a processor each."""
    before = [ticks(pid) for pid in pids]
    time.sleep(0.5)
    return all(ticks(pid) - used < 5 for pid, used in zip(pids, before))


def set_up():
    psql("SELECT trough.register_schema('archive', 'endless', 'CREATE TABLE none (n); CREATE VIEW endless AS"
         " WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT i FROM c;')")
    psql("CREATE FOREIGN TABLE endless (segment text OPTIONS (segment 'true'), i bigint) SERVER archive OPTIONS (schema 'endless', segments '^endless')")
    psql("SELECT trough.provision('archive', 'endless' || g, 'endless') FROM generate_series(1, 2) g")


def terminated(statement, r):
    """A backend of its own is terminated: its process must be gone at once."""
    victim = Session()
    victim.send(statement + ";")
    time.sleep(r.random() * 0.3)
    began = time.monotonic()
    psql(f"SELECT pg_terminate_backend({victim.pid})")
    gone = until(lambda: not os.path.exists(f"/proc/{victim.pid}"), 5)
    victim.psql.kill()
    return time.monotonic() - began, [] if gone else ["the terminated backend is still there"]


def interrupted(statement, r):
    """psql is sent what Ctrl-C sends: the statement is cancelled, and psql ends."""
    one = subprocess.Popen(["psql", "-X", "-q", "-A", "-t", "-c", statement], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True)
    time.sleep(0.1 + r.random() * 0.3)
    began = time.monotonic()
    one.send_signal(signal.SIGINT)
    try:
        out, _ = one.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        one.kill()
        return 30.0, ["psql did not end"]
    return time.monotonic() - began, out.splitlines()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dir")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    r = random.Random(args.seed)
    bad, ways = [], {}
    set_up()
    served = workers(args.dir)
    session = Session()
    # What is kept for good is there from the first statement of each kind on.
    session.ask("SET statement_timeout = '100ms';")
    for statement in STATEMENTS:
        session.ask(statement + ";")
    session.ask("RESET statement_timeout;")
    session.ask("SELECT count(*) FROM item;")
    before, memory = session.held(), anonymous_mb(session.pid)
    slowest = 0.0
    for i in range(args.rounds):
        statement = r.choice(STATEMENTS)
        way = r.choice(["cancel", "timeout", "hang", "hang and timeout", "terminate", "ctrl-c"])
        ways[way] = ways.get(way, 0) + 1
        stopped = served if way.startswith("hang") else []
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            if way == "terminate":
                took, answer = terminated(statement, r)
            elif way == "ctrl-c":
                took, answer = interrupted(statement, r)
            elif way.endswith("timeout"):
                after = r.randrange(5, 300)
                session.ask(f"SET statement_timeout = '{after}ms';")
                began = time.monotonic()
                session.send(statement + ";")
                answer = session.wait()
                took = time.monotonic() - began - after / 1000
            else:
                session.send(statement + ";")
                time.sleep(r.random() * 0.3)
                began = time.monotonic()
                psql(f"SELECT pg_cancel_backend({session.pid})")
                answer = session.wait()
                took = time.monotonic() - began
        except queue.Empty:
            bad.append(f"{way}: no end in 30 s: {statement}")
            break
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        slowest = max(slowest, took)
        if took > longest() or any("ERROR" in line and "cancel" not in line for line in answer):
            bad.append(f"{way}: {took:.1f} s, {answer[:2]}: {statement}")
        session.ask("RESET statement_timeout;")
    count = session.ask("SELECT count(*) > 0 FROM item;")
    if count != ["t"]:
        bad.append(f"afterwards: {count}")
    if not until(lambda: psql("SELECT count(*) FROM trough.activity()").strip() == "0"):
        bad.append(f"still running: {psql('SELECT * FROM trough.activity()')}")
    if not until(lambda: idle(served), 60):
        bad.append("the workers are still busy")
    after, grown = session.held(), anonymous_mb(session.pid) - memory
    # A kept connection per worker and kind of request; a thread that looks names up ends by itself when it is idle.
    if after[0] > before[0] + 12 or after[1] > before[1]:
        bad.append(f"descriptors and threads: {before} before, {after} after")
    if grown > SLACK_MB:
        bad.append(f"the backend grew by {grown:.0f} MB")
    early = session.ask("SELECT count(*) FROM item WHERE kind = 'early';")
    if early != ["0"]:
        bad.append(f"rows of cancelled INSERTs: {early}")
    said = ", ".join(f"{n} {way}" for way, n in sorted(ways.items()))
    print(f"{'FAIL ' if bad else 'ok   '} early ends: {args.rounds} statements ({said}), the slowest to end took {slowest * 1000:.0f} ms, "
          f"descriptors {before[0]} → {after[0]}, threads {before[1]} → {after[1]}, memory {grown:+.1f} MB, workers idle")
    for line in bad:
        print("  " + line)
    return 1 if bad else 0


def longest():
    """Seconds that an end may take; a busy machine is given more."""
    return 2 + os.getloadavg()[0] / (os.cpu_count() or 1)


if __name__ == "__main__":
    sys.exit(main())
