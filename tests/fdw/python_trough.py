"""Segments that only a worker of the Python trough serves, through foreign tables: plain and filtered rows, parameters, aggregates,
joins, ORDER BY with LIMIT, and what it cannot answer. Each answer is held against what was written, and EXPLAIN must say why plain rows are
fetched. A session that prepared its statements before such a worker came, or while it was there, plans them anew.

    python_trough.py DIR       with what run.sh sets up (a server `archive`, TROUGH_URL)

The worker is the one of tests/compat. Its node is marked as one that is drained, so that the sync master gives it nothing.
"""

import os
import pathlib
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.parse

import psycopg

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/compat"))
import python_worker as original  # noqa: E402

r = original.r
NODE = "127.0.0.71"
SEGMENTS = {f"python-{n}": [(i, [200, 404, None][i % 3], f"it's {i}", i / 4) for i in range(n * 10)] for n in (1, 2, 3)}


def psql(sql, check=True):
    done = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-F", "|", "-v", "ON_ERROR_STOP=1"], input=sql, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise SystemExit(f"FAIL  python_trough: {sql}\n{done.stderr[:800]}")
    return done.stderr if done.returncode else done.stdout.strip().splitlines()


def free_port():
    with socket.socket() as s:
        s.bind((NODE, 0))
        return s.getsockname()[1]


def declare():
    psql("""CREATE FOREIGN TABLE python_log (segment text OPTIONS (segment 'true'), id bigint, status integer, url text, seconds double precision)
                SERVER archive OPTIONS (table 'log', segments '^python-');
            CREATE FOREIGN TABLE python_raw (segment text OPTIONS (segment 'true'), body bytea) SERVER archive OPTIONS (table 'raw', segments '^python-3$');""")


def start(directory):
    url = urllib.parse.urlsplit(os.environ["TROUGH_URL"])
    settings = {"HOSTNAME": NODE, "LOCAL_DATA": directory, "RETHINKDB_HOSTS": [url.netloc], "SYNC_LOOP_TIMING": 1000, "READ_PORT": free_port()}
    worker = original.Worker(settings)
    worker.data.mkdir()
    for segment, rows in SEGMENTS.items():
        connection = sqlite3.connect(worker.path(segment))
        connection.execute("create table log (id integer primary key, status integer, url text, seconds real)")
        connection.executemany("insert into log values (?, ?, ?, ?)", rows)
        if segment == "python-3":
            connection.execute("create table raw (body blob)")
            connection.execute("insert into raw values (x'00ff')")
        connection.commit()
        connection.close()
    original.serve(worker, settings["READ_PORT"], lambda method, path, segment, body: worker.read(segment, body))
    worker.heartbeat("trough-nodes", available_bytes=1, cold_storage=False, draining=True)
    for segment in SEGMENTS:
        worker.advertise("trough-read", segment)
    return worker


