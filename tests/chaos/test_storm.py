"""A short run of the fault suite: each kind of fault once, one after the other, and a checked history. The long run is `make chaos`."""

import os
import shutil

import pytest

from suite import faults
from suite.history import load
from suite.run import run

SEED = 1
WRITES = 1500


def missing():
    """Why the suite cannot run here."""
    if os.geteuid() != 0:
        return "it needs root, for network namespaces and file systems"
    programs = [program for program in ("ip", "tc", "nft", "nsenter", "sysctl", "mkfs.ext4", "fsfreeze", "cc") if not shutil.which(program)]
    return f"{', '.join(programs)} missing; install them with: scripts/setup.sh test" if programs else None


def test_nothing_is_lost_whatever_fails(tmp_path):
    why = missing()
    if why:
        if os.environ.get("CI"):
            pytest.fail(f"the fault suite cannot run: {why}")
        pytest.skip(f"the fault suite cannot run: {why}")
    load_options = {"writers": 6, "readers": 2, "scanners": 1, "promoters": 1, "shredders": 1, "segments": 6, "think": 0.1}
    directory = tmp_path / "storm"
    violations = run(directory, SEED, writes=WRITES, load_options=load_options)
    assert not violations, f"seed {SEED}; history and logs are in {directory}"
    events = load(directory / "history.jsonl")
    made = [e["kind"] for e in events if e["op"] == "fault" and e["outcome"] == "ok"]
    assert sorted(made) == sorted(faults.KINDS), "each kind of fault once"
    assert sum(e["op"] == "write" and e["outcome"] == "ok" for e in events) >= WRITES
    assert all(e["outcome"] == "ok" for e in events if e["op"] == "settled")


def test_only_the_seed_decides_the_schedule():
    class Cluster:
        syncs, workers, hot, cold = ["sync1"], ["worker1", "worker2", "cold1"], ["worker1", "worker2"], ["cold1"]

    def first(seed):
        return [[next(lane) for _ in range(200)] for lane in faults.schedule(seed, Cluster)]

    assert first(5) == first(5) != first(6)
    assert {fault.kind for lane in first(5) for fault in lane} == set(faults.KINDS)
