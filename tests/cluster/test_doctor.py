"""`trough doctor`: every finding, provoked, with what it says is to be done."""

import contextlib
import http.server
import json
import subprocess
import threading

import harness
import pytest
from rethinkdb import RethinkDB

r = RethinkDB()
pytestmark = pytest.mark.skipif(harness.STORE != "directory", reason="canonical files are touched by hand; over HDFS: tests/chaos_hdfs/test_doctor.py")


@pytest.fixture
def cluster(tmp_path):
    c = harness.Cluster(tmp_path, workers=2, settings={"MINIMUM_ASSIGNMENTS": 2, "MAXIMUM_ASSIGNMENTS": 2})
    yield c
    for process in [*c.workers, c.sync, c.meta]:
        process.kill()


def doctor(cluster, *args, **settings):
    """Its exit status and what it says, with other settings than worker-1 has."""
    env = {**cluster.sync.env, **{f"TROUGH_{key}": str(value) for key, value in settings.items()}}
    done = subprocess.run([harness.BIN, "doctor", "--config", str(cluster.dir / "worker-1.yml"), *args], env=env,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    return done.returncode, done.stdout


def finding(said, what):
    """The advice under the finding whose line holds `what`."""
    lines = said.splitlines()
    at = [i for i, line in enumerate(lines) if what in line and line.startswith(("  WARN", "  FAIL"))]
    assert len(at) == 1, f"{what!r} in\n{said}"
    advice = lines[at[0] + 1].strip()
    assert advice.startswith("→ ") and len(advice) > 12, said
    return lines[at[0]].split()[0], advice


def says(cluster, *what, **settings):
    """Waits until it says all of that."""
    return harness.wait_for(f"{what}", lambda: (said := doctor(cluster, **settings)[1]) and all(w in said for w in what) and said, every=0.3)


def reql(cluster, statement):
    with contextlib.closing(harness.metadata(cluster.meta_port)) as connection:
        return statement.run(connection)


def promoted(cluster, segment):
    """A segment in the store and on both workers."""
    write_url = cluster.provision(segment).json["write_url"]
    assert harness.http("POST", write_url, "create table t (a); insert into t values (1)").status == 200
    assert cluster.promote(segment).status == 200
    readers = lambda: {row["node"] for row in reql(cluster, r.table("services").get_all(segment, index="segment"))}
    harness.wait_for("both copies, and no lock", lambda: readers() == {"worker-1", "worker-2"} and reql(
        cluster, r.table("lock").get(f"write:lock:{segment}").eq(None)))


def test_a_sound_cluster(cluster):
    promoted(cluster, "sound")
    says(cluster, "all is well")
    status, said = doctor(cluster)
    assert status == 0 and "all is well" in said and "WARN" not in said, said
    for part in ("settings", "metadata  ", "canonical store  ", "sync master", "workers", "segments", "files of this node"):
        assert any(line.startswith(part) for line in said.splitlines()), part
    assert "ok    5 tables with their indexes" in said and "ok    1 server(s), " in said and "worker worker-2: " in said
    assert "service rows" in said and "2 segment files in LOCAL_DATA" in said or "1 segment files in LOCAL_DATA" in said


def test_settings(cluster):
    status, said = doctor(cluster, MINIMUM_ASSIGNMENTS="lambda segment_id: 1 if segment_id.startswith('a') else 2")
    assert status == 1 and "segment_id.startsWith('a') ? 1 : 2" in said, said
    status, said = doctor(cluster, COLD_STORE_SEGMENT="lambda s: int(s) < 1000")
    assert status == 1 and "int(segment_id) < 1000" in said, said
    status, said = doctor(cluster, COLD_STORE_SEGMENT="segment < 1000")
    assert status == 1 and "segment_id" in said
    _, said = doctor(cluster, MINIMUM_ASSIGNMENTS=1, LEASE=1, SYNC_LOOP_TIMING=100, ANONYMOUS="admin", LISTEN="0.0.0.0", LOCAL_DATA="/etc/hostname")
    for what in ("MINIMUM_ASSIGNMENTS is 1", "LEASE is 1 s", "/etc/hostname is no directory", *([] if harness.SECURE else ["have no TLS"])):
        finding(said, what)
    assert harness.SECURE or finding(doctor(cluster, RETHINKDB_HOSTS="db.invalid")[1], "listens on loopback only")[0] == "WARN"


def test_the_metadata_is_down(cluster):
    """What needs no metadata is looked at all the same."""
    cluster.meta.kill()
    status, said = doctor(cluster)
    assert status == 1 and said.count("FAIL") == 1, said
    section = said.partition("metadata  ")[2].partition("canonical store")[0]
    assert "FAIL" in section and "see that RethinkDB (or `trough meta`) runs" in section
    assert "canonical store  file://" in said and "ok    is there, and takes writes" in said and "not looked at" in said
    cluster.store.rename(cluster.store.with_name("away"))
    status, said = doctor(cluster)
    assert status == 1 and said.count("FAIL") == 2 and "see that it is mounted" in said, said


def test_tables(cluster):
    reql(cluster, r.table("services").index_drop("node"))
    reql(cluster, r.table_drop("schema"))
    status, said = doctor(cluster)
    assert status == 1, said
    assert "sync server" in finding(said, "table services: lacks the index node")[1]
    assert finding(said, "there is no table schema")[0] == "FAIL"
    # What it says is to be done helps.
    cluster.reconfigure_sync()
    said = says(cluster, "5 tables with their indexes")
    assert "lacks the index" not in said


def test_no_master(cluster):
    cluster.sync.kill()
    said = says(cluster, "tenure has ended")
    assert "start `trough sync`" in finding(said, "tenure has ended")[1]
    reql(cluster, r.table("services").get("trough-sync-master").delete())
    assert finding(doctor(cluster)[1], "nobody is master")[0] == "FAIL"


def test_a_dead_worker(cluster):
    promoted(cluster, "twice")
    holder = {row["node"] for row in [reql(cluster, r.table("lock").get("write:lock:warm-up"))]}.pop()
    dead = next(worker for worker in cluster.workers if worker.data.name == holder)
    dead.kill()
    said = says(cluster, "its lease has ended", "fewer live copies")
    assert "start it again" in finding(said, "its lease has ended")[1]
    assert "'twice'" in said or '"twice": 1 of 2' in said, said
    assert "start that worker again" in finding(said, "locked by workers that are not there, as warm-up")[1]
    dead.start()
    says(cluster, "all is well")


def test_segments_and_rows(cluster):
    promoted(cluster, "s1")
    promoted(cluster, "s2")
    (cluster.store / "s2.sqlite").unlink()
    said = says(cluster, "no canonical file")
    assert "nothing is deleted" in finding(said, 'have copies but no canonical file, as "s2"')[1]
    # From here on no master tidies up, and none renews what it is.
    cluster.sync.kill()
    row = lambda role, node, segment, ttl: {"id": f"{role}:{node}:{segment}", "role": role, "node": node, "segment": segment, "ttl": ttl,
                                            "load": 0, "url": "http://127.0.0.1:1/", "first_heartbeat": r.now(), "last_heartbeat": r.now()}
    reql(cluster, r.table("services").insert([
        row("trough-read", "ghost", "s1", 1e12), row("trough-read", "worker-2", "s9", 0.001), row("trough-write", "worker-2", "s1", 1e12)]))
    assert reql(cluster, r.table("services").get("trough-read:worker-2:s1").update({"version_ms": 1}))["replaced"] == 1
    said = says(cluster, "are not renewed")
    for what, advice in (
        ("1 stale service rows name workers that are not there, as trough-read:ghost:s1", "see the sync master above"),
        ("1 service rows are not renewed although their worker lives, as trough-read:worker-2:s9", "log"),
        ("1 trough-write rows have no write lock behind them, as trough-write:worker-2:s1", "provisioning"),
        ("1 copies are stale: older than the canonical file, as trough-read:worker-2:s1", "SYNC_LOOP_TIMING"),
    ):
        level, told = finding(said, what)
        assert level == "WARN" and advice in told, told


def test_orphaned_files(cluster):
    promoted(cluster, "s1")
    cluster.sync.kill()
    orphan = cluster.workers[0].data / "nobody.sqlite"
    orphan.write_bytes((cluster.workers[0].data / "s1.sqlite").read_bytes())
    status, said = doctor(cluster)
    level, advice = finding(said, "1 files are orphaned")
    assert status == 1 and level == "FAIL" and "provision and promote" in advice and str(orphan) in said, said
    orphan.unlink()
    # Assigned to the other worker alone, and the worker here cannot drop it: it is gone.
    reql(cluster, r.table("assignment").get("worker-1:s1").delete())
    cluster.workers[0].kill()
    said = says(cluster, "no worker worker-1 is there to serve them")
    level, advice = finding(said, "1 files are left of copies that moved to other workers")
    assert level == "WARN" and "enough other copies" in advice
    assert (cluster.workers[0].data / "s1.sqlite").exists(), "it changes nothing"


def test_what_a_worker_tells(cluster):
    """A worker of another version, with a wrong clock, nearly full, late with its lease, with copies that fail and broken ones."""
    status = {"version": "0.0.1", "segments": 3, "bytes": 990, "copies": {"failed": [{"segment": "f1", "error": "no room"}]},
              "broken": [{"segment": "b1", "error": "malformed"}]}

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(status).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp=None):
            return "Sun, 22 Nov 2020 18:00:00 GMT"

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # A cold one, so that nothing is placed there.
    node = {"id": "trough-nodes:odd:None", "role": "trough-nodes", "node": "odd", "ttl": 1000, "load": 0, "available_bytes": 1000,
            "cold_storage": True, "manage_url": f"http://127.0.0.1:{server.server_port}/", "first_heartbeat": r.now(),
            "last_heartbeat": r.now() - 800}
    reql(cluster, r.table("services").insert(node))
    exit_status, said = doctor(cluster)
    assert exit_status == 1
    for what, level in (("the clock of worker odd is -", "WARN"), ("different versions are at work: 0.0.1 protocol 1 (odd)", "WARN"),
                        ("worker odd is nearly full", "WARN"), ("worker odd renews late: 80", "WARN"),
                        ('worker odd cannot copy 1 segments, as "f1": "no room"', "FAIL"),
                        ('worker odd has a broken copy of 1 segments, as "b1": "malformed"', "FAIL")):
        assert finding(said, what)[0] == level
    server.shutdown()
    server.server_close()
    assert "can be reached from here" in finding(doctor(cluster)[1], "worker odd: its heartbeats come, but")[1]
