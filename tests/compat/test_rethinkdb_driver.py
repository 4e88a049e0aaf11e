"""RethinkDB's Python driver, unmodified, against the metadata server: what the Python trough does with it, and around that."""

import datetime
import signal
import threading
import time

import pytest
from conftest import OURS
from rethinkdb import RethinkDB
from rethinkdb.errors import (
    ReqlAuthError,
    ReqlCompileError,
    ReqlNonExistenceError,
    ReqlOpFailedError,
    ReqlQueryLogicError,
    ReqlUserError,
)

UTC = datetime.timezone.utc


@pytest.fixture
def services(r, conn):
    """The table `services` as the Python trough makes and fills it."""
    assert r.table_create("services", shards=1, replicas=1).run(conn)["tables_created"] == 1
    for index in ("segment", "role"):
        r.table("services").index_create(index).run(conn)
    r.table("services").index_wait("segment", "role").run(conn)
    rows = []
    for node, load in (("n1", 2.0), ("n2", 1.0), ("n3", 3.0)):
        rows.append({
            "id": f"trough-nodes:{node}:None", "role": "trough-nodes", "node": node, "load": load, "ttl": 480,
            "available_bytes": 100, "first_heartbeat": r.now(), "last_heartbeat": r.now(),
        })
        for segment in ("100", "200"):
            rows.append({
                "id": f"trough-read:{node}:{segment}", "role": "trough-read", "node": node, "segment": segment,
                "load": load, "ttl": 480, "url": f"http://{node}:6444/?segment={segment}",
                "first_heartbeat": r.now(), "last_heartbeat": r.now() - (500 if node == "n3" else 5),
            })
    assert r.table("services").insert(rows).run(conn)["inserted"] == 9
    return r.table("services")


def test_tables_and_errors(r, conn):
    assert r.table_create("t").run(conn)["tables_created"] == 1
    with pytest.raises(ReqlOpFailedError, match="already exists"):
        r.table_create("t").run(conn)
    with pytest.raises(ReqlOpFailedError, match="does not exist"):
        r.table("nope").run(conn)
    assert r.table_list().run(conn) == ["t"]
    assert r.table("t").index_list().run(conn) == []
    with pytest.raises(ReqlQueryLogicError):
        (r.expr(1) + "a").run(conn)
    with pytest.raises(ReqlNonExistenceError):
        r.table("t").get(1)["x"].run(conn)
    with pytest.raises(ReqlUserError, match="mine"):
        r.error("mine").run(conn)
    with pytest.raises(ReqlCompileError):
        r.table("t").filter(lambda x: r.table("t").insert({"id": x["id"]})).run(conn)
    assert r.table_drop("t").run(conn)["tables_dropped"] == 1


@pytest.mark.skipif(not OURS, reason="RethinkDB has all terms")
def test_unsupported_terms_are_named(r, conn):
    for term, name in ((r.js("1"), "JAVASCRIPT"), (r.http("http://x"), "HTTP"), (r.point(1, 2), "POINT")):
        with pytest.raises(ReqlCompileError, match=f"{name}.*RethinkDB has it"):
            term.run(conn)


def test_documents(r, conn):
    r.table_create("t").run(conn)
    table = r.table("t")
    answer = table.insert([{"a": 1}, {"a": 2}]).run(conn)
    assert answer["inserted"] == 2 and len(answer["generated_keys"]) == 2
    moment = datetime.datetime(2026, 11, 22, 18, 0, 0, 250000, tzinfo=UTC)
    doc = {"id": "x", "at": moment, "blob": b"\x00\xff", "deep": {"list": [1, "zwei", None, {"drei": 3.5}]}, "ü": "Grüße"}
    assert table.insert(doc).run(conn)["inserted"] == 1
    assert table.get("x").run(conn) == doc
    assert table.get("x").update({"deep": {"more": r.row["deep"]["list"].count()}}).run(conn)["replaced"] == 1
    assert table.get("x")["deep"]["more"].run(conn) == 4
    assert table.insert(doc).run(conn)["errors"] == 1
    assert table.insert(doc, conflict="replace").run(conn)["replaced"] == 1
    changes = table.get("x").delete(return_changes=True).run(conn)["changes"]
    assert changes == [{"old_val": doc, "new_val": None}]
    assert table.get("x").run(conn) is None


def test_large_results_stream(r, conn):
    r.table_create("t").run(conn)
    text = "x" * 500
    for start in range(0, 20_000, 1000):
        rows = [{"id": i, "text": text} for i in range(start, start + 1000)]
        assert r.table("t").insert(rows, durability="soft").run(conn)["inserted"] == 1000
    cursor = r.table("t").run(conn)
    assert sorted(row["id"] for row in cursor) == list(range(20_000))
    ids = [row["id"] for row in r.table("t").order_by(index="id").pluck("id").run(conn)]
    assert ids == list(range(20_000))
    # A cursor that is closed early leaves the connection usable.
    cursor = r.table("t").run(conn)
    next(cursor)
    cursor.close()
    assert r.table("t").count().run(conn) == 20_000


