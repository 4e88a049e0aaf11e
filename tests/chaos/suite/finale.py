"""The end of a run: everything is healed, everything is promoted, and the final state goes into the history."""

import pathlib
import shutil
import sqlite3
import tempfile

import harness

from .cluster import COPIES, READ, SYNC, R
from .history import pack
from .workload import canonical_rows

# Seconds until a segment whose lock is still there is promoted once more.
AGAIN = 20.0


def heal(cluster, history):
    """Starts what is dead and waits until every daemon is ready; gives how long it took."""
    start = history.now()
    for node in cluster.nodes.values():
        node.start()
    for name in cluster.syncs + cluster.workers:
        harness.wait_for(f"{name} after the faults", lambda name=name: cluster.ready(name), timeout=90)
    harness.wait_for("a sync master", lambda: cluster.on_master("GET", "schema/chaos").status == 200, timeout=60)
    history.add("healed", start)
    return history.now() - start


def table(cluster, name):
    with cluster.db(timeout=10) as db:
        return list(R.table(name).run(db))


def settle(cluster, history, segments, timeout=180):
    """Promotes what is locked, until no lock is left and every segment has its copies; what is still wrong is left to the checker."""
    start, state, promoted_at = history.now(), {}, {}

    def settled():
        locked = sorted({row["segment"] for row in table(cluster, "lock")})
        for segment in locked:
            # Each promotion makes a new version, for which the lock waits again until every copy has it.
            if history.now() > promoted_at.get(segment, -AGAIN) + AGAIN:
                answer = cluster.on_master("POST", "promote", {"segment": segment}, timeout=60)
                state[segment] = answer.text[:200]
                if answer.status == 200:
                    promoted_at[segment] = history.now()
        serving = {}
        for row in table(cluster, "services"):
            if row.get("role") == "trough-read" and row["node"] in cluster.hot:
                serving.setdefault(row["segment"], set()).add(row["node"])
        promoted = [s for s in segments if cluster.canonical(s).exists()]
        few = [s for s in promoted if len(serving.get(s, ())) < COPIES]
        state["documents"] = {
            s: harness.http("GET", cluster.nodes[cluster.syncs[0]].url(SYNC, f"v1/segment/{s}"), timeout=10).text
            for s in (locked + few)[:2]
        }
        state["still"] = {"locked": locked[:5], "few": few[:5], "unpromoted": sorted(set(segments) - set(promoted))[:5]}
        return not locked and not few

    try:
        harness.wait_for("every segment promoted, released and copied", settled, timeout=timeout, every=1)
        history.add("settled", start)
    except AssertionError as e:
        history.add("settled", start, "fail", error=str(e)[:300], state={k: str(v) for k, v in list(state.items())[-20:]})


def record(cluster, history, segments, shredded):
    """The final state of every segment, what was kept aside, and what remains of those that were shredded."""
    serving = {}
    for row in table(cluster, "services"):
        if row.get("role") == "trough-read" and row["node"] in cluster.hot:
            serving.setdefault(row["segment"], set()).add(row["node"])
    for segment in segments:
        start = history.now()
        copies, trouble = {}, None
        for node in sorted(serving.get(segment, ())):
            answer = harness.http("POST", cluster.nodes[node].url(READ, f"?segment={segment}"), "select a, n from w", timeout=30)
            if answer.status == 200:
                copies[node] = pack((row["a"], row["n"]) for row in answer.json)[0]
            else:
                trouble = answer.text[:200]
        try:
            rows, doubled = pack(canonical_rows(cluster, segment))
        except (OSError, sqlite3.Error) as e:
            # Never written, so never made.
            if not any(e_["op"] in ("write", "provision") and e_["seg"] == segment and e_["outcome"] == "ok" for e_ in history.events):
                continue
            rows, doubled, trouble = {}, [], f"canonical copy: {e}"
        history.add("final", start, seg=segment, rows=rows, doubled=doubled, copies=copies, wanted=COPIES, unreadable=trouble)
    kept(cluster, history)
    for segment in shredded:
        remains(cluster, history, segment)


def kept(cluster, history):
    """What workers kept aside of files that they might not write any more."""
    for name in cluster.hot:
        data = cluster.disks[name].data
        for path in sorted(p for p in data.rglob("*.sqlite*") if p.parent != data or ".broken-" in p.name):
            if path.suffix == ".reason" or path.name.endswith(("-wal", "-shm")):
                continue
            segment = path.name.split(".sqlite")[0].lstrip(".")
            rows = rows_of_copy(path)
            if rows is not None:
                history.add("stranded", history.now(), seg=segment, node=name, file=str(path.relative_to(data)), rows=pack(rows)[0])


def rows_of_copy(path):
    """The rows of a file with its log, read beside it; none if it is no sound database."""
    with tempfile.TemporaryDirectory() as beside:
        copy = pathlib.Path(beside) / "x.sqlite"
        shutil.copyfile(path, copy)
        log = path.with_name(path.name + "-wal")
        if log.exists():
            shutil.copyfile(log, f"{copy}-wal")
        try:
            with sqlite3.connect(copy) as db:
                return db.execute("select a, n from w").fetchall()
        except sqlite3.Error:
            return None


def remains(cluster, history, segment):
    """Whatever is left of a segment whose last operation was a shred that was done."""
    mine = [e for e in history.events if e.get("seg") == segment and e["op"] in ("shred", "write", "provision")]
    if not mine or mine[-1]["op"] != "shred" or mine[-1]["outcome"] != "ok":
        return

    def left():
        found = [
            f"a row in {name}: {row['id']}"
            for name in ("services", "assignment", "lock")
            for row in table(cluster, name)
            if row.get("segment") == segment
        ]
        found += [f"a file at {name}" for name in cluster.hot if (cluster.disks[name].data / f"{segment}.sqlite").exists()]
        return found + (["the canonical file"] if cluster.canonical(segment).exists() else [])

    try:
        harness.wait_for("nothing", lambda: not left(), timeout=20)
    except AssertionError:
        for what in left():
            history.add("remains", history.now(), seg=segment, what=what)
