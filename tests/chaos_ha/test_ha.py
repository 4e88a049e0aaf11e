"""An HA name service: its active name node is killed, or hangs, under a running cluster, and the other one takes over. No daemon is
started again, promotions fail loudly in between and succeed afterwards, nothing is lost, and nothing is deleted or moved."""

import os
import signal
import subprocess

import hadoop
import hadoop_ha
import harness
import pytest
import support
from support import COLD, HOT, WRITTEN

COLD_WORKER = 2
# Segments that appear in the store while the other name node is the active one, and when it has given back.
NEW = ["cold-301", "cold-302"]
COUNT = "select count(*) c, sum(n) s, min(length(pad)) l from t"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """An HDFS with two name nodes, the first of them active."""
    try:
        hadoop.fetch()
        hadoop.java()
    except hadoop.Missing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no HDFS: {missing}")
    pair = hadoop_ha.HighlyAvailable(tmp_path_factory.mktemp("hdfs-ha")).start()
    yield pair
    pair.stop()


@pytest.fixture
def hdfs(pair):
    """HDFS, whole, with the first name node active."""
    for role in pair.roles():
        pair.signal(role, signal.SIGCONT)
        pair.launch(role)
    if pair.active != "namenode-1":
        pair.fail_over()
    return pair


@pytest.fixture
def start(tmp_path, hdfs):
    """Starts a cluster whose daemons are told of the name nodes as the settings say."""
    started = []

    def cluster(**settings):
        # So short a grace that whoever took something for gone would move it at once.
        common = {"MINIMUM_ASSIGNMENTS": 2, "MAXIMUM_ASSIGNMENTS": 2, "MOVE_GRACE": 1, "LEASE": 6, "STORE_TIMEOUT": 6}
        cold = {"COLD_MODE": "direct", "COLD_CHECK": 1, "COLD_READ_TIMEOUT": 20}
        started.append(harness.Cluster(tmp_path, workers=2, settings={**common, **settings}, cold=[cold], hdfs=hdfs))
        return started[-1]

    yield cluster
    for c in started:
        for process in [*c.workers, c.sync, c.meta]:
            process.kill()


