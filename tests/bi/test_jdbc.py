"""pgjdbc, as Metabase, DBeaver, Tableau, Spark and other tools on the JVM use it: Jdbc.java asks, this says what must come."""

import os
import shutil
import subprocess

import pytest
from conftest import ROOT

JARS = ROOT / "target/bi-jars"
POM = ROOT / "tests/bi/pom.xml"
COLUMNS = [
    "customer text 12 NO who ordered", "id int8 -5 YES null", "placed timestamp 93 NO when, in UTC", "due date 91 YES null",
    "product text 12 NO null", "units int8 -5 NO how many", "price float8 8 YES null", "paid bool -7 NO null",
    "note text 12 YES null", "photo bytea -2 YES null"]


def jars():
    """The driver from Maven Central, once; the marker is written last and names the POM that it is of."""
    marker, wanted = JARS / ".complete", POM.read_text()
    if not marker.exists() or marker.read_text() != wanted:
        if missing := [program for program in ["java", "mvn"] if not shutil.which(program)]:
            if os.environ.get("CI"):
                pytest.fail(f"no {' and no '.join(missing)}; install it with: scripts/setup.sh test")
            pytest.skip(f"no {' and no '.join(missing)}")
        shutil.rmtree(JARS, ignore_errors=True)
        JARS.mkdir(parents=True)
        subprocess.run(["mvn", "-B", "-q", "-f", POM, "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={JARS}"],
                       check=True)
        marker.write_text(wanted)
    return f"{JARS}/*"


@pytest.fixture(scope="module", params=["extended", "simple"])
def found(stack, request):
    """What Jdbc.java prints, by name; in the extended protocol and in the simple one, which poolers ask for."""
    done = subprocess.run(
        ["java", "-XX:TieredStopAtLevel=1", "-cp", jars(), ROOT / "tests/bi/Jdbc.java", f"jdbc:postgresql://{stack.host}:{stack.port}/{stack.database}", stack.user,
         "preferQueryMode", request.param],
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = {"mode": request.param}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(": ")
        found[name] = value.strip()
    return found


def test_tables(found):
    assert "FOREIGN TABLE" in found["table types"].split(",")
    orders, unpaid = "orders (FOREIGN TABLE, what customers ordered)", "unpaid (VIEW, null)"
    assert found["tables FOREIGN TABLE"] == orders
    assert found["tables TABLE+VIEW+FOREIGN TABLE"] == f"{orders} {unpaid}"
    assert found["tables TABLE"] == ""  # tools that ask for TABLE alone do not see foreign tables
    assert found["tables null"] == f"{orders} {unpaid}"


def test_columns(found):
    assert [found.get(f"column {i + 1}") for i in range(len(COLUMNS) + 1)] == [*COLUMNS, None]
    assert found["keys"] == "false false false"
    assert found["privileges"] == "SELECT"


def test_prepared_statements(found):
    assert found["prepared statements answer as on plain tables"] == "true"
    assert found["prepared on the server"] == ("1" if found["mode"] == "extended" else "0")


def test_fetch_size(found):
    assert found["fetched"] == f"2400 rows, ids add up to {2400 * 2401 // 2}"
    if found["mode"] == "extended":  # the simple protocol knows no limit
        assert found["at most"] == "7"


def test_values(found):
    assert found["classes"] == "String Long Timestamp Date String Long Double Boolean String [B"
    assert found["row"] == "c00 60 2026-01-08T19:00 null apples 15.0 true 4"


def test_isolation_levels_and_refusals(found):
    assert found["isolation"] == "2400 2400 2400 2400"
    assert found["refused"] == "42501"


def test_explain(found):
    assert "Relations: Aggregate on (orders)" in found["plan"] and "`placed`" in found["plan"], found["plan"]
