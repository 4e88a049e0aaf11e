"""Starts clusters of real processes on loopback, for the black-box tests.

`Dev` runs `trough dev`. `Cluster` runs metadata server, sync server and workers as processes of their own, each with a
settings file, so that one can be killed and started again. Every wait is for a condition, with a bound.
"""

import base64
import contextlib
import itertools
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import hadoop
import secure

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Where the canonical stores of the tests lie: directory, or hdfs.
STORE = os.environ.get("TROUGH_TEST_STORE", "directory")
STORES = itertools.count()
# With TROUGH_TEST_SECURE=1 every cluster has TLS, tokens and a password, and every request of the tests the token of an admin.
SECURE = None
if os.environ.get("TROUGH_TEST_SECURE"):
    _directory = tempfile.TemporaryDirectory(prefix="trough-secure-", dir=os.environ.get("TMPDIR", "/var/tmp"))
    os.chmod(_directory.name, 0o755)
    SECURE = secure.Secure(_directory.name)
    os.environ.update(SECURE.environment())
BIN = os.environ.get("TROUGH_BIN", str(ROOT / "target/release/trough"))
# The metadata server of every cluster: `trough meta`, or with TROUGH_TEST_METADATA=rethinkdb the `rethinkdb` of PATH.
METADATA = os.environ.get("TROUGH_TEST_METADATA", "meta")
if METADATA not in ("meta", "rethinkdb") or (METADATA == "rethinkdb" and SECURE):
    raise ValueError("TROUGH_TEST_METADATA must be meta or, without TROUGH_TEST_SECURE, rethinkdb")


def free_ports(n):
    """Ports that were free just now, all different."""
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def free_base_port(span=64):
    """The first of `span` ports in a row that were free just now, below the range of outgoing connections."""
    for base in range(20000 + os.getpid() % 97 * 64, 32000, span):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + span):
                    s = stack.enter_context(socket.socket())
                    s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise RuntimeError("no free ports")


def wait_for(what, condition, timeout=60, every=0.05):
    """Waits until `condition()` is true and returns its value; fails loudly with `what` after `timeout` seconds."""
    end = time.monotonic() + timeout
    last = None
    tick = threading.Event()
    while time.monotonic() < end:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (OSError, AssertionError, KeyError, ValueError) as e:
            last = e
        tick.wait(every)
    raise AssertionError(f"gave up waiting for {what}: {last!r}")


class Answer:
    """Status, headers and body of an HTTP answer; errors are answers too."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:600]!r}>"


def http(method, url, body=None, headers=None, timeout=60, insecure=False):
    """One request; a dict body goes as JSON. `insecure`: to a server of the test's own, without TLS and token."""
    headers = dict(headers or {})
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
        headers.setdefault("content-type", "application/json")
    if isinstance(body, str):
        body = body.encode()
    headers.setdefault("content-type", "application/octet-stream")
    context = None
    if SECURE and "://127.0.0.1:" in url and not insecure:
        url = url.replace("http://", "https://", 1)
        headers.setdefault("authorization", f"Bearer {SECURE.tokens['admin']}")
        context = SECURE.context()
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout, context=context) as r:
            return Answer(r.status, r.headers, r.read())
    except urllib.error.HTTPError as e:
        return Answer(e.code, e.headers, e.read())


def quote(segment):
    return urllib.parse.quote(segment, safe="")


def metadata_url(port):
    """What clients of a cluster connect to."""
    return SECURE.url(port) if SECURE else f"rethinkdb://127.0.0.1:{port}/trough_configuration"


def connect(address, timeout=10):
    """A connection to a daemon's port, for what is sent by hand."""
    connection = socket.create_connection(address, timeout=timeout)
    return SECURE.context().wrap_socket(connection, server_hostname="127.0.0.1") if SECURE else connection


def metadata(port):
    """A connection of RethinkDB's own driver."""
    from rethinkdb import RethinkDB
    more = {"password": SECURE.password, "ssl": {"ca_certs": str(SECURE.ca)}} if SECURE else {}
    return RethinkDB().connect("127.0.0.1", port, db="trough_configuration", **more)


class Process:
    """A child process with its log; `kill` is SIGKILL, `stop` is SIGTERM and a wait."""

    def __init__(self, args, log, env=None, stdout=None):
        self.args, self.log = args, pathlib.Path(log)
        self._stdout = stdout
        self.env = {**os.environ, **(env or {})}
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.p = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=self._stdout or log, stderr=log, env=self.env)

    def alive(self):
        return self.p.poll() is None

    def kill(self):
        self.p.kill()
        self.p.wait()

    def stop(self, timeout=30):
        if self.alive():
            self.p.terminate()
            try:
                self.p.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self.args} did not stop on SIGTERM; log: {self.log}")
        return self.p.returncode

    def tail(self, n=20):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-n:])


