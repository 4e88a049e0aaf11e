"""Pause, resume and throttles: what they stop, what they do not, and that they outlive the master and the workers."""

import pytest

import harness
import support


@pytest.fixture
def cluster(tmp_path):
    c = support.start(tmp_path, workers=2, settings={"LOG_LEVEL": "info,trough_worker=debug"})
    yield c
    support.kill(c)


def sync_again(cluster):
    cluster.sync.kill()
    cluster.sync.start()
    harness.wait_for("a sync master", lambda: support.view(cluster)["standing"] == "master" and support.view(cluster)["cluster"]["epoch"] > 0)


def test_pause_outlives_the_master_and_stops_placement_alone(cluster):
    support.make(cluster, "before")
    done = support.admin(cluster, "pause", "maintenance of rack 3")
    assert done.returncode == 0 and "PAUSED" in done.stdout and "rack 3" in done.stdout, done

    # What goes on: provisioning, writes, promotion.
    support.write(cluster, "new", 1)
    support.promote(cluster, "new")
    waits = harness.wait_for("the new segment's copies to be held back", lambda: support.view(cluster)["cluster"]["summary"]["deferred"] >= 2)
    assert waits and "new" not in support.assigned(cluster)
    assert cluster.read("new", "select n from t", worker=0 if support.status(cluster.workers[0])["locks"]["held"] else 1).json == [{"n": 1}]
    # Copies that are there follow a new promotion, so that they do not grow old.
    support.write(cluster, "before", 10)
    support.promote(cluster, "before")
    support.at_rest(cluster, ["before"])
    for worker in range(2):
        assert cluster.read("before", "select count(*) n from t", worker=worker).json == [{"n": 2}]

    sync_again(cluster)
    harness.wait_for("the new master to have looked", lambda: support.view(cluster)["cluster"]["summary"]["deferred"] >= 2)
    assert support.view(cluster)["controls"]["paused"]["reason"] == "maintenance of rack 3"
    assert "new" not in support.assigned(cluster)
    doctor = cluster_doctor(cluster)
    assert "placement is paused (maintenance of rack 3)" in doctor, doctor

    assert support.admin_json(cluster, "resume")["paused"] is None
    support.at_rest(cluster, ["new"])


def cluster_doctor(cluster):
    import subprocess
    return subprocess.run([harness.BIN, "doctor", "--config", str(cluster.dir / "sync.yml")], capture_output=True, text=True, check=False).stdout


def test_nothing_is_dropped_while_paused(cluster):
    support.make(cluster, "kept")
    holder = next(w for w in cluster.workers if (w.data / "kept.sqlite").exists())
    support.admin_json(cluster, "pause")
    harness.wait_for("the workers to hear of it", lambda: all(support.status(w)["limits"]["paused"] for w in cluster.workers))
    # An assignment that somebody takes away: the file would be dropped at once, as another worker has a copy.
    with support.metadata(cluster) as conn:
        name = support.status(holder)["node"]
        support.r.table("assignment").get(f"{name}:kept").delete().run(conn)
    harness.wait_for("the worker to have decided", lambda: "kept while placement is paused" in holder.log.read_text())
    assert (holder.data / "kept.sqlite").exists()
    assert harness.http("POST", f"http://127.0.0.1:{holder.read_port}/?segment=kept", "select n from t").json == [{"n": 0}]


def test_throttles_are_followed_kept_and_reset(cluster):
    def everywhere(**limits):
        return lambda: all({**support.status(w)["limits"], **limits} == support.status(w)["limits"] for w in cluster.workers)

    support.admin_json(cluster, "throttle", "copy_bandwidth=2k", "copy_thread_pool_size=3", "promotion_bandwidth=7M", "move_segments=5")
    harness.wait_for("the workers to follow", everywhere(copy_bandwidth=2000, copy_thread_pool_size=3, promotion_bandwidth=7_000_000))
    shown = support.view(cluster)["controls"]["throttles"]
    assert shown["move_segments"] == {"set": 5, "setting": 100_000, "effective": 5}
    assert shown["move_bytes"]["set"] is None

    # They outlive a worker and the master.
    cluster.workers[0].kill()
    cluster.workers[0].start()
    support.up(cluster.workers[0])
    sync_again(cluster)
    harness.wait_for("a restarted worker to follow", everywhere(copy_bandwidth=2000, copy_thread_pool_size=3))
    assert support.view(cluster)["controls"]["throttles"]["copy_bandwidth"]["effective"] == 2000

    # A copy that would take minutes goes on at once when the limit is taken away.
    # (What comes first is not held up, but what comes after it is: of three, a worker copies two.)
    slow = ["slow-a", "slow-b", "slow-c"]
    for segment in slow:
        support.write(cluster, segment, *range(600))
    support.promote(cluster, *slow)
    harness.wait_for("a copy that is held up", lambda: any(
        f["segment"] in slow and f["seconds"] > 2 for w in cluster.workers for f in support.status(w)["copies"]["in_flight"]))
    support.admin_json(cluster, "throttle", "--reset")
    harness.wait_for("the workers to follow", everywhere(copy_bandwidth=0, copy_thread_pool_size=16, promotion_bandwidth=0))
    support.at_rest(cluster, slow)

    for bad in ["copy_thread_pool_size=0", "copy_bandwith=1", "move_segments=x"]:
        done = support.admin(cluster, "throttle", bad)
        assert done.returncode == 1 and bad.split("=")[0] in done.stderr, done
