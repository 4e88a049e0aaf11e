"""Runs the oracle: first every case that was ever found, then random queries.

    python -m oracle [--queries N] [--seed S] [--jobs J] [--out DIR] [--case FILE] [--round N]

Needs a PostgreSQL with pg_trough (PGHOST and so on) and, where the server `archive` does not exist yet, TROUGH_URL. A difference is cut
down, printed with its seed and round, and written to OUT as a case. `--round N` runs that round of the seed only.
"""

import argparse
import multiprocessing
import os
import random
import re
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

try:
    import psycopg  # noqa: F401
except ImportError:
    sys.exit("oracle: the Python package psycopg is missing; `make test` has it in target/test-venv (pip install -r tests/requirements.txt)")

from . import cases, compare, minimise, schema, writes
from .queries import Maker
from .sessions import Failed, Worlds, prepare_database

PER_ROUND = 250
UNLIKE = 0.02  # the share of queries that may end without anything to compare
KEPT = 40  # differences per process that are cut down and written


def knobs(r, worlds):
    """Settings that change plans but no answers."""
    names = ["enable_hashjoin", "enable_mergejoin", "enable_nestloop", "enable_hashagg", "enable_sort", "enable_memoize"]
    for session in (worlds.on, worlds.off):
        off = r.choice(names) if r.random() < 0.4 else ""
        for name in names:
            session.must(f"SET {name} = {'off' if name == off else 'on'}")
        session.must(f"SET work_mem = '{r.choice(['64kB', '4MB', '4MB'])}'")
        session.must(f"SET pg_trough.max_in_flight = {r.choice([1, 2, 16])}")
    worlds.on.must(f"SET pg_trough.aggregate_pushdown = {'off' if r.random() < 0.1 else 'on'}")


def styles(r):
    """Settings that texts and values may depend on: the same in all worlds."""
    if r.random() < 0.6:
        return ""
    zone = r.choice(["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Auckland", "Europe/Berlin", "Pacific/Apia"])
    style, interval = r.choice(["ISO, MDY", "German", "SQL, DMY", "Postgres, MDY"]), r.choice(["postgres", "iso_8601", "sql_standard", "postgres_verbose"])
    return f"SET timezone = '{zone}'; SET datestyle = '{style}'; SET intervalstyle = '{interval}'; SET bytea_output = '{r.choice(['hex', 'escape'])}'"


def content(worlds):
    """Every row of every table, before anything else: the answers that the others build on."""
    from .node import Node
    from .queries import Query

    for table in worlds.round.tables:
        names = ", ".join(c.name for c in table.columns)
        yield Query(Node([f"SELECT {names} FROM {table.name}"]))


SHAPES = {"conditions": r" WHERE ", "aggregates": r"Relations: Aggregate", "groups": r"GROUP BY", "joins": r"SQLite SQL: [^\n]* JOIN ", "order": r"SQLite SQL: [^\n]*ORDER BY", "limit": r"SQLite SQL: [^\n]*LIMIT", "distinct": r"SQLite SQL: SELECT DISTINCT",
          "reduce": r"Reduce SQL", "asks named segments": r"Segment Conditions?:|Segments?:", "direct writes": r"SQLite SQL: (?:UPDATE|DELETE)"}


def shapes(worlds, query, seen):
    """Counts what the plan of a query pushes down."""
    answer = worlds.on.answer([f"EXPLAIN (VERBOSE, COSTS OFF) {query.body}".replace("@P@", worlds.prefix)])
    if answer.state:
        return
    plan = "\n".join(row[0].decode() for row in answer.results[0])
    seen["planned"] += 1
    for shape, pattern in SHAPES.items():
        seen[shape] += bool(re.search(pattern, plan))


def job(number, args, count):
    """One process: rounds with seeds of their own."""
    seen, ends = Counter(), Counter()
    started = time.monotonic()
    worlds = Worlds(f"o{os.getpid() % 100000}j{number}")
    done = rows = differ = round_number = 0
    while done < count:
        round_number += 1
        if args.round and round_number != args.round:
            if round_number > args.round:
                break
            continue
        seed = f"{args.seed}/{number}/{round_number}"
        r = random.Random(seed)
        dirty = r.random() < 0.2
        round_ = schema.make(r, dirty)
        round_.settings = styles(r)
        try:
            worlds.put(round_)
        except Failed as e:
            print(f"FAIL  oracle: seed {seed}: the round cannot be put in place: {e}", flush=True)
            differ += 1
            if differ > 5:
                break
            continue
        knobs(r, worlds)
        maker = Maker(r, round_)
        queries = list(content(worlds))
        writing = not dirty and r.random() < args.writes
        for n in range(min(args.per_round, count - done)):
            if n >= len(queries):
                queries.append(writes.make(maker, r) if writing and r.random() < 0.3 else maker.query())
            query = queries[n]
            try:
                answers = worlds.answers(query)
            except Exception as e:
                print(f"FAIL  oracle: seed {seed}: {e}\n{query.statements()}", flush=True)
                differ += 1
                time.sleep(2)
                worlds = Worlds(f"o{os.getpid() % 100000}j{number}r{round_number}")
                break
            done += 1
            if done % 20 == 0 and not query.writes:
                shapes(worlds, query, seen)
            if done % 2000 == 0:
                print(f"      oracle: process {number}: {done} queries, {differ} differ, {time.monotonic() - started:.0f} s", flush=True)
            end = compare.outcome(answers, dirty)
            ends[end] += 1
            rows += sum(len(x) for x in answers[0].results)
            if args.verbose and (end != "answered" or query.writes):
                print(f"-- {'; '.join(query.statements())}\n--   {' / '.join(str(a.message) for a in answers)[:400]}", flush=True)
            why = compare.wrong(answers, query, round_.soft)
            if not why:
                if query.writes and end != "answered" and not worlds.follow(query):
                    ends["half written"] += 1
                    break  # half done here, not at all there: nothing to compare any more
                continue
            differ += 1
            if differ <= KEPT:
                report(args, worlds, round_, query, answers, why, seed, n)
                if worlds.round is not round_ or writing:
                    break
            if differ > 4 * KEPT:
                break
        if differ > 4 * KEPT:
            break
    worlds.close()
    return done, rows, differ, seen, ends


