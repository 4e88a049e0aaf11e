"""No secret stands where it does not belong: logs at the level trace, error texts, /status, /metrics, doctor, help, arguments."""

import os
import pathlib
import subprocess

import boto3
import harness
import pytest
import s3

STORE_SECRET = "st-secret-6f1c9a2e77"


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A cluster that did everything once, at the level trace, and everything that it said."""
    directory = tmp_path_factory.mktemp("told")
    endpoint = s3.start(directory / "s3")
    keys = {"region": "us-east-1", "access_key_id": "told", "secret_access_key": STORE_SECRET}
    boto3.client("s3", endpoint_url=endpoint, region_name=keys["region"], aws_access_key_id="told",
                 aws_secret_access_key=STORE_SECRET).create_bucket(Bucket="told")
    cluster = harness.Cluster(directory / "cluster", workers=2, settings={
        "LOG_LEVEL": "TRACE", "STORE": "s3://told/p", "STORE_OPTIONS": {"endpoint": endpoint, **keys}})
    said = {}

    def ask(method, url, body=None, headers=None):
        answer = harness.http(method, url, body, headers)
        said[f"{method} {url} {len(said)}"] = answer.text + str(answer.headers)
        return answer
    worker = cluster.workers[0]
    bases = [f"http://127.0.0.1:{port}" for port in (worker.read_port, worker.write_port, worker.manage_port, cluster.sync_port)]
    url = cluster.provision("s").json["write_url"]
    ask("POST", url, "create table t (a); insert into t values (1)")
    ask("POST", cluster.sync_url("/promote"), {"segment": "s"})
    for base in bases:
        for path in ("/status", "/metrics", "/readyz", "/nosuch"):
            ask("GET", base + path)
        for token in (harness.SECURE.tokens["read"], "tk-unknown-" + "0" * 32):
            for headers in ({"authorization": f"Bearer {token}"}, {"authorization": f"Basic {token}"}, {"authorization": token}):
                ask("POST", base + "/", "select nosuch", headers)
                ask("DELETE", base + "/segment/s", None, headers)
    ask("GET", cluster.sync_url("/v1/cluster"))
    ask("GET", cluster.sync_url("/v1/copies"))
    ask("GET", cluster.sync_url("/v1/segment/s"))
    env = {**os.environ, **{f"TROUGH_{k}": v for k, v in (("RETHINKDB_PASSWORD", harness.SECURE.password),)}}

    def run(*args, **more):
        done = subprocess.run([harness.BIN, *args], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, env={**env, **more})
        said[f"trough {' '.join(args)} {more and list(more)}"[:200]] = done.stdout + done.stderr
    config = str(cluster.dir / "worker-1.yml")
    run("doctor", "--config", config)
    run("doctor", "--config", config, TROUGH_RETHINKDB_HOSTS="127.0.0.1:1")
    run("doctor", "--config", config, TROUGH_RETHINKDB_PASSWORD=harness.SECURE.password + "x")
    run("doctor", "--config", config, TROUGH_STORE_OPTIONS=f"[{STORE_SECRET}]")
    run("doctor", "--config", config, TROUGH_STORE="s3://nosuch/p")
    run("doctor", "--config", config, TROUGH_TOKENS=f"[{{token: {harness.SECURE.tokens['admin']}, role: king}}]")
    run("doctor", "--config", config, TROUGH_TOKENS=f"{{token: {harness.SECURE.tokens['admin']}}}")
    run("doctor", "--config", config, TROUGH_TOKEN=f"{harness.SECURE.tokens['admin']}\u00e9")
    run("doctor", "--settings")
    for command in ("worker", "sync", "meta", "shell", "dev", "doctor", "token"):
        run(command, "--help", TROUGH_URL=harness.metadata_url(cluster.meta_port))
    for wrong in (harness.metadata_url(1), harness.metadata_url(cluster.meta_port).replace("rethinkdb://", "rethink://"),
                  harness.metadata_url(cluster.meta_port) + "&nosuch=1", harness.metadata_url(cluster.meta_port).replace("trough_", "a.b")):
        run("shell", "-v", "-c", "show segments", TROUGH_URL=wrong)
    run("shell", "-v", "-c", "show segments", "-c", "select * from t", "s", TROUGH_URL=harness.metadata_url(cluster.meta_port))
    for process in (*cluster.workers, cluster.sync, cluster.meta):
        said[f"arguments of {process.args[1]}"] = pathlib.Path(f"/proc/{process.p.pid}/cmdline").read_bytes().decode()
    cluster.stop()
    s3.stop(directory / "s3")
    for log in cluster.dir.glob("*.log"):
        said[log.name] = log.read_text(errors="replace")
    return said


def test_there_was_something_to_look_at(told):
    assert len(told) > 60 and "TRACE" in told["worker-1.log"] and "TRACE" in told["sync.log"]
    assert any("all is well" in text or "ok  " in text for name, text in told.items() if name.startswith("trough doctor"))


@pytest.mark.parametrize("what", ["password", "reader", "admin", "read", "write", "unknown", "store"])
def test_no_secret_is_told(told, what):
    secret = {"password": harness.SECURE.password, "reader": harness.SECURE.reader_password, "store": STORE_SECRET, "unknown": "tk-unknown-" + "0" * 32}.get(what) or harness.SECURE.tokens[what]
    found = {name: text[max(0, text.index(secret) - 200):text.index(secret) + 20] for name, text in told.items() if secret in text}
    assert not found, found
