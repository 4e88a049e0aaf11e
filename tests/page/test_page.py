"""The status page as people use it: a real browser over a real cluster."""

import re

import harness
import pytest
import support
from axe_playwright_python.sync_playwright import Axe

VIEWS = ["overview", "problems", "segments", "query", "operations"]


def accessible(page):
    """What axe-core has to object, WCAG 2.2 AA and best practices."""
    results = Axe().run(page).response["violations"]
    return [(v["id"], [n["target"] for n in v["nodes"]][:3], v["nodes"][0].get("failureSummary")) for v in results]


def test_overview(page):
    support.sentence(page, "segments have all their copies; 3 workers are alive.")
    assert page.get_attribute("#health", "data-level") == "ok"
    rows = support.cells(page, "#workers")
    assert [row[0] for row in rows] == ["worker-1", "worker-2", "worker-3"]
    assert all(row[1] == "alive" and " of " in row[6] and re.match(r"[0-9.]+ s of 6 s", row[8]) for row in rows), rows
    tiles = dict(page.eval_on_selector_all("#tiles .tile", "tiles => tiles.map(t => [t.querySelector('dt').textContent, t.querySelector('dd').textContent])"))
    assert int(tiles["segments"]) == 24 + len(support.HOSTILE) and tiles["short of copies"] == "0" and tiles["write locks"] != "0", tiles
    assert page.locator("#balance svg[role=img]").get_attribute("aria-label").startswith("3 workers against their fair share: worker-")
    page.click("#balance summary")
    figures = support.cells(page, "#balance")
    assert len(figures) == 3 and all(row[-1].endswith(" %") for row in figures)
    # It is brought up to date in place: what was opened stays open.
    at = page.text_content("#when")
    support.until(page, "before => document.querySelector('#when').textContent !== before", arg=at)
    assert page.locator("#balance details[open]").count() == 1


def test_without_a_role_nothing_of_admin_is_shown(page):
    assert page.text_content("#role") == "role write"
    assert page.locator("#workers tbody button").count() == 0
    page.click("nav a[href='#operations']")
    assert page.text_content("#operations-note") == "These need the role admin; this session has the role write."
    assert page.locator("#controls button").count() == 0
    # Whatever a page shows, the server decides.
    assert page.evaluate("fetch('/v1/drain', {method: 'POST', body: '{\"node\": \"worker-1\", \"drain\": true}'}).then(r => r.status)") == 401


def test_tokens(page, cluster):
    page.click("#token-button")
    page.fill("#token", "wrong")
    page.press("#token", "Enter")
    support.until(page, "document.querySelector('#token-error').textContent.includes('does not know')")
    page.keyboard.press("Escape")
    assert page.text_content("#role") == "role write"
    support.give_token(page, "boss")
    support.until(page, "document.querySelector('#role').textContent === 'role admin'")
    assert page.evaluate("[sessionStorage.length, Object.values(localStorage).includes('boss'), document.cookie]") == [1, False, ""]
    page.reload()
    support.until(page, "document.querySelector('#role').textContent === 'role admin'")
    other = page.context.new_page()
    other.goto(cluster.sync_url("/"))
    support.until(other, "document.querySelector('#role').textContent === 'role write'")
    page.click("#token-button")
    page.click("#token-forget")
    support.until(page, "document.querySelector('#role').textContent === 'role write'")
    assert page.evaluate("sessionStorage.length") == 0


def test_drain_and_take_back(admin, cluster):
    page = admin
    button = page.locator("button[aria-label='Drain worker-3']")
    button.click()
    page.click("#ask button[value=no]")
    assert not drained(cluster, "worker-3")
    button.click()
    assert page.text_content("#ask-title") == "Drain worker-3?"
    page.click("#ask-yes")
    page.wait_for_selector("#workers tr:has-text('worker-3') .tag:text('draining')")
    assert drained(cluster, "worker-3")
    support.sentence(page, "1 worker is being emptied")
    page.click("nav a[href='#operations']")
    page.select_option("#drain-node", "worker-3")
    page.click("#controls button:text('Take back')")
    page.click("#ask-yes")
    harness.wait_for("the worker's return", lambda: not drained(cluster, "worker-3"))
    page.click("nav a[href='#overview']")
    page.wait_for_selector("button[aria-label='Drain worker-3']")
    support.settled(cluster)


def drained(cluster, node):
    return next(w["draining"] for w in support.view(cluster)["cluster"]["workers"] if w["node"] == node)


