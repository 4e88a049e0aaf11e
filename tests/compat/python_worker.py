"""A worker as the Python trough runs it, for mixed clusters: with its driver and doublethink it sends the queries that the
original sends and writes the records that it writes, field for field, and it serves the old endpoints over sqlite3.

    python_worker.py SETTINGS.json      the settings of the original, with a directory in place of HDFS (HDFS_PATH)

One process stands for the original's four (local sync, segment manager, read, write).
"""

import http.server
import json
import os
import pathlib
import shutil
import socketserver
import sqlite3
import sys
import threading
import time
import urllib.parse
import urllib.request

import doublethink
from rethinkdb import RethinkDB

r = RethinkDB()


class Refused(Exception):
    """A ClientError of the original: answered with 400."""


class Worker:
    def __init__(self, settings):
        self.settings = settings
        self.host = settings["HOSTNAME"]
        self.data = pathlib.Path(settings["LOCAL_DATA"])
        self.ttl = round(settings["SYNC_LOOP_TIMING"] * 4)
        self.rr = doublethink.Rethinker(servers=settings["RETHINKDB_HOSTS"], db="trough_configuration")
        self.services = doublethink.ServiceRegistry(self.rr)
        self.healthy = set()

    # --- records

    def heartbeat(self, pool, **doc):
        doc.update(id=f"{pool}:{self.host}:{doc.get('segment')}", role=pool, node=self.host, ttl=self.ttl, load=os.getloadavg()[1])
        return self.services.heartbeat(doc)

    def advertise(self, pool, segment):
        port = self.settings["WRITE_PORT" if pool == "trough-write" else "READ_PORT"]
        return self.heartbeat(pool, segment=segment, port=port, url=f"http://{self.host}:{port}/?segment={segment}")

    def bulk_heartbeat(self, ids):
        self.rr.table("services").get_all(*ids).update({"last_heartbeat": r.now(), "load": os.getloadavg()[1]}).run()
        for missing in set(ids) - set(self.rr.table("services").get_all(*ids).get_field("id").run()):
            pool, _, segment = missing.split(":")
            self.advertise(pool, segment)

    def heartbeat_forever(self):
        while True:
            try:
                self.heartbeat("trough-nodes", available_bytes=self.settings["STORAGE_IN_BYTES"], cold_storage=False)
                ids = list(self.healthy)
                if ids:
                    self.bulk_heartbeat(ids)
            except Exception as e:
                print("heartbeat:", e, flush=True)
            time.sleep(self.settings["SYNC_LOOP_TIMING"])

    def lock(self, segment):
        return self.rr.table("lock").get(f"write:lock:{segment}").run()

    def assignments(self):
        rows = self.rr.table("assignment", read_mode="outdated").between(f"{self.host}:\x01", f"{self.host}:\x7f", right_bound="closed").run()
        return {row["segment"]: row for row in rows}

    def path(self, segment):
        return self.data / f"{segment}.sqlite"

    # --- the sync loop

    def sync(self):
        mine = self.assignments()
        remote = {p.name[:-len(".sqlite")]: p.stat().st_mtime for p in pathlib.Path(self.settings["HDFS_PATH"]).rglob("*.sqlite")}
        local = {p.name[:-len(".sqlite")]: p.stat().st_mtime for p in self.data.glob("*.sqlite")}
        locks = {row["segment"] for row in self.rr.table("lock", read_mode="outdated").get_all(self.host, index="node").run()}
        for service in list(self.healthy):
            if service.split(":")[-1] not in mine.keys() | local.keys():
                self.healthy.discard(service)
        for segment in sorted(mine.keys() | local.keys()):
            read, write = (f"{pool}:{self.host}:{segment}" for pool in ("trough-read", "trough-write"))
            if segment in local and local[segment] >= remote.get(segment, 0):
                self.healthy.add(read)
                if segment in locks:
                    self.healthy.add(write)
            else:
                self.healthy -= {read, write}
                if segment in mine:
                    self.copy(segment, mine[segment]["remote_path"])
        self.collect_garbage(set(mine))

    def copy(self, segment, remote_path):
        temporary = self.data / f"{segment}.copying"
        shutil.copyfile(remote_path, temporary)
        temporary.rename(self.path(segment))
        self.healthy.add(f"trough-read:{self.host}:{segment}")
        lock = self.lock(segment)
        if lock:
            # The canonical copy is newer than the writable one: nobody writes to it any more.
            self.rr.table("lock").get(lock["id"]).delete().run()
            self.rr.table("services").get(f"trough-write:{lock['node']}:{segment}").delete().run()

    def collect_garbage(self, assigned):
        for path in self.data.glob("*.sqlite"):
            segment = path.name[:-len(".sqlite")]
            if segment in assigned:
                continue
            copies = self.rr.table("services", read_mode="outdated").get_all(segment, index="segment").filter({"role": "trough-read"}).filter(
                lambda svc: r.now().sub(svc["last_heartbeat"]).lt(svc["ttl"])).run()
            others = {row["id"] for row in copies} - {f"trough-read:{self.host}:{segment}"}
            if len(others) >= self.settings["MINIMUM_ASSIGNMENTS"] and not self.lock(segment):
                self.rr.table("services").get(f"trough-read:{self.host}:{segment}").delete().run()
                path.unlink()

    # --- what the segment manager does

    def provision(self, segment, schema="default"):
        if not self.lock(segment):
            lock = {"id": f"write:lock:{segment}", "node": self.host, "segment": segment, "acquired_on": doublethink.utcnow()}
            if self.rr.table("lock").insert(lock).run().get("errors"):
                raise RuntimeError(f"Unable to acquire a lock for id: {lock['id']!r}")
        write = self.advertise("trough-write", segment)
        self.advertise("trough-read", segment)
        if not self.path(segment).exists():
            document = self.rr.table("schema").get(schema).run()
            if not document:
                raise RuntimeError(f"no such schema id={schema!r}")
            connection = sqlite3.connect(self.path(segment))
            connection.executescript(document["sql"])
            connection.commit()
            connection.close()
        return {"write_url": write["url"], "result": "success", "size": self.path(segment).stat().st_size, "schema": schema}

    def promote(self, segment):
        update = self.rr.table("lock").get(f"write:lock:{segment}").update({"under_promotion": True}, return_changes=True).run()
        if not update["changes"] or update["changes"][0]["new_val"]["node"] != self.host:
            raise RuntimeError(f"Segment {segment} is not currently writable")
        try:
            rows = list(self.rr.table("assignment").get_all(segment, index="segment").run())
            usual = pathlib.Path(self.settings["HDFS_PATH"]) / segment[:-3] / f"{segment}.sqlite"
            remote = pathlib.Path(rows[0]["remote_path"]) if rows else usual
            remote.parent.mkdir(parents=True, exist_ok=True)
            temporary = remote.with_name(f"{remote.name}._COPYING_")
            source, target = sqlite3.connect(self.path(segment)), sqlite3.connect(temporary)
            source.backup(target)
            source.close()
            target.close()
            os.utime(self.path(segment))
            remote.unlink(missing_ok=True)
            temporary.rename(remote)
            os.utime(remote, (self.path(segment).stat().st_mtime,) * 2)
        finally:
            self.rr.table("lock").get(f"write:lock:{segment}").update({"under_promotion": False}).run()
        return {"remote_path": str(remote)}

    def delete(self, segment):
        if self.lock(segment):
            raise Refused("cannot delete segment: write lock exists")
        deleted = self.rr.table("services").get(f"trough-read:{self.host}:{segment}").delete().run().get("deleted")
        self.healthy.discard(f"trough-read:{self.host}:{segment}")
        if self.path(segment).exists():
            self.path(segment).unlink()
        elif not deleted:
            raise KeyError(segment)

    # --- reads and writes

    def read(self, segment, query):
        """Status, media type and body; a lock that another node holds sends the query there."""
        lock = self.lock(segment)
        if lock and lock["node"] != self.host:
            url = f"http://{lock['node']}:{self.settings['READ_PORT']}/?segment={segment}"
            with urllib.request.urlopen(urllib.request.Request(url, data=query, method="POST")) as answer:
                return answer.status, answer.headers["content-type"], answer.read()
        if not query.lstrip()[:6].lower().startswith((b"select", b"with")):
            raise RuntimeError("Exactly one SELECT query per request, please.")
        assert self.path(segment).is_file()
        connection = sqlite3.connect(self.path(segment))
        try:
            cursor = connection.execute(query.decode())
            names = [column[0] for column in cursor.description]
            rows = ",\n".join(json.dumps(dict(zip(names, row))) for row in cursor)
        finally:
            connection.close()
        return 200, "application/json", f"[{rows}]\n".encode()

    def write(self, segment, script):
        if not script:
            raise RuntimeError("No query provided.")
        lock = self.lock(segment)
        if not lock or lock["node"] != self.host:
            raise RuntimeError(f"This node (settings['HOSTNAME']={self.host!r}) cannot write to segment {segment!r}.")
        connection = sqlite3.connect(self.path(segment))
        try:
            connection.executescript(f"BEGIN TRANSACTION;\n{script.decode().rstrip().rstrip(';')};\nCOMMIT;\n")
        finally:
            connection.close()
        return 200, "text/plain", b"OK\n"


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64


