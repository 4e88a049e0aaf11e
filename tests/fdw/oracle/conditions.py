"""Random conditions: every operator and construct that a WHERE clause of PostgreSQL has for the supported types."""

from .exprs import CMP, COMPARED, FIELDS, PATTERNS, PLAIN, REGEXES
from .node import E, Many, Node
from .values import pg_text


def make(x, scope, depth):
    """A condition over a scope; `x` is the maker of expressions."""
    r = x.r
    if depth > 0 and x.chance(0.3):
        parts = [make(x, scope, depth - 1) for _ in range(r.choice([2, 2, 3]))]
        return Node(["(", Many(parts, x.pick(" AND ", " AND ", " OR "), 1), ")"], alts=["true", *parts])
    if depth > 0 and x.chance(0.1):
        inner = make(x, scope, depth - 1)
        return E("(NOT {})", inner, alts=[inner, "true"])
    if depth > 0 and x.subquery and x.chance(0.06):
        return x.subquery(scope, depth - 1)
    kind = r.choice(FOCUSED if x.focus else KINDS)
    made = kind(x, scope, depth)
    return made if made is not None else compare(x, scope, depth)


def some(x, scope, cats=None):
    """A column to compare."""
    fits = [f for f in scope if (f.cat in cats if cats else f.cat in (SHIPPED if x.focus else COMPARED))]
    return x.r.choice(fits) if fits else None


def done(text, *children):
    return E(text, *children, alts=["true", "false"])


def compare(x, scope, depth):
    ref = some(x, scope)
    if ref is None:
        return "true"
    literal = x.bound(ref.literal(x), ref.pg)
    op = x.r.choice(CMP)
    return done("({} " + op + " {})", ref.sql, literal) if x.chance(0.85) else done("({} " + op + " {})", literal, ref.sql)


def columns(x, scope, depth):
    ref = some(x, scope)
    if ref is None:
        return None
    others = [f for f in scope if f.cat == ref.cat and (f.cat != "text" or f.coll == ref.coll)]
    if ref.cat == "int" and x.chance(0.2):
        others = [f for f in scope if f.cat in ("int", "float", "numeric")]
    if ref.cat in ("date", "ts", "tstz") and x.chance(0.3):
        others = [f for f in scope if f.cat in ("date", "ts", "tstz")]
    return done("({} " + x.r.choice(CMP) + " {})", ref.sql, x.r.choice(others or [ref]).sql)


def expression(x, scope, depth):
    cat = x.pick("int", "int", "float", "text", "text", "date", "ts", "tstz", "numeric", "bytea", "interval", "bool", "uuid")
    a, b = x.scalar(scope, cat, depth), x.scalar(scope, cat, min(depth, 1))
    if cat == "text":
        a = E('({} COLLATE "C")', a, alts=[a])
        if x.chance(0.5):
            b = E('({} COLLATE "C")', b, alts=[b])
        else:
            b = x.bound(x.any_literal("text"), "text")
    return done("({} " + x.r.choice(CMP) + " {})", a, b)


def collated(x, scope, depth):
    ref = some(x, scope, ["text"])
    if ref is None:
        return None
    coll = x.pick('"C"', '"POSIX"', '"und-x-icu"', "public.nd", '"default"', '"ucs_basic"')
    return done(f"({{}} COLLATE {coll} " + x.r.choice(CMP) + " {})", ref.sql, x.bound(ref.literal(x), "text"))


def null_test(x, scope, depth):
    if x.chance(0.75):
        return done("({} IS " + x.pick("", "NOT ") + "NULL)", x.r.choice(scope).sql)
    return done("({} IS " + x.pick("", "NOT ") + "NULL)", x.scalar(scope, x.pick("int", "text", "float", "date", "bool"), depth))


def in_list(x, scope, depth):
    ref = some(x, scope)
    if ref is None:
        return None
    count = x.r.choice([1, 2, 3, 5, 70]) if x.params is None else x.r.choice([1, 3])
    return done("({} " + x.pick("IN", "IN", "NOT IN") + " ({}))", ref.sql, Many([x.bound(i, ref.pg) for i in x.items(ref, count)]))


def in_list_expression(x, scope, depth):
    cat = x.pick("int", "text", "date")
    left = x.scalar(scope, cat, depth)
    if cat == "text":
        left = E('({} COLLATE "C")', left, alts=[left])
    return done("({} " + x.pick("IN", "NOT IN") + " ({}))", left, Many([x.any_literal(cat) for _ in range(3)]))


