import os
import pathlib
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import hadoop  # noqa: E402


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """An HDFS of these tests alone, with two data nodes and two copies of each block."""
    try:
        hadoop.fetch()
        hadoop.java()
    except hadoop.Missing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no HDFS: {missing}")
    servers = hadoop.Hadoop(tmp_path_factory.mktemp("hdfs")).start(nodes=2, hostname="127.0.0.2")
    yield servers
    servers.stop()


@pytest.fixture
def hdfs(servers):
    """HDFS, whole: what a test kills or stops is there again after it."""
    yield servers
    for role in servers.roles():
        servers.signal(role, signal.SIGCONT)
        servers.launch(role)
    servers.wait_usable()
    servers.safemode("leave")
