"""One run: a cluster, clients, faults, the end, the checker, the report."""

import pathlib
import random
import shutil
import threading
import time

from . import finale, report
from .checker import check
from .cluster import Cluster
from .faults import Injector, fixed, schedule
from .history import History, load
from .locks import LockFollower
from .workload import Load


def run(directory, seed, minutes=None, writes=None, kinds=None, keep=False, say=print, load_options=None, workers=3, lanes=2):
    """Runs for so many minutes with faults by the seed; or, without minutes, through one fault of each kind, and until so many writes are
    acknowledged. Gives the violations. What is left of a good run is its history and its logs."""
    directory = pathlib.Path(directory)
    if directory.exists():
        raise RuntimeError(f"{directory} is there already")
    cluster = Cluster(directory, workers=workers)
    history = History(directory / "history.jsonl")
    try:
        storm(cluster, history, seed, minutes, writes, kinds, say, load_options or {}, lanes)
    finally:
        cluster.stop()
        history.close()
    violations = judge(directory / "history.jsonl", seed, say)
    for name in [] if keep or violations else ["store", *cluster.workers]:
        shutil.rmtree(directory / name, ignore_errors=True)
    return violations


def storm(cluster, history, seed, minutes, writes, kinds, say, load_options, lanes=2):
    """The part with faults, and the end."""
    stop, locks = threading.Event(), LockFollower(cluster, history)
    clients = Load(cluster, history, seed, **load_options)
    injector = Injector(cluster, history)
    locks.start()
    clients.start()

    def pause(seconds):
        return stop.wait(seconds)

    if minutes is None:
        plan = fixed(cluster, kinds)
        injector.run(plan, stop, pause)
        acked(history, writes or 0, stop)
    else:
        threads = [
            threading.Thread(target=injector.run, args=(lane, stop, pause), daemon=True) for lane in schedule(seed, cluster, lanes, kinds)
        ]
        for lane in threads:
            lane.start()
        began = time.monotonic()
        while not stop.wait(30) and time.monotonic() - began < minutes * 60 and not clients.failures:
            done = sum(1 for e in history.events if e["op"] == "write" and e["outcome"] == "ok")
            say(f"{(time.monotonic() - began) / 60:6.1f} min: {injector.done} faults, {done} acknowledged writes", flush=True)
        stop.set()
        for lane in threads:
            lane.join()
    finale.heal(cluster, history)
    # A little of the work goes on in peace: what came back must be taken up again.
    time.sleep(2)
    clients.finish()
    segments = clients.segments.all()
    shredders = sorted({e["seg"] for e in history.events if e["op"] == "shred"})
    finale.settle(cluster, history, segments)
    locks.stop.set()
    locks.join(15)
    finale.record(cluster, history, segments, shredders)


def acked(history, wanted, stop):
    while not stop.wait(0.2):
        if sum(1 for e in history.events if e["op"] == "write" and e["outcome"] == "ok") >= wanted:
            return


def judge(path, seed, say=print):
    """Checks a history that was written, and says what was found."""
    events = load(path)
    violations = check(events)
    for line in report.summary(events, seed, violations):
        say(line)
    for violation in violations[:10]:
        say(f"VIOLATION {violation}")
        for line in report.around(events, violation):
            say(line)
    if violations:
        say(f"seed {seed}; history and logs: {pathlib.Path(path).parent}")
    return violations


def new_seed():
    return random.SystemRandom().randrange(10**9)
