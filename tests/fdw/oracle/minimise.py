"""Smaller queries and rows that still differ: clauses, list elements, operands, segments and rows are taken away one after the
other, and whatever is not needed for the difference stays away."""

import re
import time

from . import compare
from .node import Many, slots


def differs(worlds, query):
    try:
        return compare.wrong(worlds.answers(query), query, worlds.round.soft)
    except Exception:  # a lost connection is no smaller query
        return ""


def query(worlds, query_, seconds=20):
    """Cuts the query while it still differs in the round that is in place."""
    until = time.monotonic() + seconds
    cut = True
    while cut and time.monotonic() < until:
        cut = False
        for parent, i in list(slots(query_.body)):
            if i >= len(parent.parts) or time.monotonic() > until:
                continue
            node = parent.parts[i]
            if not hasattr(node, "alts"):
                continue
            for alt in node.alts:
                parent.parts[i] = alt
                if differs(worlds, query_):
                    cut = True
                    break
                parent.parts[i] = node
        for parent in [query_.body] + [p.parts[i] for p, i in slots(query_.body) if i < len(p.parts)]:
            if not isinstance(parent, Many):
                continue
            for i in reversed(range(len(parent.parts))):
                if len(parent.parts) <= max(parent.least, 0) or time.monotonic() > until:
                    break
                gone = parent.parts.pop(i)
                if differs(worlds, query_):
                    cut = True
                else:
                    parent.parts.insert(i, gone)
    if query_.execute and not query_.cursor:
        for statement in query_.execute:
            held, query_.execute = query_.execute, [statement]
            if differs(worlds, query_):
                break
            query_.execute = held
    return query_


def rows(worlds, round_, query_, seconds=30):
    """Takes segments and rows away while the query still differs. Rows of dirty rounds stay, as their copies belong together."""
    until = time.monotonic() + seconds
    tables = [t for t in round_.tables if not t.local]
    text = " ".join(query_.statements())
    for table in [t.name for t in tables if t.name != "joint"]:
        if not re.search(rf"\b({table}|joint)\b", text):
            try_without(worlds, round_, query_, lambda at, t=table: at[0] == t)
    keys = sorted(set(placed(round_)))
    size = max(1, len(keys) // 2)
    while keys and time.monotonic() < until:
        for start in range(0, len(keys), size):
            gone = set(keys[start:start + size])
            if gone and time.monotonic() < until and try_without(worlds, round_, query_, lambda at: at in gone):
                keys = [k for k in keys if k not in gone]
        if size == 1:
            break
        size = max(1, size // 2)
    return round_


def placed(round_):
    """Where rows are: (table, place of the row in the heap copy)."""
    for statement in round_.locals[0]:
        match = re.match(r"INSERT INTO (t\d+) VALUES\n", statement)
        if match:
            for row in statement[match.end():].rstrip(";").split(",\n"):
                yield match[1], ident(row, 1)


def ident(row, at):
    """The value of `id`: the second column of the heap copy, the first of what is stored."""
    return re.match(r"\((?:'(?:[^']|'')*', )?(\d+)[,)]" if at else r"\((\d+)[,)]", row)[1]


def try_without(worlds, round_, query_, gone):
    """Takes rows away; puts them back if the difference goes with them."""
    held = dict(round_.segments), list(round_.inserts), [list(h) for h in round_.locals]

    def thin(statement, at):
        match = re.match(r"INSERT INTO (t\d+) VALUES\n", statement)
        if not match:
            return statement
        kept = [row for row in statement[match.end():].rstrip(";").split(",\n") if not gone((match[1], ident(row, at)))]
        return match[0] + ",\n".join(kept) + ";" if kept else ""

    def thin_all(statements, at):
        return [s for s in (thin(s, at) for s in statements) if s]

    try:
        round_.segments = {n: "\n".join(thin_all(re.split(r"(?<=;)\n(?=INSERT INTO)", s), 0)) for n, s in round_.segments.items()}
        round_.segments = {n: s for n, s in round_.segments.items() if s or round_.inserts} or round_.segments
        round_.inserts = thin_all(round_.inserts, 1)
        round_.locals = [thin_all(h, 1) for h in round_.locals]
        worlds.put(round_)
        if differs(worlds, query_):
            return True
    except Exception:
        pass
    round_.segments, round_.inserts, round_.locals = held
    return False
