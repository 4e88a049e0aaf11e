"""The systemd units: well-formed, hardened, and with what the daemons need."""

import configparser
import re
import shutil
import subprocess

import pytest
from harness import BIN, ROOT

UNITS = sorted((ROOT / "packaging/systemd").glob("*.service"))
# systemd's own scale, from 0 to 100: services exposed more than this are not let in.
MOST_EXPOSED = 20

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze; install systemd")


class Unit(configparser.RawConfigParser):
    """Keys keep their case and may be repeated."""

    def __init__(self, path):
        super().__init__(strict=False, interpolation=None)
        self.optionxform = str
        self.read(path)


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.stem)
def test_it_is_well_formed(path, tmp_path):
    # `verify` looks for the program on this machine.
    text = path.read_text().replace("/usr/bin/trough", BIN)
    copy = tmp_path / path.name
    copy.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True)
    said = [line for line in (done.stdout + done.stderr).splitlines() if path.name in line]
    assert done.returncode == 0 and said == [], said


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.stem)
def test_it_is_hardened(path):
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", path],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-600:] + done.stderr


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.stem)
def test_what_it_promises(path):
    service = Unit(path)["Service"]
    assert service["Type"] == "notify" and service["User"] == "trough" and service["Restart"] == "on-failure"
    assert int(service["WatchdogSec"]) >= 10
    # SHUTDOWN_GRACE's default and what the worker closes after it.
    assert int(service["TimeoutStopSec"]) > 10 + 5 + 5 + 2 + 5
    assert service["TimeoutStartSec"] == "infinity"
    assert "trough" in service["StateDirectory"].split()


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.stem)
def test_the_program_takes_its_arguments(path, tmp_path):
    command = Unit(path)["Service"]["ExecStart"].split()
    assert command[0] == "/usr/bin/trough"
    arguments = [re.sub(r"^/etc/trough/", f"{tmp_path}/", a).replace("${LISTEN}", "256.0.0.1:1") for a in command[1:]]
    done = subprocess.run([BIN, *arguments], capture_output=True, text=True, timeout=60)
    # It gets as far as reading the settings, or, where it has none, its address.
    assert "read settings" in done.stderr or "invalid value '256.0.0.1:1' for '--listen" in done.stderr, done.stderr
