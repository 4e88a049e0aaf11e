"""A TCP proxy on loopback that cuts its connections after so many bytes, as a network does that fails in the middle of something."""

import socket
import struct
import threading


class Proxy:
    """Stands between clients and servers: `routes` says from which address to which. `passed` counts bytes: `up` to the servers,
    `down` to the clients."""

    def __init__(self, routes):
        self.lock = threading.Lock()
        self.passed = {"up": 0, "down": 0}
        self.limit, self.stays, self.gone, self.cuts = None, False, False, 0
        self.pairs, self.servers = set(), []
        for listen, target in routes.items():
            server = socket.create_server(listen)
            thread = threading.Thread(target=self.accept, args=(server, target), daemon=True)
            thread.start()
            self.servers.append((server, thread))

    def cut_after(self, direction, count, stays):
        """Counts anew, and cuts every connection in the middle once `count` bytes have passed in that direction. `stays`: nobody gets
        through afterwards, until `restore`; else who connects again does."""
        with self.lock:
            self.passed = {"up": 0, "down": 0}
            self.limit, self.stays, self.cuts = (direction, count), stays, 0

    def restore(self):
        with self.lock:
            self.limit, self.gone = None, False

    def close(self):
        for server, thread in self.servers:
            server.shutdown(socket.SHUT_RDWR)  # wakes who accepts
            thread.join()
            server.close()
        self.drop()

    # How

    def accept(self, server, target):
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            try:
                with self.lock:
                    if self.gone:
                        raise ConnectionError
                upstream = socket.create_connection(target)
            except OSError:
                reset(client)
                continue
            pair = (client, upstream)
            with self.lock:
                self.pairs.add(pair)
            threads = [threading.Thread(target=self.pump, args=(*pair, "up"), daemon=True),
                       threading.Thread(target=self.pump, args=(*reversed(pair), "down"), daemon=True)]
            for thread in threads:
                thread.start()
            threading.Thread(target=self.end, args=(pair, threads), daemon=True).start()

    def end(self, pair, threads):
        for thread in threads:
            thread.join()
        with self.lock:
            self.pairs.discard(pair)
        for end in pair:
            end.close()

    def pump(self, source, sink, direction):
        try:
            while data := source.recv(65536):
                allowed, cut = self.admit(direction, len(data))
                sink.sendall(data[:allowed])
                if cut:
                    self.drop()
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, sink):  # one of them is gone, so the other is
                reset(end)

    def admit(self, direction, count):
        """How many of the bytes may pass, and whether that was the last of them."""
        with self.lock:
            self.passed[direction] += count
            if self.limit is None or self.limit[0] != direction or self.passed[direction] < self.limit[1]:
                return count, False
            over = self.passed[direction] - self.limit[1]
            self.limit, self.gone = None, self.stays
            self.cuts += 1
            return count - over, True

    def drop(self):
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            for end in pair:
                reset(end)


def reset(end):
    """Ends a connection without a farewell. A thread that waits for it wakes up, and closes it."""
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended by itself
