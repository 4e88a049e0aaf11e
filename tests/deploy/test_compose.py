"""The compose file and the Dockerfile, as far as they can be checked without an engine. tests/deploy/compose.sh runs them with one."""

import copy
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml
from compose_spec.compose_spec import PyCompose
from harness import BIN, ROOT

DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yml").read_text())
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
SERVICES = COMPOSE["services"]
DAEMONS = {name: service for name, service in SERVICES.items() if service.get("image") == "trough"}


def test_the_topology():
    roles = {name: service["command"] for name, service in DAEMONS.items()}
    assert roles == {"sync-1": ["sync"], "sync-2": ["sync"], "worker-1": ["worker"], "worker-2": ["worker"], "worker-3": ["worker"],
                     "cold-1": ["worker", "--cold"]}
    zones = {DAEMONS[f"worker-{i}"]["environment"]["TROUGH_ZONE"] for i in (1, 2, 3)}
    assert len(zones) == 3
    assert {"rethinkdb-1", "rethinkdb-2", "rethinkdb-3", "namenode", "datanode", "postgres", "prometheus", "grafana"} <= set(SERVICES)


def test_only_loopback_is_published():
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_everything_named_is_there():
    for name, service in SERVICES.items():
        for secret in service.get("secrets", []):
            assert secret in COMPOSE["secrets"], (name, secret)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                # Prometheus' and Grafana's folders hold what those read; they are mounted whole.
                assert (DOCKER / source).exists(), (name, source)
            else:
                assert source in COMPOSE["volumes"], (name, source)
        for other, how in (service.get("depends_on") or {}).items() if isinstance(service.get("depends_on"), dict) else []:
            assert other in SERVICES, (name, other)
            if how["condition"] == "service_healthy" and "healthcheck" not in SERVICES[other]:
                target = SERVICES[other]["build"]["target"]
                assert "HEALTHCHECK" in stage(target), f"{name} waits for {other} to be healthy, which nothing checks"
        if "build" in service:
            assert stage(service["build"]["target"])


def stage(name):
    found = re.search(rf"(?ms)^FROM \S+ AS {re.escape(name)}\n(.*?)(?=^FROM |\Z)", DOCKERFILE)
    assert found, f"the Dockerfile has no stage {name}"
    return found.group(1)


def test_what_the_dockerfile_copies_is_there():
    for line in re.findall(r"(?m)^COPY (?!--from)(.+)$", DOCKERFILE):
        for source in line.split()[:-1]:
            assert source == "." or list(ROOT.glob(source)), source
    for source in re.findall(r"cp (sql/\S+(?: sql/\S+)*) ", DOCKERFILE):
        for pattern in source.split():
            assert list(ROOT.glob(pattern)), pattern
    for name in re.findall(r"--from=(\S+)", DOCKERFILE):
        assert stage(name) is not None


def test_the_packages_that_it_installs_exist():
    if not shutil.which("apt-cache"):
        pytest.skip("no apt")
    lists = re.findall(r"apt-get install -y --no-install-recommends ([^&\\]+)", DOCKERFILE)
    packages = {p.replace("$PG_MAJOR", "15").strip('"') for line in lists for p in line.split()}
    known = subprocess.run(["apt-cache", "pkgnames"], capture_output=True, text=True, check=True).stdout.split()
    if len(known) < 10_000:
        pytest.skip("no lists of packages; run apt-get update")
    assert packages <= set(known), packages - set(known)


def test_the_dockerfile_has_no_lint():
    hadolint = pathlib.Path(os.sys.prefix) / "bin/hadolint"
    # DL3008: Debian's stable packages change for security only. DL3066: the name is in the image, which has its number.
    done = subprocess.run([hadolint, "--no-color", "--ignore", "DL3008", "--ignore", "DL3066", DOCKER / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_is_one():
    # Anchors and merges are YAML's, and resolved by now.
    PyCompose.from_json(json.dumps(COMPOSE))
    broken = copy.deepcopy(COMPOSE)
    broken["services"]["sync-1"]["prots"] = ["1:1"]
    with pytest.raises(ValueError, match="prots"):
        PyCompose.from_json(json.dumps(broken))


@pytest.mark.parametrize("name", DAEMONS)
def test_the_daemons_take_their_settings_and_arguments(name, tmp_path):
    secrets = tmp_path / "secrets"
    shutil.copytree(DOCKER, tmp_path / "docker", ignore=shutil.ignore_patterns("secrets"))
    subprocess.run([tmp_path / "docker/secrets.sh"], check=True, capture_output=True)
    secrets = tmp_path / "docker/secrets"
    files = {secret: secrets / pathlib.Path(COMPOSE["secrets"][secret]["file"]).name for secret in DAEMONS[name]["secrets"]}
    environment = {key: str(files[pathlib.Path(value).name]) if key.endswith("_FILE") else value
                   for key, value in DAEMONS[name]["environment"].items()}
    # As the container would read them; nothing listens here, so the answer is no, but not one about settings.
    part = DAEMONS[name]["command"][0]
    ask = subprocess.run([BIN, "health", part, "--config", DOCKER / "settings.yml"], env={**environment, "PATH": os.environ["PATH"]},
                         capture_output=True, text=True, timeout=60)
    assert ask.returncode == 1 and ask.stdout.startswith("not ready: GET http://" + name), ask.stdout + ask.stderr
    start = subprocess.run([BIN, *DAEMONS[name]["command"], "--config", tmp_path / "none.yml"], capture_output=True, text=True, timeout=60)
    assert f"read settings {tmp_path}/none.yml" in start.stderr, start.stderr


def test_secrets_are_made_once(tmp_path):
    shutil.copy(DOCKER / "secrets.sh", tmp_path)
    read = lambda: {p.name: p.read_text() for p in (tmp_path / "secrets").iterdir()}  # noqa: E731
    subprocess.run([tmp_path / "secrets.sh"], check=True, capture_output=True)
    first = read()
    subprocess.run([tmp_path / "secrets.sh"], check=True, capture_output=True)
    assert read() == first
    assert {pathlib.Path(s["file"]).name for s in COMPOSE["secrets"].values()} == set(first)
    tokens = yaml.safe_load(first["tokens.yml"])
    hashes = {hashlib.sha256(first[name].encode()).hexdigest() for name in ("admin_token", "postgres_token", "metrics_token")}
    assert {t["role"] for t in tokens} == {"admin", "read"} and {t["token_sha256"] for t in tokens} == hashes and len(hashes) == 3
