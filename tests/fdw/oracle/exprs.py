"""Random expressions. A scope is a list of `Ref`s; an expression is of a category (`int`, `text` …) and is made so that it
rarely raises, as answers that are errors prove little."""

from dataclasses import dataclass

from .node import E, Many, Node
from .values import date_lit, float_lit, instant_lit, pg_text

COMPARED = ["int", "float", "text", "bytea", "bool", "date", "ts", "tstz", "uuid", "numeric", "interval", "time", "enum", "bpchar", "jsonb", "array", "intarray", "range", "inet"]
CMP = ["=", "=", "<>", "<", "<=", ">", ">="]
PATTERNS = ["%a%", "a%", "%", "", "_", "__", "%é%", "a\\_b", "%\\%", "x\\%%", "[a]%", "%*%", "a?%", "A%", "%b", "中%", "a\\\\b", "%\\_%", "_a%", "%  ", "ab", "%\n%", "i", "%%", "x%x", "?", "İ%", "%.%", "^%", "a-%", "\\a%"]
REGEXES = ["a", "^a", "b$", "^$", ".", "^.$", "[a-c]+", "^[[:alpha:]]+$", "a|b", "(ab)+", "\\d", "\\w+", "^\\s", "é", "中", "a.c", "^(?:a|A)", "x{3,}", "\\m", "[^a]", "(?i)ab", "a\\.c", "^[A-Z]", "\\n", "(a)\\1", "^a.*b?$", ".*?b", "[[:upper:]]"]
FIELDS = ["year", "month", "day", "quarter", "week", "dow", "isodow", "doy", "isoyear", "decade", "century", "millennium", "epoch"]
PLAIN = {"int": "integer", "float": "double precision", "text": "text", "bytea": "bytea", "bool": "boolean", "date": "date", "ts": "timestamp", "tstz": "timestamptz", "uuid": "uuid",
         "numeric": "numeric", "interval": "interval", "time": "time", "enum": "public.mood", "bpchar": "character(4)", "jsonb": "jsonb", "json": "json", "array": "text[]", "intarray": "integer[]", "range": "int4range", "inet": "inet"}


@dataclass
class Ref:
    """A column that an expression may read."""

    sql: str
    cat: str
    pg: str  # type without collation
    coll: str = ""
    wild: bool = False
    amb: bool = False
    exact: bool = False
    column: object = None

    def literal(self, maker):
        """A literal that compares with the column."""
        if self.column is not None and maker.r.random() < 0.8:
            return self.column.literal(maker.r)
        return maker.any_literal(self.cat)


