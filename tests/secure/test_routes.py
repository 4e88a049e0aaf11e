"""Every route of every daemon: without a token, with a wrong one, with each role, with a token for some segments. What stands in
docs/SECURITY.md is what is tested, and the routes in the source are those that stand there."""

import json
import re

import harness
import pytest

SOURCES = {
    "worker: READ_PORT": ["worker/src/read.rs"],
    "worker: WRITE_PORT": ["worker/src/write.rs"],
    "worker: SYNC_LOCAL_PORT": ["worker/src/manage.rs", "http/src/events/routes.rs"],
    "sync: SYNC_SERVER_PORT": ["sync/src/api/mod.rs", "http/src/events/routes.rs"],
    "all": ["http/src/daemon.rs"],
}
ROLES = ["none", "read", "write", "admin"]
NDJSON = {"accept": "application/x-ndjson"}


def table():
    """(listener, method, path) → (role, what tokens for some segments get)."""
    text = (harness.ROOT / "docs/SECURITY.md").read_text()
    rows = text.partition("<!-- routes: begin -->")[2].partition("<!-- routes: end -->")[0].strip().splitlines()[2:]
    found = {}
    for row in rows:
        listener, method, path, role, scope, _ = (cell.strip().strip("`") for cell in row.strip("|").split("|"))
        assert role in ROLES and scope in ("open", "no segment", "each segment", "refused"), row
        for one in method.split(", "):
            found[listener, one, path] = role, scope
    return found


ROUTES = table()


def routes_in(source):
    """(method, path) of each call of `.route(` in Rust's text."""
    for start in (m.end() for m in re.finditer(r'\.route\((?=\s*")', source)):
        depth, outer = 1, ""
        for at in range(start, len(source)):
            depth += {"(": 1, ")": -1}.get(source[at], 0)
            if depth == 0:
                break
            # What stands in parentheses, the handlers, is left out.
            outer += source[at] if depth == 1 or source[at] == "(" and depth == 2 else ""
        path = re.match(r'\s*"([^"]+)"', outer)
        methods = re.findall(r"\b(get|post|put|delete|patch|head|options|any)\(", outer)
        assert path and methods, f"a route that cannot be read: {outer}"
        yield from ((method.upper(), path[1]) for method in methods)


def test_the_table_is_the_routers():
    folder = harness.ROOT / "daemons/trough"
    found = {(listener, *route) for listener, files in SOURCES.items() for file in files for route in routes_in((folder / file).read_text())}
    assert found == set(ROUTES), f"docs/SECURITY.md and the routers differ: {sorted(found ^ set(ROUTES))}"
    seen = {folder / file for files in SOURCES.values() for file in files}
    for file in folder.glob("*/src/**/*.rs"):
        if file not in seen and not file.name.endswith("tests.rs"):
            assert ".route(\"" not in file.read_text(), f"{file} has routes: add it to SOURCES"


def sample(listener, method, path, segment):
    """A request that does something, if it is let through: path with query, and body."""
    schema = path.replace("{id}", "secured" if method == "PUT" else "default")
    if path.startswith(("/schema", "/v1/schema")):
        body = {"PUT": '{"id": "secured", "sql": ""}' if path == "/schema/{id}" else "create table secured (a)"}.get(method)
        return schema, body
    if path in ("/segment/{id}", "/v1/segment/{id}", "/v1/segment/{id}/events"):
        return path.replace("{id}", segment), None
    rows = [{"sql": "insert into t values (?1)", "rows": [["by v1"]]}]
    return {
        ("worker: READ_PORT", "GET", "/"): (f"/?segment={segment}", "select * from t"),
        ("worker: READ_PORT", "POST", "/"): (f"/?segment={segment}", "select * from t"),
        ("worker: READ_PORT", "POST", "/v1/query"): (path, {"segments": [segment], "map": "select a from t"}),
        ("worker: WRITE_PORT", "POST", "/"): (f"/?segment={segment}", "insert into t values ('by the old endpoint')"),
        ("worker: WRITE_PORT", "POST", "/v1/write"): (path, {"writes": [{"segment": segment, "statements": rows}]}),
        ("sync: SYNC_SERVER_PORT", "POST", "/"): ("/", segment + "-new"),
        ("sync: SYNC_SERVER_PORT", "GET", "/"): ("/", None),
        ("sync: SYNC_SERVER_PORT", "POST", "/v1/console"): (path, {"segments": [segment], "sql": "select a from t"}),
        ("sync: SYNC_SERVER_PORT", "POST", "/v1/drain"): (path, {"node": "nobody", "drain": True}),
    }.get((listener, method, path)) or {
        "/provision": (path, {"segment": segment + "-new"}),
        "/v1/provision": (path, {"segments": [segment + "-new"]}),
        "/promote": (path, {"segment": segment}),
        "/v1/promote": (path, {"segments": [segment]}),
        # Those that are not asked about segments at all.
        "/livez": (path, None), "/readyz": (path, None), "/v1/whoami": (path, None), "/assets/{name}": ("/assets/main.js", None),
        # These are understood to be wrong, once they are let through: the cluster goes on as it was.
        "/v1/pause": (path, {"reason": 5}), "/v1/throttle": (path, {"nothing": 1}), "/v1/restore": (path, {}),
        "/v1/plan": (path, None if method == "GET" else {"plan": 0}), "/v1/resume": (path, None), "/v1/backup": (path, None),
        "/v1/scrub": (path, {"check": True, "matching": "^nobody$"}), "/v1/controls": (path, None), "/v1/problems": (path, None),
        "/v1/events": (path, None),
        "/metrics": (path, None), "/status": (path, None),
        "/v1/cluster": (path, None), "/v1/copies": (path, None),
        "/v1/locks": (path, None), "/v1/segments": (path, None),
    }[path]