def start_metadata(directory, port, log):
    """A metadata server with its data in `directory`. Killed, it can be started again on them."""
    if METADATA == "meta":
        return Process([BIN, "meta", "--dir", str(directory), "--listen", f"127.0.0.1:{port}"], log)
    return Process(["rethinkdb", "--directory", str(directory), "--bind", "127.0.0.1", "--driver-port", str(port), "--cluster-port",
                    str(free_ports(1)[0]), "--no-http-admin", "--no-update-check", "--cache-size", "64"], log)


def metadata_name():
    """Which metadata server the tests run over, for their report."""
    if METADATA == "meta":
        return "trough meta"
    return subprocess.run(["rethinkdb", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


class Dev:
    """`trough dev` in a directory."""

    def __init__(self, directory, workers=3, cold=0, base_port=None, env=None):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.base_port = base_port or free_base_port()
        self.args = [BIN, "dev", "--dir", str(self.dir), "--workers", str(workers), "--cold-workers", str(cold),
                     "--base-port", str(self.base_port)]
        if STORE == "hdfs":
            self.args += ["--store", canonical_store(self.dir, shared_hdfs())[1]]
        self.env = env
        self.start()

    def start(self):
        self.log = self.dir.parent / f"{self.dir.name}.log"
        self.process = Process(self.args, self.log, self.env, stdout=subprocess.PIPE)
        self.ready = self.process.p.stdout.readline().decode().strip()
        if not self.ready.startswith("ready rethinkdb://"):
            raise AssertionError(f"trough dev is not ready: {self.ready!r}\n{self.process.tail()}")
        self.url = metadata_url(self.base_port) if SECURE else self.ready.split()[1]

    def pids(self):
        return {name: entry if isinstance(entry, int) else entry["pid"]
                for name, entry in json.loads((self.dir / "pids.json").read_text()).items()}

    def kill(self, name):
        os.kill(self.pids()[name], signal.SIGKILL)

    def stop(self):
        code = self.process.stop()
        self.process.p.stdout.close()
        return code


def shared_hdfs():
    """The HDFS that all tests share, where TROUGH_TEST_STORE says so."""
    return hadoop.Hadoop(os.environ["TROUGH_TEST_HADOOP"]) if STORE == "hdfs" else None


def canonical_store(directory, hdfs=None):
    """A new canonical store, as a path and a URL: one of `hdfs`, else a directory below `directory`."""
    if hdfs:
        path = pathlib.PurePosixPath(f"/trough/{os.getpid()}-{next(STORES)}")
        hdfs.webhdfs("PUT", str(path), "MKDIRS", permission="777")
        return path, hdfs.url + str(path)
    if STORE != "directory":
        raise ValueError(f"TROUGH_TEST_STORE must be directory or hdfs, not {STORE!r}")
    path = directory / "store"
    path.mkdir(exist_ok=True)
    return path, f"file://{path}"


class Cluster:
    """Metadata server, sync server and workers, each a process of its own. `cold`: settings of each cold worker; these follow
    the others in `workers`. `hdfs`: where the canonical store is to lie, if not where all tests have theirs. `through`: the
    address by which the workers reach its name node."""

    def __init__(self, directory, workers=1, settings=None, cold=(), hdfs=None, through=None):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.hdfs = hdfs or shared_hdfs()
        self.store, self.store_url = canonical_store(self.dir, self.hdfs)
        theirs = {"STORE": f"hdfs://{through}{self.store}"} if through else {}
        ports = free_ports(2 + 3 * (workers + len(cold)))
        self.meta_port, self.sync_port = ports[0], ports[1]
        self.common = {
            "RETHINKDB_HOSTS": [f"127.0.0.1:{self.meta_port}"], "HDFS_PATH": str(self.store), "STORE": self.store_url,
            "SYNC_SERVER_PORT": self.sync_port, "EXTERNAL_IP": "127.0.0.1", "SYNC_LOOP_TIMING": 1, "ELECTION_CYCLE": 1,
            "HOST_CHECK_WAIT_PERIOD": 1, "LOG_LEVEL": "INFO", "STORAGE_IN_BYTES": 10**12, "LISTEN": "127.0.0.1", **(settings or {}),
        }
        self.meta = start_metadata(self.dir / "meta", self.meta_port, self.dir / "meta.log")
        wait_for("the metadata server", self.meta_up)
        self.sync = self.role("sync", {"HOSTNAME": "sync", "LOCAL_DATA": str(self.dir / "sync")})
        self.workers = []
        names = [f"worker-{i + 1}" for i in range(workers)] + [f"cold-{i + 1}" for i in range(len(cold))]
        own = [{}] * workers + [{"RUN_AS_COLD_STORAGE_NODE": True, **c} for c in cold]
        for i, name in enumerate(names):
            read, write, manage = ports[2 + 3 * i: 5 + 3 * i]
            data = self.dir / name
            data.mkdir(exist_ok=True)
            worker = self.role("worker", {"HOSTNAME": name, "LOCAL_DATA": str(data), "READ_PORT": read,
                                          "WRITE_PORT": write, "SYNC_LOCAL_PORT": manage, **theirs, **own[i]}, name=name)
            worker.data, worker.read_port, worker.write_port, worker.manage_port = data, read, write, manage
            self.workers.append(worker)
        wait_for("the sync server", lambda: http("GET", self.sync_url("/readyz")).status == 200)
        for worker in self.workers:
            wait_for("a worker", lambda: http("GET", f"http://127.0.0.1:{worker.read_port}/readyz").status == 200)
        wait_for("the first provisioning", lambda: self.provision("warm-up").status == 200)

    def meta_up(self):
        with socket.create_connection(("127.0.0.1", self.meta_port), timeout=1):
            return True

    def role(self, role, settings, name=None):
        name = name or role
        path = self.dir / f"{name}.yml"
        path.write_text("\n".join(f"{k}: {json.dumps(v)}" for k, v in {**self.common, **settings}.items()) + "\n")
        return Process([BIN, role, "--config", str(path)], self.dir / f"{name}.log")

    def reconfigure_sync(self, **settings):
        """Starts the sync server again with other settings."""
        self.sync.stop()
        self.common.update(settings)
        self.sync = self.role("sync", {"HOSTNAME": "sync", "LOCAL_DATA": str(self.dir / "sync")})
        wait_for("the sync server", lambda: http("GET", self.sync_url("/readyz")).status == 200)

    def sync_url(self, path):
        return f"http://127.0.0.1:{self.sync_port}{path}"

    def provision(self, segment, schema="default"):
        return http("POST", self.sync_url("/provision"), {"segment": segment, "schema": schema})

    def promote(self, segment):
        return http("POST", self.sync_url("/promote"), {"segment": segment})

    def canonical(self, path):
        """The bytes of a file of the canonical store."""
        if self.hdfs:
            return self.hdfs.read(str(self.store / path))
        return (self.store / path).read_bytes()

    def canonical_names(self, folder):
        """The names in a folder of the canonical store."""
        if self.hdfs:
            return self.hdfs.names(str(self.store / folder))
        return [path.name for path in (self.store / folder).iterdir()]

    def put_canonical(self, path, content):
        """Puts a file into the canonical store, whole at once, beside what trough does."""
        target = self.store / path
        if self.hdfs:
            self.hdfs.write(str(target.with_suffix(".new")), content)
            self.hdfs.rename(str(target.with_suffix(".new")), str(target))
            return
        target.parent.mkdir(exist_ok=True)
        temporary = target.with_suffix(".new")
        temporary.write_bytes(content)
        temporary.replace(target)

    def put_schema(self, name, sql):
        return http("PUT", self.sync_url(f"/schema/{name}/sql"), sql)

    def read(self, segment, sql, worker=0, **kwargs):
        return http("POST", f"http://127.0.0.1:{self.workers[worker].read_port}/?segment={quote(segment)}", sql, **kwargs)

    def write(self, segment, sql, worker=0, **kwargs):
        return http("POST", f"http://127.0.0.1:{self.workers[worker].write_port}/?segment={quote(segment)}", sql, **kwargs)

    def query(self, segments, sql, worker=0, reduce=None, **more):
        body = {"segments": segments, "map": sql, **({"reduce": reduce} if reduce else {}), **more}
        return http("POST", f"http://127.0.0.1:{self.workers[worker].read_port}/v1/query", body, {"accept": "application/x-ndjson"})

    def stop(self):
        for process in [*self.workers, self.sync, self.meta]:
            process.stop()


def blob(data):
    return {"blob": base64.b64encode(data).decode()}
