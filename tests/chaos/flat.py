#!/usr/bin/env python3
"""A million requests against a cluster: memory and descriptors of every daemon must not grow with them.

The requests are of all kinds: reads, map and reduce over segments, writes, promotions, the endpoints of the sync server, queries of the
metadata. After each round the daemons' memory (RssAnon) and descriptors are looked at. After the warm-up, the first rounds, a line is laid
through what was measured; it fails when a daemon has grown by more than MEMORY_MB, or DESCRIPTORS, over the rest.

    tests/chaos/flat.py [--requests 1000000] [--rounds 20]          needs wrk (Debian: wrk)
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "lib")]

import harness  # noqa: E402  the path must stand before
import rethinkdb  # noqa: E402

MEMORY_MB = 12
DESCRIPTORS = 10
SEGMENTS = 40
WARM_UP = 0.3
R = rethinkdb.RethinkDB()
SCHEMA = "create table w (n integer primary key, v integer not null) strict;"


def post(path, body, kind="text/plain"):
    return f'wrk.method = "POST"; wrk.path = "{path}"; wrk.body = [[{body}]]; wrk.headers["Content-Type"] = "{kind}"'


def get(path):
    return f'wrk.method = "GET"; wrk.path = "{path}"'


def kinds(cluster):
    """What is asked: the base URL, the script for wrk, and its share of the requests. Takes the lock of the segment that is written."""
    worker = cluster.workers
    read, write, sync = (
        f"http://127.0.0.1:{worker[0].read_port}",
        f"http://127.0.0.1:{worker[0].write_port}",
        f"http://127.0.0.1:{cluster.sync_port}",
    )
    segments = ", ".join(f'"flat-{i:03d}"' for i in range(SEGMENTS))
    reduce = '"map": "select count(*) c, sum(v) v from w where n < ?1", "params": [50], "reduce": "select sum(c), sum(v) from partial"'
    held = "flat-held"
    answer = harness.wait_for("a provisioning", lambda: (a := cluster.provision(held, "flat")).status == 200 and a)
    holder = next(w for w in worker if f":{w.write_port}/" in answer.json["write_url"])
    held_write = f"http://127.0.0.1:{holder.write_port}"
    statement = "insert or replace into w values (abs(random()) % 1000, 1)"
    one = f'{{"writes": [{{"segment": "{held}", "statements": [{{"sql": "{statement}"}}]}}]}}'
    return {
        # First, as a lock that nobody uses after a promotion is given back.
        "write": (held_write, post(f"/?segment={held}", statement), 0.15),
        "write by /v1": (held_write, post("/v1/write", one, "application/json"), 0.1),
        "read": (read, post("/?segment=flat-000", "select count(*) from w where n < 20"), 0.3),
        "read by another's holder": (
            f"http://127.0.0.1:{next(w for w in worker if w is not holder).read_port}",
            post(f"/?segment={held}", "select max(n) from w"),
            0.05,
        ),
        "query": (read, post("/v1/query", f'{{"segments": [{segments}], {reduce}}}', "application/json"), 0.1),
        "query that fails": (
            read,
            post("/v1/query", '{"segments": ["nowhere", "flat-001"], "map": "select nothing"}', "application/json"),
            0.05,
        ),
        "write that fails": (write, post("/?segment=nowhere", statement), 0.05),
        "segment": (sync, get("/v1/segment/flat-000"), 0.05),
        "schema": (sync, get("/schema/flat/sql"), 0.05),
        "status": (sync, get("/status"), 0.02),
        "metrics": (read, get("/metrics"), 0.03),
        "provision again": (sync, post("/provision", f'{{"segment": "{held}", "schema": "flat"}}', "application/json"), 0.03),
    }


def wrk(base, script, seconds, directory):
    """Runs wrk for so long; how many requests were answered, and how many of them with an error."""
    path = pathlib.Path(directory) / "script.lua"
    path.write_text(script)
    done = subprocess.run(
        ["wrk", "-t1", "-c8", f"-d{seconds}s", "--timeout", "10s", "-s", str(path), base], capture_output=True, text=True, check=True
    )
    count = int(re.search(r"(\d+) requests in", done.stdout)[1])
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    return count, int(refused[1]) if refused else 0


def metadata(cluster, seconds):
    """Queries of the metadata; how many."""
    with R.connect("127.0.0.1", cluster.meta_port, db="trough_configuration") as db:
        count, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            R.table("services").get_all("flat-000", index="segment").run(db)
            R.table("lock").get("write:lock:flat-held").run(db)
            R.table("services").filter({"role": "trough-nodes"}).count().run(db)
            R.table("trough").insert({"id": "flat", "n": count}, conflict="replace").run(db)
            count += 4
        return count


def look(pid):
    """(memory of its own in MiB, descriptors) of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) / 1024, len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


