"""PostgreSQL's users with tokens of their own: what each may, and that nobody sees a secret through the extension."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import harness
import psycopg
import pytest

SETUP = """
    CREATE EXTENSION pg_trough;
    CREATE ROLE writer LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE partly LOGIN; CREATE ROLE nobody LOGIN; CREATE ROLE wrong LOGIN;
    CREATE SERVER archive FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb '{url}', ca_file '{ca}');
    GRANT USAGE ON FOREIGN SERVER archive TO writer, reader, partly, wrong;
    CREATE FOREIGN TABLE t (segment text OPTIONS (segment 'true'), a text) SERVER archive OPTIONS (table 't', segments '^pg-');
    GRANT SELECT, INSERT ON t TO writer, reader, partly, wrong;
"""


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    cluster = harness.Cluster(tmp_path_factory.mktemp("pg"), workers=1, settings={"LOG_LEVEL": "TRACE"})
    directory = pathlib.Path(tempfile.mkdtemp(prefix="trough-secure-pg-", dir="/var/tmp"))
    directory.chmod(0o755)
    [port] = harness.free_ports(1)
    pg = [str(harness.ROOT / "scripts/pg.sh")]
    # Its log has its environment at this level: it must not have what the daemons have in theirs.
    env = {key: value for key, value in os.environ.items() if not key.startswith("TROUGH_")}
    subprocess.run([*pg, "start", str(directory / "pg"), str(port), "log_min_messages=debug3"], check=True, stdin=subprocess.DEVNULL, env=env)
    tokens = {**harness.SECURE.tokens, "some": harness.SECURE.add_token("pg-some", "write", segments="pg-1[0-9]*"), "wrong": "tk-wrong-1234567890"}

    def connect(user):
        return psycopg.connect(host="127.0.0.1", port=port, user=user, dbname="postgres", autocommit=True)
    with connect("postgres") as c:
        c.execute(SETUP.format(url=harness.SECURE.url(cluster.meta_port, password=False), ca=harness.SECURE.ca))
        for user, token in (("postgres", "admin"), ("writer", "write"), ("reader", "read"), ("partly", "some"), ("wrong", "wrong")):
            c.execute(f"CREATE USER MAPPING FOR {user} SERVER archive OPTIONS (token '{tokens[token]}', "
                      f"rethinkdb_user 'reader', rethinkdb_password '{harness.SECURE.reader_password}')")
        assert cluster.put_schema("default", "create table t (a)").status < 300
    harness.wait_for("the token", lambda: harness.http(
        "GET", cluster.sync_url("/schema"), headers={"authorization": f"Bearer {tokens['some']}"}).status == 200)
    yield connect, directory / "pg/server.log", tokens, cluster
    subprocess.run([*pg, "stop", str(directory / "pg")], check=True, stdin=subprocess.DEVNULL)
    cluster.stop()
    shutil.rmtree(directory)


def run(connect, user, sql):
    with connect(user) as c:
        cursor = c.execute(sql)
        return cursor.fetchall() if cursor.description else None


def test_each_user_may_what_its_token_may(postgres):
    connect, _, tokens, cluster = postgres
    run(connect, "writer", "INSERT INTO t VALUES ('pg-1', 'x'), ('pg-2', 'y')")
    rows = [("pg-1", "x"), ("pg-2", "y")]
    for user in ("postgres", "writer", "reader"):
        assert run(connect, user, "SELECT * FROM t ORDER BY 1") == rows, user
    assert run(connect, "partly", "SELECT * FROM t WHERE segment = 'pg-1'") == rows[:1]
    run(connect, "partly", "INSERT INTO t VALUES ('pg-10', 'z')")
    for user, sql in (("reader", "INSERT INTO t VALUES ('pg-1', 'no')"), ("partly", "INSERT INTO t VALUES ('pg-2', 'no')"),
                      ("partly", "INSERT INTO t VALUES ('pg-9', 'no')"), ("wrong", "SELECT * FROM t"), ("wrong", "INSERT INTO t VALUES ('pg-1', 'no')"),
                      ("partly", "SELECT * FROM t"), ("partly", "SELECT * FROM t WHERE segment = 'pg-2'"), ("nobody", "SELECT * FROM t")):
        with pytest.raises((psycopg.errors.InvalidAuthorizationSpecification, psycopg.errors.InsufficientPrivilege)) as refused:
            run(connect, user, sql)
        assert not any(token in str(refused.value) for token in tokens.values())
    assert run(connect, "postgres", "SELECT * FROM t ORDER BY 1") == [rows[0], ("pg-10", "z"), rows[1]]


def test_no_secret_is_seen(postgres):
    """In catalogs as others see them, plans, the extension's views, errors, the log at a low level, and arguments."""
    connect, log, tokens, cluster = postgres
    seen = []
    for user in ("postgres", "reader", "nobody"):
        with connect(user) as c:
            for sql in ("SELECT * FROM pg_foreign_server", "SELECT * FROM pg_foreign_table", "SELECT * FROM pg_foreign_data_wrapper",
                        "EXPLAIN (VERBOSE, ANALYZE) SELECT * FROM t", "SELECT * FROM trough.caches()", "SELECT * FROM trough.workers('archive')",
                        "SELECT * FROM trough.segments('archive')", "SELECT * FROM trough.locks('archive')", "SELECT * FROM nosuch",
                        "SELECT * FROM trough.query('archive', ARRAY['pg-1'], 'select nosuch from t')",
                        "INSERT INTO t VALUES ('pg-1', 'secrets')", "SELECT name, setting FROM pg_settings",
                        "SELECT * FROM pg_user_mappings" if user != "postgres" else "SELECT 1"):
                try:
                    text = str(c.execute(sql).fetchall())
                except psycopg.Error as e:
                    text = f"{e} {e.diag.message_detail} {e.diag.message_hint} {e.diag.context}"
                own = tokens["read"] if user == "reader" and "pg_user_mappings" in sql else None
                seen.append((f"{user}: {sql}", text.replace(own, "").replace(harness.SECURE.reader_password, "") if own else text))
    for process in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            seen.append((str(process), process.read_bytes().decode(errors="replace")))
        except OSError:
            pass
    # The statements that made the mappings are the only lines of PostgreSQL's log that may hold tokens, if it logs statements: it does not.
    seen.append(("the log of PostgreSQL", log.read_text(errors="replace")))
    for path in cluster.dir.glob("*.log"):
        seen.append((path.name, path.read_text(errors="replace")))
    assert len(seen) > 40
    for name, text in seen:
        for secret in (*tokens.values(), harness.SECURE.password, harness.SECURE.reader_password):
            assert secret not in text, (name, text[max(0, text.index(secret) - 300):][:400])
