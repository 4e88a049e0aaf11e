"""Spans come to a collector, under the id that PostgreSQL printed."""

import harness
import psycopg
from conftest import TRACE


def test_the_tree_of_a_query_has_the_id_that_postgresql_printed(stack):
    printed = stack.psql(
        "SELECT count(v) FROM t WHERE segment IN ('hot-1', 'hot-2');"
        "SELECT trough.query('archive', ARRAY['hot-1'], 'SELECT absent FROM nowhere')"
    )
    trace = TRACE.search(printed)[1]

    def complete():
        spans = stack.spans.of(trace)
        requests = {span.id for span in spans if span.name == "request"}
        asked = [span for span in spans if span.name == "segment"]
        return spans if len(asked) == 3 and all(span.parent in requests for span in asked) else None

    spans = harness.wait_for("the spans", complete)
    requests = {span.id: span for span in spans if span.name == "request"}
    for span in spans:
        assert span.service == "trough-worker" and span.node.startswith("worker-") and span.start <= span.end
    asked = [span for span in spans if span.name == "segment"]
    assert sorted(span.attributes["segment"] for span in asked) == ["hot-1", "hot-1", "hot-2"]
    for span in asked:
        request = requests[span.parent]
        assert request.attributes["route"] == "/v1/query" and request.start <= span.start and request.node == span.node
    # Their parent is the statement, which has no span of its own.
    assert len({request.parent for request in requests.values()}) == 1 and all(request.parent for request in requests.values())


def test_spans_go_on_from_the_sync_server_to_the_worker(stack):
    with psycopg.connect(stack.dsn, autocommit=True) as db:
        db.execute("INSERT INTO t VALUES ('hot-4', 1, 'x')")
        trace = db.execute("SELECT trough.last_trace()").fetchone()[0]

    def handed_on():
        spans = {span.id: span for span in stack.spans.of(trace)}
        for span in spans.values():
            above = spans.get(span.parent)
            if above and (above.service, span.service) == ("trough-sync", "trough-worker"):
                return span
        return None

    span = harness.wait_for("a worker's span below a sync server's", handed_on)
    assert span.attributes["route"] == "/v1/provision"


def test_what_is_not_to_be_sampled_is_not_sent(stack):
    worker = stack.daemons["worker-1"] + "/?segment=hot-1"
    off, on = "1" * 32, "2" * 32
    for trace, flags in [(off, "00"), (on, "01")]:
        harness.http("POST", worker, "SELECT 1", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-{flags}"})
    harness.wait_for("the sampled span", lambda: stack.spans.of(on))
    assert stack.spans.of(off) == []


def test_health_and_scrapes_leave_no_spans(stack):
    harness.http("GET", stack.daemons["worker-1"] + "/livez", headers={"traceparent": f"00-{'3' * 32}-00f067aa0ba902b7-01"})
    harness.http("GET", stack.daemons["worker-1"] + "/status", headers={"traceparent": f"00-{'4' * 32}-00f067aa0ba902b7-01"})
    harness.wait_for("the later span", lambda: stack.spans.of("4" * 32))
    assert stack.spans.of("3" * 32) == []