def until(what, found, seconds=30):
    """Waits for a condition."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found():
            return True
        time.sleep(0.05)
    raise SystemExit(f"FAIL  python_trough: not within {seconds} s: {what}")


class Prepared:
    """A session with a statement of which one plan is kept."""

    def __init__(self):
        self.session = psycopg.connect("", autocommit=True)
        self.session.execute("SET plan_cache_mode = force_generic_plan; PREPARE p (integer) AS SELECT count(*), min(url) FROM python_log WHERE status = $1")

    def run(self):
        """The answer, or what was refused."""
        try:
            return self.session.execute("EXECUTE p (404)").fetchone()
        except psycopg.Error as error:
            return str(error)

    def explain(self):
        return "\n".join(line for line, in self.session.execute("EXPLAIN (COSTS OFF) EXECUTE p (404)"))


def main():
    declare()
    early = Prepared()
    bad = [f"before any Python worker: {early.run()}"] if early.run() != (0, None) else []
    if "Plain Rows" in early.explain():
        bad.append(f"before any Python worker: {early.explain()}")
    worker = start(pathlib.Path(sys.argv[1]) / "python-worker")
    rows = [(segment, *row) for segment, found in SEGMENTS.items() for row in found]
    text = lambda row: "|".join("" if value is None else str(int(value) if isinstance(value, float) and value.is_integer() else value) for value in row)
    found = [row for row in rows if row[2] == 200]
    per_status = sorted(((status, len([1 for row in rows if row[2] == status])) for status in (200, 404, None)), key=lambda row: -(row[0] or 999))
    cases = {
        "rows": ("SELECT * FROM python_log ORDER BY segment, id", [text(row) for row in rows]),
        "a condition": ("SELECT segment, id FROM python_log WHERE status = 200 ORDER BY 1, 2", [f"{row[0]}|{row[1]}" for row in found]),
        "a text": ("SELECT segment, id FROM python_log WHERE url = 'it''s 7' ORDER BY 1", [f"{s}|7" for s in SEGMENTS]),
        "a parameter": ("PREPARE p (text, bigint) AS SELECT url FROM python_log WHERE segment = $1 AND id > $2 ORDER BY id;"
                        "SET plan_cache_mode = force_generic_plan; EXECUTE p ('python-1', 7)", ["it's 8", "it's 9"]),
        "count": ("SELECT count(*), count(status), min(id), max(seconds) FROM python_log",
                  [f"{len(rows)}|{len([1 for row in rows if row[2]])}|0|{29 / 4}"]),
        "groups": ("SELECT status, count(*) FROM python_log GROUP BY status ORDER BY status DESC NULLS FIRST", [text(row) for row in per_status]),
        "the first rows": ("SELECT segment, id FROM python_log WHERE segment = 'python-3' ORDER BY id DESC LIMIT 2", ["python-3|29", "python-3|28"]),
        "a join": ("SELECT l.url FROM (VALUES ('python-2', 3), ('python-3', 25)) v (segment, id) JOIN python_log l USING (segment, id) ORDER BY 1",
                   ["it's 25", "it's 3"]),
        "an expression": ("SELECT segment, max(upper(url) || id % 7) FROM python_log WHERE length(url) > 5 AND url LIKE 'it%' GROUP BY segment HAVING count(*) > 0 ORDER BY 1",
                          sorted(f"{s}|" + max(f"IT'S {row[0]}{row[0] % 7}" for row in found) for s, found in SEGMENTS.items())),
        "different values": ("SELECT count(DISTINCT url), count(DISTINCT status) FROM python_log WHERE segment IN ('python-2', 'python-3')", ["30|2"]),
        "a self-join": ("SELECT count(*) FROM python_log a JOIN python_log b ON a.segment = b.segment AND a.id = b.id + 1 WHERE a.status = 200",
                        [str(len([row for row in rows if row[2] == 200 and row[1] > 0]))]),
        "segments": ("SELECT segment, node, healthy FROM trough.segments('archive', '^python-') ORDER BY 1", [f"{s}|{NODE}|t" for s in SEGMENTS]),
    }
    for name, (sql, expected) in cases.items():
        for pushdown in ("on", "off"):
            answer = psql(f"SET pg_trough.pushdown = {pushdown}; {sql}", check=False)
            if answer != expected:
                bad.append(f"{name} with pushdown {pushdown}: {answer[:400] if isinstance(answer, str) else answer[:4]} instead of {expected[:4]}")
    why = "Plain Rows: segment python-1 is served by the Python worker"
    for sql in ("SELECT count(*) FROM python_log", "SELECT * FROM python_log WHERE segment = 'python-2' AND status = 200"):
        plan = "\n".join(psql(f"EXPLAIN (VERBOSE, COSTS OFF) {sql}"))
        if why not in plan or "Segment Conditions" not in plan and "WHERE segment" in sql:
            bad.append(f"EXPLAIN does not say why: {plan}")
    ours = psql("""CREATE FOREIGN TABLE ours_only (segment text OPTIONS (segment 'true'), id bigint) SERVER archive OPTIONS (table 'item', segments '^s[0-9]+$');
                   EXPLAIN (COSTS OFF) SELECT count(*) FROM ours_only WHERE id > 3; DROP FOREIGN TABLE ours_only""")
    if "Plain Rows" in str(ours) or not any("Finalize" in line for line in ours):
        bad.append(f"segments of ours are not asked for aggregates: {ours}")
    # Planned before the worker came: refused at most once.
    right = (len([row for row in rows if row[2] == 404]), "it's 1")
    told = []
    until("a statement that was prepared before is answered", lambda: told.append(early.run()) or told[-1] == right)
    if any(answer not in ((0, None), right) and "run again" not in str(answer) for answer in told) or sum("run again" in str(a) for a in told) > 1:
        bad.append(f"prepared before: {told}")
    late = Prepared()
    if late.run() != right or "Plain Rows" not in late.explain():
        bad.append(f"prepared meanwhile: {late.run()} {late.explain()}")
    refused = psql("SELECT * FROM python_raw", check=False)
    # By where in its answer it fails.
    if "breaks off at a blob" not in str(refused) and "bytes is not JSON serializable" not in str(refused):
        bad.append(f"a blob: {refused}")
    worker.rr.table("services").get_all(NODE, index="node").delete().run()
    for prepared in (early, late):
        # The plan that was made for the worker runs once more; the next is another.
        until("plans are made anew once the worker is gone", lambda: prepared.run() == (0, None) and "Plain Rows" not in prepared.explain())
        prepared.session.close()
    psql("DROP FOREIGN TABLE python_log, python_raw")
    for line in bad:
        print(f"FAIL  python_trough: {line}")
    print("ok    python_trough" if not bad else f"{len(bad)} failed")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
