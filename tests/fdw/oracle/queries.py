"""Random queries over a round's tables, built from sources (tables, joins, sub-selects) and the clauses on top of them."""

import re
from dataclasses import dataclass, field

from . import aggregates
from .conditions import SHIPPED
from .exprs import CMP, COMPARED, PLAIN, Exprs, Ref
from .node import E, Many, Node, optional

FIRST = 0.1  # the share of queries for first rows
MOST = 30_000  # about how many rows a join may give at most
SORTED = [c for c in COMPARED if c not in ("jsonb",)]


@dataclass
class Query:
    """What is run: `body` is one statement; `before` and `after` stand around it. `ordered`: rows come in a fixed order. `fold`:
    which of several equal values is shown is not fixed. `approx`: last digits of doubles are not fixed. `alone`: one table is read, to
    its end, with conditions that are evaluated in a fixed order; `whole`: of all its segments."""

    body: Node
    ordered: bool = False
    fold: bool = False
    approx: bool = False
    before: list = field(default_factory=list)
    wrap: str = "{}"
    after: list = field(default_factory=list)
    cursor: bool = False
    execute: list = field(default_factory=list)
    writes: bool = False
    alone: bool = False
    whole: bool = False

    def statements(self):
        """Everything that is run, in order; the answer is that of all that return rows."""
        return [*self.before, self.wrap.replace("{}", str(self.body), 1), *self.execute, *self.after]


@dataclass
class Source:
    """Something in FROM: its text, what may be read of it, expressions that are a key of its rows (none if unknown), and about how
    many rows it has at most."""

    node: object
    refs: list
    keys: list | None
    weight: int


