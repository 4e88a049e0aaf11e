"""What the Python trough's clients and the crawlers send, request by request and query by query: discovery, provisioning, writes,
reads, promotion, schemas with every status and body, deletion, addressing by the Host header, large results, and the proxy to
the holder of the write lock."""

import http.client
import json
import urllib.parse

import doublethink
import harness
import pytest
from conftest import RUST
from hosts import r

SCHEMA = "create table t (a integer, b text);"


def alive(svc):
    return r.now().sub(svc["last_heartbeat"]).lt(svc["ttl"])


@pytest.fixture(scope="module")
def api(cluster):
    """The sync master's URL as the clients find it."""
    registry = doublethink.ServiceRegistry(doublethink.Rethinker(servers=[cluster.meta.address], db="trough_configuration"))
    master = registry.unique_service("trough-sync-master")
    assert master["url"] == cluster.sync_url("/") and master["port"] == cluster.ports["SYNC_SERVER_PORT"]
    return lambda method, path, body=None, **kwargs: harness.http(method, urllib.parse.urljoin(master["url"], path), body, **kwargs)


@pytest.fixture(scope="module")
def written(cluster, api):
    """A segment with a schema and two rows: its write URL."""
    api("PUT", "schema/old/sql", SCHEMA)
    answer = api("POST", "provision", {"segment": "820001", "schema": "old"}).json
    assert harness.http("POST", answer["write_url"], "insert into t values (1, 'x'), (2, null)").status == 200
    return answer["write_url"]


def test_discovery(cluster, written):
    services = r.table("services", read_mode="outdated")
    one = services.get_all("820001", index="segment").filter({"role": "trough-read"}).filter(alive).order_by("load")
    (row,) = cluster.run(one)
    assert row["url"].endswith("/?segment=820001") and row["port"] == cluster.ports["READ_PORT"] and row["node"] in RUST
    assert {"id", "role", "node", "segment", "port", "url", "ttl", "load", "first_heartbeat", "last_heartbeat", "host", "pid"} <= row.keys()
    assert row["id"] == f"trough-read:{row['node']}:820001"
    matching = services.filter({"role": "trough-read"}).filter(r.row.has_fields("segment")).filter(
        lambda svc: svc["segment"].coerce_to("string").match("^82000")).filter(alive)
    assert {found["segment"] for found in cluster.run(matching)} >= {"820001"}
    write = services.filter({"role": "trough-write"}).filter(alive).filter({"segment": "820001"})
    assert [found["url"] for found in cluster.run(write)] == [written]
    # The hosts, as the original's master and its provisioning choose among them.
    nodes = r.table("services").between("trough-nodes:!", "trough-nodes:~").filter(alive).order_by("load").filter(
        r.row["cold_storage"].default(False).not_())
    assert sorted(node["node"] for node in cluster.run(nodes)) == sorted(RUST)
    for node in cluster.run(nodes):
        assert node["id"] == f"trough-nodes:{node['node']}:None" and node["available_bytes"] == 10**12 and node["role"] == "trough-nodes"
    chosen = r.table("lock").get("write:lock:820001").default(
        r.table("services").get_all("820001", index="segment").filter({"role": "trough-read"}).filter(alive).order_by("load")[0].default(
            r.table("services").get_all("trough-nodes", index="role").filter(r.row["cold_storage"].default(False).not_()).filter(alive)
            .order_by("load")[0].default(None)))
    assert cluster.run(chosen)["node"] in RUST
    lock = cluster.run(r.table("lock").get("write:lock:820001"))
    assert lock["segment"] == "820001" and lock["node"] == row["node"] and lock["acquired_on"]


def test_provision(cluster, api):
    answer = api("POST", "provision", {"segment": "820100"})
    assert answer.status == 200 and answer.headers.get_content_type() == "application/json"
    assert answer.json.keys() == {"write_url", "result", "size", "schema"}
    assert answer.json["result"] == "success" and answer.json["schema"] == "default"
    assert api("POST", "provision", {"segment": "820100", "schema": "default"}).json["write_url"] == answer.json["write_url"]
    old = api("POST", "", "820101")
    assert old.status == 200 and old.headers.get_content_type() == "text/plain" and old.text.endswith("/?segment=820101")
    cold = api("POST", "provision", {"segment": "cold-1"})
    assert cold.status == 400 and "cold storage" in cold.json["error"], cold
    for wish in ({"segment": "820102", "schema": "nowhere"}, {"segment": "../820102"}, {"schema": "default"}, {"segment": ""}):
        assert 400 <= api("POST", "provision", wish).status <= 500
    # The same at the worker itself.
    local = lambda method, path, body=None: harness.http(method, cluster.url(RUST[0], "SYNC_LOCAL_PORT", path), body)
    mine = local("POST", "/provision", {"segment": "820103"})
    assert mine.status == 200 and mine.json["write_url"] == cluster.url(RUST[0], "WRITE_PORT", "/?segment=820103")
    assert local("DELETE", "/segment/820103").status == 400
    assert local("DELETE", "/segment/820199").status == 404
    assert local("POST", "/promote", {"segment": "820199"}).status == 500
    assert local("POST", "/promote", {"segment": "820103"}).json["remote_path"] == str(cluster.store / "820" / "820103.sqlite")


