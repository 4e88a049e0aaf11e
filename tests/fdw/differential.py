"""Random queries, three ways: with pushdown, without it, and over a local table of the same rows. All must agree.

Needs what run.sh sets up: PGHOST and so on, and the server `archive`. Differences are written to OUT/differences.sql.
"""

import argparse
import random
import subprocess
import sys

COLUMNS = "segment id kind n small price note flag at day".split()

SETUP = """
SELECT trough.register_schema('archive', 'diff', $$CREATE TABLE fact (
    id INTEGER, kind TEXT, n INTEGER, small INTEGER, price REAL, note TEXT, flag INTEGER, at INTEGER, day TEXT) STRICT$$);
CREATE FOREIGN TABLE fact (
    segment text OPTIONS (segment 'true'), id bigint OPTIONS (storage 'integer'), kind text OPTIONS (storage 'text'),
    n bigint, small int, price double precision, note text COLLATE "C", flag boolean,
    at timestamptz OPTIONS (encoding 'epoch_us', storage 'integer'), day date
) SERVER archive OPTIONS (schema 'diff', segments '^d[0-9]');
CREATE TABLE local_fact (
    segment text, id bigint, kind text, n bigint, small int, price double precision, note text COLLATE "C", flag boolean,
    at timestamptz, day date);
SELECT setseed(0.42);
INSERT INTO local_fact
SELECT 'd' || (random() * 30)::int, g, (array['apple','pear','plum','','Apple','é',NULL])[1 + (random() * 6)::int],
       CASE WHEN random() < 0.1 THEN NULL WHEN random() < 0.05 THEN 9223372036854775807 - (random() * 3)::int
            ELSE (random() * 200)::int - 100 END,
       CASE WHEN random() < 0.1 THEN NULL ELSE (random() * 20)::int - 10 END,
       CASE WHEN random() < 0.1 THEN NULL WHEN random() < 0.02 THEN 'Infinity'
            ELSE ((random() * 64)::int - 32) / 8.0 END,
       (array['x','xy','y%','a_b','中文','',NULL,'Zz','zz'])[1 + (random() * 8)::int],
       (array[true,false,NULL])[1 + (random() * 2)::int],
       CASE WHEN random() < 0.1 THEN NULL ELSE timestamptz '1970-01-01 00:00+00' + ((random() * 2000)::int - 1000) * interval '1 hour' END,
       CASE WHEN random() < 0.1 THEN NULL ELSE date '2000-01-01' + ((random() * 60)::int - 30) END
FROM generate_series(1, 4000) g;
INSERT INTO fact SELECT * FROM local_fact;
ANALYZE local_fact;
"""