def serve(worker, port, answer):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            url = urllib.parse.urlsplit(self.path)
            named = urllib.parse.parse_qs(url.query).get("segment")
            segment = named[0] if named else self.headers.get("host", "").split(".")[0]
            try:
                status, media, text = answer(self.command, url.path, segment, body)
            except Refused as e:
                status, media, text = 400, "application/json", json.dumps({"error": str(e)}).encode()
            except KeyError:
                status, media, text = 404, "text/html", b"<h1>Not Found</h1>"
            except Exception as e:
                status, media, text = 500, "text/plain", f"500 Server Error: {e}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", media)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_DELETE = do_GET = respond

        def log_message(self, form, *args):
            print(self.server.server_port, form % args, flush=True)

    server = Server((worker.host, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def manage(worker, method, path, body):
    if method == "DELETE":
        worker.delete(urllib.parse.unquote(path.removeprefix("/segment/")))
        return 204, "text/plain", b""
    wish = json.loads(body)
    if path == "/provision":
        answer = worker.provision(wish["segment"], wish.get("schema", "default"))
    else:
        answer = worker.promote(wish["segment"])
    return 200, "application/json", json.dumps(answer).encode()


def main():
    settings = json.loads(pathlib.Path(sys.argv[1]).read_text())
    worker = Worker(settings)
    worker.data.mkdir(parents=True, exist_ok=True)
    serve(worker, settings["READ_PORT"], lambda method, path, segment, body: worker.read(segment, body))
    serve(worker, settings["WRITE_PORT"], lambda method, path, segment, body: worker.write(segment, body))
    serve(worker, settings["SYNC_LOCAL_PORT"], lambda method, path, segment, body: manage(worker, method, path, body))
    threading.Thread(target=worker.heartbeat_forever, daemon=True).start()
    while True:
        try:
            worker.sync()
        except Exception as e:
            print("sync:", repr(e), flush=True)
        time.sleep(settings["SYNC_LOOP_TIMING"])


if __name__ == "__main__":
    main()
