"""A result that is much larger than memory, through a cursor in bits: what the backend and the workers hold meanwhile.

The rows are made by a view with WITH RECURSIVE in the segments, so nothing large is stored. Needs what run.sh sets up. --mb is the result's
size in all; half of it comes from one segment, half from ten. Afterwards one row of --row mb.
"""

import argparse
import sys
import threading
import time

from cancel import Session, anonymous_mb, psql, workers

WIDTH = 65_536
LIMIT_MB = 100


class Watch(threading.Thread):
    """The most memory that processes hold."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.peaks = {pid: anonymous_mb(pid) for pid in pids}
        self.over = threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.02):
            self.look()

    def look(self):
        for pid in self.peaks:
            self.peaks[pid] = max(self.peaks[pid], anonymous_mb(pid))

    def end(self):
        self.over.set()
        self.join()
        self.look()
        return self.peaks


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dir")
    parser.add_argument("--mb", type=int, default=300)
    parser.add_argument("--row", type=int, default=16)
    args = parser.parse_args()
    rows = args.mb * 1024 * 1024 // WIDTH
    half, each = rows // 2, rows // 20
    psql("DROP FOREIGN TABLE IF EXISTS stream_size, stream_rows")
    psql("SELECT trough.register_schema('archive', 'stream', 'CREATE TABLE stream_size (n INTEGER, width INTEGER) STRICT;"
         " CREATE VIEW stream_rows AS WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < (SELECT n FROM stream_size))"
         " SELECT i, printf(''%.*c'', (SELECT width FROM stream_size), ''x'') AS filler FROM c;')")
    prefix = f"big{int(time.time())}_"
    for table, columns in [("stream_size", "n bigint, width bigint"), ("stream_rows", "i bigint, filler text")]:
        psql(f"CREATE FOREIGN TABLE {table} (segment text OPTIONS (segment 'true'), {columns})"
             f" SERVER archive OPTIONS (schema 'stream', segments '^{prefix}')")
    psql(f"INSERT INTO stream_size SELECT '{prefix}many' || g, {each}, {WIDTH} FROM generate_series(1, 10) g")
    psql(f"INSERT INTO stream_size VALUES ('{prefix}one', {half}, {WIDTH}), ('{prefix}row', 1, {args.row * 1024 * 1024})")
    bad, told = [], []
    session = Session()
    session.ask("SELECT count(*) FROM stream_size; SET jit = off;")
    served = workers(args.dir)
    before = {pid: anonymous_mb(pid) for pid in [session.pid, *served]}
    began = time.monotonic()
    for which, expected in [("one", half), ("many", each * 10)]:
        watch = Watch([session.pid, *served])
        session.ask("BEGIN;")
        session.ask("DECLARE c NO SCROLL CURSOR FOR SELECT i, segment, length(filler) AS width, filler FROM stream_rows"
                    f" WHERE segment LIKE '{prefix}{which}%';")
        session.send(f"MOVE {expected - 1} FROM c;")
        session.wait(3600)
        last = session.ask("FETCH 1 FROM c;")
        beyond = session.ask("FETCH 1 FROM c;")
        session.ask("COMMIT;")
        peaks = watch.end()
        if len(last) != 1 or f"|{WIDTH}|" not in last[0][:80] or beyond != []:
            bad.append(f"{which}: the last rows are {[line[:80] for line in last + beyond]}")
        grown = peaks[session.pid] - before[session.pid]
        most = max(peaks[pid] - before[pid] for pid in served)
        told.append(f"{expected * WIDTH >> 20} MB of {which}: backend +{grown:.0f} MB, worker +{most:.0f} MB")
        if grown > LIMIT_MB:
            bad.append(f"{which}: the backend grew by {grown:.0f} MB")
    took = time.monotonic() - began
    watch = Watch([session.pid])
    width = session.ask(f"SELECT octet_length(filler), md5(filler) = md5(repeat('x', octet_length(filler))) FROM stream_rows WHERE segment = '{prefix}row';")
    told.append(f"a row of {args.row} MB: backend +{watch.end()[session.pid] - before[session.pid]:.0f} MB")
    if width != [f"{args.row * 1024 * 1024}|t"]:
        bad.append(f"the one row: {width}")
    session.ask("SELECT 1;")
    kept = anonymous_mb(session.pid) - before[session.pid]
    told.append(f"kept afterwards {kept:.0f} MB")
    if kept > LIMIT_MB:
        bad.append(f"{kept:.0f} MB are kept")
    print(f"{'FAIL ' if bad else 'ok   '} stream: {'; '.join(told)}; {args.mb / took:.0f} MB/s")
    for line in bad:
        print("  " + line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