def explained(worlds, query):
    """The plan with pushdown, if there can be one."""
    if query.writes:
        return None
    here = [s.replace("@P@", worlds.prefix) for s in query.statements()]
    if query.cursor or not query.execute:
        return worlds.on.answer([f"EXPLAIN (VERBOSE, COSTS OFF) {query.body}".replace("@P@", worlds.prefix)])
    cut = len(query.before) + 1
    return worlds.on.answer([*here[:cut], "EXPLAIN (VERBOSE, COSTS OFF) " + here[cut], *here[cut + len(query.execute):]])


def report(args, worlds, round_, query, answers, why, seed, n):
    """Cuts a difference down, prints it and writes it as a case. What writes is not run again: it would write twice."""
    original = "; ".join(query.statements())
    if not query.writes:
        try:
            minimise.query(worlds, query)
            if not args.no_rows:
                minimise.rows(worlds, round_, query)
                worlds.put(round_)
        except Failed as e:
            print(f"      (not cut down: {e})")
        answers = worlds.answers(query)
        why = compare.wrong(answers, query, round_.soft) or f"{why} (not again)"
    path = Path(args.out) / f"difference-{seed.replace('/', '-')}-{n}.sql"
    names = ["pushdown on", "pushdown off", "heap", "heap copy"]
    note = f"seed {seed}, query {n}\n" + "\n".join(f"{name}:\n{compare.shown(a)}" for name, a in zip(names, answers))
    cases.write(path, round_, query, why, note)
    explain = explained(worlds, query)
    print(f"\nDIFFERS  seed {seed} query {n}: {why}\n  was: {original[:1500]}\n  now: {'; '.join(query.statements())[:3000]}")
    for name, answer in zip(names, answers):
        print(f"  {name}: {compare.shown(answer, 6)[:700]}")
    for name, answer in zip(names, answers[:2]):
        for title, rows in ((f"only {name}", compare.only(answer, answers[2], query)), (f"only heap, not {name}", compare.only(answers[2], answer, query))):
            if rows:
                print(f"  {title}: {rows[:700]}")
    if explain and explain.results:
        print("  " + "\n  ".join(row[0].decode() for row in explain.results[0]))
    print(f"  written to {path}", flush=True)


def run_cases(paths):
    """Runs cases; the number that differ."""
    bad = 0
    worlds = Worlds(f"c{os.getpid() % 100000}")
    for path in paths:
        round_, query = cases.read(path)
        try:
            worlds.put(round_)
            answers = worlds.answers(query)
            why = compare.wrong(answers, query, round_.soft)
        except Failed as e:
            why, answers = str(e), []
        if why:
            bad += 1
            print(f"FAIL  oracle: case {path.name}: {why}")
            explain = explained(worlds, query)
            if explain and explain.results:
                print("    " + "\n    ".join(row[0].decode() for row in explain.results[0]))
            for answer in answers:
                print(f"    {compare.shown(answer, 6)[:400]!r}")
    worlds.close()
    return bad


def guarded(arguments):
    try:
        return job(*arguments)
    except Exception:
        traceback.print_exc()
        return 0, 0, 1, Counter(), Counter()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", default="/tmp")
    parser.add_argument("--per-round", type=int, default=PER_ROUND)
    parser.add_argument("--writes", type=float, default=0.3)
    parser.add_argument("--round", type=int)
    parser.add_argument("--case", type=Path, action="append")
    parser.add_argument("--no-rows", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    prepare_database()
    paths = args.case or cases.everything()
    bad = run_cases(paths)
    print(f"{'FAIL ' if bad else 'ok   '} oracle: {len(paths)} cases of earlier differences, {bad} differ", flush=True)
    if args.case:
        return bad > 0
    started = time.monotonic()
    work = [(i, args, args.queries // args.jobs) for i in range(args.jobs)]
    if args.jobs == 1:
        results = [guarded(work[0])]
    else:
        with multiprocessing.get_context("fork").Pool(args.jobs) as pool:
            results = pool.map(guarded, work, 1)
    done, rows, differ = (sum(r[i] for r in results) for i in range(3))
    seen, ends = (sum((r[i] for r in results), Counter()) for i in (3, 4))
    seconds = time.monotonic() - started
    print(f"{'FAIL ' if differ else 'ok   '} oracle: seed {args.seed}: {done} queries three ways in {seconds:.0f} s ({done / max(seconds, 1):.0f}/s), {rows} rows, "
          f"{', '.join(f'{n} {end}' for end, n in ends.most_common())}, {differ} differ")
    if done >= 2000 and ends["raised by order of evaluation"] + ends["cut short"] > done * UNLIKE:
        print(f"FAIL  oracle: more than {UNLIKE:.0%} of the queries could not be compared")
        bad += 1
    planned = max(seen.pop("planned", 0), 1)
    print("      pushed down, of a sample of plans: " + ", ".join(f"{shape} {n * 100 // planned} %" for shape, n in seen.most_common() if n))
    return bool(bad or differ)


if __name__ == "__main__":
    sys.exit(main())
