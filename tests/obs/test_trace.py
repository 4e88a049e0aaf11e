"""One id from the SQL statement through the workers and back: in errors, in both logs, in answers; slow queries with their plans."""

import harness
import psycopg
import pytest
from conftest import TRACE

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def parent(trace, sampled=True):
    return f"00-{trace}-00f067aa0ba902b7-0{int(sampled)}"


def failing(stack, before="", comment=""):
    """A statement that fails on the workers, and what psql prints."""
    sql = f"SELECT trough.query('archive', ARRAY['hot-1'], 'SELECT absent FROM nowhere') {comment}"
    return stack.psql(before + sql)


def test_a_failure_is_found_in_both_logs_by_the_id_in_its_error(stack):
    printed = failing(stack)
    assert "no such table: nowhere" in printed
    found = TRACE.search(printed)
    assert found and "CONTEXT:" in printed, printed
    [line] = stack.wait_logged(found[1], "query failed")
    assert "no such table: nowhere" in line.error and line.level == "INFO" and line.part.startswith("worker")
    assert line.sql == "SELECT absent FROM nowhere"
    assert f"CONTEXT:  trough trace {found[1]}" in stack.pg_log()


def test_each_statement_has_an_id_of_its_own(stack):
    with psycopg.connect(stack.dsn, autocommit=True) as db:
        assert db.execute("SELECT trough.last_trace()").fetchone() == (None,)
        ids = set()
        for _ in range(3):
            db.execute("SELECT count(*) FROM t WHERE segment = 'hot-1' AND k < 10")
            ids.add(db.execute("SELECT trough.last_trace()").fetchone()[0])
        assert len(ids) == 3
        for trace in ids:
            assert stack.wait_logged(trace, "slow query")


def test_a_statement_asks_every_worker_under_one_id(stack):
    with psycopg.connect(stack.dsn, autocommit=True) as db:
        db.execute("SELECT count(v) FROM t")
        trace = db.execute("SELECT trough.last_trace()").fetchone()[0]

    def parts():
        asked = {line.part for line in stack.logged(trace, "slow query")}
        return asked if "cold-1" in asked and len(asked) >= 2 else None

    harness.wait_for("a hot and a cold worker's line", parts)


@pytest.mark.parametrize("how", ["setting", "comment"])
def test_the_caller_may_name_the_trace(stack, how):
    trace = TRACE_ID[:-1] + {"setting": "0", "comment": "1"}[how]
    if how == "setting":
        printed = failing(stack, before=f"SET pg_trough.traceparent = '{parent(trace)}'; ")
    else:
        # As sqlcommenter writes it.
        printed = failing(stack, comment=f"/*action='x',traceparent='{parent(trace)}'*/")
    assert TRACE.search(printed)[1] == trace
    assert stack.wait_logged(trace, "query failed")


def test_a_wrong_traceparent_is_an_error(stack):
    printed = failing(stack, before="SET pg_trough.traceparent = 'nonsense'; ")
    assert 'pg_trough.traceparent is "nonsense"' in printed and "00-TRACE-SPAN-FLAGS" in printed


def test_writes_carry_it_through_the_sync_server_to_the_worker(stack):
    with psycopg.connect(stack.dsn, autocommit=True) as db:
        db.execute("INSERT INTO t VALUES ('hot-3', 1, 'x')")
        trace = db.execute("SELECT trough.last_trace()").fetchone()[0]

    def routes():
        seen = {(line.part.split("-")[0], line.span["route"]) for line in stack.logged(trace, "request")}
        wanted = {("sync", "/v1/provision"), ("worker", "/v1/provision"), ("worker", "/v1/write")}
        return seen if wanted <= seen else None

    harness.wait_for("the lines of the access logs", routes)
    with psycopg.connect(stack.dsn, autocommit=True) as db:
        with pytest.raises(psycopg.Error) as failed:
            db.execute("INSERT INTO t VALUES ('hot-3', 1, 'again')")
    [line] = stack.wait_logged(TRACE.search(failed.value.diag.context)[1], "write failed")
    assert "UNIQUE" in line.error


def test_answers_say_it(stack):
    sync, worker = stack.daemons["sync"], stack.daemons["worker-1"]
    for url in [sync + "/schema", worker + "/livez", worker + "/nowhere"]:
        assert harness.http("GET", url, headers={"traceparent": parent(TRACE_ID)}).headers["x-trough-trace"] == TRACE_ID
        made = harness.http("GET", url).headers["x-trough-trace"]
        assert len(made) == 32 and made != TRACE_ID
        assert harness.http("GET", url, headers={"traceparent": "00-0-0-0"}).headers["x-trough-trace"] != "0"


def test_a_read_that_is_passed_on_keeps_it(stack):
    """hot-3 is under a write lock: the other worker passes the old endpoint's reads on to its holder."""
    trace = TRACE_ID[:-1] + "2"
    answers = [
        harness.http("POST", stack.daemons[w] + "/?segment=hot-3", "SELECT k FROM t", headers={"traceparent": parent(trace)})
        for w in ("worker-1", "worker-2")
    ]
    assert [a.json for a in answers] == [[{"k": 1}]] * 2 and {a.headers["x-trough-trace"] for a in answers} == {trace}
    harness.wait_for("three requests", lambda: len(stack.logged(trace, "request")) == 3)


def test_a_slow_query_is_logged_with_its_plan(stack):
    with psycopg.connect(stack.dsn, autocommit=True) as db:
        db.execute("SELECT v FROM t WHERE segment IN ('hot-1', 'hot-2') AND k = 7").fetchall()
        trace = db.execute("SELECT trough.last_trace()").fetchone()[0]
    lines = stack.wait_logged(trace, "slow query")
    assert sum(line.rows for line in lines) == 2 and sum(line.segments for line in lines) == 2
    for line in lines:
        assert line.node == line.part and line.slowest_segment.startswith("hot-") and line.bytes > 0
        assert line.plan == "SEARCH t USING INTEGER PRIMARY KEY (rowid=?)", (line.plan, line.sql)
        assert "FROM" in line.sql and "7" not in line.sql.split("WHERE")[0]


def test_the_access_log_has_a_line_a_request(stack):
    trace = TRACE_ID[:-1] + "3"
    body = harness.http("POST", stack.daemons["worker-1"] + "/?segment=hot-1", "SELECT 1 AS one", headers={"traceparent": parent(trace)}).body
    [line] = stack.wait_logged(trace, "request")
    assert (line.target, line.status, line.bytes, line.uri) == ("trough::access", 200, len(body), "/?segment=hot-1")
    assert line.span["method"] == "POST" and line.span["route"] == "/" and line.span["listener"] == "read" and line.ms > 0


def test_the_shell_names_it_in_errors(stack):
    import subprocess

    command = [harness.BIN, "shell", "-u", stack.url, "-c", "SELECT absent FROM nowhere", "hot-1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "nowhere" in said
    import re

    trace = re.search(r"\(trace ([0-9a-f]{32})\)", said)
    assert trace, said
    assert stack.wait_logged(trace[1], "query failed")


def test_nothing_unexpected_is_in_the_logs(stack):
    for part in stack.daemons:
        lines = stack.log(part)
        assert lines, part
        assert [line for line in lines if line["level"] == "ERROR"] == []
