"""What the tests of the status page share: a cluster with data, a browser, and ways to look at it."""

import contextlib
import os
import pathlib
import shutil

import harness
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENS = [{"token": "reader", "role": "read"}, {"token": "boss", "role": "admin"}]
HOSTILE = ["<img src=x onerror=alert(1)>", "'\"><script>alert(2)<", "javascript:alert(3)", "a&lt;b&amp; %2F#?é"]
VALUES = ["<script>alert(4)</script>", "<img src=x onerror=alert(5)>", "]]>&amp;{{7*7}}"]


def filled(directory):
    """A cluster with promoted segments, one that is being written, and some with hostile names and values."""
    cluster = harness.Cluster(directory, workers=3, settings={
        "TOKENS": TOKENS, "ANONYMOUS": "write", "MOVE_GRACE": 600, "LEASE": 6})
    cluster.put_schema = lambda name, sql: harness.http("PUT", cluster.sync_url(f"/schema/{name}/sql"), sql, {"authorization": "Bearer boss"})
    assert cluster.put_schema("logs", "create table log (n integer primary key, status integer, url text);").status in (201, 204)
    for segment in [f"job-{n:02}" for n in range(24)] + HOSTILE:
        url = cluster.provision(segment, "logs").json["write_url"]
        count = 20 + int.from_bytes(segment.encode(), "big") % 30
        values = ",".join(f"({n}, {[200, 200, 200, 301, 404, 500][n % 6]}, 'http://example.com/{n}')" for n in range(count))
        assert harness.http("POST", url, f"insert into log (n, status, url) values {values}").status == 200
        if segment in HOSTILE:
            rows = ",".join("(%d, 9007199254740993, '%s')" % (1000 + i, v.replace("'", "''")) for i, v in enumerate(VALUES))
            assert harness.http("POST", url, f"insert into log (n, status, url) values {rows}").status == 200
        promoted = cluster.promote(segment)
        assert promoted.status == 200, promoted
    settled(cluster)
    assert cluster.provision("open-1", "logs").status == 200
    return cluster


def view(cluster):
    return harness.http("GET", cluster.sync_url("/v1/cluster"), headers={"authorization": "Bearer boss"}).json


def settled(cluster):
    """Waits until every canonical segment has its copies and no lock of a promoted one is left."""
    def calm():
        s = view(cluster)["cluster"]["summary"]
        locked = {lock["segment"] for lock in harness.http("GET", cluster.sync_url("/v1/locks")).json["locks"]}
        return s["segments"] >= 24 + len(HOSTILE) and s["under_replicated"] == 0 and s["in_flight"] == 0 and locked <= {"warm-up", "open-1"}
    harness.wait_for("the copies", calm)


@contextlib.contextmanager
def chromium():
    """Debian's Chromium, without its sandbox where the tests run as root."""
    binary = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert binary, "no Chromium: apt-get install chromium (scripts/setup.sh test does)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield browser
        browser.close()


def listen(page):
    """Collects what must not happen: script errors, console errors (a policy's refusals are), dialogs."""
    said = []
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    # A refused request is one of the things that are tested.
    page.on("console", lambda m: said.append(f"console: {m.text}") if m.type == "error" and "Failed to load resource" not in m.text else None)
    return said


def give_token(page, token):
    page.click("#token-button")
    page.fill("#token", token)
    page.click("#token-form button[value=use]")
    page.wait_for_selector("#token-dialog", state="hidden")


def until(page, condition, arg=None, timeout=30_000):
    """Waits until a condition holds in the page. From outside: the page's policy lets nothing be evaluated by itself."""
    harness.wait_for(condition, lambda: page.evaluate(condition, arg), timeout / 1000)


def sentence(page, part, timeout=30_000):
    until(page, "part => document.querySelector('#sentence').textContent.includes(part)", arg=part, timeout=timeout)
    return page.text_content("#sentence")


def open_story(page, segment):
    page.goto(page.url.split("#")[0] + "#segments")
    page.fill("#search-text", segment)
    page.press("#search-text", "Enter")
    until(page, "id => document.querySelector('#story-title .id')?.textContent === id && document.querySelector('#story .facts')", arg=segment)


def run_query(page, segments, sql, reduce=""):
    page.goto(page.url.split("#")[0] + "#query")
    page.fill("#query-segments", segments)
    page.fill("#query-sql", sql)
    page.fill("#query-reduce", reduce)
    page.click("#query-run")
    page.wait_for_selector("#query-run:enabled")
    until(page, "document.querySelector('#query-note').textContent !== 'Running…'")
    return page.text_content("#query-note")


def cells(page, table):
    """The texts of a table's body."""
    return page.eval_on_selector_all(f"{table} tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))")


def shot(page, name, full=True):
    """A screenshot where TROUGH_PAGE_SHOTS says so."""
    directory = os.environ.get("TROUGH_PAGE_SHOTS")
    if directory:
        pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
        # The footer names the directory that the store happens to be in.
        page.evaluate("document.querySelector('footer').style.visibility = 'hidden'")
        page.screenshot(path=f"{directory}/{name}.png", full_page=full)