class Traffic:
    """Readers, cold readers and writers that go on all the time, and how everything was when they began."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.readers = [support.Reader(cluster, worker, segment, COUNT) for segment in HOT for worker in (0, 1)]
        self.cold = [support.Reader(cluster, COLD_WORKER, segment, COUNT) for segment in COLD]
        self.writers = [support.Writer(cluster, segment, 1000) for segment in WRITTEN]
        self.more(3)
        self.pids = self.daemons()
        self.steady, self.before = support.placed(cluster, HOT + COLD), support.stored(cluster)
        # Beside their places, under names that are no segments': through a data node nothing is written while a name node hangs.
        content = cluster.canonical("cold-/cold-100.sqlite")
        for new in NEW:
            cluster.hdfs.write(str(cluster.store / f"cold-/.{new}.staged"), content)

    def daemons(self):
        return [process.p.pid for process in [self.cluster.meta, self.cluster.sync, *self.cluster.workers] if process.alive()]

    def more(self, times):
        for busy in [*self.readers, *self.cold, *self.writers]:
            busy.more(times)

    def unmoved(self):
        assert support.placed(self.cluster, HOT + COLD) == self.steady, "nothing is moved"

    def listed(self, failing=False):
        """Waits until the sync master has looked at everything three times more, in vain or not."""
        def reported():
            error = harness.http("GET", self.cluster.sync_url("/v1/cluster")).json["cluster"]["error"]
            return "unavailable" in (error or "") if failing else not error
        harness.wait_for("the sync master's report", reported)
        rounds = support.rounds(self.cluster)
        harness.wait_for("rounds of the sync master", lambda: support.rounds(self.cluster) >= rounds + 3)
        assert reported()
        self.unmoved()

    def promotions_fail(self):
        """Every promotion fails, and says why, while all else goes on."""
        def promote(segment):
            answer = self.cluster.promote(segment)
            assert answer.status >= 500 and "unavailable" in answer.text, answer
        promoters = [support.Repeated(lambda s=s: promote(s)) for s in WRITTEN]
        harness.wait_for("failed promotions", lambda: all(p.well() and p.times >= 2 for p in promoters))
        support.stop(promoters)
        fresh = self.cluster.provision("fresh-1", "t")
        assert fresh.status >= 500 and "unavailable" in fresh.text, fresh
        self.more(10)

    def all_is_well(self, new):
        """Promotions succeed, listings are whole, what is new in the store is found, and what is cold is read."""
        for segment in WRITTEN:
            support.promoted(self.cluster, segment)
        self.listed()
        self.cluster.hdfs.rename(str(self.cluster.store / f"cold-/.{new}.staged"), str(self.cluster.store / f"cold-/{new}.sqlite"))
        expected = self.cluster.read("cold-100", COUNT, worker=COLD_WORKER).json
        harness.wait_for(f"{new}, which is cold and new", lambda: self.cluster.read(new, COUNT, worker=COLD_WORKER).json == expected)
        self.more(5)

    def end(self):
        """Nothing was lost, moved or deleted, and nobody was started again."""
        support.stop([*self.readers, *self.cold, *self.writers])
        assert self.daemons() == self.pids
        self.unmoved()
        for writer in self.writers:
            # A row more, so that there is something to promote.
            support.fill(self.cluster, writer.segment, range(999, 1000))
            support.promoted(self.cluster, writer.segment)
            found = set(support.canonical(self.cluster, writer.segment))
            assert found >= set(range(500)) | set(writer.acknowledged), writer.segment
        after = support.stored(self.cluster)
        assert {(folder, name) for folder, name, _ in after} >= {(f, name) for f, name, _ in self.before if "_COPYING_" not in name}, "nothing is deleted"
        assert {entry for entry in self.before if entry[1].startswith(("hot", "cold", "alone"))} <= after


@pytest.mark.parametrize("told", ["STORE_OPTIONS", "HADOOP_CONF_DIR"])
def test_the_active_name_node_is_killed_and_the_other_one_takes_over_and_gives_back(start, hdfs, told, monkeypatch):
    if told == "HADOOP_CONF_DIR":
        monkeypatch.setenv("HADOOP_CONF_DIR", str(hdfs.conf))
        cluster = start()
    else:
        cluster = start(STORE_OPTIONS=hdfs.client_properties())
    support.prepare(cluster)
    traffic = Traffic(cluster)

    hdfs.kill("namenode-1")
    traffic.listed(failing=True)
    traffic.promotions_fail()
    hdfs.activate("namenode-2")
    traffic.all_is_well("cold-301")

    hdfs.run("namenode-1")
    hdfs.fail_over()
    assert hdfs.active == "namenode-1"
    traffic.all_is_well("cold-302")
    traffic.end()


def test_the_active_name_node_hangs_and_the_other_one_takes_over(start, hdfs):
    """It takes connections and never answers, as one whose host is gone: what asks it must come to ask the other one."""
    cluster = start(STORE_OPTIONS={"hadoop.conf.dir": str(hdfs.conf)})
    support.prepare(cluster)
    traffic = Traffic(cluster)

    assert hdfs.signal("namenode-1", signal.SIGSTOP)
    traffic.listed(failing=True)
    traffic.promotions_fail()
    hdfs.activate("namenode-2")
    traffic.all_is_well("cold-301")

    # Killed before it runs again, as by whoever fences it.
    hdfs.kill("namenode-1")
    hdfs.run("namenode-1")
    hdfs.fail_over()
    traffic.all_is_well("cold-302")
    traffic.end()


def test_the_doctor_says_what_is_wrong_with_a_name_service(tmp_path, hdfs):
    def doctor(options, store=f"{hdfs.url}/trough"):
        path = tmp_path / "settings.yml"
        lines = {"STORE": store, "STORE_OPTIONS": options, "STORE_TIMEOUT": 2, "RETHINKDB_HOSTS": ["127.0.0.1:1"]}
        path.write_text("".join(f"{key}: {harness.json.dumps(value)}\n" for key, value in lines.items()))
        done = subprocess.run([harness.BIN, "doctor", "--config", str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120)
        return done.stdout.partition("canonical store")[2].partition("\nsync master")[0]

    known = hdfs.client_properties()
    for options in [known, {"hadoop.conf.dir": str(hdfs.conf)}]:
        harness.wait_for("the store", lambda o=options: "ok    is there, and takes writes" in doctor(o))
    said = doctor({})
    assert "FAIL" in said and "dfs.ha.namenodes.archive" in said, said
    said = doctor(known, f"{hdfs.url}/trough/nowhere")
    assert "FAIL" in said and "hdfs dfs -mkdir -p /trough/nowhere" in said, said
    hdfs.haadmin("-transitionToStandby", "nn1")
    said = doctor(known)
    hdfs.activate("namenode-1")
    assert "FAIL" in said and "unavailable" in said and "see that the name node runs" in said, said
