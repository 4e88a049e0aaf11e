"""/metrics of every daemon, held against docs/METRICS.md. UPDATE_DOCS=1 rewrites its table."""

import os
import pathlib
import shutil
import subprocess

import harness
import pytest
from prometheus_client.parser import text_string_to_metric_families

DOC = pathlib.Path(__file__).resolve().parents[2] / "docs/METRICS.md"
BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"
TYPES = {"counter", "gauge", "histogram"}
# What would grow with the data, or tell what is in it.
FORBIDDEN = {"segment", "sql", "url", "query", "trace", "path"}


def scrape(stack, part):
    answer = harness.http("GET", stack.daemons[part] + "/metrics")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return answer.text


def families(text):
    """The parser strips _total off counters' names; this puts it back."""
    for family in text_string_to_metric_families(text):
        name = family.name + "_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        yield name, family, labels


def kind_of(part):
    return "cold worker" if part.startswith("cold") else part.split("-")[0]


@pytest.fixture(scope="module")
def seen(stack):
    """Every metric of the cluster: its type, labels, help and who has it."""
    # Some are there only after something went wrong, or later than the workload.
    harness.http("POST", stack.daemons["worker-1"] + "/?segment=hot-1", "SELECT absent FROM nowhere")
    wanted = documented() if not os.environ.get("UPDATE_DOCS") else {}

    def collect():
        seen = {}
        for part in stack.daemons:
            for name, family, labels in families(scrape(stack, part)):
                known = seen.setdefault(name, (family.type, set(), family.documentation, set()))
                known[1].update(labels)
                known[3].add(kind_of(part))
        return seen if wanted.keys() <= seen.keys() else None

    try:
        return harness.wait_for("the documented metrics", collect, timeout=20)
    except AssertionError:
        wanted = {}
        return collect()


def documented():
    text = DOC.read_text()
    table = text.split(BEGIN)[1].split(END)[0]
    rows = {}
    for line in table.splitlines()[2:]:
        name, type_, labels, parts, meaning = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name.strip("`")] = (type_, {label.strip("` ") for label in labels.split(",") if label.strip()}, meaning, set(parts.split(", ")))
    return rows


def row(name, type_, labels, meaning, parts):
    shown = ", ".join(f"`{label}`" for label in sorted(labels))
    return f"| `{name}` | {type_} | {shown} | {', '.join(sorted(parts))} | {meaning} |\n"


def test_what_is_documented_is_there_and_the_other_way_round(seen):
    if os.environ.get("UPDATE_DOCS"):
        before, rest = DOC.read_text().split(BEGIN)
        table = "| metric | type | labels | on | meaning |\n|---|---|---|---|---|\n"
        table += "".join(row(name, t, labels, help_, parts) for name, (t, labels, help_, parts) in sorted(seen.items()))
        DOC.write_text(before + BEGIN + table + END + rest.split(END)[1])
    rows = documented()
    assert sorted(rows.keys() - seen.keys()) == [], "documented, but nobody has it"
    assert sorted(seen.keys() - rows.keys()) == [], "not documented"
    for name, (type_, labels, meaning, parts) in rows.items():
        assert (name, type_, labels, meaning) == (name, *seen[name][:3])
        assert parts == seen[name][3], f"{name} is on {seen[name][3]}"


def test_names_types_and_labels_are_as_they_should_be(seen):
    for name, (type_, labels, meaning, _) in seen.items():
        assert type_ in TYPES and meaning and not labels & FORBIDDEN, name
        if name.startswith("process_"):
            continue
        assert not meaning.endswith("."), name
        assert (type_ == "counter") == name.endswith("_total"), name
        assert not any(unit in name for unit in ("micro", "milli", "_ms", "_kb", "minutes")), name
        if type_ == "histogram":
            assert name.endswith("_seconds"), name


def test_the_exposition_is_what_prometheus_reads(stack):
    if not shutil.which("promtool"):
        assert not os.environ.get("CI"), "promtool (package prometheus) is missing"
        pytest.skip("no promtool")
    for part in stack.daemons:
        done = subprocess.run(["promtool", "check", "metrics"], input=scrape(stack, part), capture_output=True, text=True)
        # What it lints of process_* is the library's; everything else must be clean.
        complaints = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("process_")]
        assert done.returncode in (0, 3) and complaints == [], complaints


