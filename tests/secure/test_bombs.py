"""Input that is small and becomes large, or nests without end: refused by each daemon, which serves on."""

import json
import socket
import struct

import harness
import pytest
from rethinkdb import RethinkDB

DEEP = 1_000_000


def ports(cluster):
    worker = cluster.workers[0]
    return {"query": (worker.read_port, "/v1/query"), "write": (worker.write_port, "/v1/write"),
            "worker provision": (worker.manage_port, "/v1/provision"), "worker promote": (worker.manage_port, "/v1/promote"),
            "provision": (cluster.sync_port, "/v1/provision"), "promote": (cluster.sync_port, "/v1/promote"),
            "console": (cluster.sync_port, "/v1/console"), "schema": (cluster.sync_port, "/schema/deep")}


def serves(cluster):
    assert cluster.read("mine-1", "select count(*) n from t").json[0]["n"] >= 1
    assert harness.http("GET", cluster.sync_url("/livez")).status == 200
    with harness.metadata(cluster.meta_port) as connection:
        assert RethinkDB().expr(1).run(connection) == 1
    assert all(process.alive() for process in (*cluster.workers, cluster.sync, cluster.meta))


JSON = {
    "arrays": "[" * DEEP,
    "closed arrays": "[" * DEEP + "]" * DEEP,
    "objects": '{"a":' * DEEP,
    "deep params": '{"segments": ["mine-1"], "map": "select 1", "params": ' + "[" * DEEP + "]" * DEEP + "}",
    "deep segments": '{"segments": ' + "[" * DEEP + "]" * DEEP + "}",
    "a number": '{"segments": ["mine-1"], "map": "select ?1", "params": [1' + "0" * DEEP + "]}",
    "a name": '{"' + "x" * DEEP + '": 1}',
}


@pytest.mark.parametrize("bomb", JSON)
def test_json(cluster, bomb):
    for name, (port, path) in ports(cluster).items():
        answer = harness.http("PUT" if name == "schema" else "POST", f"http://127.0.0.1:{port}{path}", JSON[bomb], {"content-type": "application/json"})
        assert 400 <= answer.status < 500 or bomb == "a number" and name == "query", (name, answer)
    serves(cluster)


@pytest.mark.parametrize("bomb", [b"\x91" * DEEP, b"\x81\xa1a" * DEEP, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
                                  b"\x82\xa8segments\xdd\xff\xff\xff\xff", b"\x81\xa6writes\xdd\xff\xff\xff\xff", b"\xc7\x01\x7f" * DEEP],
                         ids=lambda bomb: repr(bomb[:12]))
def test_message_pack(cluster, bomb):
    for name in ("query", "write"):
        port, path = ports(cluster)[name]
        answer = harness.http("POST", f"http://127.0.0.1:{port}{path}", bomb, {"content-type": "application/msgpack"})
        assert 400 <= answer.status < 500, (name, answer)
    serves(cluster)


REQL = {
    "arrays": b"[1," + b"[" * DEEP,
    "closed arrays": b"[1," + b"[" * DEEP + b"]" * DEEP + b"]",
    "terms": b"[1," + b"[24,[" * DEEP + b"1" + b",1]]" * DEEP + b"]",
    "functions": b"[1," + b"[69,[[2,[1]]," * DEEP + b"1" + b"]]" * DEEP + b"]",
    "objects": b"[1," + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"]",
    "options": b"[1,1," + b'{"db":' * DEEP + b"1" + b"}" * DEEP + b"]",
    "json": b'[1,[98,["' + b"[" * DEEP + b"]" * DEEP + b'"]]]',
}


@pytest.mark.parametrize("bomb", REQL)
def test_reql(cluster, bomb):
    """A client with the password; one without is not listened to."""
    with harness.metadata(cluster.meta_port) as connection:
        link = connection._instance._socket._socket
        link.sendall(struct.pack("<qi", 77, len(REQL[bomb])) + REQL[bomb])
        token, length = struct.unpack("<qi", link.recv(12, socket.MSG_WAITALL) if not harness.SECURE else exactly(link, 12))
        answer = json.loads(exactly(link, length))
        assert token == 77 and answer["t"] >= 16, answer
    serves(cluster)


