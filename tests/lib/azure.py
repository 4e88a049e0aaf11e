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
import pathlib
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request

from server import Server

# The one account that Azurite has at first, and its key, as Azurite's documentation gives them.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def server(directory):
    return Server(directory, "azure", "azurite")


def start(directory):
    program = shutil.which("azurite-blob")
    if not program:
        raise SystemExit("no azurite-blob; npm has it: azurite@3.37.0")

    def command(port):
        data = str(pathlib.Path(directory, "data"))
        return [program, "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location", data, "--blobHost", "127.0.0.1", "--blobPort", str(port)]

    def answers(address):
        try:
            urllib.request.urlopen(address + "?comp=list", timeout=5)
        except urllib.error.HTTPError as refused:
            return refused.code == 403  # it asks who we are
        return True

    return server(directory).start(command, f"/{ACCOUNT}", answers, 120)


def stop(directory):
    server(directory).stop()


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
            print(start(where))
        case ["stop", where]:
            stop(where)
        case ["make", address, name]:
            container(address, name, "PUT")
        case ["drop", address, name]:
            container(address, name, "DELETE")
        case _:
            sys.exit(__doc__)
