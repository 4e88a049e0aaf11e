"""A worker that only answers `POST /v1/query`, for any segment, out of one SQLite database: so many segments can be simulated as there are
service rows. MessagePack as far as frames need it."""

import http.server
import json
import socketserver
import sqlite3
import struct
import threading


def pack(value):
    """A value of a frame."""
    match value:
        case None:
            return b"\xc0"
        case int():
            return b"\xd3" + struct.pack(">q", value)
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case str():
            data = value.encode()
            return b"\xdb" + struct.pack(">I", len(data)) + data
        case bytes():
            return b"\xc6" + struct.pack(">I", len(value)) + value
        case list():
            return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(pack, value))
        case dict():
            return b"\xdf" + struct.pack(">I", len(value)) + b"".join(pack(k) + pack(v) for k, v in value.items())


class StandIn(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves until it is closed; `asked` counts how often each segment was asked, and `missing` names segments that it does not have."""

    daemon_threads = True

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.asked, self.missing = script, {}, set()
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = b"".join(map(pack, answer(self.server, request)))
        self.send_response(200)
        self.send_header("Content-Type", "application/msgpack")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def answer(server, request):
    """The frames."""
    db = sqlite3.connect(":memory:")
    db.executescript(server.script)
    with server.lock:
        for segment in request["segments"]:
            server.asked[segment] = server.asked.get(segment, 0) + 1
    ok, count, partial = 0, 0, []
    for i, segment in enumerate(request["segments"]):
        if segment in server.missing:
            yield [2, i, "corrupt", "the file is broken", None]
            continue
        cursor = db.execute(request["map"], {"segment": segment})
        names, rows = [column[0] for column in cursor.description], cursor.fetchall()
        ok += 1
        if request.get("reduce"):
            partial += rows
        else:
            count += len(rows)
            yield [0, i, names]
            yield [1, i, len(rows), b"".join(pack(value) for row in rows for value in row)]
    if request.get("reduce") and ok:
        db.execute(f"CREATE TABLE partial ({', '.join(chr(96) + name + chr(96) for name in names)})")
        db.executemany(f"INSERT INTO partial VALUES ({', '.join('?' * len(names))})", partial)
        cursor = db.execute(request["reduce"])
        rows = cursor.fetchall()
        count = len(rows)
        yield [0, None, [column[0] for column in cursor.description]]
        yield [1, None, len(rows), b"".join(pack(value) for row in rows for value in row)]
    yield [9, {"ok": ok, "failed": len(request["segments"]) - ok, "rows": count, "bytes": 0, "micros": 1}]
