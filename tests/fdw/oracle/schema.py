"""One round: SQLite tables in segments, foreign tables over them, and heap tables of the rows that they must show.

A round whose rows all fit has one heap copy. A dirty round, in which some stored values cannot be read, has two, with a
different ordinary value in the place of each such value: a query that does not raise may not depend on it, so that its answer
must be that over both copies. Where a round is `soft`, that is asked only of queries that a plain scan answers. `@P@` stands for a prefix that makes segments and the registered schema unique.
"""

from dataclasses import dataclass, field

from .values import Column, Kinds, pg_text

LOCAL_ROWS = [("NULL", "NULL", "NULL", "NULL")] + [
    (str(k), f"'@P@{k % 5}'", v, f) for k, (v, f) in enumerate(
        [("'a'", "0.5"), ("'A'", "1"), ("''", "-0.25"), ("'apple'", "'Infinity'"), ("'é'", "2.5"), ("'b'", "0"), ("NULL", "3"), ("'zz'", "NULL"), ("'10'", "10")])]


@dataclass
class Table:
    """One table; `columns` begin with the segment column and `id`, which together are a key."""

    name: str
    columns: list
    rows: int = 0
    local: bool = False

    @property
    def key(self):
        return ["segment", "id"] if not self.local else ["k", "s", "v", "f"]


@dataclass
class Round:
    """What is put in place before queries run, as statements."""

    sqlite: str  # the script that every segment starts from
    segments: dict  # name: SQLite statements
    foreign: list  # run in the foreign tables' PostgreSQL schema
    inserts: list  # run there with pushdown on
    locals: list  # one or two lists of statements, each run in a schema of its own
    tables: list = field(default_factory=list)
    ghost: str = "@P@nosuch"
    settings: str = ""  # of all sessions while queries run
    soft: bool = False  # holds values that are refused only where they are fetched

    @property
    def dirty(self):
        return len(self.locals) == 2


LOCAL = Table("loc", [
    Column("k", "int", "integer", "", pool=[(None, str(i)) for i in range(9)], exact=True, array="integer[]"),
    Column("s", "text", "text", "", pool=[(None, f"'@P@{i}'") for i in range(5)], coll="default", array="text[]"),
    Column("v", "text", 'text COLLATE "C"', "", pool=[(None, v) for v in ("'a'", "'apple'", "''", "'é'")], coll="C", array="text[]"),
    Column("f", "float", "double precision", "", pool=[(None, v) for v in ("0.5", "1", "10")], wild=True, array="double precision[]"),
], rows=10, local=True)


def make(r, dirty):
    """A random round."""
    count = r.choice([1, 1, 2, 2, 3, 4])
    names = ["@P@" + s for s in r.sample(["0", "1", "2", "3", "4", "10", "11", "a", "A", "b", "zz", " x", ":y", "é", "-", "B", "c.d", "20", "21", "22"], r.choice([1, 2, 3, 5, 8, 12, 20]))]
    strict = r.random() < 0.4
    canonical = not dirty and r.random() < 0.3
    soft = dirty and r.random() < 0.3
    kinds = Kinds(r, strict, dirty, canonical, soft)
    coll = r.choice(["default"] * 4 + ["C", "C", "icu", "nd"])  # of the segment columns; under `nd` several names are equal
    tables = []
    for t in range(count):
        if t == 1 and r.random() < 0.3:
            columns = [c for c in tables[0].columns[2:]]  # a twin, so that columns of two tables meet in kind
        else:
            columns = [kinds.column(f"{'abcdefghijkl'[i]}{t if r.random() < 0.3 else ''}") for i in range(r.randint(3, 10))]
        clause = {"default": "", "C": ' COLLATE "C"', "icu": ' COLLATE "und-x-icu"', "nd": " COLLATE public.nd"}[coll]
        segment = Column("segment", "text", "text" + clause, "", {"segment": "true"}, [("NULL", pg_text(n)) for n in names], coll=coll, amb=coll == "nd", array="text[]")
        ident = Column("id", "int", r.choice(["bigint", "integer"]), r.choice(["INTEGER", "INTEGER NOT NULL", "INTEGER PRIMARY KEY"]), {}, [(str(i), str(i)) for i in range(1, 40)], exact=True)
        ident.array = ident.pg + "[]"
        if r.random() < 0.5:
            ident.options["storage"] = "integer"
        rows = r.choice([0, 5, 20, 60, 120, 300] if count == 1 else [3, 10, 25, 60] if count > 2 else [0, 5, 20, 60, 100])
        tables.append(Table(f"t{t + 1}", [segment, ident, *columns], rows))
    round_ = fill(r, tables, names, strict, canonical, dirty)
    round_.soft = soft
    return round_


