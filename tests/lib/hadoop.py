#!/usr/bin/env python3
"""A real Hadoop on loopback for the tests: one name node and one data node, each a process of its own.

    tests/lib/hadoop.py fetch                     the jars, from Maven Central, into target/hadoop
    tests/lib/hadoop.py start DIR [NODES]         starts it (formatting DIR on first use), waits until it is usable,
                                                  makes the folder /trough, and prints its URL; NODES data nodes, or 1
    tests/lib/hadoop.py stop DIR                  stops what runs there
    tests/lib/hadoop.py url DIR                   prints its URL again
    tests/lib/hadoop.py kill DIR ROLE             SIGKILL: namenode, datanode-1, ...
    tests/lib/hadoop.py pause DIR ROLE            SIGSTOP; `resume` is SIGCONT
    tests/lib/hadoop.py run DIR ROLE              starts a killed one again and waits until HDFS is usable
    tests/lib/hadoop.py safemode DIR enter|leave  as `hdfs dfsadmin -safemode`
    tests/lib/hadoop.py dfs DIR ...               as `hdfs dfs ...`
    tests/lib/hadoop.py classpath                 of the jars, for libhdfs

HADOOP_HEAP is the heap of each server, 384m by default.
Every wait is for a condition, with a bound. Nothing listens but on loopback, on ports that were free.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from xml.sax.saxutils import escape

ROOT = pathlib.Path(__file__).resolve().parents[2]
JARS = ROOT / "target/hadoop/jars"
POM = ROOT / "tests/hadoop/pom.xml"
USER = "trough"
CLASSES = {
    "namenode": "org.apache.hadoop.hdfs.server.namenode.NameNode",
    "datanode": "org.apache.hadoop.hdfs.server.datanode.DataNode",
}
# Servers that start soon and stay small; their work here is small, too.
JVM = [f"-Xmx{os.environ.get('HADOOP_HEAP', '384m')}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true",
       "--add-opens=java.base/java.lang=ALL-UNNAMED", f"-DHADOOP_USER_NAME={USER}"]


class Missing(Exception):
    """Java or the jars cannot be had."""


def java():
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if not found:
        raise Missing("no java; install it with: scripts/setup.sh test")
    return found


def fetch():
    """The jars, once: the marker is written last and names the POM that they are of."""
    marker = JARS / ".complete"
    wanted = POM.read_text()
    if marker.exists() and marker.read_text() == wanted:
        return JARS
    if not shutil.which("mvn"):
        raise Missing("no mvn; install it with: scripts/setup.sh test")
    shutil.rmtree(JARS, ignore_errors=True)
    JARS.mkdir(parents=True)
    command = ["mvn", "-B", "-q", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={JARS}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Missing(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}")
    marker.write_text(wanted)
    return JARS


def wait_for(what, condition, timeout):
    end, tick, last = time.monotonic() + timeout, threading.Event(), None
    while time.monotonic() < end:
        try:
            if condition():
                return
        except (OSError, ValueError, KeyError, IndexError) as e:
            last = e
        tick.wait(0.1)
    raise TimeoutError(f"gave up waiting for {what}: {last!r}")


def free_ports(n):
    """Ports that were free just now, all different, below the range of outgoing connections: a killed server finds its own again."""
    found = []
    for port in range(10000 + os.getpid() % 997 * 10, 32000):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == n:
            return found
    raise RuntimeError("no free ports")


class Hadoop:
    """One HDFS, with everything it has below `directory`."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory).resolve()
        self.conf = self.dir / "conf"
        state = self.dir / "hadoop.json"
        self.state = json.loads(state.read_text()) if state.exists() else None

    @property
    def url(self):
        return f"hdfs://127.0.0.1:{self.state['rpc']}"

    def pid(self, role):
        return self.state["pids"].get(role)

    def roles(self):
        return ["namenode", *(f"datanode-{i + 1}" for i in range(self.state["nodes"]))]

    # What can be done to it

    def start(self, nodes=1, hostname="127.0.0.1"):
        """`hostname`: the one that clients with dfs.client.use.datanode.hostname are told of the data nodes, which then listen
        to nothing but HTTP there: a proxy can stand between."""
        fetch()
        if self.state is None:
            self.dir.mkdir(parents=True, exist_ok=True)
            rpc, http, *data = free_ports(2 + 3 * nodes)
            self.state = {"rpc": rpc, "http": http, "nodes": nodes, "data": data, "hostname": hostname, "pids": {}}
            self.configure()
            self.save()
            self.tool("format", CLASSES["namenode"], "-format", "-force", "-nonInteractive")
        for role in self.roles():
            self.launch(role)
        try:
            self.wait_usable()
            self.webhdfs("PUT", "/trough", "MKDIRS", permission="777")
        except BaseException:
            self.stop()
            raise
        return self

    def run(self, role):
        self.launch(role)
        self.wait_usable()

    def kill(self, role):
        self.signal(role, signal.SIGKILL)
        self.forget(role)

    def stop(self):
        for role in reversed(self.roles()):
            if self.signal(role, signal.SIGTERM):
                # A paused one hears it only when it runs again.
                self.signal(role, signal.SIGCONT)
        for role in reversed(self.roles()):
            try:
                wait_for(f"the end of {role}", lambda: not self.alive(role), 20)
            except TimeoutError:
                self.signal(role, signal.SIGKILL)
            self.forget(role)

    def signal(self, role, number):
        if not self.alive(role):
            return False
        os.kill(self.pid(role), number)
        return True

    def safemode(self, what):
        self.tool("safemode", "org.apache.hadoop.hdfs.tools.DFSAdmin", "-safemode", what)

    def dfs(self, *arguments):
        return self.tool("dfs", "org.apache.hadoop.fs.FsShell", *arguments)

    def webhdfs(self, method, path, op, **query):
        query = urllib.parse.urlencode({"op": op, "user.name": USER, **query})
        return self.request(method, f"http://127.0.0.1:{self.state['http']}/webhdfs/v1{urllib.parse.quote(path)}?{query}")

    def write(self, path, content):
        """Writes a file, making its directories; replaces one that is there."""
        query = urllib.parse.urlencode({"op": "CREATE", "user.name": USER, "overwrite": "true", "noredirect": "true"})
        where = self.request("PUT", f"http://127.0.0.1:{self.state['http']}/webhdfs/v1{urllib.parse.quote(path)}?{query}")
        self.request("PUT", where["Location"], content)

    def read(self, path):
        """The bytes of a file."""
        query = urllib.parse.urlencode({"op": "OPEN", "user.name": USER})
        with urllib.request.urlopen(f"http://127.0.0.1:{self.state['http']}/webhdfs/v1{urllib.parse.quote(path)}?{query}", timeout=60) as answer:
            return answer.read()

    def names(self, path):
        """The names in a folder."""
        return [f["pathSuffix"] for f in self.webhdfs("GET", path, "LISTSTATUS")["FileStatuses"]["FileStatus"]]

    def rename(self, path, target):
        """Renames a file, over another that is there, in one step."""
        self.webhdfs("PUT", path, "RENAME", destination=target, renameoptions="OVERWRITE")

    def request(self, method, url, body=None):
        with urllib.request.urlopen(urllib.request.Request(url, data=body, method=method), timeout=60) as answer:
            body = answer.read()
            return json.loads(body) if body else None

    # How

    def save(self):
        temporary = self.dir / ".hadoop.json.new"
        temporary.write_text(json.dumps(self.state))
        temporary.rename(self.dir / "hadoop.json")

    def forget(self, role):
        self.state["pids"].pop(role, None)
        self.save()

    def alive(self, role):
        """Whether the process is there and still ours: its command line names the class and this directory."""
        pid = self.pid(role)
        if not pid:
            return False
        try:
            os.waitpid(pid, os.WNOHANG)  # if it is our child, let it go
        except ChildProcessError:
            pass
        try:
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            if not command:  # just being started, or ended and not waited for
                return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
            return str(self.conf).encode() in command
        except (FileNotFoundError, ProcessLookupError):
            return False

    def launch(self, role):
        if self.alive(role):
            return
        log = open(self.dir / f"{role}.log", "ab")
        command = [java(), *JVM, "-cp", f"{self.conf}:{JARS}/*", CLASSES[role.partition("-")[0]], *self.own(role)]
        # A session of its own, so that it outlives a shell that started it.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self.dir)
        log.close()
        self.state["pids"][role] = process.pid
        self.save()

    def tool(self, name, cls, *arguments):
        command = [java(), *JVM, "-cp", f"{self.conf}:{JARS}/*", cls, *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.dir)
        with open(self.dir / f"{name}.log", "a") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode:
            raise RuntimeError(f"{cls} {' '.join(arguments)} failed: {done.stderr[-1000:]}")
        return done.stdout

    def jmx(self, bean):
        return jmx(f"127.0.0.1:{self.state['http']}", f"NameNode,name={bean}")

    def registered(self, role):
        """Whether a data node has found the name node since it started; until then the name node may count its life before."""
        properties = self.datanode(int(role.partition("-")[2]))
        info = jmx(properties["dfs.datanode.http.address"], "DataNode,name=DataNodeInfo")
        return [actor["ActorState"] for actor in json.loads(info["BPServiceActorInfo"])] == ["RUNNING"]

    def wait_usable(self, timeout=90):
        def usable():
            for role in self.roles():
                if role in self.state["pids"] and not self.alive(role):
                    tail = (self.dir / f"{role}.log").read_text(errors="replace")[-3000:]
                    raise RuntimeError(f"{role} died:\n{tail}")
            state = self.jmx("FSNamesystemState")
            living = [role for role in self.roles()[1:] if self.alive(role)]
            return (state["FSState"] == "Operational" and state["NumLiveDataNodes"] >= len(living)
                    and all(self.registered(role) for role in living))
        wait_for("HDFS", usable, timeout)

    def own(self, role):
        """What one server is told beside the common files."""
        name, _, number = role.partition("-")
        properties = self.datanode(int(number)) if name == "datanode" else {}
        return [word for key, value in properties.items() for word in ("-D", f"{key}={value}")]

    def datanode(self, number):
        xfer, http, ipc = self.state["data"][3 * (number - 1):3 * number]
        hostname = self.state["hostname"]
        return {
            "dfs.datanode.hostname": hostname,
            "dfs.datanode.address": f"127.0.0.1:{xfer}", "dfs.datanode.http.address": f"{hostname}:{http}",
            "dfs.datanode.ipc.address": f"127.0.0.1:{ipc}", "dfs.datanode.data.dir": f"file://{self.dir}/data-{number}",
        }

    def configure(self):
        for webapp in ["hdfs", "datanode"]:  # the pages are not in the jars, and the servers want the folders
            (self.conf / "webapps" / webapp / "WEB-INF").mkdir(parents=True, exist_ok=True)
        site(self.conf / "core-site.xml", {
            "fs.defaultFS": self.url, "hadoop.tmp.dir": f"{self.dir}/tmp", "hadoop.http.staticuser.user": USER,
            # A restarted name node is found again soon.
            "ipc.client.connect.max.retries": 3, "ipc.client.connect.retry.interval": 200,
        })
        site(self.conf / "hdfs-site.xml", self.properties())
        (self.conf / "log4j.properties").write_text(
            "log4j.rootLogger=WARN,console\nlog4j.appender.console=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.console.target=System.err\nlog4j.appender.console.layout=org.apache.log4j.PatternLayout\n"
            "log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n\n")

    def properties(self):
        """What all servers and clients are told of HDFS."""
        return {
            "dfs.namenode.name.dir": f"file://{self.dir}/name", "dfs.namenode.rpc-address": f"127.0.0.1:{self.state['rpc']}",
            "dfs.namenode.http-address": f"127.0.0.1:{self.state['http']}", "dfs.namenode.rpc-bind-host": "127.0.0.1",
            "dfs.replication": self.state["nodes"], "dfs.namenode.safemode.extension": 0, "dfs.heartbeat.interval": 1,
            "dfs.namenode.heartbeat.recheck-interval": 1000, "dfs.namenode.fs-limits.min-block-size": 4096,
            "dfs.namenode.datanode.registration.ip-hostname-check": "false", "dfs.webhdfs.enabled": "true",
            # Killed processes are tested, not power failures: the kernel keeps what was written.
            "dfs.namenode.edits.noeditlogchannelflush": "true", "dfs.namenode.handler.count": 8,
            "dfs.datanode.failed.volumes.tolerated": 0, "dfs.datanode.du.reserved": 0,
        }


