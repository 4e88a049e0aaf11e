"""Draining: refused where segments would be worse off, watched until the worker is empty, taken back."""

import harness
import support


def test_a_worker_is_emptied_and_taken_back(tmp_path):
    cluster = support.start(tmp_path, workers=3)
    try:
        segments = [f"d-{n}" for n in range(12)]
        support.make(cluster, *segments)
        first = support.status(cluster.workers[0])["node"]
        assert any(first in nodes for nodes in support.assigned(cluster).values())
        done = support.admin(cluster, "drain", first, "--wait")
        assert done.returncode == 0 and "holds nothing more" in done.stdout, done
        assert all(first not in nodes for nodes in support.assigned(cluster).values())
        assert not list(cluster.workers[0].data.glob("d-*.sqlite"))
        support.at_rest(cluster, segments)

        # Two are left, and two copies are wanted: a second one would cost copies.
        second = support.status(cluster.workers[1])["node"]
        refused = support.admin(cluster, "drain", second)
        assert refused.returncode == 1 and "1 workers would be left" in refused.stderr and "force" in refused.stderr, refused
        assert harness.http("POST", cluster.sync_url("/v1/drain"), {"node": second, "drain": True}).status == 409
        assert support.admin(cluster, "drain", "nobody").returncode == 1

        assert support.admin_json(cluster, "drain", first, "--undo")["drain"] is False
        harness.wait_for("its share to come back", lambda: sum(first in nodes for nodes in support.assigned(cluster).values()) >= 4)
        support.at_rest(cluster, segments)
        forced = support.admin(cluster, "drain", first, "--force")
        assert forced.returncode == 0, forced
    finally:
        support.kill(cluster)