class Maker:
    """Makes queries; `{t}` stands for the table."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def pick(self, *items):
        return self.r.choice(items)

    def value(self, column):
        r = self.r
        if r.random() < 0.04:
            return "NULL"
        match column:
            case "segment":
                return f"'d{r.randrange(32)}'"
            case "kind":
                return self.pick("'apple'", "'pear'", "'Apple'", "''", "'é'", "'nosuch'")
            case "note":
                return self.pick("'x'", "'xy'", "'y%'", "'中文'", "''", "'Zz'")
            case "id":
                return str(r.randrange(4100))
            case "n":
                return self.pick(str(r.randrange(-110, 110)), "9223372036854775807", "-9223372036854775808", "(SELECT 5)")
            case "small":
                return str(r.randrange(-12, 12))
            case "price":
                return self.pick(f"{r.randrange(-32, 32) / 8}::float8", "'NaN'::float8", "'Infinity'::float8", "'-Infinity'::float8")
            case "at":
                return self.pick(f"timestamptz '1970-01-01 00:00+00' + {r.randrange(-1000, 1000)} * interval '1 hour'",
                                 "'infinity'::timestamptz", "'-infinity'::timestamptz", "now()")
            case "day":
                return self.pick(f"date '2000-01-01' + {r.randrange(-30, 30)}", "'infinity'::date", "date '0044-03-15 BC'")
        return "true"

    def column(self):
        return self.pick("segment", "id", "kind", "n", "small", "price", "note", "at", "day")

    def condition(self, depth=0):
        r = self.r
        if depth < 3 and r.random() < 0.35:
            parts = [self.condition(depth + 1) for _ in range(r.randrange(2, 4))]
            return "(" + self.pick(" AND ", " OR ").join(parts) + ")"
        if r.random() < 0.12:
            return f"NOT {self.condition(depth + 1)}" if depth < 3 else "true"
        column = self.column()
        match r.randrange(11):
            case 0:
                return f"{column} IS {self.pick('', 'NOT ')}NULL"
            case 1:
                items = ", ".join(self.value(column) for _ in range(r.randrange(1, 5)))
                return f"{column} {self.pick('', 'NOT ')}IN ({items})"
            case 2:
                return f"{column} BETWEEN {self.value(column)} AND {self.value(column)}"
            case 3:
                return self.pick("flag", "NOT flag", "flag IS TRUE", "flag IS NOT TRUE", "flag IS UNKNOWN", "flag IS NOT FALSE", "flag = (small > 0)")
            case 4:
                text = self.pick("kind", "note", "segment")
                pattern = self.pick("'%e%'", "'_p%'", "'d1%'", "'%\\%'", "'a\\_b'", "''", "'%中%'", "'d_'", "'[%'", "'X%'")
                return f"{text} {self.pick('', 'NOT ')}LIKE {pattern}"
            case 5:
                return f"{column} IS {self.pick('', 'NOT ')}DISTINCT FROM {self.value(column)}"
            case 6:
                return self.pick("n < small", "n = id", "id > small", "kind = note", "abs(n) > 50", "n % 3 = 1", "length(note) > 1",
                                 "segment = note", "segment ~ '^d[12]'", "segment > 'd2'", "upper(kind) = 'APPLE'", "small + 1 > 3",
                                 "coalesce(small, 0) = 0", "kind || note = 'applex'")
            case 7:
                return f"{column} = ANY (ARRAY[{', '.join(self.value(column) for _ in range(r.randrange(1, 70)))}])"
            case _:
                return f"{column} {self.pick('=', '<>', '<', '<=', '>', '>=')} {self.value(column)}"

    def where(self):
        return f" WHERE {self.condition()}" if self.r.random() < 0.85 else ""

    def aggregate(self):
        a = self.pick("count(*)", "count(n)", "count(kind)", "sum(n)", "sum(small)", "avg(n)", "avg(small)", "min(n)", "max(n)",
                      "min(price)", "max(price)", "sum(price)", "avg(price)", "min(at)", "max(at)", "max(note)", "min(note)",
                      "max(small)", "min(day)", "max(day)", "count(flag)", "count(DISTINCT kind)", "bool_and(flag)", "sum(DISTINCT small)",
                      "max(kind)", "count(at)", "max(segment)", "count(segment)", "round(stddev(small), 6)")
        return f"{a} FILTER (WHERE {self.condition(2)})" if self.r.random() < 0.15 and not a.startswith("round") else a

    def query(self):
        r = self.r
        match r.randrange(8):
            case 0 | 1:
                columns = ", ".join(r.sample(COLUMNS, r.randrange(1, 6)))
                return f"SELECT {columns} FROM {{t}}{self.where()} ORDER BY id, {columns}" if "id" in columns.split(", ") else f"SELECT {columns} FROM {{t}}{self.where()} ORDER BY {columns}"
            case 2 | 3:
                return f"SELECT {', '.join(self.aggregate() for _ in range(r.randrange(1, 5)))} FROM {{t}}{self.where()}"
            case 4 | 5 | 6:
                keys = ", ".join(r.sample(["segment", "kind", "small", "note", "flag", "day", "at", "price"], r.randrange(1, 3)))
                having = self.pick("", "", f" HAVING {self.pick('count(*) > 3', 'sum(small) > 0', 'max(n) IS NOT NULL', 'avg(small) < 0')}")
                extra = self.pick("", ", count(*) + 1 AS more")
                if r.random() < 0.1:
                    return f"SELECT {keys} FROM {{t}}{self.where()} GROUP BY {keys}{having} ORDER BY {keys}"
                return f"SELECT {keys}, {', '.join(f'{self.aggregate()} AS a{i}' for i in range(r.randrange(1, 4)))}{extra} FROM {{t}}{self.where()} GROUP BY {keys}{having} ORDER BY {keys}"
            case _:
                return self.pick(
                    f"SELECT DISTINCT kind, flag FROM {{t}}{self.where()} ORDER BY 1, 2",
                    f"SELECT a.segment, count(*), sum(b.small) FROM {{t}} a JOIN {{t}} b ON a.segment = b.segment AND a.id = b.id WHERE a.small > {r.randrange(-9, 9)} GROUP BY a.segment ORDER BY 1",
                    f"SELECT count(*) FROM {{t}} WHERE segment IN (SELECT segment FROM {{t}}{self.where()})",
                    f"SELECT id, n FROM {{t}}{self.where()} ORDER BY id LIMIT {r.randrange(1, 9)} OFFSET {r.randrange(3)}",
                    f"SELECT segment, kind, rank() OVER (PARTITION BY segment ORDER BY count(*), kind) FROM {{t}}{self.where()} GROUP BY segment, kind ORDER BY 1, 2, 3",
                    f"SELECT flag, count(*) FROM (SELECT * FROM {{t}}{self.where()}) x WHERE small IS NOT NULL GROUP BY flag ORDER BY 1",
                    f"SELECT kind, count(*) FROM {{t}}{self.where()} GROUP BY ROLLUP (kind) ORDER BY 1, 2",
                )


def psql(script):
    run = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=0", "-P", "null=NULL"], input=script, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return run.stdout


def answers(queries, table, settings):
    lines = [settings]
    for i, query in enumerate(queries):
        lines.append(f"\\echo ==== {i}")
        lines.append(query.replace("{t}", table) + ";")
    parts = psql("\n".join(lines)).split("==== ")[1:]
    return [part.split("\n", 1)[1] if "\n" in part else "" for part in parts]


def normal(answer):
    """An error is compared by being one: which row raises first is not fixed."""
    return "ERROR" if "ERROR:" in answer else answer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--queries", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", default="/tmp")
    args = parser.parse_args()
    # Made once: what is in the segments stays there.
    if psql("SELECT to_regclass('fact') IS NOT NULL").strip() != "t":
        made = psql(SETUP)
        if "ERROR" in made:
            print(made)
            return 1
    maker = Maker(args.seed)
    queries = [maker.query() for _ in range(args.queries)]
    on = answers(queries, "fact", "SET pg_trough.pushdown = on;")
    off = answers(queries, "fact", "SET pg_trough.pushdown = off;")
    local = answers(queries, "local_fact", "")
    if not len(on) == len(off) == len(local) == len(queries):
        print(f"FAIL  differential: {len(on)}, {len(off)}, {len(local)} answers to {len(queries)} queries; the last: {(on + off)[-1][:500]}")
        return 1
    different = [
        (q, a, b, c) for q, a, b, c in zip(queries, on, off, local) if not normal(a) == normal(b) == normal(c)
    ]
    failed = sum(normal(a) == "ERROR" for a in on)
    rows = sum(len(a.splitlines()) for a in on)
    with open(f"{args.out}/differences.sql", "w") as out:
        for q, a, b, c in different:
            out.write(f"{q};\n-- pushdown on:\n{a[:2000]}\n-- pushdown off:\n{b[:2000]}\n-- local:\n{c[:2000]}\n\n")
    verdict = "ok   " if not different else "FAIL "
    print(f"{verdict} differential: {len(queries)} queries three ways, {rows} rows, {failed} raised alike, {len(different)} differ")
    for q, a, b, c in different[:5]:
        print(f"  {q}\n    on:    {a[:160]!r}\n    off:   {b[:160]!r}\n    local: {c[:160]!r}")
    return 1 if different or failed > len(queries) // 4 else 0


if __name__ == "__main__":
    sys.exit(main())