def any_array(x, scope, depth):
    refs = [f for f in scope if f.column is not None and f.column.array]
    if not refs:
        return None
    ref = x.r.choice(refs)
    count = x.r.choice([0, 1, 3, 65, 130])
    op = x.pick("= ANY", "= ANY", "<> ALL", "= ALL", "<> ANY", "< ANY", ">= ALL", "> ANY")
    if x.chance(0.04):
        return done("({} " + op + f" (NULL::{ref.column.array}))", ref.sql)
    array = E("ARRAY[{}]::" + ref.column.array, Many(x.items(ref, count), least=0))
    return done("({} " + op + " ({}))", ref.sql, x.bound(array, ref.column.array))


def any_subquery_array(x, scope, depth):
    refs = [f for f in scope if f.column is not None and f.column.array and f.cat != "json"]
    if not refs or x.params is not None:
        return None
    ref = x.r.choice(refs)
    values = Many([f"({i})" for i in x.items(ref, 3)])
    return done("({} = ANY (ARRAY(SELECT q::" + ref.pg + " FROM (VALUES {}) AS q (q))))", ref.sql, values)


def between(x, scope, depth):
    ref = some(x, scope)
    if ref is None:
        return None
    return done("({} " + x.pick("", "NOT ") + "BETWEEN " + x.pick("", "", "SYMMETRIC ") + "{} AND {})", ref.sql, x.bound(ref.literal(x), ref.pg), x.bound(ref.literal(x), ref.pg))


def distinct(x, scope, depth):
    ref = some(x, scope)
    if ref is None:
        return None
    others = [f.sql for f in scope if f.cat == ref.cat and (f.cat != "text" or f.coll == ref.coll)]
    other = x.r.choice(others) if x.chance(0.3) else "NULL" if x.chance(0.1) else x.bound(ref.literal(x), ref.pg)
    return done("({} IS " + x.pick("", "NOT ") + "DISTINCT FROM {})", ref.sql, other)


def boolean(x, scope, depth):
    refs = x.refs(scope, "bool")
    inner = x.r.choice(refs).sql if refs and x.chance(0.7) else make(x, scope, depth - 1)
    return done(x.pick("({})", "(NOT {})", "({} IS TRUE)", "({} IS NOT TRUE)", "({} IS FALSE)", "({} IS NOT FALSE)", "({} IS UNKNOWN)", "({} IS NOT UNKNOWN)", "({} = true)", "({} <> false)", "(coalesce({}, true))"), inner)


def boolean_compare(x, scope, depth):
    refs = x.refs(scope, "bool")
    if not refs:
        return None
    return done("({} " + x.r.choice(CMP) + " {})", x.r.choice(refs).sql, make(x, scope, depth - 1))


def like(x, scope, depth):
    refs = [f for f in scope if f.cat == "text"]
    if not refs:
        return None
    ref = x.r.choice(refs)
    text = ref.sql if ref.coll != "nd" else f'({ref.sql} COLLATE "C")'
    if x.chance(0.15):
        text = E('({} COLLATE "C")', x.scalar(scope, "text", depth), alts=[text])
    pattern = x.bound(pg_text(x.r.choice(PATTERNS)), "text")
    op = x.pick("LIKE", "LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE", "~~", "!~~*", "~~*")
    if x.chance(0.1):
        return done("({} LIKE '%a#%%' ESCAPE '#')", text)
    if x.chance(0.1):
        return done("({} " + x.pick("LIKE", "NOT LIKE", "ILIKE") + " " + x.pick("ANY", "ALL") + " (ARRAY[{}]))", text, Many([pg_text(x.r.choice(PATTERNS)) for _ in range(2)]))
    if x.chance(0.08):
        return done("(starts_with({}, {}))", text, pattern) if x.chance(0.5) else done("({} ^@ {})", text, pattern)
    return done("({} " + op + " {})", text, pattern)


def regex(x, scope, depth):
    refs = [f for f in scope if f.cat == "text"]
    if not refs:
        return None
    ref = x.r.choice(refs)
    text = ref.sql if ref.coll != "nd" else f'({ref.sql} COLLATE "C")'
    pattern = pg_text(x.r.choice(REGEXES))
    if x.chance(0.1):
        return done("({} SIMILAR TO {})", text, x.pick("'a%'", "'(a|b)_'", "'%é'"))
    return done("({} " + x.pick("~", "~*", "!~", "!~*") + " {})", text, x.bound(pattern, "text"))


