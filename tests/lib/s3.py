#!/usr/bin/env python3
"""An S3-compatible server on loopback for the tests (moto, from PyPI; tests/requirements.txt).

    tests/lib/s3.py start DIR    starts it, waits until it answers, and prints its address
    tests/lib/s3.py stop DIR     stops it
"""

import sys
import urllib.request

from server import Server


def server(directory):
    return Server(directory, "s3", "moto.server")


def start(directory):
    def command(port):
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    def answers(address):
        with urllib.request.urlopen(address + "/moto-api/", timeout=5) as answer:
            return answer.status == 200

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
