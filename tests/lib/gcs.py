#!/usr/bin/env python3
"""fake-gcs-server, which speaks as Google Cloud Storage does, on loopback for the tests (a Go program; not of this repository's requirements).

    GOBIN=SOMEWHERE go install github.com/fsouza/fake-gcs-server@latest && export PATH=$PATH:SOMEWHERE
    tests/lib/gcs.py start DIR    starts it, waits until it answers, and prints its address, for TROUGH_TEST_GCS
    tests/lib/gcs.py stop DIR     stops it
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import urllib.request

from hadoop import free_ports, wait_for


def start(directory):
    program = shutil.which("fake-gcs-server")
    if not program:
        raise SystemExit("no fake-gcs-server; go install github.com/fsouza/fake-gcs-server@latest")
    directory.mkdir(parents=True, exist_ok=True)
    [port] = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    with open(directory / "gcs.log", "ab") as log:
        command = [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory", "-external-url", address, "-public-host",
                   f"127.0.0.1:{port}"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (directory / "gcs.json").write_text(json.dumps({"pid": process.pid, "address": address}))

    def answers():
        if process.poll() is not None:
            raise RuntimeError((directory / "gcs.log").read_text()[-2000:])
        return urllib.request.urlopen(address + "/storage/v1/b?project=test", timeout=5).status == 200
    wait_for("fake-gcs-server", answers, 60)
    return address


def stop(directory):
    state = json.loads((directory / "gcs.json").read_text())
    command = pathlib.Path(f"/proc/{state['pid']}/cmdline")
    if command.exists() and b"fake-gcs-server" in command.read_bytes():
        os.kill(state["pid"], signal.SIGTERM)
    (directory / "gcs.json").unlink()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["start", where]:
            print(start(pathlib.Path(where)))
        case ["stop", where]:
            stop(pathlib.Path(where))
        case _:
            sys.exit(__doc__)
