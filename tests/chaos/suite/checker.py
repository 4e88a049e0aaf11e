"""Proves from a history what it can be proven to violate: pure functions over events. What each violation means stands in README.md."""

import bisect
from collections import defaultdict
from dataclasses import dataclass

from .cluster import COLD_ROWS, LEASE, MARGIN
from .history import unpack

# A lease has been renewed a third of it ago, at most, when its node falls; half a second for clocks that do not agree.
LEASE_LEFT = LEASE * 2 / 3 - 0.5
# How long after a fault its effect may last: connections are opened again, feeds begin anew, leases are renewed.
SETTLE = 4.0
# Faults after which connections stand that TCP tries again only after as long as they were cut, up to so many seconds: then they are closed.
CUTS = ("cut_meta", "cut_pair", "cut_one_way", "cut_off", "slow_net")
BACK_OFF = 5.0
# How far the follower of the lock table may be behind.
BEHIND = 1.0


def over(fault):
    """When a fault's effects are over."""
    back_off = min(fault["end"] - fault["start"], BACK_OFF) if fault["kind"] in CUTS else 0
    return fault["end"] + SETTLE + back_off


@dataclass(frozen=True)
class Violation:
    """One, with the time around which to look."""

    kind: str
    text: str
    at: float

    def __str__(self):
        return f"{self.kind}: {self.text} (at {self.at:.3f})"


class Record:
    """A history, indexed."""

    def __init__(self, events):
        self.events = sorted(events, key=lambda e: e["end"])
        self.of = defaultdict(list)
        for event in self.events:
            self.of[event["op"]].append(event)
        self.writes, self.key = defaultdict(list), {}
        for write in self.of["write"]:
            self.writes[write["seg"]].append(write)
            self.key[write["seg"], write["a"], write["n"]] = write
        self.acked = {
            segment: sorted((w for w in writes if w["outcome"] == "ok"), key=lambda w: w["end"]) for segment, writes in self.writes.items()
        }
        self.acked_ends = {segment: [w["end"] for w in writes] for segment, writes in self.acked.items()}
        self.begun = {segment: sorted(w["start"] for w in writes if w["outcome"] != "fail") for segment, writes in self.writes.items()}
        self.shreds = defaultdict(list)
        for shred in self.of["shred"]:
            self.shreds[shred["seg"]].append(shred)
        self.finals = {final["seg"]: final for final in self.of["final"]}
        self.stranded = defaultdict(set)
        for event in self.of["stranded"]:
            self.stranded[event["seg"]] |= unpack(event["rows"])
        # The faults that had an effect on somebody (None: on anybody), by effect and who.
        self.faults = defaultdict(list)
        for fault in self.of["fault"]:
            for effect in ("blind", "down"):
                for who in [*fault[effect], None] if fault[effect] else []:
                    self.faults[effect, who].append(fault)
        # The ends of acknowledged writes that are due after a shred, as far as they were asked for.
        self.due_ends = {}
        self.locks = defaultdict(list)
        for event in self.of["lock"]:
            self.locks[event["seg"]].append(event)

    def acked_before(self, segment, time):
        """Writes that were acknowledged before."""
        return self.acked.get(segment, [])[: bisect.bisect_left(self.acked_ends.get(segment, []), time)]

    def last_shred_before(self, segment, time):
        """When the last shred began that may have had an effect by then, and the last that certainly had; -1 if none."""
        begun = max((s["start"] for s in self.shreds[segment] if s["start"] < time), default=-1)
        done = max((s["start"] for s in self.shreds[segment] if s["outcome"] == "ok" and s["end"] < time), default=-1)
        return begun, done

    def struck(self, who, effect, start, end, least=0.0):
        """Whether `who` was blind or down for a moment of [start, end], after having been so for `least`."""
        return any(fault["start"] + least <= end and over(fault) >= start for fault in self.faults[effect, who])

    def was_down_for(self, who, before, least):
        """Whether `who` was down for so long without a pause, at some time before. Faults that follow one another closely add up."""
        begun = ended = None
        for fault in sorted((f for f in self.faults["down", who] if f["start"] < before), key=lambda f: f["start"]):
            if ended is None or fault["start"] > ended:
                begun, ended = fault["start"], over(fault)
            ended = max(ended, over(fault))
            if min(ended, before) - begun >= least:
                return True
        return False


def check(events):
    """All violations of a history, by time."""
    record = Record(events)
    given_up = set()
    found = [
        *lost_and_doubled(record, given_up),
        *two_holders(record),
        *reads(record, given_up),
        *counts(record, given_up),
        *promotions(record, given_up),
        *shredded(record),
        *copies(record),
    ]
    return sorted(found, key=lambda v: v.at)


