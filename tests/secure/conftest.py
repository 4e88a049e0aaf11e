import os
import pathlib
import sys

import pytest

os.environ["TROUGH_TEST_SECURE"] = "1"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import harness  # noqa: E402  the environment comes first


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """One worker; the segment `mine-1` is writable there, `other-1` too."""
    c = harness.Cluster(tmp_path_factory.mktemp("secure"), workers=1, settings={"LOG_LEVEL": "TRACE"})
    for segment in ("mine-1", "other-1"):
        assert c.provision(segment).status == 200
        assert c.write(segment, f"create table t (a); insert into t values ('{segment}')").status == 200
    yield c
    c.stop()
