"""What a run has shown, for people."""

from collections import Counter

from .checker import Record, strict

NEAR = 8.0


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def summary(events, seed, violations):
    """The lines of the report."""
    of = Counter((event["op"], event["outcome"]) for event in events)
    writes = [e for e in events if e["op"] == "write"]
    times = [e["end"] - e["start"] for e in writes if e["outcome"] == "ok"]
    faults = Counter(e["kind"] for e in events if e["op"] == "fault" and e["outcome"] == "ok")
    failed = sum(1 for e in events if e["op"] == "fault" and e["outcome"] != "ok")
    kept = sum(1 for e in events if e["op"] == "stranded")
    end = max((e["end"] for e in events), default=0)
    lines = [
        f"seed {seed}, {end:.0f} s",
        f"faults: {sum(faults.values())} ({', '.join(f'{kind} {n}' for kind, n in sorted(faults.items()))})"
        + (f", {failed} could not be made" if failed else ""),
        "operations (ok / failed / unknown):",
    ]
    for op in ("provision", "write", "read", "count", "promote", "canonical", "shred"):
        lines.append(f"  {op:<10} {of[op, 'ok']:>8} / {of[op, 'fail']} / {of[op, 'unknown']}")
    sql = Counter(e["op"] for e in events if e.get("via") == "sql" and e["outcome"] == "ok")
    lines.append(f"  of these through SQL: {sql['write']} acknowledged writes, {sql['read']} reads, {sql['count']} counts")
    lines.append(
        f"acknowledged writes took {percentile(times, 0.5) * 1000:.1f} ms (median), {percentile(times, 0.99) * 1000:.0f} ms (99 of 100)"
    )
    for event in events:
        if event["op"] in ("healed", "settled"):
            lines.append(
                f"{event['op']} after {event['end'] - event['start']:.1f} s"
                + ("" if event["outcome"] == "ok" else f": NOT: {event.get('error')} {event.get('state')}")
            )
    lines.append("reads that nothing excused from showing all that was acknowledged before: {} of {}".format(*strict(Record(events))))
    lines.append(f"files that workers kept aside: {kept}")
    lines.append(f"violations: {len(violations)}")
    for kind, n in Counter(v.kind for v in violations).items():
        lines.append(f"  {kind}: {n}")
    return lines


def around(events, violation, near=NEAR, most=60):
    """The slice of the history around a violation: faults, and what concerns its segment."""
    words = set(violation.text.replace(",", " ").replace(":", " ").replace(";", " ").split())
    near_by = [
        e
        for e in events
        if e["end"] >= violation.at - near
        and e["start"] <= violation.at + near / 4
        and (e["op"] in ("begin", "fault") or e.get("seg") in words)
    ]
    for event in sorted(near_by, key=lambda e: e["end"])[-most:]:
        shown = {k: v for k, v in event.items() if k not in ("op", "start", "end", "rows", "v") and v not in (None, [], "")}
        yield f"    {event['start']:9.3f}–{event['end']:9.3f} {event['op']:<9} " + ", ".join(
            f"{k}={str(v)[:120]}" for k, v in shown.items()
        )
