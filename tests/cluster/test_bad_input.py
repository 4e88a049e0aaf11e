"""Bad input of every kind gets a clear error that names the thing; nothing crashes, nothing acknowledged is lost."""

import errno
import json
import os
import socket
import sqlite3
import subprocess

import pytest

import harness


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    c = harness.Cluster(tmp_path_factory.mktemp("bad"), workers=1)
    assert c.put_schema("t", "create table t (id integer primary key, s text);").status == 201
    assert c.provision("good", "t").status == 200
    assert c.write("good", "insert into t values (1, 'one')").status == 200
    yield c
    # Whatever was sent above: every part is alive and the acknowledged row is there.
    assert all(p.alive() for p in [*c.workers, c.sync, c.meta])
    assert c.read("good", "select * from t where id = 1").json == [{"id": 1, "s": "one"}]
    c.stop()


@pytest.mark.parametrize("sql, said", [
    ("select from where", "syntax error"),
    ("select * from nosuch", "no such table: nosuch"),
    ("select nosuch from t", "no such column: nosuch"),
    ("select '", "unrecognized token"),
    ("select 1; select 2", "one SELECT"),
    ("delete from t", ""),
    ("attach '/etc/passwd' as p", ""),
    ("select load_extension('x')", ""),
    ("pragma journal_mode = off", ""),
    ("select 1" + "+1" * 5000, ""),
    ("select '" + "x" * 3_000_000 + "'", ""),
    ("select zeroblob(2000000000)", ""),
])
def test_sql_refused_on_the_read_port(cluster, sql, said):
    answer = cluster.read("good", sql)
    assert answer.status >= 400 and said in answer.text, answer
    frames = [json.loads(line) for line in cluster.query(["good"], sql).text.splitlines()]
    assert any("error" in frame for frame in frames), frames[:3]


def test_double_quotes_name_columns(cluster):
    frames = [json.loads(line) for line in cluster.query(["good"], 'select "nosuch" from t').text.splitlines()]
    assert any("nosuch" in json.dumps(frame.get("error", "")) for frame in frames), frames
    # The old endpoint keeps what its clients have always had: a mistyped identifier in double quotes is a text.
    assert cluster.read("good", 'select "nosuch" as x from t where id = 1').json == [{"x": "nosuch"}]


def test_unknown_segment_is_named(cluster):
    answer = cluster.read("never-heard-of", "select 1")
    assert answer.status >= 400 and "never-heard-of" in answer.text
    answer = cluster.write("never-heard-of", "insert into t values (1)")
    assert answer.status == 500 and "never-heard-of" in answer.text and "write lock" in answer.text


@pytest.mark.parametrize("segment", ["../good", "..", ".hidden", "a/b", "a\\b", "x" * 300, "", "nul\0byte", "line\nfeed", "/etc/passwd"])
def test_segment_ids_that_could_leave_their_directory(cluster, segment):
    for answer in (cluster.read(segment, "select 1"), cluster.write(segment, "create table x(a)"), cluster.provision(segment),
                   cluster.promote(segment), harness.http("DELETE", cluster.sync_url(f"/segment/{harness.quote(segment)}"))):
        assert 400 <= answer.status <= 500, answer
    assert not list(cluster.dir.glob("*.sqlite"))


def test_a_colon_and_unicode_are_ordinary_in_a_segment_id(cluster):
    for segment in ("a:b:c", "job é中😀", "with space", "per%cent", "q?x&y=z#f"):
        if ":" in segment and harness.STORE == "hdfs":  # HDFS allows none in names
            answer = cluster.provision(segment, "t")
            assert answer.status == 400 and "no ':' in names" in answer.text and segment in answer.text, answer
            continue
        assert cluster.provision(segment, "t").status == 200
        assert cluster.write(segment, "insert into t values (7, 'x')").status == 200
        assert cluster.read(segment, "select id from t").json == [{"id": 7}]
        answer = cluster.promote(segment)
        assert answer.status == 200, answer


def place(cluster, segment, content):
    cluster.put_canonical(f"{segment[:-3]}/{segment}.sqlite", content)