def test_service_registry_queries(r, conn, services):
    alive = lambda row: r.now().sub(row["last_heartbeat"]).lt(row["ttl"])
    urls = services.get_all("100", index="segment").filter({"role": "trough-read"}).filter(alive).order_by("load")
    assert [row["node"] for row in urls.run(conn)] == ["n2", "n1"]
    assert urls[0]["url"].run(conn) == "http://n2:6444/?segment=100"
    nodes = services.between("trough-nodes:!", "trough-nodes:~").filter(alive).order_by("load")
    assert [row["node"] for row in nodes.run(conn)] == ["n2", "n1", "n3"]
    hot = services.get_all("trough-nodes", index="role").filter(r.row["cold_storage"].default(False).not_())
    assert hot.count().run(conn) == 3
    matching = services.filter({"role": "trough-read"}).filter(
        lambda row: row["segment"].coerce_to("string").match("^1"))
    assert matching.count().run(conn) == 3
    heartbeat = services.get_all(r.args(["trough-read:n1:100", "trough-read:n2:100", "gone"])).update(
        {"last_heartbeat": r.now(), "load": 7})
    assert heartbeat.run(conn)["replaced"] == 2
    stale = services.filter(lambda row: r.now().sub(row["last_heartbeat"]).gt(row["ttl"]))
    assert stale.delete().run(conn)["deleted"] == 2
    assert services.get_all("200", index="segment").count().run(conn) == 2


def test_write_lock_and_provision_query(r, conn, services):
    r.table_create("lock").run(conn)
    r.table("lock").index_create("node").run(conn)
    lock = {"id": "write:lock:300", "segment": "300", "node": "n1", "acquired_on": r.now()}
    assert r.table("lock").insert(lock).run(conn)["inserted"] == 1
    lock["node"] = "n2"
    answer = r.table("lock").insert(lock).run(conn)
    assert answer["errors"] == 1 and "Duplicate primary key" in answer["first_error"]
    chosen = r.table("lock").get("write:lock:none").default(
        services.get_all("none", index="segment").order_by("load")[0].default(
            services.get_all("trough-nodes", index="role").order_by("load")[0].default(None)))
    assert chosen["node"].run(conn) == "n2"


def test_election_has_one_winner(meta, r, conn):
    r.table_create("m").run(conn)
    winners = []

    def elect(name):
        own = r.connect(meta.host, meta.port, db=conn.db)
        candidate = {"id": "master", "holder": name, "last_heartbeat": r.now(), "ttl": 60}
        answer = r.table("m").get("master").replace(
            lambda row: r.branch(
                r.or_(row.eq(None), (r.now() - row["last_heartbeat"]).gt(row["ttl"])), candidate,
                row["holder"].eq(name), row.merge({"last_heartbeat": r.now()}),
                row),
            return_changes="always", durability="hard").run(own)
        assert answer["errors"] == 0
        if answer["changes"][0]["new_val"]["holder"] == name:
            winners.append(name)
        own.close()

    threads = [threading.Thread(target=elect, args=(f"candidate-{i}",)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1


def test_changefeed(meta, r, conn):
    r.table_create("t").run(conn)
    r.table("t").insert([{"id": 1, "n": 1}, {"id": 2, "n": 2}]).run(conn)
    other = r.connect(meta.host, meta.port, db=conn.db)
    feed = r.table("t").filter(r.row["n"] > 1).changes(include_initial=True).run(conn)
    assert next(feed) == {"new_val": {"id": 2, "n": 2}}
    r.table("t").get(1).update({"n": 5}).run(other)
    assert feed.next(wait=10) == {"old_val": None, "new_val": {"id": 1, "n": 5}}
    r.table("t").get(2).delete().run(other)
    assert feed.next(wait=10) == {"old_val": {"id": 2, "n": 2}, "new_val": None}
    # Queries go on beside the feed, on the same connection.
    assert r.table("t").count().run(conn) == 1
    feed.close()
    assert r.table("t").count().run(conn) == 1
    other.close()


def test_noreply(r, conn):
    r.table_create("t").run(conn)
    for i in range(200):
        r.table("t").insert({"id": i}).run(conn, noreply=True)
    conn.noreply_wait()
    assert r.table("t").count().run(conn) == 200


def test_system_tables(r, conn):
    r.table_create("t", primary_key="key").run(conn)
    config = list(r.db("rethinkdb").table("table_config").filter({"db": conn.db, "name": "t"}).run(conn))
    assert config[0]["primary_key"] == "key"
    status = list(r.db("rethinkdb").table("server_status").run(conn))
    assert len(status) == 1 and status[0]["process"]["version"].startswith("rethinkdb 2.4")
    assert conn.server()["name"]
    if OURS:
        with pytest.raises(ReqlOpFailedError, match="RethinkDB has it"):
            r.db("rethinkdb").table("table_config").update({"durability": "soft"}).run(conn)


def test_nothing_acknowledged_is_lost_by_kill(own_meta, r):
    conn = r.connect("127.0.0.1", own_meta.port)
    r.table_create("t").run(conn)
    r.table("t").index_create("n").run(conn)
    acknowledged = []

    def write(start):
        own = RethinkDB().connect("127.0.0.1", own_meta.port)
        try:
            for i in range(start, start + 100_000):
                if r.table("t").insert({"id": i, "n": i % 7}).run(own)["inserted"] == 1:
                    acknowledged.append(i)
        except Exception:
            return

    threads = [threading.Thread(target=write, args=(n * 1_000_000,)) for n in range(4)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60
    while len(acknowledged) < 500:
        assert time.monotonic() < end and any(thread.is_alive() for thread in threads), f"{len(acknowledged)} writes"
        threading.Event().wait(0.01)
    own_meta.stop(signal.SIGKILL)
    for thread in threads:
        thread.join()
    own_meta.start()
    conn = r.connect("127.0.0.1", own_meta.port)
    r.table("t").wait().run(conn)
    found = {row["id"] for row in r.table("t").run(conn)}
    assert set(acknowledged) <= found
    by_index = sum(r.table("t").get_all(n, index="n").count().run(conn) for n in range(7))
    assert by_index == len(found)


def test_bad_password_is_refused(meta, r):
    with pytest.raises(ReqlAuthError):
        r.connect(meta.host, meta.port, password="wrong")
    with pytest.raises(ReqlAuthError):
        r.connect(meta.host, meta.port, user="nobody")
