"""A cluster over an HDFS that asks for Kerberos tickets: from a keytab, from a cache of tickets, and without any."""

import os
import subprocess

import hadoop
import harness
import kerberos
import pytest

USER = "trough"


@pytest.fixture(scope="module", params=[None, "privacy"], ids=lambda p: f"data-{p or 'plain'}")
def hdfs(request, tmp_path_factory):
    """A secured HDFS, whose data nodes may ask for SASL, too."""
    environment = dict(os.environ)
    kdc = kerberos.Kdc(tmp_path_factory.mktemp("kdc"))
    try:
        kdc.start()
        secured = kerberos.Secured(tmp_path_factory.mktemp("hdfs"), kdc, request.param).start()
        yield secured
        secured.stop()
    except hadoop.Missing as missing:
        pytest.skip(f"no HDFS with Kerberos: {missing}")
    finally:
        kdc.stop()
        os.environ.clear()
        os.environ.update(environment)


@pytest.fixture(scope="module")
def keytab(hdfs):
    return hdfs.kdc.keytab(USER)


def options(hdfs, **more):
    protection = {"dfs.data.transfer.protection": hdfs.protection} if hdfs.protection else {}
    return {"hadoop.security.authentication": "kerberos", **protection, **more}


@pytest.fixture
def start(tmp_path, hdfs, monkeypatch):
    """Starts a cluster with a hot and a cold worker; its daemons find no tickets but those that they are told of."""
    monkeypatch.setenv("KRB5CCNAME", str(tmp_path / "none"))
    started = []

    def cluster(**more):
        settings = {"MINIMUM_ASSIGNMENTS": 1, "MAXIMUM_ASSIGNMENTS": 1, "COLD_STORE_SEGMENT": 'segment_id.startsWith("cold-")',
                    "STORE_OPTIONS": options(hdfs, **more)}
        # Its folder is made by HDFS's own user.
        with pytest.MonkeyPatch.context() as own:
            own.setenv("KRB5CCNAME", str(hdfs.kdc.ticket(hdfs.service, hdfs.keys)))
            path, url = harness.canonical_store(tmp_path / "cluster", hdfs)
        with pytest.MonkeyPatch.context() as made:
            made.setattr(harness, "canonical_store", lambda *_: (path, url))
            started.append(harness.Cluster(tmp_path / "cluster", workers=1, settings=settings, cold=[{"COLD_MODE": "direct"}], hdfs=hdfs))
        return started[-1]

    yield cluster
    for c in started:
        for process in [*c.workers, c.sync, c.meta]:
            process.kill()


def used(cluster):
    """A segment is written and promoted, fetched by a worker that has lost it, and read where it lies."""
    write = cluster.provision("hot-100").json["write_url"]
    assert harness.http("POST", write, "create table t (a); insert into t values (1), (2)").status == 200
    assert cluster.promote("hot-100").status == 200
    assert cluster.canonical_names("hot-")[:1] == ["hot-100.sqlite"]
    content = cluster.canonical("hot-/hot-100.sqlite")
    cluster.put_canonical("cold-/cold-100.sqlite", content)
    cluster.put_canonical("other/other100.sqlite", content)
    for segment, worker in [("hot-100", 0), ("other100", 0), ("cold-100", 1)]:
        harness.wait_for(f"{segment}'s rows", lambda: cluster.read(segment, "select sum(a) s from t", worker=worker).json == [{"s": 3}])


def as_hdfs(hdfs, monkeypatch):
    monkeypatch.setenv("KRB5CCNAME", str(hdfs.kdc.ticket(hdfs.service, hdfs.keys)))


def test_with_a_keytab(start, hdfs, keytab, monkeypatch):
    cluster = start(**{"kerberos.principal": f"{USER}@{kerberos.REALM}", "kerberos.keytab": str(keytab)})
    as_hdfs(hdfs, monkeypatch)
    used(cluster)


@pytest.mark.parametrize("where", ["KRB5CCNAME", "kerberos.ccache"])
def test_with_a_ticket(start, hdfs, keytab, monkeypatch, where):
    cache = str(hdfs.kdc.ticket(USER, keytab))
    if where == "KRB5CCNAME":
        monkeypatch.setenv("KRB5CCNAME", cache)
        cluster = start()
    else:
        cluster = start(**{"kerberos.principal": f"{USER}@{kerberos.REALM}", "kerberos.ccache": f"FILE:{cache}"})
    as_hdfs(hdfs, monkeypatch)
    used(cluster)


def test_without_a_ticket_the_doctor_says_what_lacks(tmp_path, hdfs, monkeypatch):
    monkeypatch.setenv("KRB5CCNAME", str(tmp_path / "none"))
    settings = tmp_path / "settings.yml"
    settings.write_text(f"STORE: {hdfs.url}/trough\nSTORE_OPTIONS: {{hadoop.security.authentication: kerberos}}\nLOCAL_DATA: {tmp_path}\n")
    done = subprocess.run([harness.BIN, "doctor", "--config", str(settings)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode != 0
    assert "kerberos" in done.stdout.lower(), done.stdout
