"""A worker is killed: what it served is answered from other copies, each segment once."""

import json

import harness
import terminal


def test_a_killed_worker_costs_no_segment(tmp_path):
    dev = harness.Dev(tmp_path / "dev", workers=2)
    try:
        ids = [f"f-{n}" for n in range(8)]
        listed = " ".join(ids)
        script = "\n".join(
            [f"provision {listed}"]
            + [f"connect {s}\ncreate table t (n);\ninsert into t values ({n});" for n, s in enumerate(ids)]
            + [f"promote {listed}"]) + "\n"
        done = terminal.run(dev.url, "-w", input=script)
        assert done.returncode == 0, done

        def everywhere():
            rows = json.loads(terminal.run(dev.url, "-f", "raw", "-c", "show segments matching ^f-").stdout)
            return len(rows) == 8 and all(len(row["nodes"].split()) == 2 and not row["writable"] for row in rows)

        harness.wait_for("two copies of each segment, none of them locked", everywhere)
        dev.kill("worker-1")
        each = terminal.run(dev.url, "-f", "csv", *ids, "-c", "select n from t")
        assert each.returncode == 0 and each.stderr == "", each
        assert sorted(each.stdout.split()) == sorted(["segment,n"] + [f"{s},{n}" for n, s in enumerate(ids)])
        merged = terminal.run(dev.url, "-f", "csv", "-c", "connect matching ^f-", "-c", "merge select count(*), sum(n) from t")
        assert merged.stdout.splitlines()[1:] == ["8,28"], merged
    finally:
        dev.stop()
