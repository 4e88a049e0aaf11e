"""Scrubbing on demand: damaged copies and canonical files are found, reported, and repaired only when that is asked for."""

import hashlib
import json
import os
import pathlib
import subprocess

import pytest

import harness
import support

pytestmark = pytest.mark.skipif(harness.STORE != "directory", reason="files of the store are damaged by hand")


@pytest.fixture
def cluster(tmp_path):
    c = support.start(tmp_path, workers=2)
    yield c
    support.kill(c)


def flip(path):
    """Changes one byte in the middle of a page, and leaves length and time as they were."""
    path, stat = pathlib.Path(path), os.stat(path)
    content = bytearray(path.read_bytes())
    content[len(content) - 700] ^= 0xFF
    # A new file in its place, so that what is mapped or hard-linked stays as it is.
    with open(path, "r+b") as file:
        file.seek(len(content) - 700)
        file.write(content[len(content) - 700:len(content) - 699])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert os.stat(path).st_size == stat.st_size and os.stat(path).st_mtime_ns == stat.st_mtime_ns


def lines(done):
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [line["finding"] for line in found if "finding" in line], found[-1]["end"]


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def test_sound_copies_have_nothing_to_report(cluster):
    support.make(cluster, *[f"s-{n}" for n in range(5)])
    done = support.admin(cluster, "--json", "scrub", "--check", "--store")
    assert done.returncode == 0, done
    findings, end = lines(done)
    # Five segments and the one of the start, twice each, and each canonical copy: the writers' own files count as sound.
    assert findings == [] and end["damaged"] == end["store_damaged"] == end["failed"] == 0
    assert (end["done"], end["total"], end["without_hash"], end["skipped"]) == (18, 18, 0, 0), end


def test_a_damaged_copy_is_reported_then_repaired(cluster):
    support.make(cluster, "good", "bad")
    worker = cluster.workers[1]
    path, name = worker.data / "bad.sqlite", support.status(worker)["node"]
    flip(path)
    damaged = sha256(path)

    checked = support.admin(cluster, "--json", "scrub", "--check", "--matching", "^(good|bad)$")
    findings, end = lines(checked)
    assert checked.returncode == 1 and [(f["what"], f["segment"], f["node"]) for f in findings] == [("damaged", "bad", name)]
    assert end["damaged"] == 1 and end["repaired"] == 0 and end["done"] == 4
    assert sha256(path) == damaged, "a check changes nothing"

    other = support.admin(cluster, "--json", "scrub", "--node", support.status(cluster.workers[0])["node"])
    assert other.returncode == 0 and lines(other)[0] == [], other

    repaired = support.admin(cluster, "--json", "scrub", "bad")
    findings, end = lines(repaired)
    assert repaired.returncode == 0 and [f["what"] for f in findings] == ["repaired"] and end["repaired"] == 1, repaired
    assert path.read_bytes() == cluster.canonical("./bad.sqlite" if (cluster.store / "bad.sqlite").exists() else next(
        str(p.relative_to(cluster.store)) for p in cluster.store.rglob("bad.sqlite")))
    kept = support.status(worker)["quarantine"]
    assert [k["segment"] for k in kept] == ["bad"] and "SHA-256" in kept[0]["reason"]
    assert cluster.read("bad", "select count(*) n from t", worker=1).json == [{"n": 1}]


def test_a_damaged_or_missing_canonical_copy_is_replaced_only_on_demand(cluster):
    support.make(cluster, "canon", "gone")
    canon, gone = (next(cluster.store.rglob(f"{s}.sqlite")) for s in ("canon", "gone"))
    good = {path: path.read_bytes() for path in (canon, gone)}
    flip(canon)
    before = canon.read_bytes()

    found = support.admin(cluster, "scrub", "--store")
    assert found.returncode == 1 and "canon on the store: store damaged" in found.stdout and "--repair-store" in found.stdout, found
    assert canon.read_bytes() == before

    done = support.admin(cluster, "--json", "scrub", "--repair-store")
    findings, end = lines(done)
    assert done.returncode == 0 and [(f["what"], f["segment"]) for f in findings] == [("store_repaired", "canon")], done
    assert end["store_repaired"] == 1 and canon.read_bytes() == good[canon]
    support.at_rest(cluster, ["canon"])

    gone.unlink()
    found = support.admin(cluster, "--json", "scrub", "gone")
    assert found.returncode == 1 and {f["what"] for f in lines(found)[0]} == {"store_missing"}, found
    done = support.admin(cluster, "--json", "scrub", "gone", "--repair-store")
    assert "store_repaired" in {f["what"] for f in lines(done)[0]}, done
    assert gone.read_bytes() == good[gone]
    support.at_rest(cluster, ["canon", "gone"])
    assert support.admin(cluster, "scrub", "--check", "--store").returncode == 0


def test_it_is_throttled_and_ends_with_its_asker(cluster):
    support.make(cluster, *[f"s-{n}" for n in range(12)])
    process = subprocess.Popen([harness.BIN, "admin", "-u", support.url(cluster), "--json", "scrub", "--bandwidth", "100"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        # A hundred bytes a second: it has begun, and would take minutes.
        assert "progress" in process.stdout.readline() or process.poll() is None
        harness.wait_for("the workers to be asked", lambda: "scrubbing begins" in cluster.sync.log.read_text())
        assert process.poll() is None, process.communicate()
    finally:
        process.kill()
        process.communicate()
    harness.wait_for("it to be cancelled", lambda: "scrubbing was cancelled" in cluster.sync.log.read_text())
    harness.wait_for("the workers to stop", lambda: any("scrubbing was cancelled" in w.log.read_text() for w in cluster.workers))