def ports(cluster, listener):
    worker = cluster.workers[0]
    all_ports = {"worker: READ_PORT": worker.read_port, "worker: WRITE_PORT": worker.write_port,
                 "worker: SYNC_LOCAL_PORT": worker.manage_port, "sync: SYNC_SERVER_PORT": cluster.sync_port}
    return list(all_ports.values()) if listener == "all" else [all_ports[listener]]


def ask(cluster, route, token, segment):
    listener, method, path = route
    target, body = sample(listener, method, path, segment)
    headers = {**NDJSON, "authorization": f"Bearer {token}" if token else ""}
    if isinstance(body, dict) or path == "/schema/{id}":
        headers["content-type"] = "application/json"
    answers = [harness.http(method, f"http://127.0.0.1:{port}{target}", body, headers) for port in ports(cluster, listener)]
    assert len({a.status for a in answers}) == 1, answers
    return answers[0]


def state(cluster):
    """Everything that a request could change."""
    with harness.metadata(cluster.meta_port) as connection:
        from rethinkdb import RethinkDB
        r = RethinkDB()
        tables = {name: sorted(json.dumps(row, sort_keys=True, default=str) for row in r.table(name).without(
            "last_heartbeat", "load", "available_bytes", "used_bytes", "first_heartbeat").run(connection)) for name in ("lock", "assignment", "schema")}
    rows = {s: cluster.read(s, "select a from t order by a").text for s in ("mine-1", "other-1")}
    files = sorted(p.name for p in cluster.workers[0].data.iterdir() if p.suffix == ".sqlite")
    return tables, rows, files, sorted(p.name for p in cluster.store.iterdir())


def refused(answer):
    """Whether the segment was refused: by the status, or in an answer of several segments."""
    return answer.status == 403 or answer.status == 200 and b'"unauthorized"' in answer.body and b"may not use segment" in answer.body


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_who_may_not_is_refused_and_nothing_happens(cluster, route):
    role, scope = ROUTES[route]
    tokens = harness.SECURE.tokens
    before = state(cluster)
    if role == "none":
        assert ask(cluster, route, None, "mine-1").status not in (401, 403)
        return
    for token in (None, "wrong", tokens["admin"][:-1], tokens["admin"] + "x"):
        answer = ask(cluster, route, token, "mine-1")
        assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer", answer
        assert token is None or token not in answer.text
    for lower in ROLES[1:ROLES.index(role)]:
        answer = ask(cluster, route, tokens[lower], "mine-1")
        assert answer.status == 403 and f"role {role} is needed" in answer.text, answer
    assert state(cluster) == before