class Exprs:
    """Makes expressions over a scope. `params`: where literals are collected as parameters, if they are."""

    def __init__(self, r, ghost="@P@nosuch"):
        self.r, self.ghost = r, ghost
        self.focus = False  # whether to keep to what is likely to be shipped
        self.params = None  # list of (type, literal) while a prepared statement is made
        self.subquery = None  # set by the query maker: f(scope, depth) -> condition node

    def chance(self, p):
        return self.r.random() < p

    def pick(self, *items):
        return self.r.choice(items)

    def bound(self, literal, pg):
        """A literal, or a parameter that stands for it."""
        if self.params is None or self.r.random() < 0.4:
            return literal
        self.params.append((pg, literal))
        return f"${len(self.params)}"

    def any_literal(self, cat):
        r = self.r
        match cat:
            case "int":
                return str(r.choice([0, 1, 2, 3, 5, 7, 10, 100, 300, 40, 32767, 2147483647])) if r.random() < 0.7 else f"({-r.randint(1, 40)})"
            case "float":
                return r.choice([float_lit(r.randint(-40, 40) / 4), "'NaN'::float8", "'Infinity'::float8", "'-Infinity'::float8", "0.1::float8", "1e300::float8", "0.5::real", "'NaN'::real"])
            case "text":
                return pg_text(r.choice(["", "a", "b", "A", "é", "zz", "10", "abc", "ABC", "a ", "x%", "中"]))
            case "bpchar":
                return r.choice(["'a'::bpchar", "'a '::bpchar", "'ab'::bpchar", "''::bpchar"])
            case "bytea":
                return r.choice(["'\\x'::bytea", "'\\x61'::bytea", "'\\x00ff'::bytea", "'\\xffffff'::bytea"])
            case "bool":
                return r.choice(["true", "false"])
            case "date":
                return r.choice([date_lit(r.randint(-60, 60)), "date '1969-12-31'", "'infinity'::date", "'-infinity'::date", "date '0044-03-15 BC'", "date '20000-01-01'", "date '9999-12-31'", "date '0001-01-01'"])
            case "ts" | "tstz":
                name = "timestamp" if cat == "ts" else "timestamptz"
                return r.choice([instant_lit(r.randint(-300, 300) * 3_600_000_000, cat == "tstz"), f"'infinity'::{name}", f"'-infinity'::{name}", f"{name} '1970-01-01'", f"{name} '1969-12-31 23:59:59.999999'",
                                 f"{name} '0044-03-15 BC'", f"{name} '20000-01-01'", f"{name} '2000-01-01 00:00:00.0000004'"])
            case "uuid":
                return r.choice(["uuid 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "uuid '{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'", "uuid '00000000-0000-0000-0000-000000000000'"])
            case "numeric":
                return r.choice(["0", "1.5", "-2.75", "12.34", "1e3", "'NaN'::numeric", "'Infinity'::numeric", "0.1", "2.50"])
            case "interval":
                return r.choice(["interval '1 day'", "interval '02:00'", "interval '0'", "interval '-1 mon'"])
            case "time":
                return r.choice(["time '12:30'", "time '00:00'", "time '24:00'"])
            case "enum":
                return r.choice(["'sad'::public.mood", "'ok'::public.mood", "'happy'::public.mood"])
            case "jsonb" | "json":
                return f"{r.choice([chr(39) + '{}' + chr(39), chr(39) + '[1, 2, 3]' + chr(39), chr(39) + '1' + chr(39)])}::{cat}"
            case "array":
                return r.choice(["'{}'::text[]", "ARRAY['a']", "'{a,b}'::text[]"])
            case "intarray":
                return r.choice(["'{}'::int[]", "ARRAY[1,2]"])
            case "range":
                return r.choice(["'[1,5)'::int4range", "'empty'::int4range"])
            case "inet":
                return r.choice(["inet '10.0.0.1'", "inet '::1'"])
        return "NULL"

    # Scalars.

    def refs(self, scope, cat, tame=False):
        return [f for f in scope if f.cat == cat and not (tame and f.wild)]

    def leaf(self, scope, cat):
        """A column or literal."""
        refs = self.refs(scope, cat)
        if refs and self.chance(0.8):
            return self.r.choice(refs).sql
        if self.chance(0.05):
            return f"NULL::{PLAIN[cat]}"
        return self.bound(self.any_literal(cat), PLAIN[cat])

    def scalar(self, scope, cat, depth=2, tame=False):
        """An expression of a category."""
        r = self.r
        if depth <= 0 or self.chance(0.35):
            refs = self.refs(scope, cat, tame)
            if refs and self.chance(0.85):
                return r.choice(refs).sql
            if tame and cat == "int":
                return str(r.randint(0, 9))
            return self.leaf([f for f in scope if not (tame and f.wild)], cat)
        if self.chance(0.25):
            return self.common(scope, cat, depth)
        made = getattr(self, "make_" + cat, None)
        return made(scope, depth - 1) if made else self.common(scope, cat, depth)

    def common(self, scope, cat, depth):
        """CASE, COALESCE and such, of any category."""
        a, b = self.scalar(scope, cat, depth - 1), self.scalar(scope, cat, depth - 1)
        alts = [a, b]
        if cat == "text":  # collations of both sides may be at odds
            a, b = E("({} COLLATE \"C\")", a, alts=[a]), E("({} COLLATE \"C\")", b, alts=[b])
        if cat == "json":
            return self.pick(E("coalesce({}, {})", a, b, alts=alts), E("CASE WHEN {} THEN {} ELSE {} END", self.cond(scope, depth - 1), a, b, alts=alts))
        match r_choice(self.r, 8):
            case 0:
                return E("coalesce({}, {})", a, b, alts=alts)
            case 1:
                return E("nullif({}, {})", a, b, alts=alts)
            case 2:
                return E(self.pick("greatest({}, {})", "least({}, {})"), a, b, alts=alts)
            case 3:
                return E("CASE WHEN {} THEN {} END", self.cond(scope, depth - 1), a, alts=alts)
            case 4:
                return E("CASE {} WHEN {} THEN {} ELSE {} END", a, b, b, a, alts=alts)
            case _:
                return E("CASE WHEN {} THEN {} ELSE {} END", self.cond(scope, depth - 1), a, b, alts=alts)

    def make_int(self, scope, depth):
        s = lambda tame=True: self.scalar(scope, "int", depth, tame)
        a = s()
        k = str(self.r.choice([1, 2, 3, 7, 10]))
        match r_choice(self.r, 14):
            case 0 | 1:
                return E("({} " + self.pick("+", "-", "*") + " {})", a, s(), alts=[a])
            case 2:
                return E("({} " + self.pick("/", "%") + " " + self.pick(k, "(-" + k + ")") + ")", a, alts=[a])
            case 3:
                return E(self.pick("abs({})", "(- {})", "sign({})::int", "(~ {})", "mod({}, 3)", "(+ {})", "@ {}"), a, alts=[a])
            case 4:
                return E("({} " + self.pick("&", "|", "#") + " {})", s(False), s(False), alts=[a])
            case 5:
                return E("({} " + self.pick("<<", ">>") + " " + k + ")", a, alts=[a])
            case 6 | 7:
                text = self.scalar(scope, "text", depth)
                return E(self.pick("length({})", "char_length({})", "octet_length({})", "bit_length({})", "ascii({})", "strpos({} COLLATE \"C\", 'a')", "position('b' in ({} COLLATE \"C\"))"), text, alts=["1"])
            case 8:
                cat = self.pick("date", "ts", "tstz")
                field = self.pick("year", "month", "day", "dow", "doy", "isodow", "week", "quarter")
                arg = self.pick_finite(scope, cat)
                if cat == "tstz" and self.chance(0.6):
                    arg = E("({} AT TIME ZONE 'UTC')", arg, alts=[arg])
                return E(f"extract({field} from {{}})::int" if self.chance(0.6) else f"date_part('{field}', {{}})::int", arg, alts=["1"])
            case 9:
                return E("({})::int", self.cond(scope, depth), alts=["1"])
            case 10:
                return E(self.pick("{}::bigint", "({})::int8", "cast({} as bigint)"), a, alts=[a])
            case 11:
                refs = self.refs(scope, "bytea")
                if refs:
                    return E(self.pick("length({})", "octet_length({})"), self.r.choice(refs).sql, alts=["1"])
            case 12:
                refs = self.refs(scope, "float", True)
                if refs:
                    return E(self.pick("({})::int", "round({})::int", "floor({})::int", "trunc({})::int"), self.r.choice(refs).sql, alts=["1"])
            case 13:
                refs = self.refs(scope, "numeric")
                if refs:
                    return E("floor(least({}, 1000))::int", self.r.choice(refs).sql, alts=["1"])
        return a

    def pick_finite(self, scope, cat):
        refs = self.refs(scope, cat)
        name = {"date": "date", "ts": "timestamp", "tstz": "timestamptz"}[cat]
        return self.r.choice(refs).sql if refs else f"{name} '2000-02-29'"

    def make_float(self, scope, depth):
        a, b = self.scalar(scope, "float", depth, True), self.scalar(scope, "float", depth, True)
        match r_choice(self.r, 7):
            case 0 | 1:
                return E("({} " + self.pick("+", "-") + " {})", a, b, alts=[a, b])
            case 2:
                return E("({} " + self.pick("* 2.0::float8", "/ 2.0::float8", "/ 3::float8", "* 0.5::real") + ")", a, alts=[a])
            case 3:
                return E(self.pick("abs({})", "(- {})", "round({}::float8)", "floor({})", "ceil({})", "trunc({}::float8)", "sign({})", "sqrt(abs({}))", "@ {}", "cbrt({})"), a, alts=[a])
            case 4:
                return E("({})::float8", self.scalar(scope, "int", depth), alts=["1.0::float8"])
            case 5:
                if self.chance(0.5):
                    field = self.pick("year", "month", "day", "hour", "minute", "isoyear", "decade", "century", "millennium", "week", "doy")
                    arg = self.pick_finite(scope, "ts") if self.chance(0.5) else E("({} AT TIME ZONE 'UTC')", self.pick_finite(scope, "tstz"), alts=["timestamp '2000-01-01'"])
                    return E(self.pick(f"date_part('{field}', {{}})", f"extract({field} from {{}})::float8"), arg, alts=["1.0::float8"])
                return E(self.pick("extract(epoch from {})::float8", "date_part('epoch', {})"), self.pick_finite(scope, self.pick("ts", "tstz", "date")), alts=["1.0::float8"])
        return a

    def make_numeric(self, scope, depth):
        a, b = self.scalar(scope, "numeric", depth), self.scalar(scope, "numeric", depth)
        return self.pick(E("({} + {})", a, b, alts=[a, b]), E("({} * 2)", a, alts=[a]), E("round({}, 1)", a, alts=[a]), E("abs({})", a, alts=[a]), E("({} - {})", a, b, alts=[a, b]),
                         E("({})::numeric", self.scalar(scope, "int", depth), alts=["1.5"]), E("trunc({})", a, alts=[a]),
                         *[E(f"extract({self.pick(*FIELDS)} from {{}})", self.pick_finite(scope, self.pick("ts", "date")), alts=["1.5"])] * 4,
                         *[E(f"extract({self.pick(*FIELDS, 'hour', 'minute')} from {{}} AT TIME ZONE 'UTC')", self.pick_finite(scope, "tstz"), alts=["1.5"])] * 2)

    def make_text(self, scope, depth):
        a = self.scalar(scope, "text", depth)
        b = self.scalar(scope, "text", 0)
        n, m = str(self.r.randint(-3, 6)), str(self.r.randint(0, 5))
        c = lambda x: E('({} COLLATE "C")', x, alts=[x])
        match r_choice(self.r, 16):
            case 0 | 1:
                return E(self.pick("lower({})", "upper({})", "initcap({})", "reverse({})", "md5({})", "quote_literal({})"), c(a), alts=[a])
            case 2 | 3:
                return E("({} || {})", c(a), c(b), alts=[a, b])
            case 4 | 5:
                return E(self.pick(f"substr({{}}, {n}, {m})", f"substring({{}} from {m} for 2)", f"substr({{}}, {m})", f"left({{}}, {n})", f"right({{}}, {n})", f"substring({{}}, {n})"), c(a), alts=[a])
            case 6 | 7:
                return E(self.pick("trim({})", "ltrim({})", "rtrim({})", "btrim({}, 'a ')", "ltrim({}, 'ab')", "rtrim({}, ' b')", "trim(both 'x' from {})", "btrim({}, '')"), c(a), alts=[a])
            case 8:
                return E(self.pick("replace({}, 'a', 'bb')", "replace({}, '', 'x')", "translate({}, 'ab', 'x')", "repeat({}, 2)", f"lpad({{}}, {m}, 'xy')", f"rpad({{}}, {m})", "split_part({}, 'a', 1)", "overlay({} placing 'Q' from 2)",
                                   "regexp_replace({}, '[aeiou]', '*', 'g')", "substring({} from 'a.')", "translate({}, '', '')"), c(a), alts=[a])
            case 9:
                return E("concat({}, {})", c(a), c(b), alts=[a])
            case 10:
                return E("({})::text", self.scalar(scope, "int", depth), alts=["'1'"])
            case 11:
                refs = [f for f in scope if f.cat in ("uuid", "bool", "date", "ts", "interval", "time", "enum", "bpchar", "array") and not f.amb]
                if refs:
                    return E("({})::text", self.r.choice(refs).sql, alts=["'1'"])
            case 12:
                refs = self.refs(scope, "jsonb")
                if refs:
                    return E("({} " + self.pick("->> 'a'", "->> 0", "#>> '{a,b}'", "->> 'nosuch'", "->> -1", "->> ''") + ")", self.r.choice(refs).sql, alts=["'1'"])
            case 13:
                refs = self.refs(scope, "bytea")
                if refs:
                    return E("encode({}, 'hex')", self.r.choice(refs).sql, alts=["'1'"])
            case 14:
                refs = self.refs(scope, "tstz") + self.refs(scope, "ts")
                if refs:
                    return E("to_char({}, 'YYYY-MM-DD HH24:MI')", self.r.choice(refs).sql, alts=["'1'"])
        return a

    def make_date(self, scope, depth):
        a = self.scalar(scope, "date", depth, True)
        return self.pick(E("({} + 3)", a, alts=[a]), E("({} - 1)", a, alts=[a]), E("({})::date", self.pick_finite(scope, "ts"), alts=["date '2000-01-01'"]),
                         E("({} at time zone 'UTC')::date", self.pick_finite(scope, "tstz"), alts=["date '2000-01-01'"]), E("({})::date", self.pick_finite(scope, "tstz"), alts=["date '2000-01-01'"]))

    def make_ts(self, scope, depth):
        a = self.scalar(scope, "ts", depth, True)
        unit = self.pick("hour", "day", "month", "week", "year", "minute")
        return self.pick(E("({} + interval '1 day')", a, alts=[a]), E("({} - interval '1 mon')", a, alts=[a]), E(f"date_trunc('{unit}', {{}})", a, alts=[a]), E("({})::timestamp", self.scalar(scope, "date", 0, True), alts=[a]),
                         E("({} at time zone 'Europe/Berlin')", self.scalar(scope, "tstz", 0, True), alts=[a]),
                         *[E("({} at time zone " + self.pick("'UTC'", "'utc'", "'Etc/UTC'", "'GMT'") + ")", self.scalar(scope, "tstz", 0, True), alts=[a])] * 2,
                         E(f"date_trunc('{unit}', {{}} at time zone 'UTC')", self.scalar(scope, "tstz", 0, True), alts=[a]))

    def make_tstz(self, scope, depth):
        a = self.scalar(scope, "tstz", depth, True)
        unit = self.pick("hour", "day", "month", "week", "year")
        return self.pick(E("({} + interval '90 minutes')", a, alts=[a]), E("({} - interval '1 mon')", a, alts=[a]), E(f"date_trunc('{unit}', {{}})", a, alts=[a]), E(f"date_trunc('{unit}', {{}}, 'UTC')", a, alts=[a]),
                         E("({})::timestamptz", self.scalar(scope, "ts", 0, True), alts=[a]), E("({} at time zone 'UTC')", self.scalar(scope, "ts", 0, True), alts=[a]))

    def make_bytea(self, scope, depth):
        a = self.scalar(scope, "bytea", depth)
        return self.pick(E("({} || '\\x00'::bytea)", a, alts=[a]), E("substr({}, 1, 2)", a, alts=[a]), E("md5({})::bytea", a, alts=[a]))

    def make_interval(self, scope, depth):
        a, b = self.scalar(scope, "ts", 0, True), self.scalar(scope, "ts", 0, True)
        return E("(date_trunc('day', {}) - date_trunc('day', {}))", a, b, alts=["interval '1 day'"]) if self.chance(0.3) and not any(f.wild for f in scope) else self.leaf(scope, "interval")

    def make_bool(self, scope, depth):
        return E("({})", self.cond(scope, depth), alts=["true"])

    def make_jsonb(self, scope, depth):
        a = self.scalar(scope, "jsonb", 0)
        return E("({} " + self.pick("-> 'a'", "-> 0", "#> '{a,b}'", "- 'a'" if False else "-> 'b'") + ")", a, alts=[a])

    # Conditions.

    def cond(self, scope, depth=2):
        """A boolean expression."""
        from . import conditions

        return conditions.make(self, scope, depth)

    def items(self, ref, count):
        """So many literals for a list."""
        return [("NULL" if self.chance(0.04) else ref.literal(self)) for _ in range(count)]


def r_choice(r, n):
    """A number below n."""
    return r.randrange(n)
