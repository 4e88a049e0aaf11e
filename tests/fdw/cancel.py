"""Statements that end early: cancelled, timed out, terminated, or asking a worker that hangs. Each must end at once, and
leave the backend with the threads and descriptors that it had.

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
    return [(p if isinstance(p, int) else p["pid"]) for name, p in pids.items() if name.startswith("worker")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dir")
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    r = random.Random(7)
    bad = []
    session = Session()
    session.ask("SELECT count(*) FROM item;")
    before = session.held()
    slowest = 0.0
    for i in range(args.rounds):
        statement = r.choice([SLOW, WIDE, PLAIN])
        way = r.choice(["cancel", "timeout", "hang"])
        began, stopped = None, []
        if way == "hang":
            stopped = workers(args.dir)
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
        try:
            if way == "timeout":
                session.ask(f"SET statement_timeout = '{r.randrange(5, 200)}ms';")
                began = time.monotonic()
                session.send(statement + ";")
                answer = session.wait()
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
        if took > 2 or any("ERROR" in line and "cancel" not in line for line in answer):
            bad.append(f"{way}: {took:.1f} s, {answer[:2]}: {statement}")
        session.ask("RESET statement_timeout;")
    count = session.ask("SELECT count(*) > 0 FROM item;")
    if count != ["t"]:
        bad.append(f"afterwards: {count}")
    after = session.held()
    # A kept connection per worker and kind of request.
    if after[0] > before[0] + 12 or after[1] != before[1]:
        bad.append(f"descriptors and threads: {before} before, {after} after")
    # Terminated: the process is gone at once.
    for _ in range(3):
        victim = Session()
        victim.send(SLOW + ";")
        time.sleep(0.2)
        psql(f"SELECT pg_terminate_backend({victim.pid})")
        end = time.monotonic() + 3
        while os.path.exists(f"/proc/{victim.pid}") and time.monotonic() < end:
            time.sleep(0.01)
        if os.path.exists(f"/proc/{victim.pid}"):
            bad.append("a terminated backend is still there after 3 s")
    print(f"{'FAIL ' if bad else 'ok   '} early ends: {args.rounds} statements, the slowest to end took {slowest * 1000:.0f} ms, "
          f"descriptors {before[0]} → {after[0]}, threads {before[1]} → {after[1]}")
    for line in bad:
        print("  " + line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