def value(stack, daemon, name, /, **labels):
    total = None
    for got, family, _ in families(scrape(stack, daemon)):
        if got != name:
            continue
        for sample in family.samples:
            wanted = family.type != "histogram" or sample.name.endswith("_count")
            if wanted and all(sample.labels.get(k) == v for k, v in labels.items()):
                total = (total or 0) + sample.value
    return total


def test_counters_count_what_is_done(stack):
    worker = next(part for part in ("worker-1", "worker-2") if value(stack, part, "trough_worker_segments") == 2)

    def figures():
        return {
            "queries": value(stack, worker, "trough_worker_queries_total", endpoint="v1"),
            "rows": value(stack, worker, "trough_worker_query_rows_total", endpoint="v1"),
            "segments": value(stack, worker, "trough_worker_query_segments_total", endpoint="v1"),
            "segment errors": value(stack, worker, "trough_worker_query_segment_errors_total", endpoint="v1"),
            "seconds": value(stack, worker, "trough_worker_query_seconds", endpoint="v1"),
            "requests": value(stack, worker, "trough_http_requests_total", route="/v1/query", status="2xx"),
            "timed": value(stack, worker, "trough_http_request_duration_seconds", route="/v1/query"),
        }

    before = figures()
    query = {"segments": ["hot-1", "hot-2"], "map": "SELECT k FROM t WHERE k <= 5"}
    for _ in range(3):
        assert harness.http("POST", stack.daemons[worker] + "/v1/query", query).status == 200
    query = {"segments": ["hot-1", "hot-2"], "map": "SELECT k FROM missing"}
    assert harness.http("POST", stack.daemons[worker] + "/v1/query", query).status == 200
    wanted = {"queries": 4, "rows": 30, "segments": 8, "segment errors": 2, "seconds": 4, "requests": 4, "timed": 4}
    # A request is counted when its last byte has gone, which its client may know first.
    harness.wait_for("the figures", lambda: {k: v - before[k] for k, v in figures().items()} == wanted)


def test_the_number_of_series_does_not_depend_on_what_clients_send(stack):
    worker = stack.daemons["worker-1"]
    lines = lambda: len([l for l in scrape(stack, "worker-1").splitlines() if not l.startswith("#")])  # noqa: E731
    harness.http("GET", worker + "/nowhere")
    harness.http("POST", worker + "/?segment=hot-1", "SELECT 1")
    before = lines()
    for i in range(50):
        harness.http("GET", worker + f"/nowhere/{i}")
        harness.http("POST", worker + f"/?segment=none-{i}", f"SELECT {i}")
    assert lines() == before


def test_the_cluster_is_told_as_it_is(stack):
    assert value(stack, "sync", "trough_sync_master") == 1
    harness.wait_for("three segments", lambda: value(stack, "sync", "trough_sync_segments") == 3)
    assert value(stack, "sync", "trough_sync_segments", tier="cold") == 1
    assert value(stack, "sync", "trough_sync_workers", presence="alive") == 3
    assert value(stack, "sync", "trough_sync_reconcile_seconds") > 0
    assert value(stack, "worker-1", "trough_worker_segments", tier="hot") == 2
    assert value(stack, "cold-1", "trough_worker_segments", tier="cold") == 1
    assert value(stack, "cold-1", "trough_worker_cold_fetched_bytes_total") > 0
    assert 0 < value(stack, "worker-1", "trough_worker_lease_remaining_seconds") <= 30
    assert value(stack, "worker-1", "trough_worker_sqlite_handle_misses_total") > 0
    assert value(stack, "meta", "trough_meta_queries_total") > 0
    promoted = sum(value(stack, w, "trough_worker_promotions_total") for w in ("worker-1", "worker-2"))
    assert promoted == 2
    for part in stack.daemons:
        assert value(stack, part, "trough_build_info", part=kind_of(part).split(" ")[-1]) == 1
        assert value(stack, part, "trough_ready") == 1
        assert value(stack, part, "process_resident_memory_bytes") > 1 << 20
