#!/usr/bin/env python3
"""fake-gcs-server, which speaks as Google Cloud Storage does, on loopback for the tests (a Go program; not of this repository's requirements).

    GOBIN=SOMEWHERE go install github.com/fsouza/fake-gcs-server@latest && export PATH=$PATH:SOMEWHERE
    tests/lib/gcs.py start DIR    starts it, waits until it answers, and prints its address, for TROUGH_TEST_GCS
    tests/lib/gcs.py stop DIR     stops it
"""

import shutil
import sys
import urllib.request

from server import Server


def server(directory):
    return Server(directory, "gcs", "fake-gcs-server")


def start(directory):
    program = shutil.which("fake-gcs-server")
    if not program:
        raise SystemExit("no fake-gcs-server; go install github.com/fsouza/fake-gcs-server@latest")

    def command(port):
        address = f"127.0.0.1:{port}"
        return [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory", "-external-url", f"http://{address}", "-public-host", address]

    def answers(address):
        return urllib.request.urlopen(address + "/storage/v1/b?project=test", timeout=5).status == 200

    return server(directory).start(command, "", answers, 60)


def stop(directory):
    server(directory).stop()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["start", where]:
            print(start(where))
        case ["stop", where]:
            stop(where)
        case _:
            sys.exit(__doc__)
