"""Connections, and rounds put in place: one session with pushdown, one without, and one over each heap copy."""

import os
import urllib.error
import urllib.request
from collections import Counter
from urllib.parse import urlsplit

import psycopg
from psycopg.pq import ExecStatus, TransactionStatus

ROWS = (ExecStatus.TUPLES_OK, ExecStatus.SINGLE_TUPLE)
FINE = (*ROWS, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY)
SETUP = """
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_trough;
DO $$ BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_foreign_server WHERE srvname = 'archive') THEN
    EXECUTE format('CREATE SERVER archive FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb %L)', '{url}');
    CREATE USER MAPPING FOR CURRENT_USER SERVER archive;
  END IF;
  IF to_regtype('public.mood') IS NULL THEN
    CREATE COLLATION public.nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE TYPE public.mood AS ENUM ('sad', 'ok', 'happy');
    CREATE DOMAIN public.small AS integer CHECK (VALUE < 100);
    CREATE DOMAIN public.short AS text;
  END IF;
END $$;
"""


PLAIN = "SET timezone = 'UTC'; SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'; SET bytea_output = 'hex'"


TOO_LARGE = "oracle: too large"  # stands for a SQLSTATE
MOST = 100_000  # rows of one result that are held; the generator keeps below


class Failed(Exception):
    """A round could not be put in place."""


class Answer:
    """What a query gave: rows per result, or an error."""

    __slots__ = ("results", "types", "state", "message")

    def __init__(self):
        self.results, self.types, self.state, self.message = [], [], None, None


class Session:
    """One connection."""

    def __init__(self, settings=()):
        self.connection = psycopg.connect("", autocommit=True)
        self.pg = self.connection.pgconn
        for setting in ("client_min_messages = error", "extra_float_digits = 1", "statement_timeout = '30s'", "jit = off", *settings):
            self.must(f"SET {setting}")

    def run(self, sql):
        return self.pg.exec_(sql.encode())

    def must(self, sql):
        """Runs what may not fail."""
        done = self.run(sql)
        if done.status not in FINE:
            raise Failed(f"{done.error_message.decode(errors='replace').strip()}\n{sql[:2000]}")
        return [[cell(done, i, j) for j in range(done.nfields)] for i in range(done.ntuples)]

    def answer(self, statements):
        """Runs a query's statements."""
        answer = Answer()
        for statement in statements:
            done = self.run(statement)
            if done.status in ROWS and done.ntuples > MOST:
                answer.state, answer.message = TOO_LARGE, f"more than {MOST} rows"
                break
            if done.status in ROWS:
                answer.types.append([done.ftype(j) for j in range(done.nfields)])
                answer.results.append([tuple(done.get_value(i, j) for j in range(done.nfields)) for i in range(done.ntuples)])
            elif done.status not in FINE:
                answer.state = (done.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b"XX000").decode()
                answer.message = done.error_message.decode(errors="replace").strip()
                break
        if self.pg.transaction_status != TransactionStatus.IDLE:
            self.run("ROLLBACK")
        if answer.state and any(s.startswith("PREPARE") for s in statements):
            self.run("DEALLOCATE ALL")
            self.run("RESET plan_cache_mode")
        return answer

    def close(self):
        self.connection.close()


def cell(done, i, j):
    value = done.get_value(i, j)
    return None if value is None else value.decode()


def prepare_database():
    """What every round needs."""
    session = Session()
    session.must("SELECT pg_advisory_lock(4711)")
    session.must(SETUP.replace("{url}", os.environ.get("TROUGH_URL", "")))
    session.close()


class Worlds:
    """The sessions of one process, and the rounds that it puts in place. `tag` makes its names unique."""

    def __init__(self, tag):
        self.tag, self.number = tag, 0
        self.on, self.off = Session(["pg_trough.pushdown = on"]), Session(["pg_trough.pushdown = off"])
        self.local = [Session(), Session()]
        self.round = None
        self.prefix, self.schemas = "", []

    def all(self):
        return [self.on, self.off, *self.local[: len(self.round.locals)]]

    def put(self, round_):
        """Puts a round in place, after the last one is taken away."""
        self.clear()
        for session in (self.on, self.off, *self.local):
            session.must(PLAIN)
        self.number += 1
        self.round = round_
        p = self.prefix = f"{self.tag}n{self.number}."
        # In a regular expression a point stands for any character; no other round's names match either.
        here = lambda sql: sql.replace("@P@", p)
        on = self.on
        on.must("SELECT trough.register_schema('archive', $a$%ss$a$, $b$%s$b$)" % (p, here(round_.sqlite)))
        for name, script in round_.segments.items():
            quoted = here(name).replace("'", "''")
            url = on.must(f"SELECT trough.provision('archive', '{quoted}', '{p}s')")[0][0]
            if script:
                post(url, here(script))
        self.schemas = [f"f{self.tag}", *(f"l{self.tag}{i}" for i in range(len(round_.locals)))]
        for schema in self.schemas:
            on.must(f"DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}")
        for session in (self.on, self.off):
            session.must(f"SET search_path = {self.schemas[0]}, public")
        for session, schema in zip(self.local, self.schemas[1:]):
            session.must(f"SET search_path = {schema}, public")
        for statement in round_.foreign + round_.inserts:
            on.must(here(statement))
        for session, statements in zip(self.local, round_.locals):
            for statement in statements:
                session.must(here(statement))
        if round_.settings:
            for session in (self.on, self.off, *self.local):
                session.must(round_.settings)

    def answers(self, query):
        """The query's answer in every world."""
        statements = [s.replace("@P@", self.prefix) for s in query.statements()]
        if query.writes:
            return self.written(statements)
        return [session.answer(statements) for session in self.all()]

    def written(self, statements):
        """The answers of a statement that writes: once over the foreign tables, once over the heap, which follows only what was done."""
        on = self.on.answer(statements)
        heap = self.local[0].answer(statements if not on.state else ["BEGIN", *statements, "ROLLBACK"])
        return [on, self.off.answer(statements[1:]), heap]

    def follow(self, query):
        """Whether the heap is still a copy of the foreign tables after a statement that failed, which may have been done in some
        segments (RETURNING is evaluated when the rows are written)."""
        on, heap = (session.answer(query.statements()[1:]) for session in (self.on, self.local[0]))
        return not on.state and not heap.state and [Counter(r) for r in on.results] == [Counter(r) for r in heap.results]

    def clear(self):
        """Takes the round away; its segments are shredded."""
        if self.round is None:
            return
        for schema in self.schemas:
            self.on.run(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        pattern = self.prefix.replace(".", "[.]")
        self.on.run(f"SELECT trough.shred('archive', segment) FROM (SELECT DISTINCT segment FROM trough.segments('archive', '^{pattern}')) AS s")
        self.round = None

    def close(self):
        self.clear()
        for session in (self.on, self.off, *self.local):
            session.close()


def post(url, script):
    """Runs SQL in a segment, straight through its worker's write port."""
    assert urlsplit(url).scheme == "http"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=script.encode(), method="POST"), timeout=30) as reply:
            reply.read()
    except urllib.error.HTTPError as e:
        raise Failed(f"{e.read().decode(errors='replace')[:500]}\n{script[:2000]}") from e
