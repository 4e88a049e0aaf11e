"""The eight tables of TPC-H, each with a segment column that follows from its key: orders and their lines share a segment, and so do parts
and their suppliers."""

# name: (prefix, number of the column that places the row, columns, SQLite's indexes)
# Types: i integer, d decimal, t text, c character(n), D date.
TABLES = {
    "region": ("r", 0, [("regionkey", "i"), ("name", "t"), ("comment", "t")], []),
    "nation": ("n", 0, [("nationkey", "i"), ("name", "t"), ("regionkey", "i"), ("comment", "t")], []),
    "supplier": ("s", 0, [("suppkey", "i"), ("name", "t"), ("address", "t"), ("nationkey", "i"), ("phone", "t"), ("acctbal", "d"), ("comment", "t")], []),
    "customer": ("c", 0, [("custkey", "i"), ("name", "t"), ("address", "t"), ("nationkey", "i"), ("phone", "t"), ("acctbal", "d"), ("mktsegment", "t"), ("comment", "t")], []),
    "part": ("p", 0, [("partkey", "i"), ("name", "t"), ("mfgr", "t"), ("brand", "t"), ("type", "t"), ("size", "i"), ("container", "t"), ("retailprice", "d"), ("comment", "t")], []),
    "partsupp": ("ps", 0, [("partkey", "i"), ("suppkey", "i"), ("availqty", "i"), ("supplycost", "d"), ("comment", "t")], ["ps_partkey, ps_suppkey", "ps_suppkey"]),
    "orders": ("o", 0, [("orderkey", "i"), ("custkey", "i"), ("orderstatus", "t"), ("totalprice", "d"), ("orderdate", "D"), ("orderpriority", "t"), ("clerk", "t"), ("shippriority", "i"), ("comment", "t")],
               ["o_custkey", "o_orderdate"]),
    "lineitem": ("l", 0, [("orderkey", "i"), ("partkey", "i"), ("suppkey", "i"), ("linenumber", "i"), ("quantity", "d"), ("extendedprice", "d"), ("discount", "d"), ("tax", "d"), ("returnflag", "t"),
                          ("linestatus", "t"), ("shipdate", "D"), ("commitdate", "D"), ("receiptdate", "D"), ("shipinstruct", "t"), ("shipmode", "t"), ("comment", "t")],
                 ["l_orderkey", "l_partkey, l_suppkey", "l_shipdate"]),
}
KEYS = {"region": "r_regionkey", "nation": "n_nationkey", "supplier": "s_suppkey", "customer": "c_custkey", "part": "p_partkey", "orders": "o_orderkey"}


def sqlite(numbers):
    """The registered schema."""
    out = []
    decimal = "TEXT" if numbers == "numeric" else "REAL"
    types = {"i": "INTEGER", "d": decimal, "t": "TEXT", "D": "TEXT"}
    for name, (prefix, _, columns, indexes) in TABLES.items():
        key = KEYS.get(name)
        declared = ", ".join(f"{prefix}_{c} {types[t]} NOT NULL{' PRIMARY KEY' if f'{prefix}_{c}' == key else ''}" for c, t in columns)
        out.append(f"CREATE TABLE {name} ({declared}) STRICT;")
        out += [f"CREATE INDEX {name}_{i} ON {name} ({on});" for i, on in enumerate(indexes)]
    return "\n".join(out)


def columns(name, numbers, foreign=False):
    """PostgreSQL's columns, with options for a foreign table of pg_trough."""
    prefix, _, listed, _ = TABLES[name]
    decimal = "numeric(15,2)" if numbers == "numeric" else "double precision"
    types = {"i": ("integer", "integer"), "d": (decimal, "text" if numbers == "numeric" else "real"), "t": ('text COLLATE "C"', "text"), "D": ("date", "text")}
    out = [f"{prefix}_segment text COLLATE \"C\" NOT NULL" if not foreign else f"{prefix}_segment text OPTIONS (segment 'true') COLLATE \"C\" NOT NULL"]
    for c, t in listed:
        kind, _, collate = types[t][0].partition(" COLLATE ")
        options = f" OPTIONS (storage '{types[t][1]}')" if foreign else ""
        out.append(f"{prefix}_{c} {kind}{options}{' COLLATE ' + collate if collate else ''} NOT NULL")
    return ", ".join(out)


def local_indexes(name):
    """The indexes of the local and of the partitioned tables: those of SQLite."""
    prefix, _, _, indexes = TABLES[name]
    key = KEYS.get(name)
    return ([key] if key else []) + indexes
