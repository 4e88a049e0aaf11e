"""What the tests of operations share: `trough admin`, the metadata by RethinkDB's own driver, segments with copies everywhere."""

import contextlib
import json
import subprocess

from rethinkdb import RethinkDB
from rethinkdb.errors import ReqlError

import harness

DATABASE = "trough_configuration"
r = RethinkDB()


def url(cluster):
    return f"rethinkdb://127.0.0.1:{cluster.meta_port}/{DATABASE}"


def admin(cluster, *args, timeout=120, binary=None):
    """Runs `trough admin`; gives the finished process."""
    return subprocess.run([binary or harness.BIN, "admin", "-u", url(cluster), *map(str, args)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=timeout, check=False)


def admin_json(cluster, *args):
    done = admin(cluster, "--json", *args)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


@contextlib.contextmanager
def metadata(cluster):
    conn = r.connect("127.0.0.1", cluster.meta_port, db=DATABASE)
    try:
        yield conn
    finally:
        conn.close()


def rows(cluster, table):
    with metadata(cluster) as conn:
        return list(r.table(table).run(conn))


def assigned(cluster):
    """{segment: nodes} of all assignments."""
    found = {}
    for row in rows(cluster, "assignment"):
        if "segment" in row:
            found.setdefault(row["segment"], set()).add(row["node"])
    return found


def view(cluster):
    answer = harness.http("GET", cluster.sync_url("/v1/cluster"))
    assert answer.status == 200, answer
    return answer.json


def status(worker):
    return harness.http("GET", f"http://127.0.0.1:{worker.read_port}/status").json


def up(worker):
    harness.wait_for("a worker", lambda: harness.http("GET", f"http://127.0.0.1:{worker.read_port}/readyz").status == 200)


def write(cluster, segment, *numbers, schema="t"):
    """Writes and waits until it is acknowledged."""
    def attempt():
        answer = cluster.provision(segment, schema)
        assert answer.status == 200, answer
        values = ", ".join(f"({n}, hex(randomblob(500)))" for n in numbers)
        answer = harness.http("POST", answer.json["write_url"], f"insert into t values {values}")
        assert answer.status == 200, answer
        return True

    harness.wait_for(f"a write to {segment}", attempt)


def promote(cluster, *segments):
    for segment in segments:
        answer = cluster.promote(segment)
        assert answer.status == 200, answer


def at_rest(cluster, segments, copies=2):
    """Waits until the segments have so many served copies each, and no lock."""
    def done():
        with metadata(cluster) as conn:
            try:
                locks = {row["segment"] for row in r.table("lock").run(conn)}
                read = {}
                for row in r.table("services").get_all("trough-read", index="role").run(conn):
                    read.setdefault(row["segment"], set()).add(row["node"])
            except ReqlError:
                return False  # the tables are just being made
        return all(s not in locks and len(read.get(s, ())) == copies for s in segments)

    harness.wait_for(f"{copies} copies of each segment at rest", done)


def make(cluster, *segments, copies=2):
    """Segments of one row each, promoted, with all their copies."""
    for n, segment in enumerate(segments):
        write(cluster, segment, n)
    promote(cluster, *segments)
    at_rest(cluster, segments, copies)


def start(directory, workers=3, settings=None):
    cluster = harness.Cluster(directory, workers=workers, settings={"LEASE": 10, "MOVE_GRACE": 5, **(settings or {})})
    answer = cluster.put_schema("t", "create table t (n integer primary key, pad text) strict;")
    assert answer.status in (201, 204), answer
    promote(cluster, "warm-up")
    at_rest(cluster, ["warm-up"], copies=min(workers, 2))
    return cluster


def kill(cluster):
    for process in [*cluster.workers, cluster.sync, cluster.meta]:
        if process.alive():
            process.kill()