class Maker:
    """Makes queries over a round."""

    def __init__(self, r, round_):
        self.r, self.round = r, round_
        self.x = Exprs(r, round_.ghost)
        self.x.subquery = self.subquery_condition
        self.x.focus = self.focus = r.random() < 0.5
        self.count = 0
        self.approx = False
        self.weight = 0  # of the last select
        self.spread = max(1, len(round_.segments) // 2)

    def chance(self, p):
        return self.r.random() < p

    def alias(self):
        self.count += 1
        return f"q{self.count}"

    # Sources.

    def table(self, table=None):
        r = self.r
        if table is None:
            table = r.choice([t for t in self.round.tables if not t.local or self.chance(0.15)] or self.round.tables)
        a = self.alias()
        refs = [Ref(f"{a}.{c.name}", c.cat, c.pg.split(" COLLATE ")[0], c.coll, c.wild, c.amb, c.exact, c) for c in table.columns]
        keys = [f"{a}.{k}" for k in table.key] if table.name != "joint" else [f"{a}.tableoid::regclass::text", f"{a}.segment", f"{a}.id"]
        return Source(Node([f"{table.name} {a}"]), refs, keys, max(table.rows, 1))

    def source(self, depth=2):
        roll = self.r.random()
        if self.focus:
            return self.join(0) if depth > 0 and roll < 0.25 else self.table()
        if depth > 0 and roll < 0.22:
            return self.join(depth - 1)
        if depth > 0 and roll < 0.30:
            return self.derived(depth - 1)
        if depth > 0 and roll < 0.33:
            return self.lateral(depth - 1)
        return self.table()

    def derived(self, depth):
        node, refs, keys = self.select(depth)
        a = self.alias()
        out = [Ref(f"{a}.{f.sql}", f.cat, f.pg, f.coll, f.wild, f.amb, f.exact, f.column) for f in refs]
        return Source(Node(["(", node, f") {a}"]), out, [f"{a}.{k}" for k in keys] if keys is not None else None, self.weight)

    def joined(self, left, right, conditions):
        """About how many rows a join gives at most: nothing is known of values but that rows are spread over the segments."""
        equal = [c for c in conditions if re.fullmatch(r"\S+ = \S+", c)]
        product = left * right
        if any(c.endswith("segment") for c in equal):
            product //= self.spread
        if any(not c.endswith("segment") for c in equal):
            product //= 2
        return max(product, left, right)

    def equal(self, left, right):
        """Conditions that join two sources."""
        r = self.r
        conditions = []
        a = [f for f in left.refs if f.sql.endswith("segment")]
        b = [f for f in right.refs if f.sql.endswith("segment")]
        if a and b and self.chance(0.9 if self.focus else 0.7):
            conditions.append(f"{r.choice(a).sql} = {r.choice(b).sql}")
        elif b and self.chance(0.5):
            texts = [f for f in left.refs if f.sql.endswith(".s")]
            if texts:
                conditions.append(f"{texts[0].sql} = {b[0].sql}")
        if not conditions or self.chance(0.5):
            pairs = [(f, g) for f in left.refs for g in right.refs if f.cat == g.cat and f.cat in SORTED and (f.cat != "text" or f.coll == g.coll)
                     and not f.sql.endswith("segment") and (f.cat != "bool" or conditions)]
            if pairs:
                f, g = r.choice(pairs)
                conditions.append(f"{f.sql} {r.choice(CMP) if conditions and self.chance(0.3) else '='} {g.sql}")
        return conditions

    def join(self, depth):
        r = self.r
        left, right = self.source(depth), self.source(depth if self.chance(0.3) else 0)
        conditions = self.equal(left, right)
        weight = self.joined(left.weight, right.weight, conditions)
        if weight > MOST:
            return min(left, right, key=lambda source: source.weight)
        refs = left.refs + right.refs
        keys = left.keys + right.keys if left.keys is not None and right.keys is not None else None
        kind = r.choice(["JOIN", "JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
        if not conditions:
            kind = r.choice(["JOIN", "LEFT JOIN"])
            conditions = ["true"]
        extra = []
        if kind != "FULL JOIN" and self.chance(0.35):
            extra.append(self.x.cond(refs, 1))
        elif self.chance(0.1) and kind == "JOIN":
            extra.append(self.x.cond(right.refs, 1))
        on = Many([*(Node([c], alts=["true"]) for c in conditions), *extra], " AND ")
        product = left.weight * right.weight
        if kind == "JOIN" and product < 3000 and self.chance(0.1):
            return Source(E("({} CROSS JOIN {})", left.node, right.node), refs, keys, product)
        return Source(E("({} " + kind + " {} ON {})", left.node, right.node, on, alts=[]), refs, keys, weight)

    def lateral(self, depth):
        """LATERAL, a VALUES list or a set-returning function beside a table."""
        r = self.r
        left = self.table()
        a = self.alias()
        roll = r.random()
        if roll < 0.2:
            return Source(E("{} CROSS JOIN " + f"generate_series(1, 2) {a}(g)", left.node, alts=[left.node]), left.refs + [Ref(f"{a}.g", "int", "integer", exact=True)], left.keys + [f"{a}.g"], left.weight * 2)
        if roll < 0.5:
            ref = r.choice([f for f in left.refs if f.cat in ("int", "text", "date", "uuid", "float", "tstz")])
            values = Many([f"({ref.literal(self.x)}::{ref.pg})" for _ in range(4)])
            kind = r.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN"])
            return Source(E("{} " + kind + " (VALUES {}) " + f"{a}(v) ON {a}.v = {ref.sql}", left.node, values, alts=[left.node]), left.refs, None, left.weight * 4)
        inner = self.table()
        conditions = self.equal(left, inner) or ["true"]
        where = Many([*conditions, self.x.cond(left.refs + inner.refs, 1)], " AND ")
        some = [f for f in inner.refs if self.chance(0.4)] or [inner.refs[1]]
        items = [f"{f.sql} AS c{i}" for i, f in enumerate(some)] + [f"{k} AS k{i}" for i, k in enumerate(inner.keys)]
        order = Node([Many(self.order_items(inner.refs), after=", ", least=0), ", ".join(inner.keys)])
        node = E("{} " + r.choice(["CROSS JOIN LATERAL", "LEFT JOIN LATERAL"]) + " (SELECT " + ", ".join(items) + " FROM {} WHERE {} ORDER BY {}{}) " + a, left.node, inner.node, where, order,
                 f" LIMIT {r.randint(1, 5)}", alts=[left.node])
        if "LEFT" in str(node.parts[1]):
            node.parts.append(" ON true")
        refs = left.refs + [Ref(f"{a}.c{i}", f.cat, f.pg, f.coll, f.wild, f.amb, f.exact, f.column) for i, f in enumerate(some)]
        return Source(node, refs, left.keys + [f"{a}.k{i}" for i in range(len(inner.keys))], left.weight * 5)

    # Clauses.

    def where(self, refs, p=0.8, depth=2):
        if self.focus:
            depth = min(depth, self.r.choice([0, 0, 1]))
        return optional(E(" WHERE {}", self.x.cond(refs, depth))) if self.chance(p) else ""

    def direction(self):
        return self.r.choice(["", "", " ASC", " DESC", " DESC"]) + self.r.choice(["", "", " NULLS FIRST", " NULLS LAST"])

    def order_items(self, refs, count=None):
        items = []
        for _ in range(self.r.randint(0, 2) if count is None else count):
            fits = [f for f in refs if f.cat in (SHIPPED if self.focus else SORTED)]
            e = self.x.scalar(refs, self.r.choice(["int", "text", "float", "date"]), 1)
            if isinstance(e, Node) and self.chance(0.25):
                items.append(Node([e, self.direction()]))
            elif fits:
                items.append(self.r.choice(fits).sql + self.direction())
        return items

    def limit(self):
        r = self.r
        if self.chance(0.75):
            text = f" LIMIT {r.choice([0, 1, 2, 3, 5, 10, 50, 1000])}" if self.chance(0.9) else " LIMIT ALL"
            offset = f" OFFSET {r.choice([0, 1, 2, 7, 100])}" if self.chance(0.35) else ""
            return optional(text + offset)
        return optional(f" OFFSET {r.choice([1, 3, 20])}")

    def tail(self, refs, keys, p_limit=0.4):
        """ORDER BY and LIMIT with a total order, if there can be one."""
        if keys is None or self.chance(0.35):
            return "", False
        order = E(" ORDER BY {}{}", Many(self.order_items(refs), after=", " if keys else "", least=0 if keys else 1), ", ".join(k + self.direction() for k in keys))
        if not keys:
            return "", False
        return Node([order, self.limit() if self.chance(p_limit) else ""]), True

    def items(self, refs, count=None):
        """A select list, and what it gives to an outer query."""
        out, nodes = [], []
        for _ in range(count or self.r.randint(1, 6)):
            name = f"c{len(out)}"
            if self.chance(0.75):
                f = self.r.choice(refs)
                nodes.append(f"{f.sql} AS {name}")
                out.append(Ref(name, f.cat, f.pg, f.coll, f.wild, f.amb, f.exact, f.column))
                continue
            cat = self.r.choice(["int", "int", "float", "text", "text", "bool", "date", "tstz", "numeric"])
            e = self.x.scalar(refs, cat, 2)
            if cat == "text":
                e = E('({})::text COLLATE "C"', e, alts=[e])
            nodes.append(Node([e, f" AS {name}"]))
            out.append(Ref(name, cat, PLAIN[cat], "C" if cat == "text" else "", True, True if any(f.amb for f in refs) else False))
        return nodes, out

    # Whole selects: (node, what it gives, the names that are a key of its rows).

    def select(self, depth, top=False):
        roll = self.r.random()
        if roll < FIRST and top:
            return self.first(depth, top)
        if roll < 0.42:
            return self.plain(depth, top)
        if roll < 0.80:
            return self.grouped(depth, top)
        if roll < 0.88:
            return self.distinct(depth, top)
        if roll < 0.94:
            return self.windowed(depth, top)
        return self.combined(depth, top)

    def plain(self, depth, top):
        source = self.source(depth)
        self.weight = source.weight
        nodes, out = self.items(source.refs)
        tail, self.total = self.tail(source.refs, source.keys)
        if top:
            return E("SELECT {} FROM {}{}{}", Many(nodes), source.node, self.where(source.refs), tail), out, None
        keys = None
        if source.keys is not None:
            nodes += [f"{k} AS k{i}" for i, k in enumerate(source.keys)]
            keys = [f"k{i}" for i in range(len(source.keys))]
            for i, k in enumerate(source.keys):
                for f in source.refs:
                    if f.sql == k and k.endswith("segment") and self.chance(0.5):
                        out.append(Ref(f"k{i}", f.cat, f.pg, f.coll, column=f.column))
        return E("SELECT {} FROM {}{}{}", Many(nodes), source.node, self.where(source.refs), tail), out, keys

    def first(self, depth, top):
        """The first rows, by what is likely to sort alike."""
        r = self.r
        source = self.join(0) if self.chance(0.3) else self.table()
        if not source.keys:
            return self.plain(depth, top)
        nodes, out = self.items(source.refs, r.randint(1, 4))
        fits = [f for f in source.refs if f.cat in SHIPPED]
        byte_order = lambda f: f.sql + ' COLLATE "C"' if f.cat == "text" and self.chance(0.8) else f.sql
        first = [byte_order(r.choice(fits)) + self.direction() for _ in range(r.randint(0, 3) if fits else 0)]
        keys = [k + (' COLLATE "C"' if k.endswith("segment") and self.chance(0.9) else "") + self.direction() for k in source.keys]
        offset = f" OFFSET {r.choice([0, 1, 2, 7, 100])}" if self.chance(0.3) else ""
        limit = optional(f" LIMIT {r.choice([0, 1, 2, 3, 5, 10, 50, 1000, 1001])}{offset}")
        self.total = True
        where = self.where(source.refs, 0.5, 0)
        order = E(" ORDER BY {}{}", Many(first, after=", ", least=0), ", ".join(keys))
        return E("SELECT {} FROM {}{}{}{}", Many(nodes), source.node, where, order, limit), out, None

    def grouped(self, depth, top):
        """Aggregates, with or without groups."""
        r = self.r
        source = self.source(depth)
        self.weight = source.weight
        held, self.x.params = self.x.params, None
        keys = []
        for i in range(r.choice([0, 0, 1, 1, 1, 2, 2, 3])):
            fits = [f for f in source.refs if f.cat in (SHIPPED if self.focus else SORTED + ["jsonb"])]
            segments = [f for f in source.refs if f.sql.endswith("segment")]
            if segments and self.chance(0.25):
                keys.append((segments[0].sql, segments[0]))
            elif fits and self.chance(0.8):
                f = r.choice(fits)
                keys.append((f.sql, f))
            else:
                cat = r.choice(["int", "text", "date", "bool", "tstz"])
                e = self.x.scalar(source.refs, cat, 2)
                if cat == "text":
                    e = E('({})::text COLLATE "C"', e, alts=[e])
                keys.append((e, Ref("", cat, PLAIN[cat], "C" if cat == "text" else "", amb=any(f.amb for f in source.refs))))
        self.x.params = held
        wanted = [aggregates.make(self, source) for _ in range(r.randint(0 if keys else 1, 4))]
        nodes = [Node([k, f" AS g{i}"]) for i, (k, _) in enumerate(keys)] + [Node([node, f" AS a{i}"]) for i, (node, _) in enumerate(wanted)]
        out = [Ref(f"g{i}", "opaque" if f.amb else f.cat, f.pg, f.coll, f.wild, f.amb, f.exact, f.column) for i, (_, f) in enumerate(keys)]
        out += [Ref(f"a{i}", cat, PLAIN.get(cat, ""), "C" if cat == "text" else "", True, cat == "opaque") for i, (_, cat) in enumerate(wanted)]
        group, sets = "", False
        if keys:
            at = [str(i + 1) for i in range(len(keys))]
            roll = r.random()
            sets = roll < 0.14
            if roll < 0.05:
                text = f"ROLLUP ({', '.join(at)})"
            elif roll < 0.09:
                text = f"CUBE ({', '.join(at)})"
            elif sets:
                text = f"GROUPING SETS (({', '.join(at)}), ({at[0]}), ())"
            else:
                text = ", ".join(at)
            group = Node([f" GROUP BY {text}"], alts=[f" GROUP BY {', '.join(at)}"] if sets else [])
        having = ""
        if self.chance(0.25):
            having = optional(E(" HAVING {}", aggregates.condition(self, source)))
        tail = ""
        self.total = False
        names = [f"g{i}" for i in range(len(keys))]
        if keys and not sets and self.chance(0.6) and not any(f.cat not in SORTED + ["jsonb"] for _, f in keys):
            first = [f"a{i}" + self.direction() for i, (_, cat) in enumerate(wanted) if cat in ("int", "numeric", "date", "text", "tstz") and self.chance(0.4) and not self.approx]
            tail = Node([E(" ORDER BY {}{}", Many(first, after=", ", least=0), ", ".join(n + self.direction() for n in names)), self.limit() if self.chance(0.35) else ""])
            self.total = True
        node = E("SELECT {} FROM {}{}{}{}{}", Many(nodes), source.node, self.where(source.refs), group, having, tail)
        return node, out, names if keys and not sets else None if sets else []

    def distinct(self, depth, top):
        source = self.source(depth)
        self.weight = source.weight
        fits = [f for f in source.refs if f.cat in (SHIPPED if self.focus else SORTED + ["jsonb"])]
        if not fits:
            return self.plain(depth, top)
        chosen = [self.r.choice(fits) for _ in range(self.r.randint(1, 3))]
        names = [f"c{i}" for i in range(len(chosen))]
        out = [Ref(n, "opaque" if f.amb else f.cat, f.pg, f.coll, f.wild, f.amb, f.exact, f.column) for n, f in zip(names, chosen)]
        items = Many([f"{f.sql} AS {n}" for n, f in zip(names, chosen)])
        self.total = False
        if source.keys is not None and self.chance(0.4):
            on = list(dict.fromkeys(f.sql for f in chosen))
            order = Node([", ".join(k + self.direction() for k in on), Many(self.order_items(source.refs), before=", ", least=0), "".join(f", {k}" for k in source.keys)])
            self.total = True
            node = E("SELECT DISTINCT ON (" + ", ".join(on) + ") {} FROM {}{} ORDER BY {}", items, source.node, self.where(source.refs), order)
            if self.chance(0.3):
                node = Node([node, self.limit()])
        else:
            tail = ""
            if self.chance(0.5):
                tail = Node([E(" ORDER BY {}", Many([n + self.direction() for n in self.r.sample(names, len(names))], least=len(names))), self.limit() if self.chance(0.5) else ""])
                self.total = True
            node = E("SELECT DISTINCT {} FROM {}{}{}", items, source.node, self.where(source.refs), tail)
        return node, out, names

    def windowed(self, depth, top):
        r = self.r
        source = self.source(depth)
        self.weight = source.weight
        fits = [f for f in source.refs if f.cat in SORTED]
        if not fits:
            return self.plain(depth, top)
        part = f"PARTITION BY {r.choice(fits).sql} " if self.chance(0.6) else ""
        functions = [f"rank() OVER ({part}ORDER BY {r.choice(fits).sql}{self.direction()})", f"count(*) OVER ({part})", f"dense_rank() OVER ({part}ORDER BY {r.choice(fits).sql})"]
        if source.keys is not None:
            total = f"ORDER BY {', '.join([r.choice(fits).sql + self.direction(), *source.keys])}"
            ints = [f for f in source.refs if f.cat == "int" and not f.wild]
            functions += [f"row_number() OVER ({part}{total})", f"lag({r.choice(source.refs).sql}) OVER ({total})", f"first_value({r.choice(source.refs).sql}) OVER ({part}{total})", f"ntile(3) OVER ({total})"]
            if ints:
                functions.append(f"sum({r.choice(ints).sql}) OVER ({part}{total} ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)")
        nodes, out = self.items(source.refs, r.randint(1, 3))
        nodes += [f"{f} AS w{i}" for i, f in enumerate(r.sample(functions, r.randint(1, 2)))]
        tail, self.total = self.tail(source.refs, source.keys)
        return E("SELECT {} FROM {}{}{}", Many(nodes), source.node, self.where(source.refs), tail), out, None

    def combined(self, depth, top):
        """Set operations."""
        cats = [self.r.choice(["int", "text", "float", "date", "tstz", "bool", "uuid"]) for _ in range(self.r.randint(1, 3))]
        node, weight = None, 0
        for _ in range(self.r.choice([2, 2, 3])):
            source = self.table()
            weight += source.weight
            items = []
            for i, cat in enumerate(cats):
                e = self.x.scalar(source.refs, cat, 1)
                cast = {"int": "({})::bigint", "text": '({})::text COLLATE "C"', "float": "({})::float8"}.get(cat, "({})")
                items.append(E(cast + f" AS c{i}", e))
            one = E("SELECT {} FROM {}{}", Many(items, least=len(items)), source.node, self.where(source.refs, 0.8, 1))
            node = one if node is None else E("{} " + self.r.choice(["UNION ALL", "UNION", "INTERSECT", "EXCEPT", "EXCEPT ALL", "INTERSECT ALL"]) + " {}", node, one, alts=[node, one])
        self.total, self.weight = False, weight
        out = [Ref(f"c{i}", cat, PLAIN[cat], "C" if cat == "text" else "", True) for i, cat in enumerate(cats)]
        return node, out, None

    # Sub-selects in conditions.

    def subquery_condition(self, scope, depth):
        r = self.r
        inner = self.table()
        refs = inner.refs
        here = [f for f in scope if f.cat in SORTED]
        if not here:
            return "true"
        f = r.choice(here)
        same = [g for g in refs if g.cat == f.cat and (f.cat != "text" or f.coll == g.coll)]
        segment = [g for g in scope if g.sql.endswith("segment")]
        link = []
        if segment and refs[0].sql.endswith("segment") and self.chance(0.6):
            link.append(f"{refs[0].sql} = {r.choice(segment).sql}")
        if same and self.chance(0.5) and f.cat != "bool":
            link.append(f"{r.choice(same).sql} {r.choice(['=', '=', '<', '<>'])} {f.sql}")
        where = Many([*(Node([c], alts=["true"]) for c in link), self.x.cond(refs, min(depth, 1))], " AND ")
        alts = ["true", "false"]
        roll = r.random()
        if roll < 0.45 or not same:
            return E("(" + r.choice(["", "NOT "]) + "EXISTS (SELECT 1 FROM {} WHERE {}))", inner.node, where, alts=alts)
        g = r.choice(same)
        if roll < 0.65:
            return E("({} " + r.choice(["IN", "IN", "NOT IN"]) + " (SELECT {} FROM {} WHERE {}))", f.sql, g.sql, inner.node, where, alts=alts)
        if roll < 0.8 and f.cat in ("int", "float", "text", "date", "ts", "tstz", "numeric") and not g.amb:
            name = r.choice(["min", "max"])
            return E("({} " + r.choice(CMP) + f" (SELECT {name}(" + "{}) FROM {} WHERE {}))", f.sql, g.sql, inner.node, where, alts=alts)
        if roll < 0.9:
            return E("({} " + r.choice(CMP) + " " + r.choice(["ANY", "ALL"]) + " (SELECT {} FROM {} WHERE {}))", f.sql, g.sql, inner.node, where, alts=alts)
        return E("((SELECT count(*) FROM {} WHERE {}) " + r.choice(CMP) + " 2)", inner.node, where, alts=alts)

    # The top.

    def with_cte(self):
        r = self.r
        inner, refs, _ = self.select(1)
        weight, other = self.weight, self.table()
        nodes, out = self.items([Ref(f"w.{f.sql}", f.cat, f.pg, f.coll, f.wild, f.amb, f.exact, f.column) for f in refs] + other.refs)
        pairs = [(f, g) for f in refs for g in other.refs if f.cat == g.cat and f.cat in SORTED and f.cat != "bool" and (f.cat != "text" or f.coll == g.coll)]
        kind = r.choice(["", "MATERIALIZED ", "NOT MATERIALIZED "])
        if not pairs or self.joined(weight, other.weight, ["w = o"]) > MOST:
            return E(f"WITH w AS {kind}(" + "{}) SELECT count(*) FROM w{}", inner, ""), []
        f, g = r.choice(pairs)
        join = r.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN"])
        return E(f"WITH w AS {kind}(" + "{}) SELECT {} FROM w " + join + " {} ON " + f"w.{f.sql} = {g.sql}" + "{}", inner, Many(nodes), other.node, self.where(other.refs, 0.5, 1)), out

    def query(self):
        """A random query."""
        r = self.r
        self.count, self.approx, self.total = 0, False, False
        roll = r.random()
        prepared = roll < 0.15
        self.x.params = [] if prepared else None
        if 0.15 <= roll < 0.20:
            body, _ = self.with_cte()
            self.total = False
        else:
            body, _, _ = self.select(2, top=True)
        query = Query(body, ordered=self.total, approx=self.approx)
        text = str(body)
        amb = {c.name for t in self.round.tables for c in t.columns if c.amb}
        query.fold = bool(amb) and any(word in text for word in ("GROUP BY", "DISTINCT", "UNION", "min(", "max(", "EXCEPT", "INTERSECT", "least(", "greatest("))
        if prepared and self.x.params:
            types = ", ".join(t for t, _ in self.x.params)
            query.before = [f"SET plan_cache_mode = {r.choice(['auto', 'force_generic_plan', 'force_generic_plan', 'force_custom_plan'])}"]
            query.wrap = f"PREPARE p({types}) AS {{}}"
            values = [v for _, v in self.x.params]
            by_type = {}
            for t, v in self.x.params:
                by_type.setdefault(t, []).append(v)
            for n in range(r.choice([1, 2, 3])):
                query.execute.append(f"EXECUTE p({', '.join(str(v) for v in values)})")
                values = [r.choice([*by_type[t], v, v, "NULL" if self.chance(0.3) else v]) for t, v in self.x.params]
            query.after = ["DEALLOCATE p", "RESET plan_cache_mode"]
        elif 0.20 <= roll < 0.25:
            query.cursor = True
            query.before = ["BEGIN"]
            query.wrap = "DECLARE c CURSOR FOR {}"
            query.execute = [f"FETCH {r.choice([0, 1, 5, 100])} FROM c", "FETCH ALL FROM c"]
            query.after = ["COMMIT"]
        self.x.params = None
        query.alone = self.count == 1 and not query.cursor and not re.search(r"LIMIT|OFFSET|\(SELECT", text)
        query.whole = query.alone and not re.search(r"WHERE.*segment", text)
        return query