def jmx(address, query):
    """One bean of a server."""
    with urllib.request.urlopen(f"http://{address}/jmx?qry=Hadoop:service={query}", timeout=5) as answer:
        return json.load(answer)["beans"][0]


def site(path, properties):
    rows = "".join(f"  <property><name>{escape(k)}</name><value>{escape(str(v))}</value></property>\n" for k, v in properties.items())
    path.write_text(f'<?xml version="1.0"?>\n<configuration>\n{rows}</configuration>\n')


def main(arguments):
    match arguments:
        case ["fetch"]:
            print(fetch())
        case ["classpath"]:
            print(":".join(str(jar) for jar in sorted(fetch().glob("*.jar"))))
        case ["start", directory, *nodes]:
            print(Hadoop(directory).start(int(nodes[0]) if nodes else 1).url + "/trough")
        case ["stop", directory]:
            Hadoop(directory).stop()
        case ["url", directory]:
            print(Hadoop(directory).url + "/trough")
        case ["kill", directory, role]:
            Hadoop(directory).kill(role)
        case ["pause", directory, role]:
            Hadoop(directory).signal(role, signal.SIGSTOP)
        case ["resume", directory, role]:
            Hadoop(directory).signal(role, signal.SIGCONT)
        case ["run", directory, role]:
            Hadoop(directory).run(role)
        case ["safemode", directory, what]:
            Hadoop(directory).safemode(what)
        case ["dfs", directory, *rest]:
            sys.stdout.write(Hadoop(directory).dfs(*rest))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Missing, RuntimeError, TimeoutError) as e:
        print(f"hadoop.py: {e}", file=sys.stderr)
        sys.exit(1)
