"""HTTP as the workload speaks it: connections that are kept, and a clear word on whether a request can have arrived."""

import http.client
import socket
import urllib.parse


class NotSent(Exception):
    """The request certainly did not arrive."""


class NoAnswer(Exception):
    """The request may have arrived; nobody knows what became of it."""


class Client:
    """One client's connections, for one thread."""

    def __init__(self):
        self.kept = {}

    def request(self, method, url, body=None, headers=None, timeout=10):
        """(status, body). A connection that was kept may be dead: then what was sent on it is of unknown fate."""
        parts = urllib.parse.urlsplit(url)
        connection = self.kept.pop(parts.netloc, None)
        if connection is None:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=2)
            try:
                connection.connect()
            except OSError as e:
                connection.close()
                raise NotSent(f"{parts.netloc}: {e}") from e
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock.settimeout(timeout)
        try:
            connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, headers or {})
            response = connection.getresponse()
            answer = response.status, response.read()
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            raise NoAnswer(f"{parts.netloc}: {type(e).__name__} {e}") from e
        if response.will_close:
            connection.close()
        else:
            self.kept[parts.netloc] = connection
        return answer

    def close(self):
        for connection in self.kept.values():
            connection.close()
        self.kept.clear()
