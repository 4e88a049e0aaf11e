"""Loads TPC-H's tables into pg_trough, local tables and postgres_fdw's, runs the 22 queries over each, compares and prints times."""

import argparse
import math
import os
import sys
import time
from decimal import Decimal
from pathlib import Path

import psycopg
import tables

HERE = Path(__file__).parent
TIMEOUT = "300s"


def stream(cursor, target, path, name, segments):
    """COPY of a .tbl file, with the segment column before each row."""
    at = tables.TABLES[name][1]
    with cursor.copy(f"COPY {target} FROM STDIN WITH (DELIMITER '|')") as copy, open(path, encoding="utf-8") as rows:
        batch = []
        for row in rows:
            row = row.rstrip("\n")
            row = row[:-1] if row.endswith("|") else row
            key = int(row.split("|", at + 1)[at])
            batch.append(f"tpch-{key % segments:03}|{row}\n")
            if len(batch) == 2000:
                copy.write("".join(batch))
                batch = []
        copy.write("".join(batch))


def load(args):
    main, remote = psycopg.connect("", autocommit=True), psycopg.connect("dbname=tpch_remote", autocommit=True)
    cursor = main.cursor()
    cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trough; CREATE EXTENSION IF NOT EXISTS postgres_fdw")
    cursor.execute(f"CREATE SERVER archive FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb '{os.environ['TROUGH_URL']}')")
    cursor.execute("CREATE USER MAPPING FOR CURRENT_USER SERVER archive")
    cursor.execute(f"CREATE SERVER remote FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{os.environ['PGHOST']}', port '{os.environ['PGPORT']}', dbname 'tpch_remote', fetch_size '10000', use_remote_estimate 'true')")
    cursor.execute("CREATE USER MAPPING FOR CURRENT_USER SERVER remote OPTIONS (user 'postgres')")
    cursor.execute("SELECT trough.register_schema('archive', 'tpch', %s)", [tables.sqlite(args.numbers)])
    cursor.execute("CREATE SCHEMA trough_tpch; CREATE SCHEMA local_tpch; CREATE SCHEMA fdw_tpch")
    took = {}
    for name in tables.TABLES:
        prefix = tables.TABLES[name][0]
        plain = tables.columns(name, args.numbers)
        cursor.execute(f"CREATE FOREIGN TABLE trough_tpch.{name} ({tables.columns(name, args.numbers, True)}) SERVER archive OPTIONS (schema 'tpch', segments '^tpch-', trusted 'true')")
        cursor.execute(f"CREATE TABLE local_tpch.{name} ({plain})")
        path = Path(args.tbl) / f"{name}.tbl"
        for target in (f"local_tpch.{name}", f"trough_tpch.{name}"):
            started = time.monotonic()
            stream(cursor, target, path, name, args.segments)
            took[target.split("_")[0]] = took.get(target.split("_")[0], 0) + time.monotonic() - started
        for on in tables.local_indexes(name):
            cursor.execute(f"CREATE INDEX ON local_tpch.{name} ({on})")
        if not args.equal_only:
            other = remote.cursor()
            other.execute(f"CREATE TABLE {name} ({plain}) PARTITION BY LIST ({prefix}_segment)")
            other.execute(f"DO $$ BEGIN FOR i IN 0..{args.segments - 1} LOOP EXECUTE format('CREATE TABLE {name}_%s PARTITION OF {name} FOR VALUES IN (%L)', i, 'tpch-' || lpad(i::text, 3, '0')); END LOOP; END $$")
            started = time.monotonic()
            stream(other, name, path, name, args.segments)
            took["postgres_fdw"] = took.get("postgres_fdw", 0) + time.monotonic() - started
            for on in tables.local_indexes(name):
                other.execute(f"CREATE INDEX ON {name} ({on})")
            cursor.execute(f"CREATE FOREIGN TABLE fdw_tpch.{name} ({plain}) SERVER remote OPTIONS (schema_name 'public', table_name '{name}')")
    remote.cursor().execute("ANALYZE")
    cursor.execute("ANALYZE local_tpch." + ", local_tpch.".join(tables.TABLES))
    started = time.monotonic()
    try:
        cursor.execute("ANALYZE trough_tpch." + ", trough_tpch.".join(tables.TABLES))
        print(f"ANALYZE of the foreign tables: {time.monotonic() - started:.1f} s")
    except psycopg.Error as e:
        print(f"ANALYZE of the foreign tables: {e}")
    print("loaded by COPY: " + ", ".join(f"{k} {v:.1f} s" for k, v in took.items()), flush=True)


