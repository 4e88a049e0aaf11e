"""More segments than the shell keeps the names of: the pattern alone is kept, and each statement finds them anew. Their service rows are
real, their worker is a stand-in."""

import json
import resource

import harness
import pytest
import stand_in
import terminal

COUNT = 100_003
KEPT = 100_000
# What a listing page, the pages under way and the rest of the shell may take; the names alone would be as much again.
MOST_KB = 160 << 10


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    from rethinkdb import RethinkDB

    dev = harness.Dev(tmp_path_factory.mktemp("many") / "dev", workers=1)
    worker = stand_in.StandIn("CREATE TABLE t (a INTEGER, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y');")
    r = RethinkDB()
    host, _, port = dev.url.removeprefix("rethinkdb://").split("/")[0].partition(":")
    with r.connect(host, int(port), db="trough_configuration") as connection:
        row = {"node": "stand-in", "ttl": 1e6, "load": 0.0, "first_heartbeat": r.now(), "last_heartbeat": r.now()}
        node = {**row, "id": "trough-nodes:stand-in:None", "role": "trough-nodes", "read_url": worker.url, "available_bytes": 1, "cold_storage": False, "draining": True}
        r.table("services").insert(node).run(connection)
        for first in range(0, COUNT, 1000):
            ids = [f"many-{n:06}" for n in range(first, min(first + 1000, COUNT))]
            rows = [{**row, "id": f"trough-read:stand-in:{s}", "role": "trough-read", "segment": s, "port": worker.server_port, "url": f"{worker.url}?segment={s}"} for s in ids]
            done = r.table("services").insert(rows, durability="soft").run(connection)
            assert done["inserted"] == len(rows), done
    yield dev, worker
    worker.shutdown()
    dev.stop()


def shell(dev, *commands, **more):
    args = [arg for command in ["connect matching ^many-", *commands] for arg in ("-c", command)]
    return terminal.run(dev.url, "-f", "ndjson", *args, **more)


def rows(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_segment_is_asked_once(many):
    dev, worker = many
    worker.asked.clear()
    done = shell(dev, "select :segment as s, count(*) as n from t")
    assert done.returncode == 0, done.stderr[-2000:]
    found = rows(done)
    assert len(found) == COUNT and len({row["segment"] for row in found}) == COUNT
    assert all(row["s"] == row["segment"] and row["n"] == 2 for row in found)
    assert len(worker.asked) == COUNT and set(worker.asked.values()) == {1}


def test_memory_does_not_grow_with_the_segments(many):
    dev, _ = many
    done = shell(dev, "select a from t")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2 * COUNT, done.stderr[-2000:]
    # Of all children so far; the others are smaller shells.
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert most < MOST_KB, f"{most} kB"


def test_merged(many):
    dev, _ = many
    done = shell(dev, "merge select b, count(*) as n, sum(a) as a, min(:segment) as first, max(:segment) as last from t group by b order by b desc")
    ends = {"first": "many-000000", "last": f"many-{COUNT - 1:06}"}
    assert rows(done) == [{"b": "y", "n": COUNT, "a": 2 * COUNT, **ends}, {"b": "x", "n": COUNT, "a": COUNT, **ends}], done


def test_failures_are_counted_and_the_first_named(many):
    dev, worker = many
    worker.missing |= {f"many-{n:06}" for n in range(0, COUNT, 9_999)}
    try:
        done = shell(dev, "merge select count(*) as n from t")
        assert done.returncode == 1 and rows(done) == [{"n": 2 * (COUNT - len(worker.missing))}], done
        assert f"{len(worker.missing)}" in done.stderr and "many-000000" in done.stderr, done.stderr
        done = shell(dev, "select 1 as one from t limit 1")
        assert done.returncode == 1 and len(rows(done)) == COUNT - len(worker.missing), done.stderr
    finally:
        worker.missing.clear()


def test_what_is_shown_of_them(many):
    dev, _ = many
    done = shell(dev, "show connections")
    assert done.returncode == 0 and len(rows(done)) == COUNT, done.stderr
    done = shell(dev, "show segments matching ^many-0000")
    assert [row["segment"] for row in rows(done)] == [f"many-0000{n:02}" for n in range(100)], done
    done = shell(dev, "show tables")
    assert rows(done) and rows(done)[0]["segments"] == COUNT, done


def test_what_needs_their_names_is_refused(many):
    dev, _ = many
    for command, said in [("promote", "PROMOTE MATCHING"), ("insert into t values (1, 'z')", "segment")]:
        done = terminal.run(dev.url, "-w", "-c", "connect matching ^many-", "-c", command)
        assert done.returncode == 1 and said in done.stderr, done


def test_segments_that_come_and_go_are_seen(many):
    from rethinkdb import RethinkDB

    dev, worker = many
    r = RethinkDB()
    host, _, port = dev.url.removeprefix("rethinkdb://").split("/")[0].partition(":")
    with r.connect(host, int(port), db="trough_configuration") as connection:
        row = r.table("services").get("trough-read:stand-in:many-000007").run(connection)
        r.table("services").get(row["id"]).delete().run(connection)
        done = shell(dev, "merge select count(distinct :segment) as n from t reduce select sum(n) as n from partial")
        r.table("services").insert(row).run(connection)
    assert rows(done) == [{"n": COUNT - 1}], done
    assert KEPT < COUNT - 1
