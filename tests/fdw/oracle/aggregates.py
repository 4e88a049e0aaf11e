"""Random aggregate calls. Doubles are summed only where the sums are exact whatever the order: multiples of 0.25 in a small range.
Statistics over doubles are compared to six digits, as their last ones depend on the order of the rows."""

from .conditions import SHIPPED
from .node import E

ORDERED = ["int", "float", "text", "date", "ts", "tstz", "numeric", "interval", "time", "enum", "bpchar", "inet", "array"]


def make(maker, source):
    """(node, category of the result; `opaque` where an outer query must not look into it)."""
    r, x = maker.r, maker.x
    refs = source.refs
    roll = r.random() * (0.94 if maker.focus else 1)
    if maker.focus:
        refs = [f for f in refs if f.cat in SHIPPED] or refs
    if roll < 0.14:
        node, cat = "count(*)", "int"
    elif roll < 0.26:
        e = r.choice(refs).sql if maker.chance(0.8) else x.scalar(refs, x.pick("int", "text", "bool"), 1)
        node, cat = E("count({})", e), "int"
    elif roll < 0.36:
        fits = [f for f in refs if f.cat not in ("json", "opaque")]
        f = r.choice(fits) if fits else None
        if f is None:
            return "count(*)", "int"
        node, cat = E("count(DISTINCT {})", f.sql), "int"
        if f.cat in ("int", "numeric") and maker.chance(0.3):
            node, cat = E(x.pick("sum", "avg") + "(DISTINCT {})", f.sql), "numeric"
    elif roll < 0.58:
        node, cat = total(maker, refs)
    elif roll < 0.78:
        fits = [f for f in refs if f.cat in ORDERED]
        if fits and maker.chance(0.85):
            f = r.choice(fits)
            node, cat = E(x.pick("min", "max") + "({})", f.sql), "opaque" if f.amb else f.cat
            if cat == "text":
                cat = "opaque"  # its collation is the column's
        else:
            cat = x.pick("int", "date", "tstz", "float")
            node = E(x.pick("min", "max") + "({})", x.scalar(refs, cat, 1))
    elif roll < 0.84:
        bools = x.refs(refs, "bool")
        e = r.choice(bools).sql if bools and maker.chance(0.7) else x.cond(refs, 1)
        node, cat = E(x.pick("bool_and", "bool_or", "every") + "({})", e), "bool"
    elif roll < 0.88:
        ints = x.refs(refs, "int")
        f = r.choice(ints).sql if ints else "1"
        node, cat = E(x.pick("bit_and", "bit_or", "bit_xor") + "({})", f), "int"
    elif roll < 0.94:
        node, cat = statistics(maker, refs)
    else:
        node, cat = ordered(maker, source)
    if maker.chance(0.2) and "WITHIN" not in str(node):
        node = E("{} FILTER (WHERE {})", node, x.cond(refs, 1), alts=[node])
    return node, cat


def total(maker, refs):
    """sum and avg."""
    r, x = maker.r, maker.x
    fits = [f for f in refs if f.cat in ("int", "numeric") or f.cat == "float" and f.exact]
    name = x.pick("sum", "sum", "avg")
    if fits and maker.chance(0.8):
        f = r.choice(fits)
        if f.cat == "float":
            return E(name + "({})", f.sql), "float" if f.pg != "real" else "opaque"
        return E(name + "({})", f.sql), "numeric" if f.cat == "numeric" or name == "avg" else "opaque"
    intervals = x.refs(refs, "interval")
    if intervals and maker.chance(0.3):
        return E("sum({})", r.choice(intervals).sql), "opaque"
    return E(name + "({})", x.scalar(refs, "int", 2, True)), "opaque"


def statistics(maker, refs):
    """stddev and such."""
    r, x = maker.r, maker.x
    fits = [f for f in refs if f.cat in ("int", "numeric") or f.cat == "float" and f.exact]
    if not fits:
        return "count(*)", "int"
    f = r.choice(fits)
    names = ["stddev", "stddev_samp", "stddev_pop", "variance", "var_pop", "var_samp"]
    if f.cat == "float":
        maker.approx = True
        if maker.chance(0.2):
            return E(x.pick("corr", "covar_pop", "regr_slope", "regr_count") + "({}, {})", f.sql, f.sql), "opaque"
    return E(r.choice(names) + "({})", f.sql), "opaque"


def ordered(maker, source):
    """Aggregates that depend on the order of their input, with a total one."""
    r, x = maker.r, maker.x
    if source.keys is None:
        return "count(*)", "int"
    keys = ", ".join(source.keys)
    f = r.choice(source.refs)
    texts = x.refs(source.refs, "text")
    roll = r.random()
    if roll < 0.3 and texts:
        return E("string_agg({}, ',' ORDER BY {})", r.choice(texts).sql, keys), "opaque"
    if roll < 0.6 and f.cat not in ("array", "intarray"):
        return E("array_agg({} ORDER BY {})", f.sql, keys), "opaque"
    if roll < 0.75:
        return E("json_agg({} ORDER BY {})", f.sql, keys), "opaque"
    fits = [f for f in source.refs if f.cat in ("int", "date", "tstz", "numeric")]
    if not fits:
        return "count(*)", "int"
    return E(x.pick("percentile_disc(0.5)", "mode()") + " WITHIN GROUP (ORDER BY {})", r.choice(fits).sql), "opaque"


def condition(maker, source):
    """A HAVING condition."""
    r, x = maker.r, maker.x
    ints = [f for f in source.refs if f.cat == "int"]
    f = r.choice(ints).sql if ints else "1"
    one = r.choice([f"count(*) > {r.randint(0, 5)}", f"sum({f}) > 0", f"max({f}) IS NOT NULL", f"avg({f}) < 10", f"count({f}) BETWEEN 1 AND 4", f"min({f}) <> 3", "count(*) % 2 = 0", "bool_or(true)"])
    if maker.chance(0.2):
        return E("({} AND count(*) < 50)", one, alts=[one])
    if maker.chance(0.1):
        return E("(count(*) FILTER (WHERE {}) > 0)", x.cond(source.refs, 1), alts=["true"])
    return one
