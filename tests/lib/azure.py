#!/usr/bin/env python3
"""Azurite, which speaks as Azure Blob Storage does, on loopback for the tests (from npm; not of this repository's requirements).

    npm install --prefix SOMEWHERE azurite@3.37.0 && export PATH=$PATH:SOMEWHERE/node_modules/.bin
    tests/lib/azure.py start DIR    starts it, waits until it answers, and prints its address, for TROUGH_TEST_AZURE
    tests/lib/azure.py stop DIR     stops it
    tests/lib/azure.py make ADDRESS CONTAINER    makes a container; `drop` deletes one
"""

import base64
import email.utils
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

from hadoop import free_ports, wait_for

# The one account that Azurite has at first, and its key, as Azurite's documentation gives them.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def start(directory):
    program = shutil.which("azurite-blob")
    if not program:
        raise SystemExit("no azurite-blob; npm has it: azurite@3.37.0")
    directory.mkdir(parents=True, exist_ok=True)
    [port] = free_ports(1)
    address = f"http://127.0.0.1:{port}/{ACCOUNT}"
    with open(directory / "azure.log", "ab") as log:
        command = [program, "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location", str(directory / "data"), "--blobHost", "127.0.0.1",
                   "--blobPort", str(port)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (directory / "azure.json").write_text(json.dumps({"pid": process.pid, "address": address}))

    def answers():
        if process.poll() is not None:
            raise RuntimeError((directory / "azure.log").read_text()[-2000:])
        try:
            urllib.request.urlopen(address + "?comp=list", timeout=5)
        except urllib.error.HTTPError as refused:
            return refused.code == 403  # it asks who we are
        return True
    wait_for("Azurite", answers, 120)
    return address


def stop(directory):
    state = json.loads((directory / "azure.json").read_text())
    command = pathlib.Path(f"/proc/{state['pid']}/cmdline")
    if command.exists() and b"azurite" in command.read_bytes():
        os.kill(state["pid"], signal.SIGTERM)
    (directory / "azure.json").unlink()


def container(address, name, method):
    """Makes a container (PUT) or deletes one (DELETE), by a request that is signed with the account's key."""
    url = urllib.parse.urlsplit(f"{address}/{name}")
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    signed = "\n".join([method, *[""] * 11, *(f"{key}:{value}" for key, value in headers.items()), f"/{ACCOUNT}{url.path}", "restype:container"])
    signature = hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    connection.request(method, f"{url.path}?restype=container", headers=headers)
    answer = connection.getresponse()
    if answer.status not in (201, 202):
        raise SystemExit(f"{method} {name}: {answer.status} {answer.read().decode()}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["start", where]:
            print(start(pathlib.Path(where)))
        case ["stop", where]:
            stop(pathlib.Path(where))
        case ["make", address, name]:
            container(address, name, "PUT")
        case ["drop", address, name]:
            container(address, name, "DELETE")
        case _:
            sys.exit(__doc__)
