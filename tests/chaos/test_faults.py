"""Parts of a cluster die while it is asked: what the architecture promises still holds."""

import threading

import pytest

import harness


@pytest.fixture
def cluster(tmp_path):
    c = harness.Cluster(tmp_path, workers=2, settings={"MINIMUM_ASSIGNMENTS": 2, "MAXIMUM_ASSIGNMENTS": 2})
    yield c
    for process in [*c.workers, c.sync, c.meta]:
        process.kill()


def fill(cluster, segment, rows=10):
    assert cluster.put_schema("t", "create table t (n integer) strict;").status in (201, 204)
    answer = cluster.provision(segment, "t")
    assert answer.status == 200, answer
    url = answer.json["write_url"]
    values = ", ".join(f"({i})" for i in range(rows))
    assert harness.http("POST", url, f"insert into t values {values}").status == 200
    return url


def readers(cluster, segment):
    """Indexes of the workers that answer for the segment from a copy of their own."""
    return [i for i, w in enumerate(cluster.workers) if (w.data / f"{segment}.sqlite").exists()
            and cluster.read(segment, "select count(*) n from t", worker=i).status == 200]


def promoted_on_both(cluster, segment):
    fill(cluster, segment)
    assert cluster.promote(segment).status == 200
    harness.wait_for("two copies", lambda: len(readers(cluster, segment)) == 2)


def test_metadata_server_killed_reads_and_writes_go_on(cluster):
    url = fill(cluster, "a")
    cluster.meta.kill()
    assert harness.http("POST", url, "insert into t values (100)").status == 200
    holder = 0 if (cluster.workers[0].data / "a.sqlite").exists() else 1
    assert cluster.read("a", "select max(n) m from t", worker=holder).json == [{"m": 100}]
    cluster.meta.start()
    harness.wait_for("provisioning again", lambda: cluster.provision("b", "t").status == 200)
    assert cluster.read("a", "select max(n) m from t", worker=holder).json == [{"m": 100}]


def test_sync_master_killed_reads_and_writes_go_on(cluster):
    url = fill(cluster, "a")
    cluster.sync.kill()
    assert harness.http("POST", url, "insert into t values (100)").status == 200
    cluster.sync.start()
    harness.wait_for("a new master", lambda: cluster.provision("b", "t").status == 200)


def test_store_gone_promotion_fails_loudly_and_nothing_is_deleted(cluster):
    promoted_on_both(cluster, "a")
    url = fill(cluster, "b")
    aside = cluster.store.with_name("store-aside")
    cluster.store.rename(aside)
    answer = cluster.promote("b")
    assert answer.status >= 500 and answer.text.strip(), answer
    assert harness.http("POST", url, "insert into t values (100)").status == 200
    harness.wait_for("a sync cycle that fails to list", lambda: "store" in cluster.sync.tail(200))
    assert readers(cluster, "a") == [0, 1]
    aside.rename(cluster.store)
    harness.wait_for("the promotion", lambda: cluster.promote("b").status == 200)
    assert readers(cluster, "a") == [0, 1]


def test_newer_file_in_the_store_is_served_fresh_without_a_failed_query(cluster):
    promoted_on_both(cluster, "a")
    canonical = next(cluster.store.rglob("a.sqlite"))
    import os
    import sqlite3

    newer = canonical.with_name(".a.sqlite.new")
    newer.write_bytes(canonical.read_bytes())
    with sqlite3.connect(newer) as db:
        db.execute("insert into t values (4242)")
    db.close()
    stamp = canonical.stat().st_mtime + 10
    os.utime(newer, (stamp, stamp))

    failures, stop, asked = [], threading.Event(), [0]

    def ask():
        while not stop.is_set():
            for i in (0, 1):
                answer = cluster.read("a", "select count(*) n from t", worker=i)
                asked[0] += 1
                if answer.status != 200 or answer.json[0]["n"] not in (10, 11):
                    failures.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for t in threads:
        t.start()
    os.replace(newer, canonical)
    try:
        for i in (0, 1):
            harness.wait_for("the fresh copy", lambda i=i: cluster.read("a", "select max(n) m from t", worker=i).json == [{"m": 4242}])
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert asked[0] > 10 and not failures, failures[:3]
    # The write lock that provisioning took is released: nobody writes without provisioning anew.
    for i in (0, 1):
        harness.wait_for("the lock's release", lambda i=i: cluster.write("a", "insert into t values (1)", worker=i).status >= 400)


def test_corrupt_local_copy_is_never_served_as_good(cluster):
    promoted_on_both(cluster, "a")
    worker = cluster.workers[0]
    worker.stop()
    path = worker.data / "a.sqlite"
    path.write_bytes(b"this is no database" + path.read_bytes()[19:])
    worker.start()

    def healthy_or_error():
        answer = cluster.read("a", "select count(*) n from t", worker=0)
        assert answer.status != 200 or answer.json == [{"n": 10}], answer
        return answer.status == 200

    harness.wait_for("a good copy again", healthy_or_error, timeout=90)
