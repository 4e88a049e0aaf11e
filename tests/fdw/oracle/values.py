"""Column kinds: for each, what SQLite may hold and what PostgreSQL must read of it. The pairs are written down here, not
computed by the code under test, so that reading is tested too."""

import datetime
import struct
import uuid as uuids
from dataclasses import dataclass, field

BAD = None  # the PostgreSQL side of a stored value that does not fit its column

TEXTS = ["", "a", "A", "b", "B", "ab", "Ab", "AB", "a ", " a", "é", "É", "e\u0301", "中文", "中", "😀", "x%", "x_y", "a\\b", "[a]", "*",
         "?", "a*b", "ss", "ß", "i", "İ", "ı", "10", "9", "-1", "1.0", "true", "NULL", "it's", '"dq"', "\n", "a\tb", "zz", "Z", "\x01",
         "~", "\U0010ffff", "x" * 300, "apple", "Apple", "pear", "plum", "abc", "abcd", "aXc", "a.c", "^a$", "(", "0", "nan", "inf", "\x7f",
         "\u00a0", "Straße", "ﬁ", "2020-01-01", "ǅ", "  ", "a  ", "{}", "-", "a-b", "_", "%"]
DAY = 86_400_000_000
EPOCH = datetime.date(2000, 1, 1)


def sq(text):
    """A text as SQLite's literal, byte for byte."""
    return "'" + text.replace("'", "''") + "'"


def pg_text(text):
    """A text as PostgreSQL's literal."""
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in quoted else f"'{quoted}'"


def raw_text(data):
    """Bytes as a TEXT of SQLite."""
    return f"CAST(x'{data.hex()}' AS TEXT)"


def sqlite_real(value):
    """A double as SQLite's literal."""
    if value in (float("inf"), float("-inf")):
        return "9e999" if value > 0 else "-9e999"
    text = repr(value)
    return text if "." in text or "e" in text else text + ".0"


def float_lit(value):
    """A double as PostgreSQL's literal."""
    if value in (float("inf"), float("-inf")):
        return "'Infinity'::float8" if value > 0 else "'-Infinity'::float8"
    return f"'{value!r}'::float8"


def date_lit(days):
    """A date from its days since 2000."""
    try:
        return f"date '{EPOCH + datetime.timedelta(days=days)}'"
    except OverflowError:
        return f"(date '2000-01-01' + ({days}))"


def instant_text(us):
    """`YYYY-MM-DD HH:MM:SS.ffffff` of microseconds since 2000, in the years 1 to 9999."""
    moment = datetime.datetime(2000, 1, 1) + datetime.timedelta(microseconds=us)
    return moment.isoformat(sep=" ", timespec="microseconds")


def instant_lit(us, zoned):
    """A timestamp from its microseconds since 2000."""
    name, z = ("timestamptz", "+00") if zoned else ("timestamp", "")
    try:
        return f"{name} '{instant_text(us)}{z}'"
    except OverflowError:
        days, rest = divmod(us, DAY)
        return f"({name} '2000-01-01 00:00:00{z}' + make_interval(days => {days}) + {rest} * interval '1 microsecond')"


@dataclass
class Column:
    """One column in both worlds."""

    name: str
    cat: str  # the family of expressions it takes part in
    pg: str  # PostgreSQL's type with collation
    decl: str  # what SQLite declares
    options: dict = field(default_factory=dict)
    pool: list = field(default_factory=list)  # (SQLite literal, PostgreSQL literal)
    bad: list = field(default_factory=list)  # SQLite literals that do not fit
    coll: str = ""  # C, default, icu or nd
    wild: bool = False  # holds extremes; arithmetic would overflow
    amb: bool = False  # equal values may look different
    exact: bool = False  # sums of it do not depend on the order
    soft: bool = False  # what does not fit is refused only where it is fetched: a shipped condition may pass it over
    array: str = ""  # the array type, if its elements have one

    def literal(self, r):
        """A literal near the column's values."""
        return r.choice(self.pool)[1] if self.pool else "NULL"


