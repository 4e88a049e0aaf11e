#!/usr/bin/env python3
"""An S3-compatible server on loopback for the tests (moto, from PyPI; tests/requirements.txt).

    tests/lib/s3.py start DIR    starts it, waits until it answers, and prints its address
    tests/lib/s3.py stop DIR     stops it
"""

import json
import os
import pathlib
import signal
import subprocess
import sys

from hadoop import free_ports, wait_for


def start(directory):
    import urllib.request
    directory.mkdir(parents=True, exist_ok=True)
    [port] = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    with open(directory / "s3.log", "ab") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (directory / "s3.json").write_text(json.dumps({"pid": process.pid, "address": address}))

    def answers():
        if process.poll() is not None:
            raise RuntimeError((directory / "s3.log").read_text()[-2000:])
        with urllib.request.urlopen(address + "/moto-api/", timeout=5) as answer:
            return answer.status == 200
    wait_for("the S3 server", answers, 60)
    return address


def stop(directory):
    state = json.loads((directory / "s3.json").read_text())
    command = pathlib.Path(f"/proc/{state['pid']}/cmdline")
    if command.exists() and b"moto.server" in command.read_bytes():
        os.kill(state["pid"], signal.SIGTERM)
    (directory / "s3.json").unlink()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["start", where]:
            print(start(pathlib.Path(where)))
        case ["stop", where]:
            stop(pathlib.Path(where))
        case _:
            sys.exit(__doc__)
