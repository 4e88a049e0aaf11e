#!/usr/bin/env python3
"""Records what a version leaves in the metadata and what it answers, for later versions to be tested against.

    TROUGH_BIN=…/trough tests/ops/record.py tests/data/protocol-N
"""

import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import harness
import support

JSON = {"content-type": "application/json"}
NDJSON = {**JSON, "accept": "application/x-ndjson"}


def messages(epoch):
    """What clients send to workers and to the master, and the master to workers."""
    one = {"segments": ["m-1"]}
    return [
        ("provision by a client", "POST", "master", "/provision", JSON, {"segment": "m-0", "schema": "s1"}),
        ("provision by the master", "POST", "manage", "/v1/provision", JSON, {**one, "schema": "s1", "epoch": epoch}),
        ("write", "POST", "write", "/v1/write", JSON, {"writes": [{"segment": "m-1", "statements": [
            {"sql": "insert into t values (?)", "rows": [[1], [2]]}, {"sql": "select n from t order by n"}]}], "deadline_ms": 60000}),
        ("write by the old endpoint", "POST", "write", "/?segment=m-1", {}, "insert into t values (3)"),
        ("read by the old endpoint", "POST", "read", "/?segment=m-1", {}, "select n from t order by n"),
        ("query", "POST", "read", "/v1/query", NDJSON, {**one, "map": "select n from t where n < ? order by n", "params": [3],
                                                       "deadline_ms": 60000, "max_rows": 10, "max_bytes": 100000, "bytewise": True}),
        ("reduce", "POST", "read", "/v1/query", NDJSON, {**one, "map": "select n from t", "reduce": "select sum(n) s from partial",
                                                        "reduce_params": []}),
        ("query of an unknown segment", "POST", "read", "/v1/query", NDJSON, {"segments": ["nope"], "map": "select 1"}),
        ("promote by the master", "POST", "manage", "/v1/promote", JSON, {**one, "epoch": epoch}),
        ("provision by an old epoch", "POST", "manage", "/v1/provision", JSON, {"segments": ["m-2"], "schema": "s1", "epoch": 0}),
        ("a schema", "GET", "master", "/schema/s1", {}, ""),
    ]


def main(directory):
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        cluster = harness.Cluster(scratch, workers=1, settings={"MINIMUM_ASSIGNMENTS": 1, "MAXIMUM_ASSIGNMENTS": 1, "HOSTNAME": "x"})
        try:
            cluster.put_schema("s1", "create table t (n integer);")
            cluster.put_schema("t", "create table t (n integer primary key, pad text) strict;")
            worker = cluster.workers[0]
            ports = {"read": worker.read_port, "write": worker.write_port, "manage": worker.manage_port, "master": cluster.sync_port}
            epoch = support.view(cluster)["cluster"]["epoch"]
            lines = []
            for name, method, to, path, headers, body in messages(epoch):
                text = body if isinstance(body, str) else json.dumps(body)
                answer = harness.http(method, f"http://127.0.0.1:{ports[to]}{path}", text, headers)
                if isinstance(body, dict) and "epoch" in body and body["epoch"]:
                    text = json.dumps({**body, "epoch": "EPOCH"})
                told = documents_of(answer.text.replace(str(cluster.store), "/store"))
                lines.append({"name": name, "method": method, "to": to, "path": path, "headers": headers, "body": text,
                              "status": answer.status, "answer": told})
            support.write(cluster, "old-promoted", 1)
            support.promote(cluster, "old-promoted")
            support.at_rest(cluster, ["old-promoted"], copies=1)
            support.write(cluster, "old-locked", 2)
            support.at_rest(cluster, [], copies=1)

            def documents():
                found = {}
                for table in ("services", "assignment", "lock", "schema", "trough"):
                    kept = [row for row in support.rows(cluster, table)
                            if "old-" in row["id"] or row["id"].startswith("trough-nodes") or row["id"] == "s1"]
                    found[table] = [anonymous(row, cluster) for row in kept]
                assert len(found["services"]) >= 4 and found["assignment"] and found["lock"], found
                return found

            found = harness.wait_for("all records", documents)
            (directory / "records.json").write_text(json.dumps(found, indent=1, sort_keys=True, default=seconds) + "\n")
            (directory / "messages.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        finally:
            for process in [*cluster.workers, cluster.sync, cluster.meta]:
                process.kill()


def documents_of(text):
    """The JSON documents of an answer: one, or one a line; none of a text."""
    try:
        return [json.dumps(json.loads(text))]
    except ValueError:
        return [line for line in text.splitlines() if line.startswith("{")]


def anonymous(row, cluster):
    def plain(value):
        return value.replace("worker-1", "old-1").replace(str(cluster.store), "/store") if isinstance(value, str) else value

    return {key: plain(value) for key, value in row.items() if key not in ("host", "pid")}


def seconds(time):
    return {"$reql_type$": "TIME", "epoch_time": round(time.timestamp(), 3), "timezone": "+00:00"}


if __name__ == "__main__":
    main(sys.argv[1])
