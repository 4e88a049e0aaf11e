"""Plans: what they show is what is done, and nothing is done by one that is out of date."""

import json

import pytest

import harness
import support


@pytest.fixture
def cluster(tmp_path):
    c = support.start(tmp_path, workers=3)
    yield c
    support.kill(c)


def test_a_plan_is_looked_at_saved_and_carried_out_as_it_stands(cluster, tmp_path):
    segments = [f"p-{n}" for n in range(12)]
    support.make(cluster, *segments)
    support.admin_json(cluster, "pause")
    name = support.status(cluster.workers[2])["node"]
    before = support.assigned(cluster)
    held = {s for s, nodes in before.items() if name in nodes}
    assert held
    support.admin_json(cluster, "drain", name)

    file = tmp_path / "plan.json"
    shown = support.admin(cluster, "plan", "-o", file)
    assert shown.returncode == 0 and f"{len(held)} copies to make" in shown.stdout and "draining" in shown.stdout, shown
    plan = json.loads(file.read_text())
    by_node = {w["node"]: w for w in plan["workers"]}
    assert by_node[name]["before"] == len(held) and by_node[name]["after"] == 0
    assert plan["minimum"] == plan["bytes"] == by_node[name]["before_bytes"], "emptying a worker moves what it has, and no more"
    assert {c["segment"]: c["drops"] for c in plan["segments"]} == {s: [name] for s in held}
    assert support.assigned(cluster) == before, "a plan changes nothing"

    done = support.admin(cluster, "apply", file, "--wait")
    assert done.returncode == 0 and f"plan done: {len(held)} of {len(held)} copies made" in done.stdout, done
    expected = {s: set(nodes) for s, nodes in before.items()}
    for change in plan["segments"]:
        expected[change["segment"]] = set(change["before"]) - set(change["drops"]) | {p["node"] for p in change["puts"]}
    assert support.assigned(cluster) == expected, "exactly what the plan said, while placement is paused"
    # Again, it finds all of it done.
    again = support.admin_json(cluster, "apply", file, "--wait")
    assert (again["state"], again["copied"]) == ("done", len(held))
    assert list(cluster.workers[2].data.glob("p-*.sqlite")), "files stay while placement is paused"
    support.admin_json(cluster, "resume")
    harness.wait_for("the files to go", lambda: not list(cluster.workers[2].data.glob("p-*.sqlite")))


def test_a_plan_of_another_world_is_refused(cluster, tmp_path):
    support.make(cluster, "q-1", "q-2")
    support.admin_json(cluster, "pause")
    name = sorted(support.assigned(cluster)["q-1"])[0]
    support.admin_json(cluster, "drain", name)
    file = tmp_path / "plan.json"
    assert support.admin(cluster, "plan", "-o", file).returncode == 0
    support.write(cluster, "q-1", 50)
    support.promote(cluster, "q-1")
    other = next(support.status(w)["node"] for w in cluster.workers if support.status(w)["node"] != name)

    def refused():
        done = support.admin(cluster, "apply", file)
        assert done.returncode == 1 and "segment q-1 has another canonical copy" in done.stderr, done
        return True

    harness.wait_for("the master to see the new canonical copy", refused)
    support.admin_json(cluster, "drain", other, "--force")
    done = support.admin(cluster, "apply", file)
    assert done.returncode == 1 and f"worker {other} is drained" in done.stderr, done
    file.write_text("{}")
    assert "no plan" in support.admin(cluster, "apply", file).stderr
