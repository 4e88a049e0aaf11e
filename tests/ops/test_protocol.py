"""Versions of the protocol side by side: what a later one says is tolerated and kept, what the first one said is understood."""

import json
import pathlib

import pytest

import harness
import record
import support

DATA = pathlib.Path(__file__).resolve().parents[1] / "data" / "protocol-1"
LATER = {"x-trough-protocol": "99"}


@pytest.fixture
def cluster(tmp_path):
    c = support.start(tmp_path, workers=2)
    yield c
    support.kill(c)


def test_a_later_version_may_say_more(cluster):
    support.make(cluster, "s")
    worker = cluster.workers[0]
    read = f"http://127.0.0.1:{worker.read_port}/v1/query"
    query = {"segments": ["s"], "map": "select n from t", "later": {"x": [1]}}
    accept = {"accept": "application/x-ndjson"}
    answer = harness.http("POST", read, query, {**accept, **LATER})
    assert answer.status == 200 and b'"end"' in answer.body, answer
    assert int(answer.headers["x-trough-protocol"]) >= 2
    # From one of our own version, or from a person, it is a mistake.
    for headers in ({}, {"x-trough-protocol": "1"}, {"x-trough-protocol": "2"}):
        answer = harness.http("POST", read, query, {**accept, **headers})
        assert answer.status == 400 and "unknown field `later`" in answer.text, answer
    # What must not be half understood is refused, and may be answered elsewhere.
    answer = harness.http("POST", read, query, {**accept, **LATER, "x-trough-needs": "99"})
    assert answer.status == 503 and answer.json["error"]["code"] == "unavailable" and "upgrade" in answer.text, answer

    provisioned = harness.http("POST", cluster.sync_url("/v1/provision"), {"segments": ["p"], "schema": "t", "later": 1}, LATER)
    assert provisioned.status == 200 and "write_url" in provisioned.json["results"][0], provisioned
    base = provisioned.json["results"][0]["write_url"].split("?")[0]
    write = {"writes": [{"segment": "p", "statements": [{"sql": "insert into t values (1, '')", "later": 1}], "later": 2}], "later": 3}
    written = harness.http("POST", base + "v1/write", write, LATER)
    assert written.status == 200 and "error" not in written.json["results"][0], written
    assert harness.http("POST", base + "v1/write", write).status == 400
    promoted = harness.http("POST", cluster.sync_url("/v1/promote"), {"segments": ["p"], "later": 1}, LATER)
    assert promoted.status == 200 and b"remote_path" in promoted.body, promoted
    support.at_rest(cluster, ["p"])


def test_what_a_later_version_wrote_into_records_is_read_and_kept(cluster):
    support.make(cluster, "s")
    support.write(cluster, "locked", 1)
    r = support.r
    with support.metadata(cluster) as conn:
        later = {"later": {"x": [1, None]}}
        for table in ("assignment", "lock", "schema", "services"):
            r.table(table).filter(lambda row: row["id"] != "trough-sync-master").update(later).run(conn)
        r.table("trough").insert({"id": "controls", "paused": None, "throttles": {"copy_bandwidth": 5, "later": 7}, **later},
                                 conflict="replace").run(conn)
        r.table("trough").insert({"id": "later:document", **later}).run(conn)
        # A ring that is not the placement's: the master writes the record anew.
        row = next(r.table("assignment").get_all("s", index="segment").run(conn))
        r.table("assignment").get(row["id"]).update({"hash_ring": 1 - row["hash_ring"] if row["hash_ring"] in (0, 1) else 0}).run(conn)
    # A restart of everything reads all of it.
    for process in (cluster.sync, *cluster.workers):
        process.stop()
        process.start()
    for worker in cluster.workers:
        support.up(worker)
    harness.wait_for("the rings to be put right", lambda: rings(cluster, "s") == [0, 1])
    assert support.view(cluster)["controls"]["throttles"]["copy_bandwidth"]["effective"] == 5
    support.admin_json(cluster, "throttle", "copy_bandwidth=", "move_segments=9")
    harness.wait_for("a worker to follow", lambda: support.status(cluster.workers[0])["limits"]["copy_bandwidth"] == 0)
    with support.metadata(cluster) as conn:
        for row in r.table("assignment").get_all("s", index="segment").run(conn):
            assert row["later"] == {"x": [1, None]} and row["generation"] > 0, row
        controls = r.table("trough").get("controls").run(conn)
        assert controls["later"] == {"x": [1, None]} and controls["throttles"]["later"] == 7 and controls["throttles"]["move_segments"] == 9
        assert r.table("schema").get("t").run(conn)["later"] == {"x": [1, None]}
    # Of another file it would be wrong.
    support.write(cluster, "s", 5)
    support.promote(cluster, "s")
    support.write(cluster, "locked", 2)
    support.promote(cluster, "locked")
    support.at_rest(cluster, ["s", "locked"])