def test_write(cluster, written):
    answer = harness.http("POST", written, "create table w (a); insert into w values (1);\ninsert into w values (2)",
                          {"content-type": "application/sql;charset=utf-8"})
    assert (answer.status, answer.text, answer.headers.get_content_type()) == (200, "OK\n", "text/plain")
    empty = harness.http("POST", written, b"")
    assert empty.status == 500 and empty.text == "500 Server Error: No query provided.\n"
    half = harness.http("POST", written, "insert into w values (3); insert into nowhere values (1);")
    assert half.text.startswith("500 Server Error: ") if half.status == 500 else 400 <= half.status < 500
    assert "no such table: nowhere" in half.text
    segment = written.split("=")[1]
    assert [row["a"] for row in cluster.read(RUST[0], segment, "select a from w order by a").json] == [1, 2]
    other = next(cluster.url(host, "WRITE_PORT", f"/?segment={segment}") for host in RUST if host not in written)
    refused = harness.http("POST", other, "insert into w values (4)")
    assert refused.status == 500 and refused.text.startswith("500 Server Error: ") and "write lock" in refused.text
    unprovisioned = harness.http("POST", cluster.url(RUST[0], "WRITE_PORT", "/?segment=829999"), "create table w (a)")
    assert unprovisioned.status == 500 and "829999" in unprovisioned.text


def test_read_and_the_proxy_to_the_lock_holder(cluster, written):
    for host in RUST:  # One of them holds the write lock; the other passes the query on.
        answer = cluster.read(host, "820001", "select a, b from t order by a")
        assert answer.status == 200 and answer.headers.get_content_type() == "application/json"
        assert answer.text == '[{"a":1,"b":"x"},\n{"a":2,"b":null}]\n', answer
        assert cluster.read(host, "820001", "select a from t where a > 5").text == "[]\n"
        bad = cluster.read(host, "820001", "select c from t")
        assert bad.status == 500 and bad.text == "500 Server Error: no such column: c\n" and bad.headers.get_content_type() == "text/plain"
        for sql in ("delete from t", "select 1; select 2", ""):
            refused = cluster.read(host, "820001", sql)
            assert 400 <= refused.status <= 500 and refused.text, sql
        functions = cluster.read(host, "820001", "select regexp('^x', b) as m, seedcrawledstatus(404) as s from t where a = 1")
        assert functions.json == [{"m": 1, "s": "Crawled (HTTP error 404)"}]
    assert cluster.read(RUST[0], "829999", "select 1").status >= 400


def test_segment_by_the_host_header(cluster, written):
    """Without the parameter, the first label of the Host header names the segment."""
    for port, method_body, expected in (("READ_PORT", "select count(*) as n from t", '[{"n":2}]\n'), ("WRITE_PORT", "select 1", "OK\n")):
        host = urllib.parse.urlsplit(written).hostname
        connection = http.client.HTTPConnection(host, cluster.ports[port])
        connection.request("POST", "/", method_body, {"Host": "820001.trough.example.org"})
        answer = connection.getresponse()
        assert (answer.status, answer.read().decode()) == (200, expected)
        connection.close()
    # The parameter counts more.
    assert cluster.read(RUST[0], "820001", "select 1 as one", headers={"Host": "829999.example.org"}).json == [{"one": 1}]


def test_large_results_stream(cluster, written):
    """200,000 rows come row by row, the first before the last is made, through the proxy too."""
    sql = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000) select i, 'some text of row ' || i as text from n"
    for host in RUST:
        connection = http.client.HTTPConnection(host, cluster.ports["READ_PORT"])
        connection.request("POST", "/?segment=820001", sql)
        answer = connection.getresponse()
        assert answer.status == 200 and answer.getheader("content-length") is None
        assert answer.readline() == b'[{"i":1,"text":"some text of row 1"},\n'
        body = answer.read().decode()
        lines = body.splitlines()
        assert len(lines) == 199_999 and lines[-1] == '{"i":200000,"text":"some text of row 200000"}]' and body.endswith("]\n")
        assert all(json.loads(line.rstrip(",]"))["i"] == i for i, line in enumerate(lines, 2) if i % 5000 == 0)
        connection.close()
    # One that fails on its way breaks off: the client sees it.
    connection = http.client.HTTPConnection(RUST[0], cluster.ports["READ_PORT"])
    broken = sql.replace("'some text of row ' || i", "case when i = 150000 then abs(-9223372036854775808) else 'text' end")
    connection.request("POST", "/?segment=820001", broken)
    answer = connection.getresponse()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    connection.close()