def test_search_and_story(page, cluster):
    page.goto(cluster.sync_url("/#segments"))
    page.fill("#search-text", "^job-0")
    page.press("#search-text", "Enter")
    support.until(page, "document.querySelectorAll('#found li').length === 10")
    page.click("#found button:has-text('job-03')")
    page.wait_for_selector("#story .facts")
    assert page.url.endswith("#segments/job-03")
    story = page.text_content("#story")
    assert "2 live copies." in story and "SHA-256" in story
    # The copy of whoever wrote it goes once there are enough others.
    support.until(page, "document.querySelectorAll('#story tbody tr').length === 2")
    copies = support.cells(page, "#story")
    assert all(row[1].startswith("live") and row[2] in ("ring 0", "ring 1") for row in copies), copies
    assert copies[0][4] == copies[1][4], "both serve the same version"
    events = page.locator("#story .events strong").all_text_contents()
    assert events[-2:] in (["Provisioned", "Lock taken"], ["Lock taken", "Provisioned"]), events
    for what in ("Promoted", "Assigned", "Copied", "Lock released"):
        assert what in events, (what, events)
    page.click("#story-query")
    assert page.input_value("#query-segments") == "job-03"
    page.go_back()
    page.wait_for_selector("#story .facts")
    # What nobody knows is said to be unknown.
    page.fill("#search-text", "nowhere")
    page.press("#search-text", "Enter")
    page.wait_for_selector("#story .error:text('segment nowhere is unknown')")
    # By pages.
    page.fill("#search-text", "")
    page.press("#search-text", "Enter")
    support.until(page, "document.querySelectorAll('#found li').length > 24")


def test_events_survive_a_restart_and_refusals_are_told(cluster, page):
    segment = "job-01"
    before = events(cluster, segment)
    worker = next(w for w in cluster.workers if any(e["event"] == "promoted" and e["node"] == w.data.name for e in before))
    promoted = next(e for e in before if e["event"] == "promoted")
    known = harness.http("GET", cluster.sync_url(f"/v1/segment/{segment}")).json
    assert {a["sha256"] for a in known["assignments"]} == {promoted["sha256"]}
    assert promoted["bytes"] == known["canonical"]["bytes"] and promoted["mtime_ms"] == known["canonical"]["mtime_ms"]
    worker.kill()
    worker.start()
    harness.wait_for("the worker", lambda: harness.http("GET", f"http://127.0.0.1:{worker.read_port}/readyz").status == 200)
    after = harness.wait_for("its events", lambda: [e for e in events(cluster, segment) if e["node"] == worker.data.name])
    assert [e for e in before if e["node"] == worker.data.name] == after
    support.settled(cluster)
    # Somebody else has the lock.
    url = cluster.provision(segment, "logs").json["write_url"]
    holder = next(w for w in cluster.workers if f":{w.write_port}/" in url)
    other = next(w for w in cluster.workers if w is not holder)
    refused = harness.http("POST", f"http://127.0.0.1:{other.manage_port}/provision", {"segment": segment, "schema": "logs"})
    assert refused.status == 500, refused
    assert [e["reason"] for e in events(cluster, segment) if e["event"] == "provision_refused" and e["node"] == other.data.name] == [
        f"node '{holder.data.name}' holds the write lock of segment '{segment}'"]
    assert harness.http("POST", url, "insert into log (n, url) values (5000, 'a secret value')").status == 200
    assert cluster.promote(segment).status == 200
    support.settled(cluster)
    text = "".join(p.read_text() for w in cluster.workers for p in w.data.glob(".trough-events*"))
    assert "promoted" in text and "secret" not in text and "insert" not in text
    support.open_story(page, segment)
    assert "Provisioning refused" in page.text_content("#story")


def events(cluster, segment):
    said = harness.http("GET", cluster.sync_url(f"/v1/segment/{harness.quote(segment)}/events")).json
    return said["events"]


def test_query_with_chart(page):
    note = support.run_query(page, "~^job-", "select status, count(*) n from log group by status", "select status, sum(n) n from partial group by status order by status")
    # Each worker reduces the rows of its own segments.
    assert re.match(r"[0-9]+ rows from 24 segments in [0-9,]+ ms", note), note
    rows = support.cells(page, "#query-rows")
    assert {row[0] for row in rows} - {"null"} == {"200", "301", "404", "500"}
    support.run_query(page, "~^job-", "select 1", "select count(*) n from partial")
    assert sum(int(row[0]) for row in support.cells(page, "#query-rows")) == 24
    note = support.run_query(page, "job-00", "select status, count(*) n from log group by status order by status")
    rows = support.cells(page, "#query-rows")
    assert [row[0] for row in rows] == ["200", "301", "404", "500"]
    assert page.locator("#query-picture svg").get_attribute("aria-label").startswith("n by status: 4 bars")
    page.select_option("#chart-kind", "curve")
    page.wait_for_selector("#query-picture path.curve")
    support.shot(page, "query")
    # Rows of many segments name theirs; they come by pages.
    note = support.run_query(page, "~^job-", "select n, url from log")
    assert note.startswith("200 rows (there are more) from "), note
    assert page.locator("#query-rows tbody tr").count() == 100
    assert support.cells(page, "#query-rows")[0][0].startswith("job-")
    page.click("#query-pager button:text('Next')")
    assert page.text_content("#query-pager span") == "rows 101–200 of 200"
    assert support.run_query(page, "job-00", "select 9007199254740993 big, x'0102' b, null gone, 1e999 inf, 1.5 r").startswith("1 row from 1 segment")
    assert support.cells(page, "#query-rows") == [["9007199254740993", "blob, 2 bytes", "null", "inf", "1.5"]]
    note = support.run_query(page, "job-00", "select nothing_like_that from log")
    assert "nothing_like_that" in note and "error" in page.get_attribute("#query-note", "class")
    assert support.run_query(page, "job-00", "delete from log").count("not authorized") == 1


