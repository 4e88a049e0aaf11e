"""doublethink, unmodified, against the metadata server: its documents, its service registry and its unique service."""

import datetime
import gc
import types

import doublethink
import pytest
import rethinkdb.errors
from conftest import OURS

UTC = datetime.timezone.utc


def test_document(rr):
    class Crawl(doublethink.Document):
        table = "crawls"

    Crawl.table_ensure(rr)
    Crawl.table_ensure(rr)
    with pytest.raises(rethinkdb.errors.ReqlOpFailedError):
        Crawl.table_create(rr)
    crawl = Crawl(rr, {"a": "b", "c": {"d": "e"}, "f": ["g", "h"], "i": ["j", {"k": "l"}]})
    crawl.save()
    assert crawl.id
    loaded = Crawl.load(rr, crawl.id)
    assert loaded == crawl
    crawl["c"]["d"] = "changed"
    crawl["f"].append("more")
    del crawl["a"]
    crawl.started = datetime.datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
    crawl.save()
    loaded.refresh()
    assert loaded == crawl and loaded["c"]["d"] == "changed" and "a" not in loaded
    assert loaded.started == datetime.datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
    rr.table("crawls").get(crawl.id).delete().run()
    assert Crawl.load(rr, crawl.id) is None


def test_document_with_primary_key(rr):
    class Site(doublethink.Document):
        @classmethod
        def table_create(cls, rr):
            rr.table_create(cls.table, primary_key="url").run()

    Site.table_ensure(rr)
    site = Site(rr, {"url": "http://example.com/", "n": 1})
    site.save()
    assert site.pk_field == "url" and site.pk_value == "http://example.com/"
    assert Site.load(rr, "http://example.com/")["n"] == 1
    unnamed = Site(rr, {"n": 2})
    unnamed.save()
    assert unnamed["url"] and Site.load(rr, unnamed["url"]) == unnamed


def test_results_are_generators_on_connections_of_their_own(rr):
    rr.table_create("t").run()
    rr.table("t").insert([{"id": i} for i in range(2000)]).run()
    result = rr.table("t").run()
    assert isinstance(result, types.GeneratorType)
    assert len(list(result)) == 2000
    assert [row["id"] for row in rr.table("t").order_by("id")[5:10].run()] == [5, 6, 7, 8, 9]
    half = rr.table("t").run()
    next(half)
    del half
    gc.collect()
    assert rr.table("t").count().run() == 2000


def test_impossible_tables_are_refused(rr):
    with pytest.raises(rethinkdb.errors.ReqlOpFailedError):
        rr.table_create("too_many_replicas", replicas=99).run()
    with pytest.raises(rethinkdb.errors.ReqlOpFailedError):
        rr.table_create("too_many_shards", shards=99).run()
    if OURS:
        assert rr.table_create("three_replicas", replicas=3).run()["tables_created"] == 1


def test_service_registry(rr):
    registry = doublethink.ServiceRegistry(rr)
    # It does not wait for the index that it makes.
    rr.table("services").index_wait().run()
    assert registry.available_service("reader") is None
    one = registry.heartbeat({"role": "reader", "load": 100.0, "ttl": 60})
    two = registry.heartbeat({"role": "reader", "load": 200.0, "ttl": 60})
    assert one["id"] and one["first_heartbeat"] == one["last_heartbeat"]
    assert registry.available_service("reader")["id"] == one["id"]
    assert {service["id"] for service in registry.available_services("reader")} == {one["id"], two["id"]}
    one["load"] = 300.0
    again = registry.heartbeat(one)
    assert again["first_heartbeat"] == one["first_heartbeat"]
    assert registry.available_service("reader")["id"] == two["id"]
    registry.unregister(two["id"])
    assert [service["id"] for service in registry.available_services("reader")] == [one["id"]]
    assert list(registry.available_services("writer")) == []


def test_stale_services_are_purged(rr):
    registry = doublethink.ServiceRegistry(rr)
    stale = {"id": "stale", "role": "reader", "load": 1.0, "ttl": 0.001,
             "last_heartbeat": datetime.datetime(2020, 1, 1, tzinfo=UTC)}
    rr.table("services").insert([stale, dict(stale, id="alive", ttl=1e12)]).run()
    registry.purge_stale_services()
    assert [row["id"] for row in rr.table("services").run()] == ["alive"]


def test_unique_service(rr):
    registry = doublethink.ServiceRegistry(rr)
    first = registry.unique_service("master", candidate={"id": "master", "node": "n1", "role": "master", "ttl": 60})
    assert first["node"] == "n1"
    second = registry.unique_service("master", candidate={"id": "master", "node": "n2", "role": "master", "ttl": 60})
    assert second["node"] == "n1"
    assert registry.unique_service("master")["node"] == "n1"
    rr.table("services").get("master").update({"last_heartbeat": datetime.datetime(2020, 1, 1, tzinfo=UTC)}).run()
    third = registry.unique_service("master", candidate={"id": "master", "node": "n2", "role": "master", "ttl": 60})
    assert third["node"] == "n2"
