"""The checker finds each violation in a history that has it, and none in one that has not."""

import pytest

from suite.checker import check
from suite.history import load, pack, unpack, History


def write(n, start, outcome="ok", seg="s", a=1, node="w1", **more):
    return {
        "op": "write",
        "seg": seg,
        "a": a,
        "n": n,
        "node": node,
        "via": "http",
        "start": start,
        "end": start + 0.1,
        "outcome": outcome,
        **more,
    }


def read(start, rows, seg="s", node="w1", doubled=(), **more):
    return {
        "op": "read",
        "seg": seg,
        "node": node,
        "via": "http",
        "start": start,
        "end": start + 0.1,
        "outcome": "ok",
        "rows": rows,
        "doubled": list(doubled),
        **more,
    }


def final(rows, seg="s", copies=None, doubled=(), **more):
    copies = {"w1": rows, "w2": rows} if copies is None else copies
    return {
        "op": "final",
        "seg": seg,
        "start": 100,
        "end": 100.1,
        "outcome": "ok",
        "rows": rows,
        "doubled": list(doubled),
        "copies": copies,
        "wanted": 2,
        **more,
    }


def lock(at, node, seg="s"):
    return {"op": "lock", "seg": seg, "node": node, "fence": 1, "start": at, "end": at, "outcome": "ok"}


def fault(start, end, blind=(), down=()):
    return {
        "op": "fault",
        "kind": "x",
        "target": "w1",
        "start": start,
        "end": end,
        "outcome": "ok",
        "blind": list(blind),
        "down": list(down),
    }


def count(start, **more):
    return {"op": "count", "via": "sql", "start": start, "end": start + 0.1, "outcome": "ok", **more}


def shred(start, outcome="ok"):
    return {"op": "shred", "seg": "s", "start": start, "end": start + 0.1, "outcome": outcome}


def canonical(start, rows, since):
    return {"op": "canonical", "seg": "s", "start": start, "end": start + 0.1, "outcome": "ok", "rows": rows, "doubled": [], "since": since}


def asked(segments, errors, failed):
    return count(5, via="v1", node="w1", asked=["s", "t"], segments=segments, errors=errors, told={"failed": failed})


WRITTEN = [lock(0.5, "w1"), write(1, 1), write(2, 2, "unknown"), write(3, 3, "fail"), write(4, 4)]
GOOD = WRITTEN + [final({"1": "1-2,4"})]

SOUND = {
    "all is there": GOOD,
    "what is unknown may be missing": WRITTEN + [final({"1": "1,4"})],
    "a read before the next write": GOOD + [read(1.5, {"1": "1"}), read(5, {"1": "1,4"})],
    "a read that overlaps a write shows it or not": GOOD + [read(1.05, {}), read(1.05, {"1": "1"})],
    "a blind worker may lag": GOOD + [fault(3, 6, blind=["w2"]), read(5, {"1": "1"}, node="w2")],
    "copies answer for a holder whose lease has ended": GOOD + [fault(4.2, 9, down=["w1"]), read(8, {"1": "1"}, node="w2")],
    "what a takeover left behind was kept": [
        lock(0.5, "w1"),
        write(1, 1),
        fault(2, 20, down=["w1"]),
        lock(18, "w2"),
        write(2, 19, node="w2"),
        final({"1": "2"}),
        {"op": "stranded", "seg": "s", "node": "w1", "file": "f", "rows": {"1": "1"}, "start": 99, "end": 99, "outcome": "ok"},
    ],
    "a lock that changes hands during a write": [
        lock(0.5, "w1"),
        write(1, 1),
        lock(2, None),
        lock(2.5, "w2"),
        write(2, 2.6, node="w2"),
        final({"1": "1-2"}),
    ],
    "promoted": GOOD + [canonical(5, {"1": "1,4"}, 4.5)],
    "the next life begins empty": [lock(0.5, "w1"), write(1, 1), shred(2), write(2, 3), read(4, {"1": "2"}), final({"1": "2"})],
    "a worker that was cut off before the shred has not heard of it": [
        lock(0.5, "w1"),
        write(1, 1),
        fault(1.5, 6, blind=["w2"]),
        shred(2),
        write(2, 3),
        read(4, {"1": "1"}, node="w2"),
        final({"1": "2"}),
    ],
    "a count": GOOD + [count(5, total=2), count(5, segments={"s": 3}), count(5, segments={"s": 2})],
    "an error for each segment that has no rows": [
        *GOOD,
        write(1, 1, seg="t", a=2),
        final({"2": "1"}, seg="t"),
        asked({"s": 2}, {"t": "moved"}, 1),
    ],
}

