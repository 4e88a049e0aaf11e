"""A small cluster for the shell's tests, and shells on a terminal of their own."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import harness  # noqa: E402
import terminal  # noqa: E402

SCHEMA = "CREATE TABLE crawl_log (status INTEGER, url TEXT);\nCREATE TABLE notes (note TEXT);\n"


@pytest.fixture(scope="session")
def dev(tmp_path_factory):
    cluster = harness.Dev(tmp_path_factory.mktemp("shell") / "dev", workers=2)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def data(dev, tmp_path_factory):
    """Six segments d-1 … d-6 of the schema `data`; d-N has N rows of status 200 and one of 404."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "data.sql").write_text(SCHEMA)
    ids = [f"d-{n}" for n in range(1, 7)]
    commands = ["register schema data data.sql", f"provision {' '.join(ids)}"]
    for n, segment in enumerate(ids, 1):
        rows = ", ".join([f"(200, 'http://{segment}/{i}')" for i in range(n)] + ["(404, NULL)"])
        commands += [f"connect {segment}", f"insert into crawl_log values {rows}"]
    script = "\n".join(command + ";" for command in commands) + "\n"
    done = terminal.run(dev.url, "-w", "-s", "data", input=script, cwd=folder)
    assert done.returncode == 0, done
    return ids


@pytest.fixture
def shell(dev, tmp_path):
    """Starts shells on terminals; they are closed with the test."""
    shells = []

    def start(*args, **more):
        shells.append(terminal.Shell(dev.url, *args, history=more.pop("history", tmp_path / "history"), **more))
        return shells[-1]

    yield start
    for one in shells:
        one.close()