def slope(points):
    """Of the line through points (x, y)."""
    n, sx, sy = len(points), sum(x for x, _ in points), sum(y for _, y in points)
    sxx, sxy = sum(x * x for x, _ in points), sum(x * y for x, y in points)
    return (n * sxy - sx * sy) / (n * sxx - sx * sx)


def prepare(cluster):
    assert cluster.put_schema("flat", SCHEMA).status in (201, 204)
    rows = ", ".join(f"({n}, {n})" for n in range(1000))
    for segment in [*(f"flat-{i:03d}" for i in range(SEGMENTS)), "flat-held"]:
        answer = harness.wait_for("a provisioning", lambda segment=segment: (a := cluster.provision(segment, "flat")).status == 200 and a)
        assert harness.http("POST", answer.json["write_url"], f"insert into w values {rows}").status == 200
        if segment != "flat-held":
            harness.wait_for("a promotion", lambda segment=segment: cluster.promote(segment).status == 200)
    harness.wait_for(
        "copies on all workers", lambda: all((w.data / f"flat-{i:03d}.sqlite").exists() for w in cluster.workers for i in range(SEGMENTS))
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    if not shutil.which("wrk"):
        print("flat.py: there is no wrk (Debian: apt-get install wrk)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="trough-flat-", dir="/var/tmp") as directory:
        cluster = harness.Cluster(pathlib.Path(directory) / "cluster", workers=2, settings={"LEASE": 30})
        try:
            return run(cluster, directory, args)
        finally:
            cluster.stop()


def run(cluster, directory, args):
    prepare(cluster)
    daemons = {"meta": cluster.meta, "sync": cluster.sync, **{f"worker-{i + 1}": w for i, w in enumerate(cluster.workers)}}
    seen = {name: [(0, *look(p.p.pid))] for name, p in daemons.items()}
    asked, total, begun = {}, 0, time.monotonic()
    while total < args.requests:
        goal = args.requests / args.rounds
        for name, (base, script, share) in kinds(cluster).items():
            count = 0
            while count < goal * share:
                answered, refused = wrk(base, script, 1, directory)
                if refused and "fails" not in name:
                    raise AssertionError(f"{refused} of {answered} requests of the kind '{name}' failed")
                count += answered
            asked[name] = asked.get(name, 0) + count
            total += count
        for name, count in (
            ("metadata", metadata(cluster, 0.5)),
            ("promote", sum(cluster.promote("flat-held").status == 200 for _ in range(5))),
        ):
            asked[name] = asked.get(name, 0) + count
            total += count
        for name, process in daemons.items():
            seen[name].append((total, *look(process.p.pid)))
        print(
            f"{total} requests in {time.monotonic() - begun:.0f} s: "
            + ", ".join(f"{n} {s[-1][1]:.1f} MiB {s[-1][2]} fds" for n, s in seen.items()),
            flush=True,
        )
    return report(seen, asked, total, time.monotonic() - begun)


def report(seen, asked, total, seconds):
    """The table; whether something has grown."""
    print(
        f"{total} requests in {seconds:.0f} s: "
        + ", ".join(f"{name} {count}" for name, count in sorted(asked.items(), key=lambda i: -i[1]))
    )
    heads = ["MiB at first", "warm", "at last", "grown", "fds at first", "warm", "at last", "grown"]
    print(f"{'daemon':<10}" + "".join(f"{head:>13}" for head in heads))
    bad = False
    for name, points in seen.items():
        # At least three points are measured, whatever the machine's speed.
        warm = [p for p in points if p[0] >= total * WARM_UP] or points
        warm = warm if len(warm) >= 3 else points[-3:]
        span = warm[-1][0] - warm[0][0]
        memory, descriptors = (slope([(p[0], p[i]) for p in warm]) * span for i in (1, 2))
        grown = memory > MEMORY_MB or descriptors > DESCRIPTORS
        bad |= grown
        print(
            f"{name:<10}{points[0][1]:>13.1f}{warm[0][1]:>13.1f}{warm[-1][1]:>13.1f}{memory:>13.1f}"
            f"{points[0][2]:>13}{warm[0][2]:>13}{warm[-1][2]:>13}{descriptors:>13.1f}{'   GROWN' if grown else ''}"
        )
    print(
        f"bounds: {MEMORY_MB} MiB, {DESCRIPTORS} descriptors after the first {WARM_UP:.0%} of the requests: {'FAILED' if bad else 'held'}"
    )
    return bad


if __name__ == "__main__":
    sys.exit(main())
