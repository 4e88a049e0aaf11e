"""The clients: writers, readers, scanners, promoters, and those that shred what they wrote. Each is a thread with dice of its own; what
each does is decided by the seed, when it does it by the machine."""

import json
import random
import sqlite3
import threading

import psycopg

from .client import Client, NoAnswer, NotSent
from .cluster import READ, SYNC, WRITE
from .history import pack

# Error codes of /v1/write after which nothing was kept.
REFUSED = {
    "bad_request",
    "unauthorized",
    "unknown_segment",
    "moved",
    "not_writable",
    "bad_sql",
    "no_such_table",
    "no_such_column",
    "forbidden",
    "constraint",
    "conflict",
    "type_mismatch",
    "limit",
    "unavailable",
    "deadline",
}
ROWS_A_SEGMENT = 1200


class Segments:
    """The segments that are written, which are replaced when they have grown, and those that were."""

    def __init__(self, count):
        self.lock, self.count, self.made = threading.Lock(), count, 0
        self.active, self.retired, self.writes, self.urls = [], [], {}, {}
        for _ in range(count):
            self.active.append(self._new())

    def _new(self):
        self.made += 1
        name = f"s{self.made % 7}-{self.made:04d}"
        self.writes[name] = 0
        return name

    def pick(self, dice):
        """A segment to write; one more write of it is begun."""
        with self.lock:
            name = dice.choice(self.active)
            self.writes[name] += 1
            if self.writes[name] >= ROWS_A_SEGMENT:
                self.active[self.active.index(name)] = self._new()
                self.retired.append(name)
            return name

    def any(self, dice):
        with self.lock:
            return dice.choice(self.active + self.retired[-20:])

    def all(self):
        with self.lock:
            return self.active + self.retired


