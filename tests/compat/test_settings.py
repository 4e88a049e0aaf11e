"""The settings files that Python installations have."""

import ast
import importlib.metadata
import pathlib
import subprocess

import harness
import pytest

PRODUCTION = """\
# /etc/trough/settings.yml
LOCAL_DATA: {data}
HDFS_PATH: /ait/prod/trough/
HDFS_HOST: namenode.example.org
HDFS_PORT: 6000
READ_PORT: 6444
WRITE_PORT: '6222'
READ_THREADS: '30'
WRITE_THREADS: "10"
EXTERNAL_IP:
STORAGE_IN_BYTES: {storage}
HOSTNAME: trough-worker-7.example.org
RETHINKDB_HOSTS: ['rethink-1.example.org', 'rethink-2.example.org:28016', "rethink-3.example.org"]
MINIMUM_ASSIGNMENTS: {minimum}
MAXIMUM_ASSIGNMENTS: 3
SYNC_LOOP_TIMING: 120
ELECTION_CYCLE: 10
RUN_AS_COLD_STORAGE_NODE: false
COLD_STORE_SEGMENT: {cold}
COLD_STORAGE_PATH: "/mount/hdfs/trough-data/{{prefix}}/{{segment_id}}.sqlite"
SENTRY_DSN: https://key@sentry.example.org/1
LOG_LEVEL: WARNING
"""


@pytest.fixture
def settings(tmp_path):
    def write(minimum="2", cold="False", storage="107374182400"):
        path = tmp_path / "settings.yml"
        path.write_text(PRODUCTION.format(data=tmp_path / "data", minimum=minimum, cold=cold, storage=storage))
        return path

    return write


def trough(role, path, **environment):
    """Exit status and words of a part that is only to look at its settings: nothing that they name is there."""
    env = {"PATH": "/usr/bin:/bin", "TROUGH_SETTINGS": str(path), **environment}
    done = subprocess.run([harness.BIN, *role.split()], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=60)
    return done.returncode, done.stdout


# Nothing answers there, at once.
NOWHERE = {"TROUGH_RETHINKDB_HOSTS": "127.0.0.1:1", "TROUGH_STORE": "file:///nonexistent/store"}


def test_a_file_as_it_is(settings):
    for storage in ("107374182400", "100*1024**3", "100 GiB"):
        _, said = trough("doctor", settings(storage=storage), **NOWHERE)
        assert "ok    readable; this node is trough-worker-7.example.org" in said, said


def test_every_setting_of_the_original(tmp_path):
    """Its own table of defaults, as a settings file."""
    source = pathlib.Path(importlib.metadata.distribution("trough").locate_file("trough/settings.py")).read_text()
    table = next(node.value for node in ast.parse(source).body if isinstance(node, ast.Assign) and node.targets[0].id == "settings")
    lines = []
    for key, value in zip(table.keys, table.values):
        try:
            lines.append(f"{key.value}: {eval(compile(ast.Expression(value), 'settings', 'eval'), {'__builtins__': {}})!r}")
        except NameError:
            assert key.value == "HOSTNAME", "the only one that is computed"
    text = "\n".join(lines).replace(": None", ":") + "\nHOSTNAME: here\n"
    assert len(lines) > 20 and "COLD_STORAGE_PATH: '/mount/hdfs/" in text
    path = tmp_path / "settings.yml"
    path.write_text(text)
    _, said = trough("doctor", path, TROUGH_LOCAL_DATA=str(tmp_path), **NOWHERE)
    assert "ok    readable; this node is here" in said, said
    # What is no setting of either is refused, with what was meant.
    path.write_text(text + "MINIMUM_ASIGNMENTS: 2\n")
    status, said = trough("doctor", path, **NOWHERE)
    assert status == 1 and "MINIMUM_ASSIGNMENTS" in said


@pytest.mark.parametrize("role", ["worker", "sync", "sync --plan", "doctor"])
def test_a_lambda_is_refused_with_its_equivalent(settings, role):
    copies = "lambda segment_id: 1 if segment_id.startswith('tmp') and len(segment_id) > 6 else 3"
    equivalent = "segment_id.startsWith('tmp') && size(segment_id) > 6 ? 1 : 3"
    path = settings(minimum=f'"{copies}"')
    status, said = trough(role, path, **NOWHERE)
    assert status != 0 and "MINIMUM_ASSIGNMENTS" in said and equivalent in said and str(path) in said, said
    status, said = trough(role, settings(cold='"lambda segment_id: int(segment_id) < 300000"'), **NOWHERE)
    assert status != 0 and "COLD_STORE_SEGMENT" in said and "int(segment_id) < 300000" in said, said


def test_the_equivalent_is_read_from_the_file_and_beside_it(settings):
    """A Python master goes on with its lambda in the file, while ours take the expression from their environment."""
    lambda_file = settings(minimum="\"lambda s: 1 if s == 'x' else 2\"")
    expression = "segment_id == 'x' ? 1 : 2"
    _, said = trough("doctor", lambda_file, TROUGH_MINIMUM_ASSIGNMENTS=expression, **NOWHERE)
    assert "ok    readable" in said, said
    _, said = trough("doctor", settings(minimum=f'"{expression}"', cold='"int(segment_id) < 300000"'), **NOWHERE)
    assert "ok    readable" in said, said
    for wrong in ("segment == 'x' ? 1 : 2", "segment_id == 'x' ?", "'two'"):
        status, said = trough("doctor", settings(minimum=f'"{wrong}"'), **NOWHERE)
        assert status == 1 and "MINIMUM_ASSIGNMENTS" in said and "trough doctor --settings" in said, said
