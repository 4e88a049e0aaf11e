"""The history of a run: every operation and fault, with its start and end on one monotonic clock, one JSON object a line."""

import json
import threading
import time


class History:
    """Collects events and writes them to a file at once, so that a run that dies leaves its history, too."""

    def __init__(self, path):
        self.path, self.lock, self.events = path, threading.Lock(), []
        self.file = open(path, "w", encoding="utf-8")
        self.zero = time.monotonic()

    def now(self):
        return round(time.monotonic() - self.zero, 6)

    def add(self, op, start, outcome="ok", **more):
        event = {"op": op, "start": start, "end": self.now(), "outcome": outcome, **more}
        with self.lock:
            self.events.append(event)
            self.file.write(json.dumps(event) + "\n")
        return event

    def close(self):
        self.file.close()


def load(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def pack(rows):
    """Rows (author, n) as {author: "0-17,19"}, and what was there more than once as [author, n, times]."""
    counts = {}
    for author, n in rows:
        counts[author, n] = counts.get((author, n), 0) + 1
    packed, last = {}, {}
    for author, n in sorted(counts):
        ranges = packed.setdefault(str(author), [])
        if ranges and last[author] == n - 1:
            ranges[-1][1] = n
        else:
            ranges.append([n, n])
        last[author] = n
    text = {author: ",".join(f"{a}-{b}" if a != b else str(a) for a, b in ranges) for author, ranges in packed.items()}
    return text, [[author, n, times] for (author, n), times in sorted(counts.items()) if times > 1]


def unpack(packed):
    """The set of (author, n)."""
    rows = set()
    for author, text in packed.items():
        for part in text.split(","):
            first, _, last = part.partition("-")
            rows.update((int(author), n) for n in range(int(first), int(last or first) + 1))
    return rows