def segment(x, scope, depth):
    refs = [f for f in scope if f.sql.endswith("segment")]
    if not refs:
        return None
    ref = x.r.choice(refs)
    literal = lambda: pg_text(x.ghost) if x.chance(0.1) else ref.literal(x)
    match x.r.randrange(7):
        case 0 | 1:
            return done("({} = {})", ref.sql, x.bound(literal(), "text"))
        case 2:
            return done("({} " + x.pick("IN", "NOT IN") + " ({}))", ref.sql, Many([literal() for _ in range(3)]))
        case 3:
            return done("({} LIKE {})", ref.sql, x.pick("'@P@%'", "'@P@1%'", "'%a'", "'@P@_'"))
        case 4:
            return done("({} " + x.pick("~ '^@P@[0-9]'", "~* 'A$'", "!~ '1'", "> '@P@1'", "<= '@P@a'", "<> '@P@0'") + ")", ref.sql)
        case 5:
            return done("({} = ANY (ARRAY(SELECT s FROM loc WHERE k < 4)))", ref.sql)
        case _:
            return done("({} = (SELECT max(s) FROM loc))", ref.sql)


def rows(x, scope, depth):
    first, second = some(x, scope), some(x, scope)
    if first is None or first.sql == second.sql or x.params is not None:
        return None
    left = f"({first.sql}, {second.sql})"
    pair = lambda: f"({first.literal(x)}, {second.literal(x)})"
    if x.chance(0.3):
        return done("({} IN ({}))", left, Many([pair(), pair(), pair()]))
    return done("({} " + x.pick("=", "<", ">=", "<>", "IS DISTINCT FROM") + " {})", left, pair())


def json(x, scope, depth):
    refs = [f for f in scope if f.cat in ("jsonb", "json")]
    if not refs:
        return None
    ref = x.r.choice(refs)
    tests = ["({} ->> 'a' = '1')", "({} -> 'b' IS NULL)", "({} #>> '{{a,b}}' = '2')", "({} ->> 'a' = 'true')", "({} ->> 0 = '1')", "({} -> 'a' IS NOT NULL)", "({} ->> 'a' IS NULL)", "(({} ->> 'c') LIKE '%é')"]
    if ref.cat == "jsonb":
        tests += ["({} @> '{{\"a\": 1}}')", "({} ? 'a')", "({} ?| ARRAY['a', 'b'])", "({} -> 'a' = '1')", "({} @> '[]')", "(jsonb_typeof({}) = 'object')", "({} @? '$.a')"]
    else:
        tests += ["(json_typeof({}) = 'object')"]
    test = x.r.choice(tests)
    before, after = test.split("{}", 1)
    return Node([before.replace("{{", "{").replace("}}", "}"), ref.sql, after.replace("{{", "{").replace("}}", "}")], alts=["true", "false"])


def dates(x, scope, depth):
    cat = x.pick("date", "ts", "tstz")
    refs = x.refs(scope, cat)
    if not refs:
        return None
    ref = x.r.choice(refs)
    tests = ["({} > now() - interval '100 years')", "({} <= current_date)", "(extract(year from {}) = 2000)", "(extract(hour from {}::timestamp) > 6)", "(date_trunc('month', {}) = '2000-01-01')", "({}::date = date '2000-01-01')",
             "({} = date '2000-01-01')", "({} < timestamp '2000-01-02 03:00')", "({} >= timestamptz '1999-12-31 22:00+00')", "(isfinite({}))", "({} IS NOT NULL AND {} < 'infinity')", "(to_char({}, 'MM') = '01')",
             "({} BETWEEN timestamp '1999-12-30' AND date '2000-01-05')", "(extract(epoch from {}) > 0)", "(date_part('dow', {}) = 6)"]
    if x.chance(0.45):
        tests = [f"({{}} {x.r.choice(CMP)} timestamptz '{x.r.choice(EDGES)}')", f"(timestamptz '{x.r.choice(EDGES)}' {x.r.choice(CMP)} {{}})", f"({{}} BETWEEN timestamptz '{x.r.choice(EDGES)}' AND timestamptz '{x.r.choice(EDGES)}')",
                 f"({{}} {x.r.choice(CMP)} to_timestamp('2000-02-29 {x.r.randrange(24):02}:00:00', 'YYYY-MM-DD HH24:MI:SS'))", f"({{}} {x.r.choice(CMP)} timestamp '{x.r.choice(EDGES)}')", f"({{}} {x.r.choice(CMP)} date '{x.r.choice(EDGES)}')"]
        field = x.pick(*FIELDS[:-1]) if cat == "date" else x.pick(*FIELDS[:-1], "hour", "minute")
        arg = "{} AT TIME ZONE 'UTC'" if cat == "tstz" else "{}"
        tests += [f"(extract({field} from {arg}) {x.r.choice(CMP)} {x.pick('1', '12', '2000', '1.5', '-1', '0', '20.0', '1e20', x.any_literal('numeric'))})"] * 3
        if cat != "date":
            tests += [f"(date_part('{field}', {arg}) {x.r.choice(CMP)} {x.pick('1', '12.5', '2000', '-1')})"]
    test = x.r.choice(tests)
    return done(test, *([ref.sql] * test.count("{}")))