def queries(scale):
    """The 22 queries with the standard's validation parameters."""
    out = {}
    for part in (HERE / "queries.sql").read_text().split("-- Q")[1:]:
        number, _, text = part.partition("\n")
        out[int(number)] = text.strip().rstrip(";").replace("@FRACTION@", f"{0.0001 / float(scale):.10f}")
    return out


def comparable(rows):
    """Rows without what does not count: trailing zeros of numerics."""
    return [tuple(v.normalize() if isinstance(v, Decimal) else v for v in row) for row in rows]


def equal(a, b):
    """Whether answers are equal, in any order; doubles to nine digits, as their sums depend on the order of the rows."""
    if not isinstance(a, list) or not isinstance(b, list) or len(a) != len(b):
        return False

    def order(row):
        return [f"{v:.5g}" if isinstance(v, float) else repr(v) for v in row]

    def cell(x, y):
        return math.isclose(x, y, rel_tol=1e-9) if isinstance(x, float) and isinstance(y, float) else x == y

    def alike(a, b):
        return all(len(x) == len(y) and all(map(cell, x, y)) for x, y in zip(a, b))

    return alike(a, b) or alike(sorted(a, key=order), sorted(b, key=order))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tbl")
    parser.add_argument("--scale", default="0.1")
    parser.add_argument("--segments", type=int, default=50)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--numbers", default="numeric")
    parser.add_argument("--equal-only", action="store_true")
    parser.add_argument("--no-load", action="store_true")
    parser.add_argument("--explain", action="store_true")
    parser.add_argument("only", nargs="*", type=int)
    args = parser.parse_args()
    if not args.no_load:
        load(args)
    systems = ["local", "trough"] + ([] if args.equal_only else ["fdw"])
    connection = psycopg.connect("", autocommit=True)
    cursor = connection.cursor()
    cursor.execute(f"SET statement_timeout = '{TIMEOUT}'; SET max_parallel_workers_per_gather = 0; SET jit = off")
    print("query   rows   pg_trough   postgres_fdw   local      pg_trough/postgres_fdw   equal")
    different, ratios, total = 0, [], dict.fromkeys(systems, 0.0)
    for number, text in queries(args.scale).items():
        if args.only and number not in args.only:
            continue
        answers, times = {}, {}
        for system in systems:
            cursor.execute(f"SET search_path = {system}_tpch, public")
            for _ in range(1 if args.equal_only else args.runs):
                started = time.monotonic()
                try:
                    cursor.execute(text)
                    answers[system] = comparable(cursor.fetchall())
                except psycopg.Error as e:
                    answers[system] = f"ERROR {e}"
                    times[system] = time.monotonic() - started
                    break
                times[system] = min(times.get(system, 1e9), time.monotonic() - started)
            total[system] += times[system]
            if args.explain and system == "trough":
                cursor.execute("EXPLAIN (VERBOSE, COSTS OFF) " + text)
                print("\n".join(row[0] for row in cursor.fetchall()))
        same = equal(answers["local"], answers["trough"])
        different += not same
        ratio = times["trough"] / times["fdw"] if "fdw" in times else None
        if ratio:
            ratios.append(ratio)
        print(f"Q{number:<4} {len(answers['local']):>6}   {times['trough'] * 1000:>7.0f} ms   " + (f"{times['fdw'] * 1000:>9.0f} ms" if ratio else "           -") + f"   {times['local'] * 1000:>5.0f} ms   "
              + (f"{ratio:>20.2f}" if ratio else "                   -") + f"   {'equal' if same else 'DIFFERENT'}", flush=True)
        if not same:
            for system in systems:
                print(f"    {system}: {str(answers[system])[:600]}")
    print("total " + ", ".join(f"{s} {t:.1f} s" for s, t in total.items()))
    if ratios:
        product = 1.0
        for ratio in ratios:
            product *= ratio
        print(f"geometric mean of pg_trough/postgres_fdw: {product ** (1 / len(ratios)):.2f}")
    print(f"{'FAIL ' if different else 'ok   '} tpch: scale {args.scale}, {args.segments} segments, {different} queries with other answers than local tables")
    return different > 0


if __name__ == "__main__":
    sys.exit(main())
