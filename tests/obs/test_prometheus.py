"""A real Prometheus over the cluster: every expression of the dashboard and of the alerts is asked."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import harness
import pytest

DOCKER = pathlib.Path(__file__).resolve().parents[2] / "docker"
RULES = DOCKER / "prometheus/alerts.yml"
DASHBOARD = DOCKER / "grafana/dashboards/trough.json"


@pytest.fixture(scope="module", autouse=True)
def tools():
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        assert not os.environ.get("CI"), "prometheus (the Debian package) is missing"
        pytest.skip("no Prometheus")


def promtool(*arguments):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_configuration_and_rules_are_valid():
    promtool("check", "config", "--syntax-only", DOCKER / "prometheus/prometheus.yml")
    promtool("check", "rules", RULES)


def test_alerts_fire_when_they_should():
    promtool("test", "rules", pathlib.Path(__file__).parent / "alerts_test.yml")


def alerts():
    text = RULES.read_text()
    return re.findall(r"- alert: (\w+)", text)


def test_every_alert_has_a_test_and_says_what_to_do():
    tested = (pathlib.Path(__file__).parent / "alerts_test.yml").read_text()
    told = (DOCKER.parent / "docs/OPERATIONS.md").read_text()
    for alert in alerts():
        assert re.search(rf"alertname: {alert}\n        exp_alerts", tested), f"{alert} is never seen to fire"
        assert f"| {alert} |" in told, f"docs/OPERATIONS.md does not say what to do about {alert}"


@pytest.fixture(scope="module")
def prometheus(stack, tmp_path_factory):
    """The configuration as it is, but for targets, tokens and the pace."""
    directory = tmp_path_factory.mktemp("prometheus")
    jobs = {"trough-worker": ["worker-1", "worker-2", "cold-1"], "trough-sync": ["sync"], "trough-meta": ["meta"]}
    scrapes = [
        {"job_name": job, "static_configs": [{"targets": [stack.daemons[part].removeprefix("http://") for part in parts]}]}
        for job, parts in jobs.items()
    ]
    shutil.copy(RULES, directory / "alerts.yml")
    pace = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (directory / "prometheus.yml").write_text(json.dumps({"global": pace, "rule_files": ["alerts.yml"], "scrape_configs": scrapes}))
    (port,) = harness.free_ports(1)
    process = harness.Process(
        ["prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data", f"--web.listen-address=127.0.0.1:{port}"],
        directory / "log",
    )
    url = f"http://127.0.0.1:{port}"

    def ask(expression):
        answer = harness.http("GET", f"{url}/api/v1/query?query={harness.quote(expression)}").json
        assert answer["status"] == "success", (expression, answer)
        return answer["data"]["result"]

    try:
        # Rates need several scrapes.
        harness.wait_for("scrapes", lambda: len(ask("count_over_time(up[1m]) > 5")) == 5, timeout=60)
        ask.url = url
        yield ask
    finally:
        process.stop()


def expressions():
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$node", ".*")


# Nothing of it happens here.
EMPTY = set()


def test_the_dashboard_shows_something_everywhere(prometheus):
    empty = lambda: [(title, expr) for title, expr in expressions() if not prometheus(expr) and title not in EMPTY]  # noqa: E731
    harness.wait_for("data for every panel", lambda: empty() == [] or print(empty()), timeout=30, every=1)


def test_the_dashboard_is_what_grafana_loads():
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["uid"] == "trough" and dashboard["schemaVersion"] >= 39
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    ids, places = [], []
    for panel in dashboard["panels"]:
        ids.append(panel["id"])
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        places.append((at["x"], at["y"]))
        if panel["type"] == "row":
            continue
        assert panel["type"] in ("timeseries", "stat") and panel["targets"] and panel["fieldConfig"]["defaults"]["unit"]
        assert [target["refId"] for target in panel["targets"]] == [chr(65 + i) for i in range(len(panel["targets"]))]
        for name in re.findall(r"\$\{?(\w+)", json.dumps(panel)):
            assert name in variables or name == "__rate_interval", (panel["title"], name)
    assert len(set(ids)) == len(ids) and len(set(places)) == len(places)


def test_alerts_are_evaluated_and_quiet(prometheus):
    def evaluated():
        groups = harness.http("GET", prometheus.url + "/api/v1/rules").json["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if rules and all(rule["health"] == "ok" for rule in rules) else None

    rules = harness.wait_for("all rules evaluated", evaluated)
    assert sorted(rule["name"] for rule in rules) == sorted(alerts())
    # Those that depend on a metric nobody has would be quiet for ever.
    for rule in rules:
        names = set(re.findall(r"\b(?:trough|process)_\w+", rule["query"]))
        for name in names or {"up"}:
            assert prometheus(f"count({{__name__='{name}'}})"), (rule["name"], name)
    firing = {rule["name"] for rule in rules if rule["state"] == "firing"}
    assert firing <= {"TroughDiskNearFull", "TroughCapacityNearFull"}, firing  # the machine's disk is not ours