class Worker(threading.Thread):
    """A client."""

    def __init__(self, load, kind, number):
        super().__init__(name=f"{kind}-{number}", daemon=True)
        self.load, self.cluster, self.history, self.segments = load, load.cluster, load.history, load.segments
        self.number, self.dice, self.http, self.sql = number, random.Random(f"{load.seed}/{kind}/{number}"), Client(), None
        self.act = getattr(self, f"{kind}_step")
        self.author, self.n = number * 1000, 0

    def run(self):
        try:
            while not self.load.stop.is_set():
                self.act()
        except BaseException as e:  # a mistake of the suite itself, not of what it tests
            self.load.failures.append((self.name, e))
            raise
        finally:
            self.http.close()
            if self.sql:
                self.sql.close()

    def think(self, most):
        self.load.stop.wait(self.dice.uniform(0, most))

    # Requests

    def ask(self, method, url, body=None, timeout=10, accept="application/json"):
        """(outcome, status, text): `fail` if it did not arrive, `unknown` without an answer, `ok` with any."""
        headers = {"content-type": "application/json", "accept": accept}
        try:
            status, answer = self.http.request(
                method, url, body if body is None or isinstance(body, str) else json.dumps(body), headers, timeout
            )
        except NotSent as e:
            return "fail", 0, str(e)
        except NoAnswer as e:
            return "unknown", 0, str(e)
        return "ok", status, answer.decode(errors="replace")

    def master(self, method, path, body=None, timeout=20):
        names = list(self.cluster.syncs)
        self.dice.shuffle(names)
        for name in names:
            outcome, status, text = self.ask(method, self.cluster.nodes[name].url(SYNC, path), body, timeout)
            if outcome != "fail":
                break
        return outcome, status, text

    def query(self, statement, params=()):
        """(outcome, rows or error) of a statement in PostgreSQL."""
        try:
            if self.sql is None or self.sql.closed:
                self.sql = self.cluster.postgres.connect()
            done = self.sql.execute(statement, params)
            return "ok", done.fetchall() if done.description else []
        except psycopg.Error as e:
            return "fail", f"{e.sqlstate}: {e}"

    def node_of(self, url):
        return next((name for name, node in self.cluster.nodes.items() if node.address in url), "?")

    # Writing

    def provision(self, segment):
        """The write URL, or None."""
        start = self.history.now()
        outcome, status, text = self.master("POST", "provision", {"segment": segment, "schema": "chaos"})
        if outcome == "ok" and status == 200:
            url = json.loads(text)["write_url"]
            self.history.add("provision", start, seg=segment, node=self.node_of(url))
            return url
        self.history.add("provision", start, "unknown" if outcome == "unknown" else "fail", seg=segment, error=text[:200])
        return None

    def write(self, segment, author, urls):
        """Inserts the next row of an author; the outcome."""
        self.n += 1
        n, value, pick = self.n, self.dice.randrange(10**9), self.dice.random()
        if self.cluster.postgres and pick < 0.12:
            start = self.history.now()
            outcome, error = self.query("insert into w values (%s, %s, %s, %s)", (segment, author, n, value))
            outcome = "ok" if outcome == "ok" else "unknown"
            return self.history.add(
                "write", start, outcome, seg=segment, a=author, n=n, via="sql", error=error if outcome != "ok" else None
            )
        url = urls.get(segment)
        if url is None:
            url = self.provision(segment)
            if url is None:
                self.load.stop.wait(0.2)
                return None
            urls[segment] = url
        node, start = self.node_of(url), self.history.now()
        if pick < 0.5:
            outcome, status, text = self.ask("POST", url, f"insert into w values ({author}, {n}, {value})")
            if outcome == "ok" and status != 200:
                outcome = "fail" if "cannot write to segment" in text or "othing was written" in text else "unknown"
        else:
            body = {
                "writes": [{"segment": segment, "statements": [{"sql": "insert into w values (?1, ?2, ?3)", "rows": [[author, n, value]]}]}]
            }
            outcome, status, text = self.ask("POST", self.cluster.nodes[node].url(WRITE, "v1/write"), body)
            if outcome == "ok":
                outcome = self.verdict(status, text)
        if outcome != "ok":
            urls.pop(segment, None)
        return self.history.add(
            "write", start, outcome, seg=segment, a=author, n=n, node=node, via="http", error=None if outcome == "ok" else text[:200]
        )

    @staticmethod
    def verdict(status, text):
        try:
            answer = json.loads(text)
        except ValueError:
            return "unknown"
        if status == 200 and "results" in answer:
            answer = answer["results"][0]
            if "error" not in answer:
                return "ok"
        code = answer["error"].get("code") if isinstance(answer.get("error"), dict) else answer.get("code")
        return "fail" if code in REFUSED else "unknown"

    def writer_step(self):
        event = self.write(self.segments.pick(self.dice), self.author, self.segments.urls)
        if event is None or event["outcome"] != "ok":
            self.load.stop.wait(0.1)
        self.think(self.load.think)

    # Reading

    def reader_step(self):
        segment, pick = self.segments.any(self.dice), self.dice.random()
        if self.cluster.postgres and pick < 0.35:
            start = self.history.now()
            outcome, rows = self.query("select a, n from w where segment = %s", (segment,))
            self.record_read(start, segment, "sql", None, outcome, rows)
        else:
            self.read_at(segment, self.dice.choice(self.cluster.hot))
        self.think(0.25)

    def read_at(self, segment, name):
        start = self.history.now()
        outcome, status, text = self.ask("POST", self.cluster.nodes[name].url(READ, f"?segment={segment}"), "select a, n from w")
        rows = text
        if outcome == "ok" and status == 200:
            rows = [(row["a"], row["n"]) for row in json.loads(text)]
        else:
            outcome = "fail"
        return self.record_read(start, segment, "http", name, outcome, rows)

    def record_read(self, start, segment, via, node, outcome, rows):
        if outcome != "ok":
            return self.history.add("read", start, "fail", seg=segment, via=via, node=node, error=str(rows)[:300])
        packed, doubled = pack(rows)
        return self.history.add("read", start, seg=segment, via=via, node=node, rows=packed, doubled=doubled)

    def scanner_step(self):
        """Counts over many segments, through SQL and by /v1/query."""
        if self.cluster.postgres and self.dice.random() < 0.6:
            start = self.history.now()
            whole = self.dice.random() < 0.5
            outcome, rows = self.query("select count(*) from w" if whole else "select segment, count(*) from w group by segment")
            if outcome != "ok":
                self.history.add("count", start, "fail", via="sql", error=rows[:300])
            elif whole:
                self.history.add("count", start, via="sql", total=int(rows[0][0]))
            else:
                self.history.add("count", start, via="sql", segments={segment: int(count) for segment, count in rows})
        else:
            self.query_some()
        self.think(0.6)

    def query_some(self):
        """Asks one worker for segments, some of which it does not serve: each has its rows or its error, and the end says how many."""
        name, asked = self.dice.choice(self.cluster.hot), self.segments.all()
        asked = self.dice.sample(asked, min(len(asked), 12))
        start = self.history.now()
        body = {"segments": asked, "map": "select count(*) as c from w", "deadline_ms": 8000}
        outcome, status, text = self.ask("POST", self.cluster.nodes[name].url(READ, "v1/query"), body, accept="application/x-ndjson")
        frames = [json.loads(line) for line in text.splitlines()] if outcome == "ok" and status == 200 else []
        if not frames or "end" not in frames[-1]:
            self.history.add("count", start, "fail", via="v1", node=name, error=text[-300:])
            return
        counts = {frame["segment"]: frame["row"]["c"] for frame in frames if "row" in frame}
        errors = {frame["segment"]: frame["error"]["code"] for frame in frames if "segment" in frame and "error" in frame}
        self.history.add("count", start, via="v1", node=name, asked=asked, segments=counts, errors=errors, told=frames[-1]["end"])

    # Promoting

    def promoter_step(self):
        self.promote(self.segments.any(self.dice))
        self.think(self.load.think * 8)

    def promote(self, segment):
        """Promotes, and looks at the canonical file; the outcome."""
        start = self.history.now()
        outcome, status, text = self.master("POST", "promote", {"segment": segment}, 30)
        if outcome == "ok" and status != 200:
            outcome = "fail"
        event = self.history.add("promote", start, outcome, seg=segment, error=None if outcome == "ok" else text[:300])
        if outcome == "ok":
            self.look_at_canonical(segment, event)
        return outcome

    def look_at_canonical(self, segment, promotion):
        start = self.history.now()
        try:
            rows = canonical_rows(self.cluster, segment)
        except (OSError, sqlite3.Error) as e:
            # While the store is put aside there is no file to look at.
            self.history.add("canonical", start, "fail", seg=segment, error=str(e), since=promotion["start"])
            return
        packed, doubled = pack(rows)
        self.history.add("canonical", start, seg=segment, rows=packed, doubled=doubled, since=promotion["start"])

    # Shredding

    def shredder_step(self):
        """One life of a segment: provisioned, written, read, promoted, shredded; the next life must begin empty."""
        segment = f"shred-{self.number:03d}"
        self.author += 1
        self.n, urls = 0, {}
        for _ in range(self.dice.randint(3, 12)):
            if self.load.stop.is_set():
                return
            self.write(segment, self.author, urls)
            self.think(0.1)
        self.read_at(segment, self.dice.choice(self.cluster.hot))
        # Only what was promoted gives its lock back, and only without a lock it can be shredded.
        self.patiently(lambda: self.promote(segment) == "ok")
        if self.patiently(lambda: self.shred(segment)):
            for name in self.cluster.hot:
                self.read_at(segment, name)

    def patiently(self, attempt, times=150):
        for _ in range(times):
            if self.load.stop.is_set():
                return False
            if attempt():
                return True
            self.load.stop.wait(0.3)
        return False

    def shred(self, segment):
        start = self.history.now()
        outcome, status, text = self.master("DELETE", f"segment/{segment}", timeout=30)
        done = outcome == "ok" and status in (204, 404)
        self.history.add("shred", start, "ok" if done else "unknown", seg=segment, status=status, error=None if done else text[:300])
        return done


def canonical_rows(cluster, segment):
    """The rows of a canonical file, of one version of it whatever happens meanwhile."""
    path = cluster.canonical(segment)
    db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    try:
        return db.execute("select a, n from w").fetchall()
    finally:
        db.close()


class Load:
    """All clients of a run."""

    def __init__(self, cluster, history, seed, writers=16, readers=4, scanners=2, promoters=2, shredders=2, segments=20, think=0.12):
        self.cluster, self.history, self.seed, self.think = cluster, history, seed, think
        self.segments, self.stop, self.failures = Segments(segments), threading.Event(), []
        kinds = {"writer": writers, "reader": readers, "scanner": scanners, "promoter": promoters, "shredder": shredders}
        numbers = iter(range(1, 1000))
        self.threads = [Worker(self, kind, next(numbers)) for kind, count in kinds.items() for _ in range(count)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def finish(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(90)
        if self.failures:
            raise RuntimeError(f"a client of the suite failed: {self.failures}")
