"""Certificates that change under a running cluster, and what is refused without them."""

import http.client
import socket
import ssl

import harness
import pytest


def listeners(cluster):
    worker = cluster.workers[0]
    return {"READ_PORT": worker.read_port, "WRITE_PORT": worker.write_port, "SYNC_LOCAL_PORT": worker.manage_port,
            "SYNC_SERVER_PORT": cluster.sync_port, "meta": cluster.meta_port}


def serial(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw, harness.SECURE.context().wrap_socket(
            raw, server_hostname="127.0.0.1") as tls:
        return tls.getpeercert()["serialNumber"]


def test_a_new_certificate(cluster):
    """New connections see it on every listener; old ones go on; files that do not fit change nothing."""
    first = {name: serial(port) for name, port in listeners(cluster).items()}
    assert len(set(first.values())) == 1
    old = http.client.HTTPSConnection("127.0.0.1", cluster.workers[0].read_port, context=harness.SECURE.context())
    old.request("GET", "/livez")
    assert old.getresponse().read() == b"alive\n"
    opened = old.sock

    cert, key = harness.SECURE.cert.read_bytes(), harness.SECURE.key.read_bytes()
    harness.SECURE.cert.write_bytes(cert[: len(cert) // 2])
    logs = [cluster.workers[0].log, cluster.sync.log, cluster.meta.log]
    harness.wait_for("a word of each", lambda: all("the old one serves on" in log.read_text() for log in logs))
    assert {name: serial(port) for name, port in listeners(cluster).items()} == first
    harness.SECURE.cert.write_bytes(cert)

    harness.SECURE.renew()
    harness.wait_for("the new one everywhere", lambda: not set(first.values()) & {serial(p) for p in listeners(cluster).values()})
    old.request("GET", "/livez")
    assert old.getresponse().read() == b"alive\n" and old.sock is opened
    old.close()
    assert cluster.provision("after-the-renewal").status == 200, "the nodes go on with each other"
    assert harness.SECURE.key.read_bytes() != key


def test_what_is_no_tls_is_not_answered(cluster):
    for name, port in listeners(cluster).items():
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            plain.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"alive" not in plain.recv(1000), name


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=str)
def test_old_versions_are_refused(cluster, version):
    context = harness.SECURE.context()
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
    context.set_ciphers("ALL:@SECLEVEL=0")
    for port in listeners(cluster).values():
        with pytest.raises((ssl.SSLError, ConnectionError)), socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_the_metadata_want_their_password(cluster):
    from rethinkdb import RethinkDB
    from rethinkdb.errors import ReqlAuthError, ReqlDriverError
    connect = lambda **more: RethinkDB().connect("127.0.0.1", cluster.meta_port, timeout=5, **more)
    ca = {"ssl": {"ca_certs": str(harness.SECURE.ca)}}
    connect(password=harness.SECURE.password, **ca).close()
    for password in ("", "wrong"):
        with pytest.raises((ReqlAuthError, ReqlDriverError)):
            connect(password=password, **ca)
    with pytest.raises(ReqlDriverError):
        connect(password=harness.SECURE.password)


def test_a_user_who_may_only_read(cluster):
    """Everything that changes something is refused; what is read, followed and told is not."""
    from rethinkdb import RethinkDB
    from rethinkdb.errors import ReqlAuthError, ReqlPermissionError
    r = RethinkDB()
    ca = {"ssl": {"ca_certs": str(harness.SECURE.ca)}, "db": "trough_configuration"}
    with pytest.raises(ReqlAuthError):
        r.connect("127.0.0.1", cluster.meta_port, user="reader", password=harness.SECURE.password, **ca)
    lock = {"id": "write:lock:stolen", "segment": "stolen", "node": "thief"}
    with r.connect("127.0.0.1", cluster.meta_port, user="reader", password=harness.SECURE.reader_password, **ca) as connection:
        assert r.table("lock").count().run(connection) >= 2
        feed = r.table("lock").changes(include_initial=True).run(connection)
        assert next(feed)["new_val"]
        feed.close()
        for term in (r.table("lock").insert(lock), r.table("lock").delete(), r.table("services").update({"url": "http://thief/"}),
                     r.table("lock").replace(lambda row: row), r.table_create("mine"), r.table_drop("lock"), r.db_create("mine"),
                     r.db_drop("trough_configuration"), r.table("lock").index_create("node"), r.table("lock").index_drop("segment"),
                     r.expr([1]).for_each(lambda _: r.table("lock").insert(lock)), r.table("lock").insert(lock, durability="soft"),
                     r.table("lock").get("write:lock:stolen").replace(lock), r.table("lock").filter({}).update({"node": "thief"})):
            with pytest.raises(ReqlPermissionError):
                term.run(connection)
        r.table("lock").insert(lock).run(connection, noreply=True)
        connection.noreply_wait()
        assert r.table("lock").get("write:lock:stolen").run(connection) is None
        assert "thief" not in str(list(r.table("services").run(connection)))
