"""The Python trough's own client, DB-API module and shell, as PyPI has them, against our daemons."""

import asyncio
import datetime
import os
import pathlib
import subprocess
import sys

import harness
import original
import pytest
from conftest import RUST

SCHEMA = "create table crawl_log (id integer primary key, status integer, url text, at text);"


@pytest.fixture(scope="module")
def modules():
    return original.load()


@pytest.fixture
def client(modules, cluster):
    return modules[0].TroughClient(cluster.meta.url)


def test_write_read_promote_and_delete(modules, client, cluster):
    client.register_schema("original", SCHEMA)
    client.register_schema("original", SCHEMA)
    assert client.schema_exists("original") and not client.schema_exists("original-none")
    assert {"name": "original"} in [dict(row) for row in client.schemas()]
    assert [dict(row) for row in client.schema("original")] == [{"original": SCHEMA}] and client.schema("none") is None

    moment = datetime.datetime(2026, 11, 22, 18, 0)
    insert = "insert into crawl_log (status, url, at) values (%s, %s, %s)"
    client.write("810001", insert, (200, "http://e.org/it's", moment), schema_id="original")
    client.write("810001", insert, (None, "ünï", None), schema_id="original")
    rows = client.read("810001", "select status, url, at from crawl_log where url != %s order by id", ("x",))
    assert rows == [{"status": 200, "url": "http://e.org/it's", "at": "2026-11-22 18:00:00"}, {"status": None, "url": "ünï", "at": None}]
    assert asyncio.run(client.async_read("810001", "select count(*) as n from crawl_log")) == [{"n": 2}]
    with pytest.raises(modules[0].TroughException) as refused:
        client.read("810001", "select nope from crawl_log")
    assert refused.value.returned_message == "500 Server Error: no such column: nope\n"
    with pytest.raises(modules[0].TroughException):
        client.write("810001", "insert into nowhere values (1)")

    assert client._dirty_segments == {"810001"}
    client.promote("810001")
    assert (cluster.store / "810" / "810001.sqlite").exists()
    with pytest.raises(modules[0].TroughException):
        client.promote("810002")

    until(lambda: "810001" in {row["segment"] for row in client.readable_segments(regex="^81")})
    assert client.read_urls_for_regex("^81000[0-9]$").keys() == {"810001"}
    assert all(row["url"].endswith(f"?segment={row['segment']}") for row in client.readable_segments())

    with pytest.raises(modules[0].TroughException):
        client.delete_segment("810001")  # Its write lock stands until the other copy is there.
    harness.wait_for("the write lock to go", lambda: deleted(modules[0], client, "810001"))
    with pytest.raises(modules[0].TroughSegmentNotFound):
        client.delete_segment("810001")
    with pytest.raises(modules[0].TroughSegmentNotFound):
        client.read_url_nocache("810001")


def test_promotion_thread(modules, cluster):
    client = modules[0].TroughClient.__new__(modules[0].TroughClient)
    # The original calls Thread.setDaemon, which warns.
    with pytest.warns(DeprecationWarning):
        client.__init__(cluster.meta.url, promotion_interval=0.2)
    client.write("810100", "create table t (a); insert into t values (1);")
    until(lambda: (cluster.store / "810" / "810100.sqlite").exists())


def test_db_api(modules, cluster):
    """It provisions by the deprecated `POST /` and takes the first row that it finds alive."""
    connection = modules[1].connect(database="810200", rethinkdb=[cluster.meta.address])
    cursor = connection.cursor()
    cursor.execute("create table t (a integer, b text)")
    cursor.execute("insert into t values (%s, %s)", (1, "one"))
    cursor.execute("insert into t values (%s, %s)", (2, "two"))
    cursor.execute("select a, b from t order by a")
    assert cursor.fetchall() == [{"a": 1, "b": "one"}, {"a": 2, "b": "two"}]
    assert cursor.fetchone() == [1, "one"] and cursor.fetchmany(1) == [{"a": 1, "b": "one"}]
    with pytest.raises(Exception, match="Trough Query Failed.*no such table: nowhere"):
        cursor.execute("insert into nowhere values (1)")
    connection.commit()
    connection.close()
    with pytest.raises(Exception, match="No healthy node"):
        modules[1].connect(database="819999", rethinkdb=[cluster.meta.address]).cursor().execute("select 1")


def test_shell(client, cluster, tmp_path):
    """The original's shell, by its standard input."""
    schema = tmp_path / "schema.sql"
    schema.write_text("create table t (a integer, b text);")
    for segment in ("810301", "810302"):
        answer = harness.http("POST", cluster.sync_url("/provision"), {"segment": segment}).json
        harness.http("POST", answer["write_url"], "create table t (a integer, b text);")
    until(lambda: len({row["segment"] for row in client.readable_segments("^81030[12]$")}) == 2)
    lines = [f"register schema shelled {schema}", "show schemas", "show schema shelled", "insert into t values (1, 'One')",
             "select * from t;", "show tables", "show segments matching ^8103", "format raw", "select a from t", "show connections",
             "promote", "connect matching ^81030[12]$", "select count(*) as n from t", "shred segment 810399", "quit"]
    done = subprocess.run([sys.executable, pathlib.Path(original.__file__), "-u", cluster.meta.url, "-w", "-s", "shelled", "810300"],
                          input="\n".join(lines) + "\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                          env={**os.environ, "PAGER": "cat", "HOME": str(tmp_path)})
    said = done.stdout
    assert done.returncode == 0, said
    for expected in ("| shelled  |", "| create table t (a integer, b text); |", "| 1 | One |", "+++++ results from segment 810300 +++++",
                     '[{"a": 1}]', "1 total results", '"segment_id": "810300"', "Format is now 'raw'", "trough:[2 segments](rw)>",
                     "+++++ results from segment 810302 +++++", '[{"n": 0}]', "2 total results", "bye!"):
        assert expected in said, f"{expected!r} is missing in\n{said}"
    # It names what it cannot do, and goes on.
    assert "received 404 from DELETE" in said
    assert (cluster.store / "810" / "810300.sqlite").exists()
    assert f"http://{RUST[0].rsplit('.', 1)[0]}" in said


def until(condition):
    harness.wait_for("it", condition)


def deleted(client_module, client, segment):
    try:
        client.delete_segment(segment)
    except client_module.TroughException:
        return False
    return True
