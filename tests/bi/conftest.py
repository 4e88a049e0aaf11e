"""A PostgreSQL with the extension, a cluster, and known rows in both: what each BI tool's tests read."""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import psycopg
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lib"))

import harness  # noqa: E402


class Stack:
    """Where everything is. `user` is the role that tools connect as; it may read, and nothing else.
    After a failed start the directory stays, with the logs."""

    user = "analyst"
    database = "bi"

    def __init__(self, port, cluster):
        self.host, self.port, self.cluster = "127.0.0.1", port, cluster

    @property
    def dsn(self):
        return f"host={self.host} port={self.port} user={self.user} dbname={self.database}"

    def url(self, scheme, user=None):
        return f"{scheme}://{user or self.user}@{self.host}:{self.port}/{self.database}"

    def rows(self, sql, parameters=None):
        """What a plain text-protocol client gets."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(sql, parameters).fetchall()

    def plan(self, sql):
        """EXPLAIN VERBOSE as text; `sql` has no parameters."""
        with psycopg.connect(self.dsn) as connection:
            return "\n".join(line for (line,) in connection.execute(f"EXPLAIN (VERBOSE, COSTS OFF) {sql}"))

    def assert_pushed_down(self, sql, *parts):
        """The aggregate runs in SQLite, and its SQL has each of `parts`."""
        plan = self.plan(sql)
        assert "Relations: Aggregate on" in plan, plan
        shipped = next(line for line in plan.splitlines() if "SQLite SQL:" in line)
        for part in parts:
            assert part in shipped, plan


@pytest.fixture(scope="session")
def stack():
    directory = pathlib.Path(tempfile.mkdtemp(prefix="trough-bi-"))
    directory.chmod(0o755)  # the user postgres must reach its data
    out = subprocess.run([sys.executable, ROOT / "scripts/free-ports.py"], check=True, capture_output=True, text=True).stdout
    port, base_port = map(int, out.split())
    pg = directory / "pg"
    subprocess.run([ROOT / "scripts/pg.sh", "start", pg, str(port)], check=True)
    try:
        cluster = harness.Dev(directory / "cluster", workers=2, base_port=base_port)
        try:
            psql = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
            subprocess.run([*psql, "-c", "CREATE DATABASE bi", "postgres"], check=True)
            subprocess.run([*psql, "-v", f"url={cluster.url}", "-f", ROOT / "tests/bi/setup.sql", "bi"], check=True)
            yield Stack(port, cluster)
        finally:
            cluster.stop()
    finally:
        subprocess.run([ROOT / "scripts/pg.sh", "stop", pg], check=True)
    shutil.rmtree(directory)


@pytest.fixture
def connection(stack):
    with psycopg.connect(stack.dsn) as connection:
        yield connection
