"""Random INSERT, UPDATE, DELETE and TRUNCATE, each followed by the contents of the table. They run once over the foreign tables and once
over the heap; then all three worlds must show the same rows, and RETURNING must have given the same.

New values are those that the columns' encodings can hold, so that none is refused; an UPDATE never takes its values from a join, as
which of several matching rows counts is not fixed."""

from .exprs import Ref
from .node import E, Many, Node, optional
from .queries import Query

CHANGES = {"int": "({} + 1)", "bool": "(NOT {})", "date": "({} + 1)", "tstz": "({} + interval '1 hour')", "ts": "({} - interval '1 day')", "float": "({} * 2)", "text": "({} || 'x')", "bytea": "({} || '\\x00'::bytea)"}


def make(maker, r):
    """A random statement that writes."""
    tables = [t for t in maker.round.tables if not t.local]
    table = r.choice(tables)
    names = ", ".join(c.name for c in table.columns)
    roll = r.random()
    if table.name == "joint" and (roll < 0.35 or roll > 0.97):
        roll = 0.5
    if roll < 0.35:
        body = insert(maker, r, table)
    elif roll < 0.75:
        body = update(maker, r, table)
    elif roll < 0.97 or table.rows > 30:
        body = delete(maker, r, table)
    else:
        body = Node([f"TRUNCATE {table.name}"])
    query = Query(body, execute=[f"SELECT {names} FROM {table.name}"], writes=True)
    query.fold = False
    return query


def refs(table, alias):
    return [Ref(f"{alias}.{c.name}", c.cat, c.pg.split(" COLLATE ")[0], c.coll, c.wild, c.amb, c.exact, c) for c in table.columns]


def returning(maker, r, scope):
    if r.random() < 0.5:
        return ""
    items = [r.choice(scope).sql for _ in range(r.randint(1, 4))]
    if r.random() < 0.3:
        items.append(maker.x.scalar([f for f in scope if not f.wild], r.choice(["int", "bool"]), 1))
    return optional(E(" RETURNING {}", Many(items)))


def insert(maker, r, table):
    maker.new_id = getattr(maker, "new_id", 1000)
    some = [c for c in table.columns[2:] if r.random() < 0.8]
    names = ", ".join(["segment", "id", *(c.name for c in some)])
    rows = []
    for _ in range(r.choice([1, 1, 2, 5, 20])):
        maker.new_id += 1
        segment = "'@P@new'" if r.random() < 0.05 else table.columns[0].literal(r)
        rows.append(f"({', '.join([segment, str(maker.new_id), *('NULL' if r.random() < 0.2 else c.literal(r) for c in some)])})")
    return E(f"INSERT INTO {table.name} AS w ({names}) VALUES " + "{}{}", Many(rows), returning(maker, r, refs(table, "w")))


def condition(maker, r, table):
    """A condition on the rows to write."""
    scope = refs(table, "w")
    if r.random() < 0.15:
        return scope, optional(E(" WHERE w.id = {}", str(r.randint(1, 60))))
    if r.random() < 0.1:
        return scope, ""
    return scope, optional(E(" WHERE {}", maker.x.cond(scope, 2)))


def update(maker, r, table):
    scope, where = condition(maker, r, table)
    chosen = r.sample(table.columns[2:], min(len(table.columns) - 2, r.randint(1, 3)))
    sets = []
    for c in chosen:
        change = CHANGES.get(c.cat)
        if change and not c.wild and c.pg not in ("public.small", "smallint") and c.decl != "NUMERIC" and r.random() < 0.4 and not (c.options.get("encoding") in ("epoch_s", "epoch_ms") and c.cat == "date"):
            value = change.replace("{}", f"w.{c.name}")
        elif r.random() < 0.15:
            value = f"CASE WHEN w.id % 2 = 0 THEN w.{c.name} ELSE {c.literal(r)} END"
        else:
            value = "NULL" if r.random() < 0.15 else c.literal(r)
        sets.append(f"{c.name} = {value}")
    return E(f"UPDATE {table.name} w SET " + "{}{}{}", Many(sets), where, returning(maker, r, scope))


def delete(maker, r, table):
    scope, where = condition(maker, r, table)
    if r.random() < 0.2:
        other = maker.table()
        links = [f"w.segment = {f.sql}" for f in other.refs if f.sql.endswith("segment")] or ["true"]
        return E(f"DELETE FROM {table.name} w USING " + "{} WHERE " + links[0] + " AND w.id % 3 = 0 AND {}{}", other.node, maker.x.cond(scope + other.refs, 1), returning(maker, r, scope))
    narrow = optional(f"{' AND' if str(where) else ' WHERE'} w.id % 3 = 1") if r.random() < 0.7 else ""
    return E(f"DELETE FROM {table.name} w" + "{}{}{}", where, narrow, returning(maker, r, scope))