@pytest.mark.parametrize("segment", support.HOSTILE)
def test_hostile_names_and_values_are_text(page, segment):
    support.open_story(page, segment)
    assert page.text_content("#story-title") == segment
    page.click("#story-query")
    quoted = '"' + segment.replace('"', '""') + '"'
    assert page.input_value("#query-segments") in (segment, quoted)
    support.run_query(page, quoted, "select url, status from log where n >= 1000 order by n")
    rows = support.cells(page, "#query-rows")
    assert rows == [[value, "9007199254740993"] for value in support.VALUES]
    support.run_query(page, quoted, "select '<b>' as \"<i>x</i>\", 1 n union all select '<u>', 2")
    assert "<i>x</i>" in page.text_content("#query-rows thead")
    assert page.evaluate("document.querySelectorAll('main img, main script, main b > *, main i > *, main u, #query-rows i').length") == 0


def test_problems_have_reasons_and_actions(page, cluster):
    page.goto(cluster.sync_url("/#problems"))
    page.wait_for_selector("#kinds button[aria-pressed=true]")
    assert page.locator("#kinds button").count() == 6
    # A copy that breaks is found when it is read.
    segment = "job-10"
    known = harness.http("GET", cluster.sync_url(f"/v1/segment/{segment}")).json
    worker = next(w for w in cluster.workers if w.data.name == known["assignments"][0]["node"])
    path = worker.data / f"{segment}.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xff" * len(content[4096:8192])
    path.write_bytes(content)
    harness.wait_for("the discovery", lambda: harness.http(
        "POST", f"http://127.0.0.1:{worker.read_port}/?segment={segment}", "select sum(length(url)) from log").status != 200
        or [e for e in events(cluster, segment) if e["event"] == "quarantined"])
    page.goto(cluster.sync_url("/#problems/quarantined"))
    row = page.locator("#problems-list tr", has_text=segment).first
    row.wait_for()
    assert re.search("malformed|error code", row.text_content()) and "quarantine/job-10.sqlite." in row.text_content() and worker.data.name in row.text_content()
    assert int(page.text_content("#problem-count")) >= 1
    support.shot(page, "problems")
    row.locator("a").click()
    page.wait_for_selector("#story .events li:has-text('Quarantined')")
    page.wait_for_selector("#story .events li:has-text('Freshened')")
    support.settled(cluster)


