"""The metadata is lost: with a backup the cluster goes on where it was, and without one it is rebuilt but for schemas and locks."""

import gzip
import json
import shutil

import pytest

import harness
import support


@pytest.fixture
def cluster(tmp_path):
    c = support.start(tmp_path, workers=2)
    yield c
    support.kill(c)


def lose_metadata(cluster):
    """Ends the metadata server and begins an empty one in its place; the sync server is stopped."""
    cluster.sync.stop()
    cluster.meta.kill()
    shutil.rmtree(cluster.dir / "meta")
    cluster.meta.start()
    harness.wait_for("the metadata server", cluster.meta_up)


def go_on(cluster):
    cluster.sync.start()
    harness.wait_for("a sync master", lambda: support.view(cluster)["standing"] == "master")


def test_back_up_lose_everything_restore(cluster, tmp_path):
    segments = [f"b-{n}" for n in range(6)]
    support.make(cluster, *segments)
    support.write(cluster, "b-0", 100)  # promoted before, and written since
    support.write(cluster, "unpromoted", 7)
    support.admin_json(cluster, "throttle", "copy_bandwidth=123456")
    before = {table: {row["id"]: row for row in support.rows(cluster, table)} for table in ("assignment", "lock", "schema")}
    assert {row["segment"] for row in before["lock"].values()} == {"b-0", "unpromoted"}

    file = tmp_path / "metadata.gz"
    saved = support.admin_json(cluster, "backup", file)
    assert saved["documents"]["lock"] == 2 and saved["header"]["trough_backup"] == 1
    over_http = harness.http("GET", cluster.sync_url("/v1/backup"))
    text = [json.loads(line) for line in gzip.decompress(over_http.body).splitlines()]
    assert text[0]["trough_backup"] == 1 and text[-1]["end"]["documents"] == saved["documents"]

    assert support.admin(cluster, "restore", file).returncode == 1, "a sync master is at work"
    cluster.sync.stop()
    refused = support.admin(cluster, "restore", file)
    assert refused.returncode == 1 and "not empty" in refused.stderr and "--overwrite" in refused.stderr, refused
    lose_metadata(cluster)

    damaged = tmp_path / "damaged.gz"
    whole = gzip.decompress(file.read_bytes())
    cut_off = tmp_path / "cut_off.gz"
    damaged.write_bytes(gzip.compress(whole.replace(b'"b-3"', b'"b-4"', 1)))
    cut_off.write_bytes(gzip.compress(whole[:whole.rindex(b"\n", 0, len(whole) - 1) + 1]))
    for bad, why in ((damaged, "SHA-256"), (cut_off, "cut off"), (cluster.dir / "sync.yml", "read")):
        done = support.admin(cluster, "restore", bad)
        assert done.returncode == 1 and why in done.stderr, done
    with support.metadata(cluster) as conn:
        assert support.DATABASE not in support.r.db_list().run(conn), "nothing was written"

    # Somebody starts a sync server too early: it places what the store has. What was never promoted is kept all the same.
    cluster.sync.start()
    names = {row["node"] for row in before["lock"].values()}
    holders = [w for w in cluster.workers if w.log.with_suffix("").name in names]
    for holder in holders:
        harness.wait_for("the holder to notice", lambda: "the write lock vanished" in holder.log.read_text())
    support.at_rest(cluster, segments[1:])
    harness.wait_for("what the store has to be assigned", lambda: {"b-0"} <= set(support.assigned(cluster)))
    cluster.sync.stop()
    refused = support.admin(cluster, "restore", file)
    assert refused.returncode == 1 and "in assignment" in refused.stderr, refused
    done = support.admin(cluster, "restore", file, "--overwrite")
    assert done.returncode == 0 and "2 in lock" in done.stdout, done
    for table, ids in before.items():
        assert {row["id"]: row for row in support.rows(cluster, table)} == ids, table
    for holder in holders:
        harness.wait_for("the holder to have its lock back", lambda: "the write lock is back" in holder.log.read_text())
    go_on(cluster)

    # The workers have run all the time. What was acknowledged and not promoted is there, and can be written and promoted.
    support.write(cluster, "unpromoted", 8)
    support.promote(cluster, "unpromoted", "b-0")
    support.at_rest(cluster, [*segments, "unpromoted"])
    for worker in range(2):
        assert cluster.read("unpromoted", "select n from t order by n", worker=worker).json == [{"n": 7}, {"n": 8}]
        assert cluster.read("b-0", "select n from t order by n", worker=worker).json == [{"n": 0}, {"n": 100}]
    assert support.view(cluster)["controls"]["throttles"]["copy_bandwidth"]["set"] == 123456
    assert support.view(cluster)["cluster"]["epoch"] > 1_000_000


def test_without_a_backup_all_but_schemas_and_locks_comes_back(cluster):
    segments = [f"n-{n}" for n in range(6)]
    support.make(cluster, *segments)
    copied = [harness.http("GET", f"http://127.0.0.1:{w.read_port}/metrics").text for w in cluster.workers]
    lose_metadata(cluster)
    cluster.sync.start()
    support.at_rest(cluster, segments)
    for n, segment in enumerate(segments):
        for worker in range(2):
            assert cluster.read(segment, "select n from t", worker=worker).json == [{"n": n}]
    # Nothing was copied: the files were there.
    def copies(text):
        return [line for line in text.splitlines() if line.startswith("trough_worker_copies_total")]
    assert [copies(harness.http("GET", f"http://127.0.0.1:{w.read_port}/metrics").text) for w in cluster.workers] == [copies(t) for t in copied]
    # Provisioning works, though the workers have seen higher epochs; the schema must be registered again.
    assert cluster.provision("new", "t").status != 200
    assert cluster.put_schema("t", "create table t (n integer primary key, pad text) strict;").status in (201, 204)
    support.write(cluster, "new", 1)
    support.promote(cluster, "new")
    support.at_rest(cluster, ["new"])