def test_files_that_are_no_database(cluster, tmp_path):
    db = sqlite3.connect(tmp_path / "good.sqlite")
    db.execute("create table t (id integer primary key, s text)")
    db.executemany("insert into t(s) values (?)", [("x" * 100,)] * 2000)
    db.commit()
    db.close()
    whole = (tmp_path / "good.sqlite").read_bytes()
    place(cluster, "bad-text", b"hello, I am a text file\n" * 100)
    place(cluster, "bad-truncated", whole[: len(whole) // 2])
    place(cluster, "bad-short", whole[:50])
    place(cluster, "fine-000", whole)
    harness.wait_for("the good copy", lambda: cluster.read("fine-000", "select count(*) n from t").json == [{"n": 2000}])
    for segment in ("bad-text", "bad-truncated", "bad-short"):
        harness.wait_for(f"a word about {segment}", lambda s=segment: s in cluster.workers[0].log.read_text(errors="replace"))
        answer = cluster.read(segment, "select count(*) from t")
        assert answer.status >= 400 and segment in answer.text, answer
    status = harness.http("GET", f"http://127.0.0.1:{cluster.workers[0].read_port}/status").text
    assert "bad-truncated" in status


def test_an_empty_file_is_an_empty_database(cluster):
    place(cluster, "empty-000", b"")
    harness.wait_for("the empty copy", lambda: cluster.read("empty-000", "select count(*) n from sqlite_master").json == [{"n": 0}])


def test_a_failing_script_leaves_nothing(cluster):
    assert cluster.write("good", "insert into t values (50, 'x'); insert into nosuch values (1)").status == 500
    assert cluster.read("good", "select count(*) n from t where id = 50").json == [{"n": 0}]


@pytest.mark.parametrize("body, said", [
    ("[1]", ""), ("{}", "segments"), ('{"segments": ["a"]}', "map"), ('{"segments": ["../x"], "map": "select 1"}', ".."),
    ('{"segments": ["a"], "map": "select 1", "nosuch": 1}', "nosuch"), ("{", ""), ("\xff\xfe", ""),
    ('{"segments": ["good"], "map": "select ?1", "params": [{"blub": 1}]}', ""),
])
def test_query_requests_that_make_no_sense(cluster, body, said):
    answer = harness.http("POST", f"http://127.0.0.1:{cluster.workers[0].read_port}/v1/query", body.encode("latin-1"),
                          {"content-type": "application/json"})
    assert 400 <= answer.status < 500 and said in answer.text, answer


def test_bytes_that_are_no_http(cluster):
    for port in (cluster.workers[0].read_port, cluster.workers[0].write_port, cluster.workers[0].manage_port, cluster.sync_port, cluster.meta_port):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
            try:
                s.sendall(os.urandom(2000) + b"\r\n\r\n")
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
            except ConnectionError:
                pass  # it hung up in the middle: just as well
            except OSError as e:
                assert e.errno == errno.ENOTCONN, e


def run(*args, env=None):
    return subprocess.run([harness.BIN, *args], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
                          env={**os.environ, **(env or {})})


@pytest.mark.parametrize("text, said", [
    ("READ_PROT: 6444\n", "READ_PORT"),
    ("READ_PORT: many\n", "READ_PORT"),
    ("READ_PORT: 99999\n", "READ_PORT"),
    ('MINIMUM_ASSIGNMENTS: "lambda segment_id: 2 if segment_id > \'5\' else 1"\n', "segment_id > '5' ? 2 : 1"),
    ("a: b: c\n", ""),
    ("- 1\n", ""),
])
def test_settings_with_a_mistake(tmp_path, text, said):
    path = tmp_path / "settings.yml"
    path.write_text(text)
    result = run("worker", "--config", str(path))
    assert result.returncode not in (0, 101) and said in result.stderr and str(path) in result.stderr, result.stderr


def test_settings_file_that_is_missing(tmp_path):
    result = run("sync", "--config", str(tmp_path / "nosuch.yml"))
    assert result.returncode != 0 and "nosuch.yml" in result.stderr


def test_a_port_in_use_is_named(cluster, tmp_path):
    result = run("meta", "--dir", str(tmp_path / "m"), "--listen", f"127.0.0.1:{cluster.meta_port}")
    assert result.returncode != 0 and str(cluster.meta_port) in result.stderr, result.stderr
    path = tmp_path / "worker.yml"
    ports = harness.free_ports(2)
    path.write_text(json.dumps({**cluster.common, "HOSTNAME": "second", "LOCAL_DATA": str(tmp_path / "data"),
                                "READ_PORT": cluster.workers[0].read_port, "WRITE_PORT": ports[0], "SYNC_LOCAL_PORT": ports[1]}))
    result = run("worker", "--config", str(path))
    assert result.returncode != 0 and "READ_PORT" in result.stderr and str(cluster.workers[0].read_port) in result.stderr, result.stderr