def test_promote(cluster, api):
    write_url = api("POST", "provision", {"segment": "820300"}).json["write_url"]
    harness.http("POST", write_url, "create table t (a); insert into t values (1)")
    answer = api("POST", "promote", {"segment": "820300"})
    path = cluster.store / "820" / "820300.sqlite"
    assert answer.status == 200 and answer.json == {"remote_path": str(path)} and path.stat().st_size > 0
    for body, status in (({"segment": "829999"}, 500), ({}, None)):
        refused = api("POST", "promote", body)
        assert refused.status == status if status else 400 <= refused.status <= 500
    assert "is not currently writable" in api("POST", "promote", {"segment": "829999"}).text
    # The assignment has what the original's readers look for.
    row = harness.wait_for("an assignment", lambda: cluster.run(r.table("assignment").get_all("820300", index="segment")))[0]
    assert row["remote_path"] == str(path) and row["bytes"] == path.stat().st_size and row["id"] == f"{row['node']}:820300"
    assert row["hash_ring"] in (0, 1) and row["assigned_on"]
    of_node = r.table("assignment", read_mode="outdated").between(f"{row['node']}:\x01", f"{row['node']}:\x7f", right_bound="closed")
    assert "820300" in {found["segment"] for found in cluster.run(of_node)}


def test_schemas(api):
    assert "default" in api("GET", "schema").json and api("GET", "schema").headers.get_content_type() == "application/json"
    assert api("GET", "schema/default").json == {"id": "default", "sql": ""}
    assert api("GET", "schema/s1").status == 404 and api("GET", "schema/s1/sql").status == 404
    assert api("PUT", "schema/s1", {"id": "s1", "sql": SCHEMA}).status == 201
    assert api("PUT", "schema/s1", {"id": "s1", "sql": SCHEMA}).status == 204
    assert api("GET", "schema/s1").json == {"id": "s1", "sql": SCHEMA}
    text = api("GET", "schema/s1/sql")
    assert text.text == SCHEMA and text.headers.get_content_type() == "application/sql"
    assert api("PUT", "schema/s2/sql", SCHEMA).status == 201 and api("PUT", "schema/s2/sql", SCHEMA).status == 204
    assert set(api("GET", "schema").json) >= {"default", "s1", "s2"}
    for path, body, said in (
        ("schema/s1", "no json", "input could not be parsed as json"),
        ("schema/s1", {"id": "s1"}, "input json has keys {'id'} (should be {'id', 'sql'})"),
        ("schema/s1", {"id": "s3", "sql": ""}, "id in json 's3' does not match id in url 's1'"),
        ("schema/s1", {"id": "s1", "sql": "create tabel t"}, 'schema sql failed validation: near "tabel": syntax error'),
        ("schema/s1/sql", "create tabel t", 'schema sql failed validation: near "tabel": syntax error'),
    ):
        answer = api("PUT", path, body)
        assert (answer.status, answer.text, answer.headers.get_content_type()) == (400, said, "text/plain"), answer
    assert api("GET", "schema/s1").json["sql"] == SCHEMA


def test_delete(cluster, api):
    assert api("DELETE", "segment/829999").status == 404
    write_url = api("POST", "provision", {"segment": "820400"}).json["write_url"]
    harness.http("POST", write_url, "create table t (a)")
    assert api("DELETE", "segment/820400").status == 400
    assert api("POST", "promote", {"segment": "820400"}).status == 200
    harness.wait_for("the write lock to go", lambda: api("DELETE", "segment/820400").status == 204)
    assert not (cluster.store / "820" / "820400.sqlite").exists()
    assert cluster.run(r.table("services").get_all("820400", index="segment")) == []
    assert cluster.run(r.table("assignment").get_all("820400", index="segment")) == []
    assert api("DELETE", "segment/820400").status == 404


def test_other_methods_are_405(cluster, api):
    for method, path in (("GET", "provision"), ("PUT", "promote"), ("DELETE", "schema"), ("POST", "schema/x"), ("DELETE", "schema/x/sql"),
                         ("GET", "segment/x"), ("POST", "segment/x")):
        assert api(method, path, None if method == "GET" else "x").status == 405, (method, path)
    for port in ("READ_PORT", "WRITE_PORT"):
        assert harness.http("PUT", cluster.url(RUST[0], port, "/?segment=820001"), "select 1").status == 405
