"""`trough doctor` says what is wrong with HDFS, and what to do."""

import signal
import subprocess

import harness
import pytest


@pytest.fixture
def cluster(tmp_path, hdfs):
    c = harness.Cluster(tmp_path, workers=1, settings={"MINIMUM_ASSIGNMENTS": 1, "MAXIMUM_ASSIGNMENTS": 1, "STORE_TIMEOUT": 2}, hdfs=hdfs)
    yield c
    for process in [*c.workers, c.sync, c.meta]:
        process.kill()


def doctor(cluster, **settings):
    """Its exit status, and what it says of the store."""
    env = {f"TROUGH_{key}": value for key, value in settings.items()}
    done = subprocess.run([harness.BIN, "doctor", "--config", str(cluster.dir / "worker-1.yml")], env={**cluster.sync.env, **env},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    said = done.stdout.partition("canonical store")[2].partition("\nsync master")[0]
    return done.returncode, said


def test_it_says_what_is_wrong_and_what_to_do(cluster, hdfs):
    names = hdfs.names("/trough")
    status, said = doctor(cluster)
    assert "ok    is there, and takes writes" in said, said

    status, said = doctor(cluster, STORE=f"{hdfs.url}/trough/nowhere")
    assert status == 1 and "FAIL" in said and "does not exist" in said and "hdfs dfs -mkdir -p /trough/nowhere" in said, said

    status, said = doctor(cluster, STORE_OPTIONS="user=somebody", STORE=f"{hdfs.url}/")
    assert status == 1 and "FAIL" in said and "permission denied" in said and "hdfs dfs -chown" in said, said

    hdfs.safemode("enter")
    status, said = doctor(cluster)
    assert status == 1 and "FAIL" in said and "safe mode" in said and "-safemode get" in said and "go on meanwhile" in said, said
    hdfs.safemode("leave")

    hdfs.signal("namenode", signal.SIGSTOP)
    status, said = doctor(cluster)
    hdfs.signal("namenode", signal.SIGCONT)
    assert status == 1 and "has not answered within" in said and "something listens" in said and "see that the name node runs" in said, said

    hdfs.kill("namenode")
    status, said = doctor(cluster)
    assert status == 1 and "nothing listens" in said and "refused" in said and "see that the name node runs" in said, said
    hdfs.run("namenode")

    status, said = doctor(cluster, HDFS_CLIENT="hdrs")
    assert status == 1 and "HDFS_CLIENT" in said, said
    assert hdfs.names("/trough") == names, "it changes nothing"
    harness.wait_for("a word of the sync server", lambda: "ok    is there" in doctor(cluster)[1])