def rings(cluster, segment):
    return sorted(row["hash_ring"] for row in support.rows(cluster, "assignment") if row.get("segment") == segment)


def test_records_of_the_first_version_are_understood(tmp_path):
    """The records that version 1 left of a cluster with a promoted and a locked segment, and its nodes' files."""
    recorded = json.loads((DATA / "records.json").read_text())
    cluster = support.start(tmp_path, workers=2)
    try:
        support.make(cluster, "promoted")
        kinds = {kind for kind in ("trough-nodes", "trough-read", "trough-write")
                 if any(row.get("role") == kind for row in recorded["services"])}
        assert kinds == {"trough-nodes", "trough-read", "trough-write"}
        r = support.r
        with support.metadata(cluster) as conn:
            for table, documents in recorded.items():
                for document in documents:
                    if document.get("role") == "trough-nodes":
                        # Alive, so that nobody clears it away meanwhile.
                        document = {**document, "last_heartbeat": r.now(), "ttl": 3600}
                    r.table(table).insert(document, conflict="replace").run(conn)
        # Nodes of that version are shown as such, and are not asked for what they do not know.
        workers = harness.wait_for("the old node to be seen", lambda: [
            w for w in support.view(cluster)["cluster"]["workers"] if w["protocol"] == 1])
        assert {w["node"] for w in workers} == {row["node"] for row in recorded["services"] if row.get("role") == "trough-nodes"}
        def findings():
            done = support.admin(cluster, "--json", "scrub", "--check")
            return [json.loads(line).get("finding") for line in done.stdout.splitlines()]
        # The sync server's look at the nodes may be half a second old.
        harness.wait_for("the finding", lambda: any(f and f["what"] == "unreachable" and "protocol 1" in f["detail"] for f in findings()))
        assert harness.http("GET", cluster.sync_url("/v1/segment/old-promoted")).json["assignments"]
        lock = harness.http("GET", cluster.sync_url("/v1/segment/old-locked")).json["lock"]
        assert lock["node"] == "old-1" and lock["fence"] == 1
    finally:
        support.kill(cluster)


def test_messages_of_the_first_version_are_understood(cluster):
    """What clients and a master of version 1 send, in their order; the answers have at least the fields that they had."""
    assert cluster.put_schema("s1", "create table t (n integer);").status in (201, 204)
    cases = [json.loads(line) for line in (DATA / "messages.jsonl").read_text().splitlines()]
    assert len(cases) >= 10
    worker = cluster.workers[0]
    ports = {"read": worker.read_port, "write": worker.write_port, "manage": worker.manage_port, "master": cluster.sync_port}
    epoch = support.view(cluster)["cluster"]["epoch"]
    for case in cases:
        body = case["body"].replace('"EPOCH"', str(epoch))
        answer = harness.http(case["method"], f"http://127.0.0.1:{ports[case['to']]}{case['path']}", body, case["headers"])
        assert answer.status == case["status"], (case, answer)
        for before, now in zip(case["answer"], record.documents_of(answer.text), strict=True):
            same(json.loads(before), json.loads(now), case["name"])


def same(before, now, name):
    """Whatever was there is there; values that depend on the moment or the place are compared by their kind."""
    assert type(before) is type(now), (name, before, now)
    if isinstance(before, dict):
        for key, value in before.items():
            assert key in now, (name, key, now)
            same(value, now[key], name)
    elif isinstance(before, list):
        assert len(before) == len(now), (name, before, now)
        for one, other in zip(before, now):
            same(one, other, name)
