"""When answers agree.

- Rows are compared as they print, in order where the query fixes one, else as multisets.
- Minus zero is zero, and a numeric's trailing zeros do not count, as equal values may stand for each other.
- Errors: where the heap table raises, another order of evaluation may not come to the row that raises, and the other way round;
  so an error of evaluation (a division by zero, a value out of range) is compared with rows only where one table is read to its end:
  there pushdown may not raise where the heap does not, and without pushdown the same queries raise. Any other error must be raised alike.
- Dirty rounds: without pushdown a value that does not fit is an error as soon as its column is read. With pushdown it is one too, or
  the value was not needed: then the answer is the one over both heap copies, which differ in just these values.
"""

import unicodedata
from collections import Counter

from .sessions import TOO_LARGE

FLOATS = (700, 701)
NUMERIC = 1700
SCALES = (1.0, 1 + 3e-7, 1 - 7e-7)
# Raised by PostgreSQL while it evaluates an expression over a row (0A000: LIKE under a nondeterministic collation).
EVALUATION = ("22003", "22012", "22P02", "22008", "22007", "22011", "22023", "22025", "2201B", "2201E", "2201F", "22019", "21000", "22021", "2202E", "22030", "22032", "23514", "42P22", "0A000")

# Those of them that the planner does not raise, when it tries an operator on a sample of the column.
COMPUTED = ("22003", "22012", "22008", "22011", "22023", "22P02")


def normal(value, kind, query, scale=1.0):
    """A cell as it is compared."""
    if value is None:
        return None
    if kind in FLOATS:
        if query.approx:
            return b"%.6g" % (float(value) * scale + 0.0)
        return b"0" if value == b"-0" else value
    if kind == NUMERIC and b"." in value:
        value = value.rstrip(b"0").rstrip(b".")
        return b"0" if value == b"-0" else value
    if query.approx and kind == NUMERIC:
        return value
    if query.fold:
        return unicodedata.normalize("NFKC", value.decode(errors="replace").casefold()).encode().replace(b".00", b"").replace(b"-0", b"0")
    return value


def rows(answer, query, scale=1.0):
    """An answer's rows, comparable."""
    shown = []
    for result, types in zip(answer.results, answer.types):
        shown.append([tuple(normal(v, t, query, scale) for v, t in zip(row, types)) for row in result])
    if query.cursor:
        shown = [sum(shown, [])]
    return shown if query.ordered else [Counter(r) for r in shown]


def same(a, b, query):
    """Whether two answers agree. Doubles that differ in their last digits may round to different six: on another scale they do not."""
    scales = SCALES if query.approx else SCALES[:1]
    return any(rows(a, query, scale) == rows(b, query, scale) for scale in scales)


def wrong(answers, query, soft=False):
    """Why the answers of a query do not agree; empty if they do."""
    on, off, *local = answers
    if any(a.state == "57014" for a in answers):
        return ""  # too slow here; nothing to compare
    heap = local[0]
    if query.writes:
        return written(on, off, heap, query)
    if len(local) == 2:
        return "" if soft and off.state else dirty(on, off, local, query)
    for name, answer in (("with pushdown", on), ("without pushdown", off)):
        if heap.state:
            if answer.state != heap.state and heap.state not in EVALUATION:
                return f"{name} {answer.state and 'another error' or 'no error'} where the heap raises {heap.state}"
            if answer.state and answer.state != heap.state and answer.state not in EVALUATION:
                return f"{name} another error"
            if name == "without pushdown" and query.whole and heap.state in COMPUTED and not answer.state:
                return f"{name} no error where the heap raises {heap.state}"
        elif answer.state:
            if query.alone and answer.state in COMPUTED:
                return f"{name} an error {answer.state} where the heap has an answer"
            if answer.state not in EVALUATION or answer.message.find("column \"") >= 0 and "segment \"" in answer.message:
                return f"{name} an error where the heap has an answer"
        elif not same(answer, heap, query):
            return f"{name} other rows"
    return ""


def written(on, off, heap, query):
    """The rule for statements that write. What the wrapper refuses as not supported is refused by documentation."""
    if on.state:
        return "" if on.state in ("0A000", "55000", *EVALUATION) or heap.state else "with pushdown an error where the heap has an answer"
    if heap.state:
        return "" if heap.state in EVALUATION else f"no error where the heap raises {heap.state}"
    if not same(on, heap, query):
        return "RETURNING or the rows afterwards differ"
    if off.state or rows(off, query)[-1:] != rows(heap, query)[-1:]:
        return "without pushdown the rows afterwards differ"
    return ""


def dirty(on, off, local, query):
    """The rule for dirty rounds."""
    a, b = local
    if a.state or b.state:
        if a.state and a.state not in EVALUATION and not on.state:
            return "with pushdown no error where the heap raises"
        return ""
    for name, answer in (("with pushdown", on), ("without pushdown", off)):
        if answer.state:
            if answer.state.startswith("XX"):
                return f"{name} an internal error"
            continue
        if not (same(answer, a, query) and same(answer, b, query)):
            return f"{name} an answer that depends on a value which cannot be read"
    return ""


def outcome(answers, dirty_):
    """How the query ended, of those that were not simply answered everywhere."""
    states = {a.state for a in answers}
    if states & {"57014", TOO_LARGE}:
        return "cut short"
    if not any(states):
        return "answered"
    if all(states):
        return "raised alike"
    return "refused for a value that cannot be read" if dirty_ else "raised by order of evaluation"


def only(answer, other, query):
    """For people: the rows of an answer that the other does not have."""
    if answer.state or other.state:
        return ""
    lines = []
    for result, types, theirs, their_types in zip(answer.results, answer.types, other.results, other.types):
        have = Counter(tuple(normal(v, t, query) for v, t in zip(row, their_types)) for row in theirs)
        for row in result:
            key = tuple(normal(v, t, query) for v, t in zip(row, types))
            have[key] -= 1
            if have[key] < 0 and len(lines) < 6:
                lines.append("|".join("NULL" if v is None else v.decode(errors="replace") for v in row))
    return "\n".join(lines)


def shown(answer, limit=12):
    """An answer for people."""
    if answer.state:
        return f"ERROR {answer.state}: {answer.message}"
    lines = []
    for result in answer.results:
        lines += ["|".join("NULL" if v is None else v.decode(errors="replace") for v in row) for row in result[:limit]]
        lines.append(f"({len(result)} rows)")
    return "\n".join(lines)
