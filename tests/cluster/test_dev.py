"""`trough dev`: one command, ready line, clean stop, the same data when started again."""

import http.client
import signal

import harness


def test_ready_stop_and_start_again(tmp_path):
    dev = harness.Dev(tmp_path / "dev", workers=2)
    pids = dev.pids()
    assert len(pids) >= 4, pids
    sync = next(f"http://127.0.0.1:{port}" for port in range(dev.base_port, dev.base_port + 64) if manager(port))
    assert harness.http("PUT", f"{sync}/schema/t/sql", "create table t (n integer)").status == 201
    write_url = harness.http("POST", f"{sync}/provision", {"segment": "one", "schema": "t"}).json["write_url"]
    assert harness.http("POST", write_url, "insert into t values (42)").status == 200
    assert dev.stop() == 0
    for pid in pids.values():
        harness.wait_for(f"process {pid} to end", lambda p=pid: not running(p))
    dev.start()
    answer = harness.wait_for("the segment", lambda: ok(harness.http("POST", write_url, "insert into t values (43)")))
    assert answer.status == 200
    dev.stop()


def test_sigkill_leaves_no_orphans(tmp_path):
    dev = harness.Dev(tmp_path / "dev", workers=1)
    pids = dev.pids()
    dev.process.p.send_signal(signal.SIGKILL)
    dev.process.p.wait()
    for pid in pids.values():
        harness.wait_for(f"process {pid} to end", lambda p=pid: not running(p))


def ok(answer):
    return answer if answer.status == 200 else None


def manager(port):
    try:
        return harness.http("GET", f"http://127.0.0.1:{port}/schema", timeout=2).status == 200 and harness.http(
            "GET", f"http://127.0.0.1:{port}/", headers={"accept": "text/html"}, timeout=2).status == 200
    except (OSError, ValueError, http.client.HTTPException):
        return False


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
