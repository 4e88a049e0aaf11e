"""Segments that only a worker of the Python trough serves, through foreign tables: plain and filtered rows, parameters, aggregates,
joins, ORDER BY with LIMIT, and what it cannot answer. Each answer is held against what was written.

    python_trough.py DIR       with what run.sh sets up (a server `archive`, TROUGH_URL)

The worker is the one of tests/compat. Its node is marked as one that is drained, so that the sync master gives it nothing.
"""

import os
import pathlib
import socket
import sqlite3
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/compat"))
import python_worker as original  # noqa: E402

r = original.r
NODE = "127.0.0.71"
SEGMENTS = {f"python-{n}": [(i, [200, 404, None][i % 3], f"it's {i}", i / 4) for i in range(n * 10)] for n in (1, 2, 3)}
# Conditions and aggregates check the values that they meet, by functions of ours: only the plain rows are never refused.
PLAIN = ("rows", "segments")


def psql(sql, check=True):
    done = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-F", "|", "-v", "ON_ERROR_STOP=1"], input=sql, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise SystemExit(f"FAIL  python_trough: {sql}\n{done.stderr[:800]}")
    return done.stderr if done.returncode else done.stdout.strip().splitlines()


def free_port():
    with socket.socket() as s:
        s.bind((NODE, 0))
        return s.getsockname()[1]


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


def main():
    worker = start(pathlib.Path(sys.argv[1]) / "python-worker")
    rows = [(segment, *row) for segment, found in SEGMENTS.items() for row in found]
    psql("""CREATE FOREIGN TABLE python_log (segment text OPTIONS (segment 'true'), id bigint, status integer, url text, seconds double precision)
                SERVER archive OPTIONS (table 'log', segments '^python-');
            CREATE FOREIGN TABLE python_raw (segment text OPTIONS (segment 'true'), body bytea) SERVER archive OPTIONS (table 'raw', segments '^python-3$');""")
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
        "segments": ("SELECT segment, node, healthy FROM trough.segments('archive', '^python-') ORDER BY 1", [f"{s}|{NODE}|t" for s in SEGMENTS]),
    }
    bad = []
    for name, (sql, expected) in cases.items():
        for pushdown in ("on", "off"):
            answer = psql(f"SET pg_trough.pushdown = {pushdown}; {sql}", check=False)
            # What relies on functions of ours is refused there, with what to do.
            if pushdown == "on" and name not in PLAIN and "SET pg_trough.pushdown = off" in str(answer):
                continue
            if answer != expected:
                bad.append(f"{name} with pushdown {pushdown}: {answer[:400] if isinstance(answer, str) else answer[:4]} instead of {expected[:4]}")
    refused = psql("SELECT * FROM python_raw", check=False)
    # By where in its answer it fails.
    if "breaks off at a blob" not in str(refused) and "bytes is not JSON serializable" not in str(refused):
        bad.append(f"a blob: {refused}")
    psql("DROP FOREIGN TABLE python_log, python_raw")
    worker.rr.table("services").get_all(NODE, index="node").delete().run()
    for line in bad:
        print(f"FAIL  python_trough: {line}")
    print("ok    python_trough" if not bad else f"{len(bad)} failed")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
