"""Differences as files: what is put in place and the query that differed, in sections that begin with `--!`. They are run before
anything random, so that none comes back. `@P@` is the prefix that makes names unique."""

import re
from pathlib import Path

from .node import Node
from .queries import Query
from .schema import Round

FOLDER = Path(__file__).parent / "cases"


def write(path, round_, query, why, note=""):
    """Writes a case."""
    lines = [f"-- {why}"] + [f"-- {line}" for line in note.splitlines()]
    lines += ["--! sqlite", round_.sqlite]
    for name, script in round_.segments.items():
        lines += [f"--! segment {name}", script]
    for kind, statements in (("foreign", round_.foreign), ("insert", round_.inserts), *(("heap", h) for h in round_.locals)):
        if statements or kind == "heap":
            lines += [f"--! {kind}", *(s.rstrip(";") + ";" for s in statements)]
    if round_.settings:
        lines += ["--! settings", round_.settings]
    flags = "".join(f" {name}" for name in ("ordered", "fold", "approx", "cursor", "writes") if getattr(query, name))
    lines += [f"--! query{flags}", *(s.rstrip(";") + ";" for s in query.statements())]
    Path(path).write_text("\n".join(lines) + "\n")


def statements(text):
    """Statements of a section; each ends with `;` at the end of a line."""
    return [s.strip() for s in re.split(r";[ \t]*(?:\n|$)", text) if s.strip()]


def read(path):
    """The round and the query of a case."""
    round_ = Round("", {}, [], [], [])
    query = None
    for part in re.split(r"^--! ", Path(path).read_text(), flags=re.M)[1:]:
        head, _, text = part.partition("\n")
        kind, _, rest = head.partition(" ")
        match kind:
            case "sqlite":
                round_.sqlite = text
            case "segment":
                round_.segments[rest] = text.strip()
            case "foreign":
                round_.foreign = statements(text)
            case "insert":
                round_.inserts = statements(text)
            case "settings":
                round_.settings = text.strip()
            case "heap":
                round_.locals.append(statements(text))
            case "query":
                flags = dict.fromkeys(rest.split(), True)
                all_ = statements(text)
                query = Query(Node([all_[0]]), execute=all_[1:], **flags)
    return round_, query


def everything():
    """The files of all cases."""
    return sorted(FOLDER.glob("*.sql"))
