"""The connection is cut in the middle of a promotion, between the worker and the name node or the data nodes, after ever more bytes of
either direction: the canonical copy is the old one or the new one, whole, and the next promotion succeeds."""

import harness
import pytest
import support
from proxy import Proxy

SEGMENT = "cut-100"


@pytest.fixture
def proxies(hdfs):
    """Between the workers and HDFS: to the name node, and to the data nodes, which they find by name."""
    [port] = harness.free_ports(1)
    data = hdfs.state["data"][::3]
    made = {
        "namenode": Proxy({("127.0.0.1", port): ("127.0.0.1", hdfs.state["rpc"])}),
        "datanode": Proxy({(hdfs.state["hostname"], xfer): ("127.0.0.1", xfer) for xfer in data}),
    }
    made["namenode"].address = f"127.0.0.1:{port}"
    yield made
    for proxy in made.values():
        proxy.close()


@pytest.fixture
def cluster(tmp_path, hdfs, proxies):
    settings = {"MINIMUM_ASSIGNMENTS": 1, "MAXIMUM_ASSIGNMENTS": 1, "STORE_TIMEOUT": 3, "UPLOAD_GRACE": 5,
                "STORE_OPTIONS": {"dfs.client.use.datanode.hostname": "true"}}
    c = harness.Cluster(tmp_path, workers=1, settings=settings, hdfs=hdfs, through=proxies["namenode"].address)
    assert c.put_schema("t", "create table t (n integer primary key, pad text) strict;").status in (201, 204)
    support.fill(c, SEGMENT, range(0, 700), size=2000)
    support.promoted(c, SEGMENT)
    yield c
    for process in [*c.workers, c.sync, c.meta]:
        process.kill()


def counts(total):
    """Of so many bytes: the first, the last, and some between, the first of them within headers."""
    return sorted({1, 40, 300, total // 16, total // 4, total // 2, total * 3 // 4, total * 15 // 16, total - 40, total - 1} & set(range(1, total)))


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("server", ["namenode", "datanode"])
def test_cut_after_ever_more_bytes(cluster, proxies, server, direction):
    proxy = proxies[server]
    rows = list(range(700))
    total = least(cluster, proxy, direction, rows)
    outcomes = []
    for at, count in enumerate(counts(total)):
        old = list(rows)
        assert support.canonical(cluster, SEGMENT) == old
        add(cluster, rows)
        proxy.cut_after(direction, count, stays=at % 2 == 1)
        answer = cluster.promote(SEGMENT)
        cut = proxy.cuts
        proxy.restore()
        assert answer.status in (200, 500) and answer.text.strip(), answer
        found = support.canonical(cluster, SEGMENT)
        assert found in (old, rows), (count, answer)
        assert answer.status != 200 or found == rows, (count, answer)
        outcomes.append((count, cut, answer.status, "new" if found == rows else "old", answer.text[:400] if answer.status != 200 else ""))
        add(cluster, rows)
        support.promoted(cluster, SEGMENT)
        assert support.canonical(cluster, SEGMENT) == rows, count
    print(f"{server} {direction}, {total} bytes in all:", *outcomes, sep="\n  ")
    # A promotion does not take the same bytes every time, so a cut near its end may miss it, no other.
    assert all(cut for count, cut, *_ in outcomes if count <= total * 3 // 4), outcomes
    assert sum(cut for _, cut, *_ in outcomes) >= len(outcomes) - 2, outcomes
    assert any(status != 200 for _, _, status, *_ in outcomes), outcomes
    harness.wait_for("the end of its uploads", lambda: [n for n in cluster.canonical_names(SEGMENT[:-3]) if "_COPYING_" not in n] == [f"{SEGMENT}.sqlite"])


def least(cluster, proxy, direction, rows):
    """The fewest bytes that one of three promotions takes: others talk to the name node at the same time."""
    taken = []
    for _ in range(3):
        add(cluster, rows)
        proxy.cut_after(direction, 1 << 60, stays=False)
        support.promoted(cluster, SEGMENT)
        taken.append(proxy.passed[direction])
    return min(taken)


def add(cluster, rows):
    """Writes one more row."""
    support.fill(cluster, SEGMENT, range(len(rows), len(rows) + 1))
    rows.append(len(rows))
