"""Very wide queries: every segment of a large cluster in one query, and lists of very many segment ids, as constants, as a
parameter of a custom and of a generic plan, from a sub-select and from a join. Each answer is held against what was written;
the times are printed.

Needs what run.sh sets up (a server `archive`). --segments are made, --ids are named in one list, most of which do not exist.
"""

import argparse
import subprocess
import sys
import time


def psql(*commands, check=True):
    done = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"], input="\n".join(commands),
                          capture_output=True, text=True)
    if check and done.returncode != 0:
        raise SystemExit(f"FAIL  wide: {done.stderr[:600]}")
    return done.stdout.strip().splitlines()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--segments", type=int, default=400)
    parser.add_argument("--ids", type=int, default=10_000)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that one query may take")
    args = parser.parse_args()
    n, ids, bad, times = args.segments, args.ids, [], []
    name = f"wide{int(time.time())}_"

    def timed(what, expected, *commands):
        began = time.monotonic()
        answer = psql(*commands)
        took = time.monotonic() - began
        times.append(f"{what} {took:.2f} s")
        if answer != expected:
            bad.append(f"{what}: {answer[:3]} instead of {expected}")
        if took > args.limit:
            bad.append(f"{what}: {took:.1f} s, more than {args.limit} s")

    psql("DROP FOREIGN TABLE IF EXISTS wide;",
         "SELECT trough.register_schema('archive', 'wide', 'CREATE TABLE wide (n INTEGER NOT NULL) STRICT;');",
         "CREATE FOREIGN TABLE wide (segment text OPTIONS (segment 'true'), n bigint OPTIONS (storage 'integer'))",
         f"    SERVER archive OPTIONS (schema 'wide', segments '^{name}');")
    timed(f"INSERT into {n} new segments", [], f"INSERT INTO wide SELECT '{name}' || g, g FROM generate_series(1, {n}) g;")
    total = [f"{n}|{n * (n + 1) // 2}"]
    timed("first count of all", total, "SELECT count(*), sum(n) FROM wide;")
    timed("rows of all", total, "SELECT count(*), sum(n) FROM (SELECT segment, n FROM wide OFFSET 0) t;")
    timed("grouped by segment", [str(n)], "SELECT count(*) FROM (SELECT segment, sum(n) FROM wide GROUP BY segment) t;")
    timed("a condition per segment", [str(n)], "SELECT count(*) FROM wide WHERE length(segment) > 4 AND upper(segment) <> 'X';")
    listed = ", ".join(f"'{name}{g}'" for g in range(1, ids + 1))
    array = f"ARRAY(SELECT '{name}' || g FROM generate_series(1, {ids}) g)"
    there = min(n, ids)
    expected = [f"{there}|{there * (there + 1) // 2}"]
    query = "SELECT count(*), sum(n) FROM wide WHERE segment"
    timed(f"IN of {ids} constants", expected, f"{query} IN ({listed});")
    timed("… and once more", expected * 2, f"{query} IN ({listed});", f"{query} IN ({listed});")
    timed("= ANY of a constant", expected, f"{query} = ANY ('{{{','.join(f'{name}{g}' for g in range(1, ids + 1))}}}');")
    timed("= ANY of a sub-select", expected, f"{query} = ANY ({array});")
    prepare = f"PREPARE q(text[]) AS {query} = ANY ($1); SELECT {array} AS ids \\gset"
    for mode in ["force_custom_plan", "force_generic_plan"]:
        timed(f"= ANY ($1), {mode}", expected, f"SET plan_cache_mode = {mode};", prepare, "EXECUTE q(:'ids');")
    timed("joined with a list", expected,
          f"CREATE TEMP TABLE list AS SELECT '{name}' || g AS segment FROM generate_series(1, {ids}) g; ANALYZE list;",
          "SELECT count(*), sum(n) FROM wide JOIN list USING (segment);")
    timed("EXPLAIN of the constants", ["t"],
          "CREATE FUNCTION pg_temp.lines(query text) RETURNS boolean LANGUAGE plpgsql AS $f$ DECLARE line text; found boolean := false;"
          " BEGIN FOR line IN EXECUTE query LOOP found := found OR line ~ 'Segment Conditions'; END LOOP; RETURN found; END $f$;",
          f"SELECT pg_temp.lines($q$EXPLAIN {query} IN ({listed})$q$);")
    print(f"{'FAIL ' if bad else 'ok   '} wide: " + "; ".join(times))
    for line in bad:
        print("  " + line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
