"""Prints two ports with room behind them: one for a PostgreSQL, and ten above it the first of a cluster's. They lie below the range that
the kernel gives to clients, so that nothing takes them meanwhile."""

import random
import socket


def free(first, count):
    held = []
    try:
        for port in range(first, first + count):
            s = socket.socket()
            s.bind(("127.0.0.1", port))
            held.append(s)
        return True
    except OSError:
        return False
    finally:
        for s in held:
            s.close()


while True:
    first = random.randrange(12000, 30000, 200)
    if free(first, 120):
        print(first, first + 10)
        break