class Kinds:
    """Makes columns. `strict`: the table is STRICT. `dirty`: some values do not fit. `canonical`: only what PostgreSQL writes."""

    def __init__(self, r, strict, dirty, canonical, soft):
        self.r, self.strict, self.dirty, self.canonical, self.soft = r, strict, dirty, canonical, soft

    def column(self, name):
        kind = self.r.choice(["int"] * 5 + ["float"] * 3 + ["text"] * 6 + ["bool"] * 2 + ["date"] * 2 + ["instant"] * 4 + ["uuid"] * 2 +
                             ["bytea", "numeric", "numeric", "json", "other", "any"])
        column = getattr(self, kind)(name)
        if self.canonical and self.r.random() < 0.5:
            column.options["trusted"] = "true"
        if not self.dirty or "trusted" in column.options or column.soft and not self.soft or self.r.random() < 0.5:
            column.bad = []
        return column

    def affinity(self, strict, *loose):
        return strict if self.strict else self.r.choice(loose)

    def some(self, items, least=2, most=14):
        items = list(items)
        return self.r.sample(items, min(len(items), self.r.randint(least, most)))

    def int(self, name):
        r = self.r
        bits = r.choice([16, 32, 32, 64, 64])
        top = 2 ** (bits - 1)
        wild = r.random() < 0.3
        numbers = [r.randint(-10, 10) for _ in range(8)] + [r.randint(-300, 300) for _ in range(4)] + [0, 1, 2]
        if wild:
            numbers += [top - 1, -top, top - 2, -top + 1, top // 2]
            if bits == 64:
                numbers += [2**53, 2**53 + 1, -(2**53) - 1, 2**31, 2**32]
        decl = self.affinity("INTEGER", "INTEGER", "INT", "BIGINT", "", "NUMERIC")
        numbers = set(self.some(numbers, 3))
        column = Column(name, "int", {16: "smallint", 32: "integer", 64: "bigint"}[bits], decl, wild=wild, exact=True)
        column.pool = [(str(n) if n != -(2**63) else "-9223372036854775807-1", f"({n})" if n != -(2**63) else "'-9223372036854775808'::bigint")
                       for n in sorted(numbers)]
        if decl in ("INTEGER", "INT", "BIGINT") and not self.canonical:
            column.pool += [("'7'", "7"), ("4.0", "4")]  # the affinity makes integers of them
        column.array = column.pg + "[]"
        if bits < 64:
            column.bad = [str(top), str(-top - 1), str(2**62)]
        if not self.strict:
            column.bad += ["'abc'", "1.5", "x'31'"] + (["'1'", "1.0", "''"] if decl == "" else [])
        if not column.bad or not self.dirty:
            column.options |= r.choice([{}, {"storage": "integer"}])
        elif self.strict:
            column.options |= {"storage": "integer"}
        return column

    def float(self, name):
        r = self.r
        single = r.random() < 0.3
        wild = r.random() < 0.4
        numbers = [r.randint(-40, 40) / 4 for _ in range(10)] + [0.0, 1.0, -0.25, 2.5]
        amb = False
        if wild:
            numbers += [float("inf"), float("-inf"), 1e30, -1e30, 1e-30, 0.1, 1 / 3, 16777217.0]
            if not single:
                numbers += [1e300, 5e-324, 1.7976931348623157e308, 9007199254740993.0, -1e300]
            if r.random() < 0.3:
                numbers += [-0.0, 0.0]
                amb = True
        decl = self.affinity("REAL", "REAL", "DOUBLE", "", "FLOAT")
        numbers = self.some(numbers, 3)
        column = Column(name, "float", "real" if single else "double precision", decl, wild=wild, amb=amb, exact=not wild)
        if single:
            numbers = [struct.unpack("f", struct.pack("f", n))[0] for n in numbers]
        column.pool = [(sqlite_real(n), f"{float_lit(n)}::real" if single else float_lit(n)) for n in dict.fromkeys(numbers)]
        if decl == "" and not self.canonical:
            column.pool += [("3", "3"), ("-7", "-7")]
            if wild and not single:
                column.pool += [("9007199254740993", "9007199254740992"), ("9223372036854775807", "9223372036854775807")]
        if decl in ("REAL", "DOUBLE", "FLOAT") and not self.strict:
            column.bad = ["'abc'", "x'00'", "''"]
        elif not self.strict:
            column.bad = ["'1.5'", "x'00'"]
        if single and wild:
            column.bad += ["1e300"]
        if decl != "" and (self.strict or not self.dirty):
            column.options |= r.choice([{}, {"storage": "real"}])
        column.array = column.pg + "[]"
        return column

    def text(self, name):
        r = self.r
        coll = r.choice(["C", "C", "C", "default", "default", "icu", "nd"])
        clause = {"C": ' COLLATE "C"', "default": "", "icu": ' COLLATE "und-x-icu"', "nd": " COLLATE public.nd"}[coll]
        kind = r.choice(["text", "text", "text", "varchar", "varchar(400)", "public.short", "bpchar"])
        decl = self.affinity("TEXT", "TEXT", "VARCHAR(40)", "TEXT COLLATE NOCASE", "TEXT COLLATE RTRIM", "", "CLOB")
        if self.strict and r.random() < 0.3:
            decl += r.choice([" COLLATE NOCASE", " COLLATE RTRIM"])
        # Under the nondeterministic collation control characters do not count, so which of two equal texts is shown would differ.
        texts = self.some([t for t in TEXTS if coll != "nd" or t == "" or t.isprintable()], 4, 20)
        cat = "text"
        if kind == "bpchar":
            kind, cat = "character(4)", "bpchar"
            texts = [t for t in texts if len(t.rstrip(" ")) <= 4] or ["a"]
        column = Column(name, cat, kind + clause, decl, coll=coll, amb=coll == "nd")
        column.pool = [(sq(t), pg_text(t)) for t in texts]
        column.array = "text[]" if cat == "text" else "bpchar[]"
        if cat == "text" and not self.canonical:
            mode = r.choice(["error", "error", "null", "replace"])
            odd = [b"a\xffb", b"a\x00b", b"\xc3", b"ab\x00"]
            if mode != "error":
                column.options["invalid_text"] = mode
                column.pool += [(raw_text(o), "NULL" if mode == "null" else pg_text(o.decode("utf-8", "replace").replace("\0", "\ufffd")))
                                for o in self.some(odd, 1, 3)]
            else:
                column.bad = [raw_text(o) for o in odd] if self.soft else []
                column.soft = self.soft
        if decl == "" and cat == "text":
            column.bad += ["5", "1.5", "x'61'"]
        elif not self.strict and cat == "text":
            column.bad += ["x'61'"]
            if not self.canonical:
                column.pool += [("17", "'17'")]  # the affinity makes a text of it
        if (self.strict or not self.dirty) and r.random() < 0.5:
            column.options["storage"] = "text"
        return column

    def any(self, name):
        column = Column(name, "text", 'text COLLATE "C"', self.affinity("ANY", "", "BLOB"), {"encoding": "any"}, coll="C", array="text[]")
        column.pool = [("1", "'1'"), ("'1'", "'1'"), ("1.0", "'1.0'"), ("'abc'", "'abc'"), ("-5", "'-5'"), ("''", "''"), ("'Abc'", "'Abc'")]
        if self.canonical:
            column.pool = [("'1'", "'1'"), ("'abc'", "'abc'"), ("''", "''"), ("'1.0'", "'1.0'")]
        column.bad = ["x'31'"]
        return column

    def bool(self, name):
        column = Column(name, "bool", "boolean", self.affinity("INTEGER", "BOOLEAN", "INTEGER", ""), array="boolean[]")
        column.pool = [("0", "false"), ("1", "true")]
        column.bad = ["2", "-1"] + ([] if self.strict else ["'true'", "0.5"])
        if self.strict or not self.dirty:
            column.options |= self.r.choice([{}, {"storage": "integer"}])
        return column

    def bytea(self, name):
        column = Column(name, "bytea", "bytea", self.affinity("BLOB", "BLOB", ""), array="bytea[]")
        column.pool = [(f"x'{b}'", f"'\\x{b}'::bytea") for b in self.some(["", "00", "61", "6100", "ff", "ffff", "610062", "7f80", "00ff00", "41"], 3)]
        if not self.strict:
            column.bad = ["'a'", "5", "''"]
        if self.strict or not self.dirty:
            column.options |= self.r.choice([{}, {"storage": "blob"}])
        return column

    def date(self, name):
        r = self.r
        encoding = r.choice(["iso8601"] * 4 + ["epoch_s", "epoch_ms", "epoch_us", "julian"])
        column = Column(name, "date", "date", "", {} if encoding == "iso8601" and r.random() < 0.5 else {"encoding": encoding}, array="date[]")
        days = [r.randint(-40, 40) for _ in range(8)] + [-10957, -10958, -10956, 0, 59, 60, -36525, -730119, 2921939, -20000]
        wild = r.random() < 0.3
        if encoding == "iso8601":
            column.decl = self.affinity("TEXT", "TEXT", "DATE", "")
            days = [d for d in self.some(days, 3) if wild or abs(d) < 40000]
            column.pool = [(f"'{EPOCH + datetime.timedelta(days=d)}'", date_lit(d)) for d in days]
            column.bad = ["'2020-02-30'", "'2020-2-1'", "'20200101'", "'noon'", "''", "'2020-01-01 00:00'", "'0000-01-01'"] + ([] if self.strict else ["x'61'"])
        else:
            if wild and encoding != "julian":
                days += [4000000, -1000000]
            days = [d for d in self.some(days, 3) if wild or abs(d) < 40000]
            column.decl = self.affinity("REAL" if encoding == "julian" else "INTEGER", "NUMERIC" if encoding != "julian" else "REAL", "")
            column.pool = self.instants([d * DAY for d in days], encoding, lambda us: date_lit(us // DAY), column.decl)
            if not self.canonical:
                column.pool += self.instants([d * DAY + DAY // 4 for d in days[:2]], encoding, lambda us: date_lit(us // DAY), column.decl)
            if not self.strict:
                column.bad = ["'2020-01-01'", "x'00'"]
        column.wild = wild
        column.pool = list(dict.fromkeys(column.pool)) or [("NULL", "NULL")]
        return column

    def instants(self, all_us, encoding, lit, decl):
        """Numbers of an encoding. Julian days are taken where doubles hold them exactly."""
        pool = []
        for us in all_us:
            since_1970 = us + 10957 * DAY
            if encoding == "julian":
                us = us // (DAY // 8) * (DAY // 8)
                pool.append((sqlite_real(us / DAY + 2451544.5), lit(us)))
                continue
            unit = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}[encoding]
            if since_1970 % unit == 0:
                pool.append((str(since_1970 // unit), lit(us)))
            elif decl != "INTEGER":
                # A fraction that a double holds exactly.
                us -= since_1970 % unit - unit // 4 if unit > 4 else 0
                pool.append((sqlite_real((us + 10957 * DAY) / unit), lit(us)))
        return pool

    def instant(self, name):
        r = self.r
        zoned = r.random() < 0.6
        cat = "tstz" if zoned else "ts"
        encoding = r.choice(["iso8601"] * 4 + ["epoch_s", "epoch_ms", "epoch_us", "epoch_us", "julian"])
        column = Column(name, cat, "timestamptz" if zoned else "timestamp", "", {"encoding": encoding}, array=("timestamptz" if zoned else "timestamp") + "[]")
        hour = DAY // 24
        moments = [r.randint(-300, 300) * hour for _ in range(8)] + [r.randint(-3000, 3000) * 1_000_000 for _ in range(3)]
        moments += [-10957 * DAY, -10957 * DAY - 1, -10957 * DAY + 1, 0, -1, 1, -hour, 23 * hour, -15000 * DAY, 3_500_000]
        wild = r.random() < 0.3
        if wild:
            moments += [-730119 * DAY, -730119 * DAY + 5 * hour, 2921940 * DAY - 1, -730000 * DAY, 2921939 * DAY]
            if encoding in ("epoch_s", "epoch_ms", "epoch_us"):
                moments += [4_000_000 * DAY, -900_000 * DAY]
        moments = self.some(moments, 4)
        lit = lambda us: instant_lit(us, zoned)
        if encoding == "iso8601":
            column.decl = self.affinity("TEXT", "TEXT", "DATETIME", "")
            column.pool = [(f"'{self.iso(us, zoned)}'", lit(us)) for us in moments]
            column.soft = True
            column.bad = ["'noon'", "'2020-02-30T00:00:00Z'", "'2020-01-01T25:00:00Z'", "'now'", "''"] + ([] if self.strict else ["x'61'"])
        else:
            storage = None
            if encoding == "julian":
                column.decl = self.affinity("REAL", "REAL", "")
            else:
                column.decl = self.affinity("INTEGER", "NUMERIC", "", "BIGINT")
                storage = r.choice([None, "integer"]) if self.strict or self.canonical and not self.dirty else None
                if self.strict or storage or self.canonical:
                    unit = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}[encoding]
                    moments = [us - us % unit for us in moments]
                if storage:
                    column.options["storage"] = storage
            column.pool = self.instants(moments, encoding, lit, column.decl)
            if not self.strict:
                column.bad = ["'2020-01-01'", "x'00'"]
            if encoding != "julian" and self.soft:
                column.bad += ["-9223372036854775807"]
        column.wild = wild
        column.pool = list(dict.fromkeys(column.pool)) or [("NULL", "NULL")]
        return column

    def iso(self, us, zoned):
        """One of the writings of an instant."""
        r = self.r
        if self.canonical:
            return instant_text(us).replace(" ", "T") + ("Z" if zoned else "")
        offset = 0
        zone = ""
        if zoned:
            offset, zone = r.choice([(0, ""), (0, "Z"), (0, "z"), (0, "+00"), (0, " +00:00"), (3600, "+01"), (3600, "+0100"), (-19800, "-05:30"), (46800, "+13:00")])
        elif r.random() < 0.2:
            zone = r.choice(["Z", "+05"])  # passed over, as PostgreSQL does
        try:
            text = instant_text(us + offset * 1_000_000)
        except OverflowError:
            text, zone = instant_text(us), "Z"
        text = text.replace(" ", r.choice([" ", "T", "T", "t"]))
        if text.endswith(".000000"):
            text = text[:-7] if r.random() < 0.6 else text[:-7] + r.choice([".0", ".000", ".000000", ""])
            if text.endswith(":00") and r.random() < 0.3:
                text = text[:-3]
                if not zone and text[11:] == "00:00" and r.random() < 0.5:
                    text = text[:10]
        elif r.random() < 0.5:
            text = text.rstrip("0")
        return text + zone

    def uuid(self, name):
        r = self.r
        blob = r.random() < 0.4
        ids = [uuids.UUID(int=r.getrandbits(128)) for _ in range(5)] + [uuids.UUID(int=0), uuids.UUID(int=2**128 - 1), uuids.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")]
        column = Column(name, "uuid", "uuid", self.affinity("BLOB" if blob else "TEXT", "BLOB" if blob else "TEXT", ""),
                        {"encoding": "blob"} if blob else {}, array="uuid[]")
        for u in self.some(ids, 3):
            if blob:
                column.pool.append((f"x'{u.hex}'", f"uuid '{u}'"))
                continue
            forms = [str(u)] if self.canonical else self.some([str(u), str(u), str(u).upper(), u.hex, "{" + str(u) + "}", str(u)[:9] + u.hex[8:]], 1, 3)
            column.pool += [(f"'{form}'", f"uuid '{u}'") for form in dict.fromkeys(forms)]
        column.soft = not blob
        column.bad = ["x'0011'"] if blob else ["'not-a-uuid'", "''", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1'"]
        if not self.strict:
            column.bad += ["5"]
        return column

    def numeric(self, name):
        r = self.r
        as_text = r.random() < 0.6
        scaled = r.random() < 0.4
        column = Column(name, "numeric", "numeric(12,2)" if scaled else "numeric", "", {}, array="numeric[]", exact=True)
        if as_text:
            column.decl = self.affinity("TEXT", "TEXT", "")
            texts = ["0", "1", "-1", "1.5", "12.34", "-0.01", "100", "99999999.99", "2.50", "3.14"]
            texts += [] if scaled else ["123456789012345678901234567890.123456789", "0.000000000000000000001", "1e10"]
            column.pool = [(f"'{t}'", f"'{t}'::numeric") for t in self.some(texts, 3)]
            if not scaled and r.random() < 0.3:
                column.pool += [("'1.50'", "1.50"), ("'1.5'", "1.5")]
                column.amb = True
        else:
            column.decl = self.affinity("REAL", "DECIMAL(10,2)", "NUMERIC", "")
            column.pool = [(n, n) for n in self.some(["0.25", "1.5", "-2.75", "100.5", "0.5", "-12.25", "12.34"], 3)]
            if column.decl != "REAL":
                column.pool += [("7", "7"), ("-3", "-3")]
        if not self.strict:
            column.bad = ["x'31'"]
        return column

    def json(self, name):
        r = self.r
        binary = r.random() < 0.6
        texts = ["{}", "[]", "null", "true", "1", '"a"', '{"a": 1}', '{"a": "x", "b": [1, 2]}', '{"b": null}', "[1, 2, 3]", '{"a": true}', '{"a": {"b": 2}}',
                 '{"a": 1.5, "c": "é"}', "[]", '{"a": "1"}', '["a", null]', '{"": 0}', '{"a\\u0062": "q"}']
        column = Column(name, "jsonb" if binary else "json", "jsonb" if binary else "json", self.affinity("TEXT", "TEXT", "JSON", ""))
        # NUMERIC affinity (JSON as a declared type) makes a number of '1', which reads the same.
        column.pool = [(sq(t), pg_text(t)) for t in self.some(texts, 4)]
        column.array = "jsonb[]" if binary else ""
        column.bad = ["x'7b7d'"] if not self.strict else []
        return column

    def other(self, name):
        pg, cat, values = self.r.choice([
            ("interval", "interval", ["1 day", "02:00:00", "-3 days", "1 mon", "1 year 2 mons", "00:00:00"]),
            ("time", "time", ["00:00:00", "12:30:00", "23:59:59.5", "07:00:00"]),
            ("text[]", "array", ["{}", "{a,b}", "{NULL}", '{"x y",z}', "{a}"]),
            ("integer[]", "intarray", ["{}", "{1,2}", "{NULL}", "{3}", "{1,2,3}"]),
            ("public.mood", "enum", ["sad", "ok", "happy"]),
            ("public.small", "int", ["1", "5", "9", "10"]),
            ("int4range", "range", ["empty", "[1,5)", "[3,)", "(,2)"]),
            ("inet", "inet", ["10.0.0.1", "10.0.0.0/8", "::1"]),
        ])
        decl = self.affinity("TEXT", "TEXT", "")
        if pg == "public.small":
            decl = self.affinity("INTEGER", "INTEGER", "")
            pool = [(v, v) for v in values]
        else:
            pool = [(f"'{v}'", f"'{v}'::{pg}") for v in values]
        return Column(name, cat, pg, decl, pool=pool, exact=cat == "int", array="" if cat in ("array", "intarray") else ("integer[]" if pg == "public.small" else pg + "[]"))
