"""Python and Rust workers in one cluster, and the change from a Python sync master to ours."""

import collections
import hashlib
import json
import sqlite3
import subprocess
import time

import doublethink
import harness
import hosts as hosts_module
import pytest
from hosts import r

RUST, PYTHON = "127.0.0.11", "127.0.0.21"
SCHEMA = "create table crawl_log (id integer primary key, status integer, url text);"


@pytest.fixture
def hosts(tmp_path):
    cluster = hosts_module.Hosts(tmp_path)
    yield cluster
    cluster.stop()


def shell(hosts, command, *segments):
    """What `trough shell` prints for one command."""
    done = subprocess.run([harness.BIN, "shell", "-u", hosts.meta.url, "-c", command, *segments], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    return done.stdout


def canonical(rows):
    """A segment file with so many rows."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    connection.executemany("insert into crawl_log values (?, ?, ?)", [(i, 200 if i % 4 else 404, f"http://e.org/{i}") for i in range(rows)])
    connection.commit()
    return connection.serialize()


def until_readers(hosts, segment, *nodes):
    harness.wait_for(f"{segment} to be served by {nodes}", lambda: hosts.readers(segment) == sorted(nodes))


def test_a_python_worker_under_our_master(hosts):
    hosts.sync()
    hosts.python(PYTHON)
    assert harness.http("PUT", hosts.sync_url("/schema/crawl/sql"), SCHEMA).status == 201
    # The only worker gets what is provisioned, by its name and the common port; its words come back.
    answer = harness.wait_for("a provisioning", lambda: (a := hosts.provision("100200", "crawl")).status == 200 and a).json
    assert answer["write_url"] == hosts.url(PYTHON, "WRITE_PORT", "/?segment=100200") and answer["schema"] == "crawl"
    rows = ",".join(f"({i}, {200 if i % 4 else 404}, 'http://e.org/{i}')" for i in range(40))
    assert harness.http("POST", answer["write_url"], f"insert into crawl_log values {rows}").text == "OK\n"
    remote = hosts.promote("100200")
    assert remote.status == 200 and remote.json["remote_path"] == str(hosts.store / "100" / "100200.sqlite"), remote
    harness.wait_for("our master's assignment", lambda: ("100200", PYTHON) in hosts.placement())

    # What is in the store is assigned to it and it advertises, though its records lack every field of ours.
    hosts.put_segment("300001", canonical(8))
    until_readers(hosts, "300001", PYTHON)
    row = hosts.run(r.table("services").get(f"trough-read:{PYTHON}:300001"))
    assert {"version_ms", "read_url"}.isdisjoint(row) and row["ttl"] == 4
    node = harness.wait_for("the master's view", lambda: [w for w in harness.http("GET", hosts.sync_url("/v1/cluster")).json[
        "cluster"]["workers"] if w["node"] == PYTHON and w["assigned"] == 2])[0]
    assert node["tier"] == "hot" and node["presence"] == "alive" and node["manage_url"] is None

    # The shell finds it there: by name, by pattern, merged; and what it may not do is said.
    assert shell(hosts, "select count(*) as n, min(url) as u from crawl_log;", "300001").count("http://e.org/0") == 1
    merged = harness.http("POST", hosts.sync_url("/v1/console"), {
        "segments": ["300001", "100200"], "sql": "select status, count(*) as n from crawl_log group by status",
        "reduce": "select status, sum(n) as n from partial group by status"}).json
    counts = collections.Counter()
    for row in merged["rows"]:
        status, n = row["row"]
        counts.update({status: n})
    assert counts == {200: 36, 404: 12}, merged
    assert "300001" in shell(hosts, "show segments matching ^3;")

    # A Rust worker joins: copies come, and each side passes on to the other's write locks.
    hosts.worker(RUST)
    until_readers(hosts, "300001", RUST, PYTHON)
    proxied = hosts.read(RUST, "100200", "select count(*) as n from crawl_log")
    assert proxied.status == 200 and proxied.json == [{"n": 40}], proxied
    manage = lambda host, path, body: harness.http("POST", hosts.url(host, "SYNC_LOCAL_PORT", path), body)
    ours = manage(RUST, "/provision", {"segment": "500001", "schema": "crawl"})
    assert ours.status == 200, ours
    assert harness.http("POST", ours.json["write_url"], "insert into crawl_log values (1, 200, 'x')").status == 200
    assert hosts.read(PYTHON, "500001", "select url from crawl_log").json == [{"url": "x"}]
    # The lock of either is respected by the other.
    assert manage(RUST, "/provision", {"segment": "100200"}).status >= 400
    assert hosts.provision("100200").json["write_url"] == answer["write_url"], "provisioned again, at its holder"
    assert hosts.provision("500001").json["write_url"] == ours.json["write_url"]
    assert harness.http("POST", hosts.url(RUST, "WRITE_PORT", "/?segment=100200"), "delete from crawl_log").status == 500

    # A segment that is shredded goes from both.
    assert harness.http("DELETE", hosts.sync_url("/segment/300001")).status == 204
    assert hosts.readers("300001") == [] and not (hosts.store / "300" / "300001.sqlite").exists()
    for host, role in ((RUST, "worker"), (PYTHON, "python")):
        assert not (hosts.processes[host, role].data / "300001.sqlite").exists()


def test_our_records_pass_the_originals_queries(hosts):
    """The purge keeps our rows, and the Python garbage collection counts our copies."""
    hosts.sync()
    other = "127.0.0.12"
    for host in (RUST, other):
        hosts.worker(host)
    ids = [f"40{i:04}" for i in range(12)]
    for segment in ids:
        hosts.put_segment(segment, canonical(2))
    for segment in ids:
        until_readers(hosts, segment, RUST, other)
    before = hosts.run(r.table("services").count())
    doublethink.ServiceRegistry(doublethink.Rethinker(servers=[hosts.meta.address], db="trough_configuration")).purge_stale_services()
    assert hosts.run(r.table("services").count()) == before

    # The third worker is a Python one. What it gets is loaded before the others drop it; what it holds and is not assigned, it drops.
    hosts.python(PYTHON)
    harness.wait_for("its share", lambda: any(node == PYTHON for _, node in hosts.placement()))
    settled = lambda: all(len([1 for s, _ in hosts.placement() if s == segment]) == 2 == len(hosts.readers(segment)) for segment in ids)
    harness.wait_for("two copies of each", settled)
    placed = hosts.placement()
    extra = next(segment for segment in ids if (segment, PYTHON) not in placed)
    file = hosts.processes[PYTHON, "python"].data / f"{extra}.sqlite"
    file.write_bytes(canonical(2))
    harness.wait_for("the Python worker to collect it", lambda: not file.exists())
    # It may have renewed the row between the two.
    until_readers(hosts, extra, RUST, other)


def test_heartbeat_segment(hosts):
    """Under a Python master nobody deletes the rows of a dead worker: with HEARTBEAT: segment they end by themselves."""
    hosts.sync()
    hosts.worker(RUST, HEARTBEAT="segment", SYNC_LOOP_TIMING=0.5)
    hosts.put_segment("600001", canonical(2))
    until_readers(hosts, "600001", RUST)
    key = r.table("services").get(f"trough-read:{RUST}:600001")
    first = hosts.run(key)
    assert first["ttl"] == 2 and first["node"] == RUST
    harness.wait_for("a renewal", lambda: hosts.run(key)["last_heartbeat"] > first["last_heartbeat"])
    assert hosts.run(key)["first_heartbeat"] == first["first_heartbeat"]
    # No master of ours is there to tidy up.
    hosts.stop_host(hosts.SYNC, "sync")
    hosts.stop_host(RUST, "worker", kill=True)
    until_readers(hosts, "600001")
    assert hosts.run(key), "the row itself stays, as the original leaves it"
    # Back without the setting, its rows live as long as its lease.
    hosts.worker(RUST)
    until_readers(hosts, "600001", RUST)
    harness.wait_for("the row to be written anew", lambda: hosts.run(key)["ttl"] == 1e12)


def python_database(hosts, services, assignments, rings):
    """The tables and indexes that a Python cluster has, with these rows."""
    with hosts.meta.connect() as connection:
        r.db_create("trough_configuration").run(connection)
        for table, indexes in (("services", ("segment", "role")), ("assignment", ("segment",)), ("lock", ("node",)), ("schema", ())):
            r.table_create(table).run(connection)
            for index in indexes:
                r.table(table).index_create(index).run(connection)
            r.table(table).index_wait().run(connection)
        assert r.table("services").insert(services).run(connection)["errors"] == 0
        assert r.table("assignment").insert([*assignments, rings]).run(connection)["errors"] == 0
        r.table("schema").insert({"id": "default", "sql": ""}).run(connection)


def python_master(node, age=0):
    return {"id": "trough-sync-master", "role": "trough-sync-master", "node": node, "port": 6111, "url": f"http://{node}:6111/", "ttl": 490,
            "load": 0.1, "host": "python", "pid": 1, "first_heartbeat": r.now() - 5000, "last_heartbeat": r.now() - age}


def test_a_rust_worker_under_a_python_master(hosts):
    """The first step of a migration: the database as the original makes it, no sync server of ours anywhere."""
    file = hosts.put_segment("650001", canonical(3))
    assignment = {"id": f"{RUST}:650001", "node": RUST, "segment": "650001", "hash_ring": 1, "assigned_on": doublethink.utcnow(),
                  "remote_path": str(file), "bytes": file.stat().st_size}
    # One of an ancient kind, without a ring.
    old = hosts.put_segment("650002", canonical(5))
    ancient = {**assignment, "id": f"{RUST}:650002", "segment": "650002", "remote_path": str(old), "bytes": old.stat().st_size}
    del ancient["hash_ring"]
    rings = {"id": "ring-assignments", RUST: {"ring": 1, "weight": 10**12}}
    python_database(hosts, [python_master("127.0.0.30")], [assignment, ancient], rings)
    hosts.worker(RUST, HEARTBEAT="segment")
    for segment, count in (("650001", 3), ("650002", 5)):
        until_readers(hosts, segment, RUST)
        assert hosts.read(RUST, segment, "select count(*) as n from crawl_log").json == [{"n": count}]
    assert "| 3 |" in shell(hosts, "select count(*) as n from crawl_log;", "650001")
    # The Python master has it provision and promote by the old requests.
    manage = lambda path, body: harness.http("POST", hosts.url(RUST, "SYNC_LOCAL_PORT", path), body)
    answer = manage("/provision", {"segment": "650100", "schema": "default"})
    assert answer.status == 200, answer
    assert harness.http("POST", answer.json["write_url"], "create table t (a); insert into t values (1)").status == 200
    assert manage("/promote", {"segment": "650100"}).json == {"remote_path": str(hosts.store / "650" / "650100.sqlite")}
    # A canonical file that is replaced comes again; what is unassigned stays as long as nobody else serves it.
    # The master never says so, and it is as long as it was.
    newer = hosts.put_segment("650001", canonical(9))
    assert newer.stat().st_size == assignment["bytes"]
    harness.wait_for("the newer copy", lambda: hosts.read(RUST, "650001", "select count(*) as n from crawl_log").json == [{"n": 9}])
    hosts.run(r.table("assignment").get(assignment["id"]).delete())
    done = subprocess.run([harness.BIN, "doctor", "--config", str(hosts.processes[RUST, "worker"].config)], stdout=subprocess.PIPE, text=True)
    assert "is a Python sync master" in done.stdout, done.stdout
    assert hosts.read(RUST, "650001", "select count(*) as n from crawl_log").status == 200
    assert hosts.run(r.table("services").get("trough-sync-master"))["node"] == "127.0.0.30"


def python_placement(ids, nodes, rings):
    """Where a Python master puts the segments: each node on one ring, every segment once on each."""
    placed = {}
    for segment in ids:
        for ring in range(rings):
            members = [node for i, node in enumerate(nodes) if i % rings == ring]
            digest = hashlib.md5(f"{ring}-{segment}".encode()).digest()
            # Unevenly, as its rings are.
            placed[segment, members[0 if digest[0] < 150 else -1]] = ring
    return placed


def test_a_takeover_keeps_the_placement_that_it_finds(hosts):
    nodes = [f"127.0.0.{n}" for n in (31, 32, 33, 34)]
    ids = [f"70{i:04}" for i in range(160)]
    content = canonical(4)
    paths = {segment: hosts.put_segment(segment, content) for segment in ids}
    placed = python_placement(ids, nodes, 2)
    rings = {"id": "ring-assignments", **{node: {"ring": i % 2, "weight": 10**12} for i, node in enumerate(nodes)}}
    now = doublethink.utcnow()
    times = {"first_heartbeat": now, "last_heartbeat": r.now(), "load": 0.1, "host": "python", "pid": 1, "ttl": 480}
    services = [{"id": f"trough-nodes:{node}:None", "role": "trough-nodes", "node": node, "available_bytes": 10**12,
                 "cold_storage": False, **times} for node in nodes]
    services += [{"id": f"trough-read:{node}:{segment}", "role": "trough-read", "node": node, "segment": segment,
                  "port": 6444, "url": f"http://{node}:6444/?segment={segment}", **times} for segment, node in placed]
    # A Python master that was stopped: its mastership has run out.
    services.append(python_master("127.0.0.30", age=1000))
    assignments = [{"id": f"{node}:{segment}", "node": node, "segment": segment, "hash_ring": ring, "assigned_on": now,
                    "remote_path": str(paths[segment]), "bytes": len(content)} for (segment, node), ring in placed.items()]
    python_database(hosts, services, assignments, rings)

    plan = subprocess.run([harness.BIN, "sync", "--plan", "--config", str(plan_config(hosts))], stdout=subprocess.PIPE, text=True,
                          timeout=60, check=True).stdout
    assert "move 0 of" in plan and "drop 0" in plan and "add 0 copies" in plan, plan
    assert hosts.placement() == placed

    hosts.sync()
    rounds(hosts, 4)
    assert hosts.placement() == placed, "the change itself moves nothing"
    summary = cluster_view(hosts)["summary"]
    assert (summary["moves"], summary["repairs"], summary["drops"], summary["deferred"]) == (0, 0, 0, 0), summary
    assert hosts.run(r.table("assignment").get("ring-assignments")) == rings, "a Python master would find its own rings"
    record = hosts.run(r.table("assignment").get(assignments[0]["id"]))
    assert record["assigned_on"] == hosts.run(r.expr(now)) and record["mtime_ms"] > 0 and record["remote_path"] == assignments[0]["remote_path"]

    # Another server of ours takes over: nothing moves either.
    hosts.stop_host(hosts.SYNC, "sync")
    hosts.sync()
    rounds(hosts, 2)
    assert hosts.placement() == placed

    # A worker that joins gets its share, and nothing else moves.
    hosts.worker(RUST)
    harness.wait_for("its share", lambda: len(gained(hosts, placed)) >= 50 and cluster_view(hosts)["summary"]["in_flight"] == 0)
    rounds(hosts, 3)
    new = gained(hosts, placed)
    assert {node for _, node in new} == {RUST} and len(new) <= 1.1 * len(placed) / 5, len(new)
    after = hosts.run(r.table("assignment").get("ring-assignments"))
    assert after.pop(RUST)["ring"] == 0 and after == rings


def gained(hosts, placed):
    return hosts.placement().keys() - placed.keys()


def cluster_view(hosts):
    return harness.http("GET", hosts.sync_url("/v1/cluster")).json["cluster"]


def rounds(hosts, count):
    """Waits until the master has reconciled so many times, with everything in sight."""
    for _ in range(count):
        before = cluster_view(hosts)["at"]
        harness.wait_for("a reconciliation", lambda: (v := cluster_view(hosts))["at"] > before and v["summary"]["segments"] and not v["error"])


def plan_config(hosts):
    path = hosts.dir / "plan.yml"
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in {
        **hosts.common, "HOSTNAME": "planner", "STORE": f"file://{hosts.store}", "LOCAL_DATA": str(hosts.dir / "planner")}.items()))
    return path


def test_a_host_changes_over_and_back(hosts):
    """A worker host with segments under write, some never promoted: from Python to ours and back, on the same files."""
    hosts.sync()
    data = str(hosts.dir / "data")
    hosts.python(PYTHON, LOCAL_DATA=data)
    url = harness.wait_for("a provisioning", lambda: (a := hosts.provision("660001")).status == 200 and a).json["write_url"]
    assert harness.http("POST", url, "create table t (a integer); insert into t values (1)").status == 200
    hosts.put_segment("660002", canonical(6))
    until_readers(hosts, "660001", PYTHON)
    until_readers(hosts, "660002", PYTHON)
    # One that was promoted and written on since, to the same length.
    dirty = hosts.provision("660004").json["write_url"]
    assert harness.http("POST", dirty, "create table t (a integer); insert into t values (1)").status == 200
    assert hosts.promote("660004").status == 200
    assert harness.http("POST", dirty, "insert into t values (2)").status == 200
    assert (hosts.dir / "data" / "660004.sqlite").stat().st_size == (hosts.store / "660" / "660004.sqlite").stat().st_size
    harness.wait_for("its assignment", lambda: ("660004", PYTHON) in hosts.placement())
    lock = hosts.run(r.table("lock").get("write:lock:660001"))
    assert "holder" not in lock

    copied = (hosts.dir / "data" / "660002.sqlite").stat()
    hosts.stop_host(PYTHON, "python")
    hosts.worker(PYTHON, LOCAL_DATA=data, HEARTBEAT="segment")
    count = lambda: hosts.read(PYTHON, "660001", "select count(*) as n from t").json
    harness.wait_for("the write lock to be ours", lambda: harness.http("POST", url, "insert into t values (2)").status == 200)
    assert count() == [{"n": 2}], "what was never promoted is there"
    assert hosts.provision("660001").json["write_url"] == url
    assert hosts.promote("660001").json == {"remote_path": str(hosts.store / "660" / "660001.sqlite")}
    until_readers(hosts, "660002", PYTHON)
    assert hosts.read(PYTHON, "660002", "select count(*) as n from crawl_log").json == [{"n": 6}]
    adopted, canonical_file = (hosts.dir / "data" / "660002.sqlite").stat(), hosts.store / "660" / "660002.sqlite"
    assert adopted.st_ino == copied.st_ino, "a copy that is there is not made again"
    assert copied.st_mtime > canonical_file.stat().st_mtime == pytest.approx(adopted.st_mtime, abs=0.002)
    written = lambda: hosts.read(PYTHON, "660004", "select a from t order by a").json
    assert written() == [{"a": 1}, {"a": 2}] and hosts.run(r.table("lock").get("write:lock:660004")), "not promoted, so not given back"
    another = hosts.provision("660003").json["write_url"]
    assert harness.http("POST", another, "create table t (a integer); insert into t values (7)").status == 200

    hosts.stop_host(PYTHON, "worker", kill=True)
    hosts.python(PYTHON, LOCAL_DATA=data)
    until_readers(hosts, "660002", PYTHON)
    until_readers(hosts, "660003", PYTHON)
    assert count() == [{"n": 2}]
    assert hosts.read(PYTHON, "660003", "select a from t").json == [{"a": 7}]
    assert harness.http("POST", another, "insert into t values (8)").status == 200
    assert hosts.read(PYTHON, "660003", "select a from t order by a").json == [{"a": 7}, {"a": 8}]