def lost_and_doubled(record, given_up):
    """Acknowledged writes are there once, others once or never, refused ones never. `given_up` gets the writes (segment, author, n) that a
    takeover left behind, in a file that was kept."""
    for segment, final in record.finals.items():
        rows = unpack(final["rows"])
        begun, _ = record.last_shred_before(segment, final["end"])
        for author, n, times in final["doubled"]:
            yield Violation("doubled write", f"row {author}.{n} of {segment} is there {times} times", final["end"])
        for write in record.acked.get(segment, []):
            key = (write["a"], write["n"])
            if key in rows or write["start"] < begun:
                continue
            if key in record.stranded[segment] and took_over(record, segment, write):
                given_up.add((segment, *key))
            else:
                kept = "; it is in a kept file, but nobody was down for long enough" if key in record.stranded[segment] else ""
                yield Violation(
                    "lost write",
                    f"row {key[0]}.{key[1]} of {segment}, acknowledged at {write['end']:.3f} by {write.get('node', 'SQL')}, is gone{kept}",
                    write["end"],
                )
        for author, n in sorted(rows):
            write = record.key.get((segment, author, n))
            if write is None:
                yield Violation("phantom row", f"row {author}.{n} of {segment} was never written", final["end"])
            elif write["outcome"] == "fail":
                yield Violation("refused write is there", f"row {author}.{n} of {segment} was refused: {write.get('error')}", write["end"])


def took_over(record, segment, write):
    """Whether some node that may have taken the write was without a lease for long enough that another could take its lock."""
    holders = {write["node"]} if "node" in write else {lock["node"] for lock in record.locks[segment] if lock["node"]}
    last = record.finals[segment]["end"]
    return any(record.was_down_for(holder, last, LEASE + MARGIN - 0.5) for holder in holders)


def two_holders(record):
    """A write is acknowledged only by who has the lock at some moment of it."""
    for segment, writes in record.acked.items():
        changes = record.locks[segment]
        starts = [change["end"] for change in changes]
        for write in writes:
            if "node" not in write:
                continue
            # The holders that were seen from a little before the write until a little after it; before the first, anything may be.
            first = bisect.bisect_right(starts, write["start"] - BEHIND) - 1
            last = bisect.bisect_right(starts, write["end"] + BEHIND)
            if first < 0:
                continue
            seen = changes[first:last]
            # The follower is where the clients are.
            blind = record.struck("host", "blind", write["start"], write["end"])
            if not blind and all(change["node"] not in (write["node"], "?") for change in seen):
                yield Violation(
                    "two holders",
                    f"{write['node']} acknowledged row {write['a']}.{write['n']} of {segment}, whose lock "
                    f"{' then '.join(str(change['node']) for change in seen)} had",
                    write["end"],
                )


def excused(record, segment, event):
    """Whether a read may lag behind: who answered may not have heard of the lock, or its holder was without a lease for so long that
    copies may answer in its place."""
    if record.struck(event.get("node"), "blind", event["start"], event["end"]) or record.struck(
        "host", "blind", event["start"], event["end"]
    ):
        return True
    # The last holder, and the one before: a read may have begun under that.
    holders = [lock["node"] for lock in record.locks[segment] if lock["node"] not in (None, "?") and lock["end"] <= event["end"] + BEHIND][
        -2:
    ]
    return any(record.struck(holder, "down", event["start"], event["end"], LEASE_LEFT) for holder in holders)


def strict(record):
    """How many of the reads of single segments were held to everything that was acknowledged before, and of how many."""
    done = [read for read in record.of["read"] if read["outcome"] == "ok"]
    return sum(not excused(record, read["seg"], read) for read in done), len(done)


def due(record, segment, event, given_up):
    """The acknowledged writes that an event must show."""
    begun, _ = record.last_shred_before(segment, event["end"])
    return [w for w in record.acked_before(segment, event["start"]) if w["start"] > begun and (segment, w["a"], w["n"]) not in given_up]


def due_number(record, segment, event, given_up):
    """How many those are. `given_up` is complete by then."""
    begun, _ = record.last_shred_before(segment, event["end"])
    if (segment, begun) not in record.due_ends:
        record.due_ends[segment, begun] = [
            w["end"] for w in record.acked.get(segment, []) if w["start"] > begun and (segment, w["a"], w["n"]) not in given_up
        ]
    return bisect.bisect_left(record.due_ends[segment, begun], event["start"])


def unheard(record, write, event):
    """Whether who answered cannot have heard that the write's life was shredded: it has been blind since before that shred was done."""
    node = event.get("node")
    if node is None or not record.struck(node, "blind", event["start"], event["end"]):
        return False
    over_by = [s for s in record.shreds[write["seg"]] if s["outcome"] == "ok" and s["start"] > write["end"] and s["end"] < event["start"]]
    return all(record.struck(node, "blind", s["start"], s["end"]) for s in over_by)


def wrong_rows(record, segment, rows, event):
    """Rows that an event must not show: of the future, refused, or of a life before a shred."""
    _, buried = record.last_shred_before(segment, event["start"])
    for author, n in rows:
        write = record.key.get((segment, author, n))
        if write is None or write["start"] > event["end"]:
            yield Violation("phantom row", f"a read of {segment} shows row {author}.{n}, which was not written then", event["end"])
        elif write["outcome"] == "fail":
            yield Violation("refused write is there", f"a read of {segment} shows row {author}.{n}: {write.get('error')}", event["end"])
        elif write["start"] < buried and write["end"] < buried and not unheard(record, write, event):
            yield Violation(
                "resurrected row", f"a read of {segment} at {event.get('node')} shows row {author}.{n}, which was shredded", event["end"]
            )