@pytest.mark.parametrize("route", [route for route, (role, _) in ROUTES.items() if role != "none"], ids=" ".join)
def test_a_token_for_some_segments(cluster, route):
    """One whose pattern lets `mine-…` in touches nothing of `other-…`, on any route."""
    role, scope = ROUTES[route]
    name = f"some-{role}"
    token = harness.SECURE.tokens.get(name) or harness.SECURE.add_token(name, role, segments="mine-.*")
    harness.wait_for("the token to be known", lambda: ask(cluster, route, token, "other-1").status != 401)
    before = state(cluster)
    answer = ask(cluster, route, token, "other-1")
    if scope == "refused":
        assert answer.status == 403 and "some segments only" in answer.text, answer
    elif scope == "each segment" and route[2] not in ("/v1/locks", "/v1/segments"):
        assert refused(answer) and b"other-1" in answer.body and b'"other-1"]' not in answer.body.replace(b" ", b""), answer
    else:
        assert answer.status < 400 and "other-1" not in answer.text, answer
    if "PUT" not in route:
        assert state(cluster) == before


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_who_may_is_let_through(cluster, route):
    role, scope = ROUTES[route]
    segment = "mine-none" if route[1] == "DELETE" else "mine-1"
    for enough in ROLES[max(1, ROLES.index(role)):]:
        answer = ask(cluster, route, harness.SECURE.tokens[enough], segment)
        assert answer.status not in (401, 403), answer
    token = harness.SECURE.tokens.get(f"some-{role}")
    if scope in ("each segment", "no segment") and token:
        answer = ask(cluster, route, token, segment)
        assert answer.status not in (401, 403) and not refused(answer), answer


def test_many_segments_at_once(cluster):
    """Those that the token is not for are told as failed, not left out; the others are done."""
    token = harness.SECURE.tokens.get("some-write") or harness.SECURE.add_token("some-write", "write", segments="mine-.*")
    headers = {**NDJSON, "authorization": f"Bearer {token}"}
    worker = f"http://127.0.0.1:{cluster.workers[0].read_port}/v1/query"
    harness.wait_for("the token", lambda: harness.http("POST", worker, {"segments": [], "map": "select 1"}, headers).status != 401)
    both = ["mine-1", "other-1", "mine-1x"]
    lines = [json.loads(line) for line in harness.http("POST", worker, {"segments": both, "map": "select a from t limit 1"}, headers).text.splitlines()]
    text = json.dumps(lines)
    assert "mine-1" in text and text.count("may not use segment 'other-1'") == 1, text
    for segment in both[:2]:  # a promotion of an earlier test may have released the locks
        assert cluster.provision(segment).status == 200
    write = {"writes": [{"segment": s, "statements": [{"sql": "insert into t values (?1)", "rows": [["both"]]}]} for s in both[:2]]}
    answer = harness.http("POST", f"http://127.0.0.1:{cluster.workers[0].write_port}/v1/write", write, headers)
    assert "may not use segment 'other-1'" in answer.text and answer.text.count("unauthorized") == 1, answer
    count = "select count(*) n from t where a = 'both'"
    assert cluster.read("mine-1", count).json == [{"n": 1}] and cluster.read("other-1", count).json == [{"n": 0}]
    # A pattern means those of its segments that the token is for.
    console = harness.http("POST", cluster.sync_url("/v1/console"), {"matching": "-1$", "sql": "select a from t"}, headers)
    assert console.status == 200 and "mine-1" in console.text and "other-1" not in console.text, console
    listed = harness.http("GET", cluster.sync_url("/v1/segments?matching="), headers=headers).json["segments"]
    listed = [one["segment"] for one in listed]
    assert "mine-1" in listed and all(s.startswith("mine-") for s in listed), listed
    locks = harness.http("GET", cluster.sync_url("/v1/locks"), headers=headers).json
    assert locks["locks"] and all(lock["segment"].startswith("mine-") for lock in locks["locks"])


def test_tokens_come_go_and_end(cluster):
    """The file is followed; a broken one changes nothing; several tokens of one holder are good at the same time."""
    def status(token):
        return harness.http("GET", cluster.sync_url("/schema"), headers={"authorization": f"Bearer {token}"}).status
    first, second = (harness.SECURE.add_token(f"rotated-{i}", "read") for i in (1, 2))
    ended = harness.SECURE.add_token("ended", "admin", expires="2020-01-01")
    harness.wait_for("both", lambda: status(first) == status(second) == 200)
    assert status(ended) == 401
    del harness.SECURE.token_lines["rotated-1"]
    harness.SECURE.write_tokens()
    harness.wait_for("the old one to go", lambda: status(first) == 401)
    assert status(second) == 200
    good = harness.SECURE.tokens_file.read_text()
    harness.SECURE.tokens_file.write_text("- {name: broken, role: read, token: in-the-clear}\n")
    harness.wait_for("a word about it", lambda: "cannot be used: the tokens stay as they were" in cluster.sync.log.read_text())
    assert status(second) == 200 and "in-the-clear" not in cluster.sync.log.read_text()
    harness.SECURE.tokens_file.write_text(good)