def test_dark_and_light(page):
    def background():
        return page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.emulate_media(color_scheme="light")
    light = background()
    page.emulate_media(color_scheme="dark")
    assert background() != light, "the system's wish counts"
    page.click("#theme")
    assert (page.text_content("#theme"), background()) == ("Theme: light", light)
    page.click("#theme")
    page.reload()
    assert page.text_content("#theme") == "Theme: dark" and background() != light


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(admin, scheme):
    page = admin
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.wait_for_selector("button[aria-label='Drain worker-1']")
    support.shot(page, scheme, full=False)
    for view in VIEWS:
        if view == "segments":
            support.open_story(page, "job-02")
            support.shot(page, f"story-{scheme}")
        elif view == "query":
            support.run_query(page, "job-02", "select n, status from log")
        else:
            page.click(f"nav a[href='#{view}']")
        assert accessible(page) == [], view
    page.click("#token-button")
    assert accessible(page) == [], "the dialog"


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_overflows(admin, width):
    page = admin
    page.set_viewport_size({"width": width, "height": 900})
    for view in VIEWS:
        if view == "segments":
            support.open_story(page, support.HOSTILE[1])
        elif view == "query":
            support.run_query(page, "~", "select * from log")
        else:
            page.click(f"nav a[href='#{view}']")
        support.shot(page, f"{view}-{width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view


def test_by_keyboard_alone(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    visible = "(e => e.matches(':focus-visible') && getComputedStyle(e).outlineStyle !== 'none')(document.activeElement)"
    seen = []
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.hash || document.activeElement.id"))
        assert page.evaluate(visible), seen
        if seen[-1] == "#query":
            break
    assert seen[-1] == "#query", seen
    page.keyboard.press("Enter")
    while page.evaluate("document.activeElement.id") != "query-segments":
        page.keyboard.press("Tab")
    page.keyboard.type("job-05")
    page.keyboard.press("Tab")
    page.keyboard.type("select count(*) n from log")
    page.keyboard.press("Control+Enter")
    support.until(page, "document.querySelector('#query-note').textContent.startsWith('1 row from 1 segment')")
    # Dialogs give the focus back, Escape closes them.
    page.focus("#token-button")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "token"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "token-button"


def test_files_are_small_and_kept(cluster):
    import gzip
    import urllib.request

    page = harness.http("GET", cluster.sync_url("/"), headers={"accept": "text/html"})
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    refused = harness.http("GET", cluster.sync_url("/"))
    assert refused.status == 405 and refused.headers["allow"] == "POST"
    names = set(re.findall(r"/assets/([a-z.]+)", page.text))
    sent = 0
    for path in ["/"] + [f"/assets/{name}" for name in names]:
        request = urllib.request.Request(cluster.sync_url(path), headers={"accept": "text/html", "accept-encoding": "gzip"})
        with urllib.request.urlopen(request) as answer:
            body = answer.read()
            assert answer.headers["content-encoding"] == "gzip" and gzip.decompress(body), path
            assert answer.headers["x-content-type-options"] == "nosniff"
            sent += len(body)
        again = harness.http("GET", cluster.sync_url(path), headers={"accept": "text/html", "if-none-match": answer.headers["etag"]})
        assert (again.status, again.body) == (304, b""), path
    assert len(names) > 15 and sent < 40_000, sent
    assert harness.http("GET", cluster.sync_url("/assets/../Cargo.toml")).status == 404


def test_a_worker_dies_and_comes_back(page, cluster):
    support.sentence(page, "3 workers are alive")
    worker = cluster.workers[1]
    worker.kill()
    text = support.sentence(page, "orker worker-2 is away")
    # Bad, if it holds the lock of a segment that is being written.
    assert page.get_attribute("#health", "data-level") in ("warn", "bad"), text
    page.wait_for_selector("#workers tr:has-text('worker-2') .tag:text('away')")
    page.goto(cluster.sync_url("/#problems/under_replicated"))
    page.wait_for_selector("#problems-list td:has-text('1 on workers that are away')")
    page.wait_for_selector("#problems-list td:has-text('bring the worker back')")
    support.shot(page, "worker-away")
    page.fill("#problems-filter", "^job-0")
    page.press("#problems-filter", "Enter")
    support.until(page, "[...document.querySelectorAll('#problems-list tbody th')].every(th => th.textContent.startsWith('job-0'))")
    worker.start()
    support.sentence(page, "have all their copies; 3 workers are alive", timeout=60_000)
    page.wait_for_selector("#problems-list p:has-text('No segment like that')")


def test_a_second_sync_server_shows_the_same(cluster, browser):
    port = harness.free_ports(1)[0]
    settings = {"HOSTNAME": "sync-2", "LOCAL_DATA": str(cluster.dir / "sync-2"), "SYNC_SERVER_PORT": port, "ANONYMOUS": "none"}
    second = cluster.role("sync", settings, name="sync-2")
    context = browser.new_context()
    try:
        base = f"http://127.0.0.1:{port}"
        harness.wait_for("the second sync server", lambda: harness.http("GET", f"{base}/readyz").status == 200)
        page = context.new_page()
        said = support.listen(page)
        page.goto(base)
        # Here nobody is anybody without a token.
        page.wait_for_selector("#token-dialog[open]")
        assert support.cells(page, "#workers") == []
        page.fill("#token", "reader")
        page.click("#token-form button[value=use]")
        support.sentence(page, "3 workers are alive")
        assert page.text_content("#role") == "role read"
        assert "sync, master" in page.text_content("#who"), "the master answers"
        support.open_story(page, "job-04")
        assert "Promoted" in page.text_content("#story")
        # What has not changed is not sent again, though another server answers.
        bearer = {"authorization": "Bearer reader"}
        first = harness.http("GET", f"{base}/v1/locks", headers=bearer)
        assert first.status == 200 and first.headers["etag"]
        assert harness.http("GET", f"{base}/v1/locks", headers={**bearer, "if-none-match": first.headers["etag"]}).status == 304
        assert said == []
        second.stop()
        support.sentence(page, "The server cannot be reached")
        assert page.get_attribute("#health", "data-level") == "bad"
    finally:
        context.close()
        second.stop()