def reads(record, given_up):
    """Reads show what was acknowledged before they began, and nothing that cannot be."""
    for read in record.of["read"]:
        if read["outcome"] != "ok":
            continue
        segment, rows = read["seg"], unpack(read["rows"])
        for author, n, times in read["doubled"]:
            yield Violation("doubled write", f"a read of {segment} shows row {author}.{n} {times} times", read["end"])
        yield from wrong_rows(record, segment, rows, read)
        missing = [w for w in due(record, segment, read, given_up) if (w["a"], w["n"]) not in rows]
        if missing and not excused(record, segment, read):
            yield Violation(
                "stale read",
                f"a read of {segment} through {read['via']} at {read['node'] or 'PostgreSQL'} lacks {len(missing)} of the "
                f"writes acknowledged before, such as {missing[-1]['a']}.{missing[-1]['n']} at {missing[-1]['end']:.3f}",
                read["end"],
            )


def counts(record, given_up):
    """What counts over many segments is not less than what was acknowledged, nor more than what was tried; nothing is left out silently."""
    for count in record.of["count"]:
        if count["outcome"] != "ok":
            continue
        of_life = [s for s in record.writes if not record.shreds[s]]
        if "total" in count:
            least = sum(due_number(record, s, count, given_up) for s in of_life)
            if count["total"] < least and not any(excused(record, s, count) for s in of_life):
                yield Violation(
                    "partial answer", f"count(*) gave {count['total']} rows, of which {least} were acknowledged before", count["end"]
                )
            continue
        if "asked" in count:
            silent = [s for s in count["asked"] if s not in count["segments"] and s not in count["errors"]]
            if silent or count["told"]["failed"] != len(count["errors"]):
                yield Violation(
                    "partial answer", f"/v1/query at {count['node']} says nothing of {silent}; its end: {count['told']}", count["end"]
                )
        for segment in count.get("asked") or of_life:
            shown = count["segments"].get(segment)
            least = due_number(record, segment, count, given_up)
            if shown is None and ("asked" in count or not least):
                continue
            if shown is None:
                if not record.struck("host", "blind", count["start"], count["end"]):
                    yield Violation(
                        "partial answer",
                        f"GROUP BY segment leaves {segment} out, of which {least} writes were acknowledged before",
                        count["end"],
                    )
            elif shown < least and not excused(record, segment, count):
                yield Violation(
                    "stale read",
                    f"a count of {segment} through {count['via']} at {count.get('node')} gave {shown}, {least} were acknowledged before",
                    count["end"],
                )
            elif shown > bisect.bisect_right(record.begun.get(segment, []), count["end"]) and not record.shreds[segment]:
                yield Violation("doubled write", f"a count of {segment} gave {shown}, more than were ever tried", count["end"])
        for segment, shown in count["segments"].items():
            if segment.startswith("cold-") and shown != COLD_ROWS:
                yield Violation("partial answer", f"cold segment {segment} has {shown} rows, not {COLD_ROWS}", count["end"])


def promotions(record, given_up):
    """The canonical copy that an acknowledged promotion left has what was acknowledged before the promotion began."""
    for look in record.of["canonical"]:
        if look["outcome"] != "ok":
            continue
        segment, rows = look["seg"], unpack(look["rows"])
        yield from wrong_rows(record, segment, rows, look)
        begun, _ = record.last_shred_before(segment, look["end"])
        missing = [
            w
            for w in record.acked_before(segment, look["since"])
            if w["start"] > begun and (w["a"], w["n"]) not in rows and (segment, w["a"], w["n"]) not in given_up
        ]
        if missing:
            yield Violation(
                "promotion lacks writes",
                f"the canonical copy of {segment} lacks {len(missing)} writes that were acknowledged before the "
                f"promotion began, such as {missing[-1]['a']}.{missing[-1]['n']} at {missing[-1]['end']:.3f}",
                look["end"],
            )


def shredded(record):
    """Of what was shredded nothing remains."""
    for event in record.of["remains"]:
        yield Violation("shred left something", f"{event['seg']}: {event['what']}", event["end"])


def copies(record):
    """Once healed, every segment has its copies, all alike, and is readable."""
    for segment, final in record.finals.items():
        if final.get("unreadable"):
            yield Violation("unreadable", f"{segment} cannot be read when all is healed: {final['unreadable']}", final["end"])
        if len(final["copies"]) < final["wanted"]:
            yield Violation(
                "too few copies",
                f"{segment} has {len(final['copies'])} copies when all is healed, {final['wanted']} are wanted",
                final["end"],
            )
        for node, rows in final["copies"].items():
            if rows != final["rows"]:
                yield Violation("copies differ", f"the copy of {segment} on {node} is not the canonical one", final["end"])
