"""A full disk: a clear error, nothing half-written, reads go on, and writes too once there is room."""

import os
import subprocess

import pytest

import harness


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_full_disk(tmp_path):
    small = tmp_path / "worker-1"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], check=True)
    cluster = None
    try:
        cluster = harness.Cluster(tmp_path, workers=1)
        assert cluster.put_schema("t", "create table t (id integer primary key, s text);").status == 201
        assert cluster.provision("a", "t").status == 200
        written, refusal = 0, None
        for i in range(100):
            answer = cluster.write("a", f"insert into t values ({i}, '{'x' * 100_000}')")
            if answer.status != 200:
                refusal = answer
                break
            written += 1
        assert refusal is not None and written > 5
        assert refusal.status >= 500 and "full" in refusal.text and "a" in refusal.text, refusal
        assert cluster.read("a", "select count(*) n, count(s) s from t").json == [{"n": written, "s": written}]
        answer = cluster.provision("b", "t")
        assert answer.status == 200 or "full" in answer.text, answer
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        harness.wait_for("room again", lambda: cluster.write("a", "insert into t values (1000, 'y')").status == 200)
        assert cluster.read("a", "select count(*) n from t").json == [{"n": written + 1}]
    finally:
        if cluster:
            for process in [*cluster.workers, cluster.sync, cluster.meta]:
                process.kill()
        subprocess.run(["umount", "-l", str(small)], check=False)