# Where clocks change, or zones are far from UTC, or the two together make a day that is not there; and the ends.
EDGES = ["2000-03-26 00:59:59.999999+00", "2000-03-26 01:00+00", "2000-03-26 01:30+00", "2000-03-26 02:00:00.000001+00", "2000-10-29 00:30+00", "2000-10-29 01:00+00", "2000-10-29 01:30+00", "2000-03-18 14:30+00",
         "2000-09-30 16:00+00", "2011-12-30 10:00+00", "2011-12-29 23:59:59+00", "1969-12-31 23:59:59.5+00", "1970-01-01 00:00+00", "2000-02-29 12:00+00", "2000-01-01 00:00+00", "1999-12-31 22:00+00", "0001-01-01 00:00+00 BC", "0044-03-15 12:00+00 BC",
         "1582-10-10 00:00+00", "9999-12-31 23:00+00", "infinity", "-infinity", "294276-12-31 12:00+00"]


def arrays(x, scope, depth):
    refs = [f for f in scope if f.cat in ("array", "intarray", "range", "inet", "enum", "bpchar", "interval", "time")]
    if not refs:
        return None
    ref = x.r.choice(refs)
    match ref.cat:
        case "array":
            return done(x.pick("({} @> ARRAY['a'])", "('a' = ANY ({}))", "(cardinality({}) = 1)", "(array_length({}, 1) IS NULL)", "({} && ARRAY['b'])"), ref.sql)
        case "intarray":
            return done(x.pick("(1 = ANY ({}))", "({}[1] = 1)", "({} @> ARRAY[2])"), ref.sql)
        case "range":
            return done(x.pick("({} @> 3)", "(isempty({}))", "(lower({}) = 1)"), ref.sql)
        case "inet":
            return done(x.pick("({} << '10.0.0.0/8')", "(family({}) = 4)"), ref.sql)
    return done("({} " + x.r.choice(CMP) + " {})", ref.sql, ref.literal(x))


def null_literal(x, scope, depth):
    ref = some(x, scope)
    return done("({} " + x.r.choice(CMP) + " " + x.bound(f"NULL::{PLAIN[ref.cat]}", PLAIN[ref.cat]) + ")", ref.sql) if ref else None


def case_when(x, scope, depth):
    return done("(CASE WHEN {} THEN {} ELSE {} END)", make(x, scope, depth - 1), make(x, scope, depth - 1), x.pick("NULL", "true", "false"))


KINDS = [compare] * 8 + [columns] * 2 + [expression] * 4 + [collated, null_test, null_test, in_list, in_list, in_list_expression, any_array, any_array, any_subquery_array, between, between, distinct, distinct, boolean, boolean,
                                            boolean_compare, like, like, like, regex, segment, segment, segment, rows, json, json, dates, dates, arrays, null_literal, case_when]
# What is likely to be shipped as a whole, for the half of the rounds that looks for it.
FOCUSED = [compare] * 6 + [columns] * 2 + [expression] * 4 + [null_test, in_list, in_list, any_array, between, distinct, boolean, boolean_compare, like, like, segment, dates, case_when, null_literal]
SHIPPED = ["int", "int", "float", "text", "bytea", "bool", "date", "ts", "tstz", "uuid"]