VIOLATIONS = {
    "lost write": [
        WRITTEN + [final({"1": "1"})],
        # Kept aside, but the holder was never away for long enough to lose its lock.
        WRITTEN
        + [
            fault(5, 8, down=["w1"]),
            final({"1": "1"}),
            {"op": "stranded", "seg": "s", "node": "w1", "file": "f", "rows": {"1": "4"}, "start": 99, "end": 99, "outcome": "ok"},
        ],
        # Away for long, but kept nowhere.
        WRITTEN + [fault(5, 30, down=["w1"]), final({"1": "1"})],
    ],
    "doubled write": [
        WRITTEN + [final({"1": "1,4"}, doubled=[[1, 4, 2]])],
        GOOD + [read(5, {"1": "1,4"}, doubled=[[1, 1, 2]])],
        GOOD + [count(5, segments={"s": 4})],
    ],
    "refused write is there": [WRITTEN + [final({"1": "1,3-4"})], GOOD + [read(5, {"1": "1,3-4"})]],
    "phantom row": [WRITTEN + [final({"1": "1,4,9"})], GOOD + [read(1.5, {"1": "1,4"})]],
    "stale read": [
        GOOD + [read(5, {"1": "1"})],
        GOOD + [read(5, {"1": "1"}, node=None, via="sql")],
        # Another worker was blind, not this one; and a lease that has not ended yet excuses nobody.
        GOOD + [fault(3, 6, blind=["w3"]), read(5, {"1": "1"}, node="w2")],
        GOOD + [fault(4.2, 9, down=["w1"]), read(5.5, {"1": "1"}, node="w2")],
        GOOD + [count(5, segments={"s": 1})],
    ],
    "two holders": [
        [lock(0.5, "w1"), write(1, 1), lock(5, "w2"), write(2, 6, node="w2"), write(3, 10), lock(20, None), final({"1": "1-3"})]
    ],
    "partial answer": [
        GOOD + [count(5, total=1)],
        GOOD + [count(5, segments={})],
        GOOD + [count(5, segments={"s": 2, "cold-s100": 3})],
        [*GOOD, write(1, 1, seg="t", a=2), final({"2": "1"}, seg="t"), asked({"s": 2}, {}, 0)],
        [*GOOD, write(1, 1, seg="t", a=2), final({"2": "1"}, seg="t"), asked({"s": 2}, {"t": "moved"}, 0)],
    ],
    "promotion lacks writes": [GOOD + [canonical(5, {"1": "1"}, 4.5)]],
    "resurrected row": [
        [lock(0.5, "w1"), write(1, 1), shred(2), write(2, 3), read(4, {"1": "1-2"}), final({"1": "2"})],
        # It heard of the shred, and was cut off later; or another was.
        [lock(0.5, "w1"), write(1, 1), shred(2), fault(12, 16, blind=["w2"]), read(14, {"1": "1"}, node="w2"), final({})],
        [lock(0.5, "w1"), write(1, 1), fault(1.5, 6, blind=["w3"]), shred(2), read(4, {"1": "1"}, node="w2"), final({})],
    ],
    "shred left something": [GOOD + [{"op": "remains", "seg": "x", "what": "a file", "start": 99, "end": 99, "outcome": "ok"}]],
    "unreadable": [WRITTEN + [final({"1": "1-2,4"}, unreadable="no copy")]],
    "too few copies": [WRITTEN + [final({"1": "1-2,4"}, copies={"w1": {"1": "1-2,4"}})]],
    "copies differ": [WRITTEN + [final({"1": "1-2,4"}, copies={"w1": {"1": "1-2,4"}, "w2": {"1": "1-2"}})]],
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_history(name):
    assert check(SOUND[name]) == []


@pytest.mark.parametrize(("kind", "events"), [(kind, events) for kind, histories in VIOLATIONS.items() for events in histories])
def test_a_violation_is_found(kind, events):
    assert kind in {violation.kind for violation in check(events)}


def test_rows_are_packed_and_unpacked():
    rows = [(1, 1), (1, 2), (1, 3), (1, 7), (22, 5), (1, 2)]
    packed, doubled = pack(rows)
    assert packed == {"1": "1-3,7", "22": "5"} and doubled == [[1, 2, 2]]
    assert unpack(packed) == set(rows)


def test_a_history_can_be_read_again(tmp_path):
    history = History(tmp_path / "h")
    history.add("write", history.now(), seg="s", a=1, n=1)
    history.close()
    assert load(tmp_path / "h") == history.events