def test_admin_actions_are_in_the_log(cluster):
    who = harness.SECURE.tokens
    for token in (who["admin"], who["read"], "wrong"):
        harness.http("PUT", cluster.sync_url("/schema/audited/sql"), "", {"authorization": f"Bearer {token}"})
    lines = [line for line in cluster.sync.log.read_text().splitlines() if "admin action" in line and "/schema/audited/sql" in line]
    assert len(lines) == 3 and all("peer=" in line and "127.0.0.1" in line for line in lines), lines
    for line, (name, status) in zip(lines, (("admin", "20"), ("read", "403"), ("anonymous", "401"))):
        assert f'who="{name}"' in line and f"status={status}" in line, line


def test_an_epoch_is_for_masters(cluster):
    """A worker refuses lower epochs than the highest that it saw: a writer must not be able to state one."""
    for path in ("/v1/provision", "/v1/promote"):
        answer = harness.http("POST", f"http://127.0.0.1:{cluster.workers[0].manage_port}{path}", {"segments": ["mine-1"], "epoch": 2**60},
                              {"authorization": f"Bearer {harness.SECURE.tokens['write']}"})
        assert answer.status == 403 and "role admin" in answer.text, answer
    assert cluster.provision("mine-1").status == 200


def test_doctor_looks_at_the_nodes_own_token(cluster):
    import subprocess
    ended = harness.SECURE.add_token("doctor-ended", "admin", expires="2020-01-01")
    some = harness.SECURE.add_token("doctor-some", "admin", segments="a")
    for token, said in ((harness.SECURE.tokens["admin"], None), (harness.SECURE.tokens["write"], "has not the role admin"), (ended, "has expired"),
                        (some, "some segments only"), ("unknown", "not among TOKENS"), ("", "has none to show")):
        done = subprocess.run([harness.BIN, "doctor", "--config", str(cluster.dir / "worker-1.yml")], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, env={**cluster.sync.env, "TROUGH_TOKEN": token})
        assert said in done.stdout if said else "TOKEN" not in done.stdout, done.stdout


def test_a_follower_passes_on_in_the_clients_name(cluster):
    """A sync server that is not master adds nothing of its own rights; the master's log names the client."""
    [port] = harness.free_ports(1)
    follower = cluster.role("sync", {"HOSTNAME": "sync-2", "SYNC_SERVER_PORT": port, "LOCAL_DATA": str(cluster.dir / "sync-2")}, name="sync-2")
    try:
        def ask(method, path, token, body=None):
            return harness.http(method, f"http://127.0.0.1:{port}{path}", body, {"authorization": f"Bearer {token}" if token else ""})
        harness.wait_for("the follower", lambda: ask("GET", "/readyz", None).status == 200)
        some = harness.SECURE.tokens.get("some-read") or harness.SECURE.add_token("some-read", "read", segments="mine-.*")
        harness.wait_for("the token", lambda: ask("GET", "/v1/segments", some).status == 200)
        admin, write = harness.SECURE.tokens["admin"], harness.SECURE.tokens["write"]
        assert json.loads(ask("GET", "/v1/cluster", admin).body)["standing"] == "master", "it was passed on"
        for token, status in ((None, 401), ("wrong", 401), (write, 403)):
            assert ask("DELETE", "/v1/segment/other-1", token).status == status
        assert ask("GET", "/v1/segment/other-1", some).status == 403
        assert all(s["segment"].startswith("mine-") for s in ask("GET", "/v1/segments", some).json["segments"])
        assert ask("POST", "/v1/console", some, {"segments": ["other-1"], "sql": "select a from t"}).status == 403
        assert ask("POST", "/v1/drain", admin, {"node": "nobody-through-the-follower", "drain": True}).status == 404
        lines = [line for line in cluster.sync.log.read_text().splitlines() if "admin action" in line and "/v1/drain" in line]
        assert lines and 'who="admin"' in lines[-1] and "status=404" in lines[-1], lines
    finally:
        follower.stop()