def exactly(link, length):
    got = b""
    while len(got) < length:
        piece = link.recv(length - len(got))
        assert piece, got
        got += piece
    return got


def test_reql_that_grows(cluster):
    r = RethinkDB()
    with harness.metadata(cluster.meta_port) as connection:
        for term in (r.range(10**9).coerce_to("array"), r.range(200_000).map(lambda x: r.range(200_000).coerce_to("array")).coerce_to("array"),
                     r.expr("a").split("").fold("a" * 1000, lambda a, b: a + a)):
            try:
                r.expr(term).count().run(connection)
            except r.errors.ReqlError:
                pass
    serves(cluster)


@pytest.mark.parametrize("claimed", [2**31 - 1, -1, 2**27])
def test_reql_of_a_length_that_does_not_come(cluster, claimed):
    with harness.metadata(cluster.meta_port) as connection:
        connection._instance._socket._socket.sendall(struct.pack("<qi", 78, claimed) + b"[1,1]")
    serves(cluster)


def test_regular_expressions(cluster):
    """Linear in time, bounded in size: as patterns of segments and inside SQL."""
    long = "a" * 5000
    for pattern in ("(a+)+$", "(a|a)*b", "((a{1000}){1000}){1000}", "(" * 100_000, "a{1,1000000}", "(?:a?){1000}a{1000}"):
        listed = harness.http("POST", cluster.sync_url("/v1/console"), {"matching": pattern, "sql": "select 1"}, timeout=20)
        assert listed.status < 500, listed
        for sql in (f"select '{long}b' regexp '{pattern}'", f"select trough_matches('{long}b', '{pattern}', '')"):
            answer = cluster.read("mine-1", sql, timeout=20)
            assert answer.status in (200, 500), answer
    serves(cluster)


@pytest.mark.parametrize("text", [
    "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(12)),
    "[" * 100_000,
    "RETHINKDB_HOSTS: " + "[" * 10_000,
    "a: " + "{a: " * 10_000,
    "MINIMUM_ASSIGNMENTS: '" + "(" * 100_000 + "1" + ")" * 100_000 + "'",
    "MINIMUM_ASSIGNMENTS: '" + "1+" * 100_000 + "1'",
    "MINIMUM_ASSIGNMENTS: '" + "!" * 100_000 + "true'",
    "MINIMUM_ASSIGNMENTS: '" + "!" * 998 + "x'",
    "MINIMUM_ASSIGNMENTS: '" + "-" * 1_998 + "a'",
    "MINIMUM_ASSIGNMENTS: '" + "1+" * 999 + "a'",
    "MINIMUM_ASSIGNMENTS: '" + "a?" * 600 + "1" + ":1" * 300 + "'",
    "MINIMUM_ASSIGNMENTS: '" + "a.b" * 600 + "'",
    "MINIMUM_ASSIGNMENTS: '" + "[" * 50_000 + "]" * 50_000 + "'",
    "STORAGE_IN_BYTES: '" + "(" * 100_000 + "1" + ")" * 100_000 + "'",
    "STORAGE_IN_BYTES: '9**9**9**9**9'",
    "STORAGE_IN_BYTES: '" + "-" * 99_999 + "1'",
], ids=lambda text: text[:32])
def test_settings(tmp_path, text):
    """Told in the settings' own manner: no crash, and no minute of thinking."""
    import subprocess
    path = tmp_path / "settings.yml"
    path.write_text(text)
    done = subprocess.run([harness.BIN, "doctor", "--config", str(path)], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert done.returncode == 1, (done.returncode, done.stdout[-300:], done.stderr[-300:])