def fill(r, tables, names, strict, canonical, dirty):
    """Rows for the tables, and everything as statements."""
    script, segments, foreign, inserts = [], {n: [] for n in names}, [], []
    heaps = [[] for _ in range(2 if dirty else 1)]
    through = canonical and r.random() < 0.7  # written through the foreign table
    empty = r.choice(names) if len(names) > 2 else None
    for table in tables:
        written = ", ".join(f'"{c.name}" {c.decl}' for c in table.columns[1:])
        script.append(f"CREATE TABLE {table.name} ({written}){' STRICT' if strict else ''};")
        for c in r.sample(table.columns[1:], r.randint(0, 2)):
            script.append(f'CREATE INDEX {table.name}_{c.name} ON {table.name} ("{c.name}");')
        foreign.append(foreign_table(r, table))
        declared = ", ".join(f'"{c.name}" {c.pg}' for c in table.columns)
        for heap in heaps:
            heap.append(f"CREATE TABLE {table.name} ({declared});")
        nulls = {c.name: r.choice([0, 0.1, 0.1, 0.4, 0.95]) for c in table.columns[2:]}
        bad_rows = set(r.sample(range(table.rows), min(table.rows, r.randint(1, 3)))) if dirty and table.rows else set()
        values = [[] for _ in heaps]
        stored = {n: [] for n in names}
        for at in range(table.rows):
            segment = r.choice([n for n in names if n != empty] or names)
            bad = r.choice([c.name for c in table.columns if c.bad] or [""]) if at in bad_rows else ""
            raw, shown = [str(at + 1)], [[pg_text(segment), str(at + 1)] for _ in heaps]
            for c in table.columns[2:]:
                if c.name == bad:
                    raw.append(r.choice(c.bad))
                    stand_in = r.sample(c.pool, 2) if len(c.pool) > 1 else [c.pool[0]] * 2
                    for copy, (_, lit) in zip(shown, stand_in):
                        copy.append(lit)
                    continue
                value = ("NULL", "NULL") if r.random() < nulls[c.name] else r.choice(c.pool)
                raw.append(value[0])
                for copy in shown:
                    copy.append(value[1])
            stored[segment].append(f"({', '.join(raw)})")
            for copy, row in zip(values, shown):
                copy.append(f"({', '.join(row)})")
        for heap, rows in zip(heaps, values):
            if rows:
                heap.append(f"INSERT INTO {table.name} VALUES\n" + ",\n".join(rows) + ";")
        if through:
            if values[0]:
                inserts.append(f"INSERT INTO {table.name} VALUES\n" + ",\n".join(values[0]) + ";")
        else:
            for name, rows in stored.items():
                if rows:
                    segments[name].append(f"INSERT INTO {table.name} VALUES\n" + ",\n".join(rows) + ";")
    local = [f"CREATE TABLE loc (k integer, s text, v text COLLATE \"C\", f double precision);",
             "INSERT INTO loc VALUES " + ", ".join(f"({', '.join(row)})" for row in LOCAL_ROWS) + ";"]
    for statements in [foreign, *heaps]:
        statements += local
    everything = tables + [LOCAL]
    if len(tables) > 1 and [c.pg for c in tables[0].columns] == [c.pg for c in tables[1].columns] and [c.name for c in tables[0].columns] == [c.name for c in tables[1].columns]:
        declared = ", ".join(f'"{c.name}" {c.pg}' for c in tables[0].columns)
        for statements, kind in [(foreign, "FOREIGN TABLE"), *((h, "TABLE") for h in heaps)]:
            statements += [f"CREATE TABLE joint ({declared});"] + [f"ALTER {kind} {t.name} INHERIT joint;" for t in tables[:2]]
        both = Table("joint", tables[0].columns, tables[0].rows + tables[1].rows)
        everything.append(both)
    for heap in heaps:
        heap += ["ANALYZE %s;" % ", ".join(t.name for t in tables)] * (r.random() < 0.3)
    if not dirty and r.random() < 0.25:
        inserts.append("ANALYZE %s;" % ", ".join(t.name for t in tables))
    return Round("\n".join(script), {n: "\n".join(s) for n, s in segments.items()}, foreign, inserts, heaps, everything)


def foreign_table(r, table):
    """The foreign table's declaration."""
    columns = []
    for c in table.columns:
        options = ", ".join(f"{k} '{v}'" for k, v in c.options.items())
        kind, _, clause = c.pg.partition(" COLLATE ")
        columns.append(f'    "{c.name}" {kind}' + (f" OPTIONS ({options})" if options else "") + (f" COLLATE {clause}" if clause else ""))
    extra = r.choice(["", "", f", estimated_rows '{r.choice([1, 30, 100000])}'"])
    return f"CREATE FOREIGN TABLE {table.name} (\n" + ",\n".join(columns) + f"\n) SERVER archive OPTIONS (schema '@P@s', segments '^@P@'{extra});"
