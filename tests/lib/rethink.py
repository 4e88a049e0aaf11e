"""Several nodes of RethinkDB in one cluster on loopback, as production has them."""

import contextlib
import os
import pathlib
import signal

import harness


class Nodes:
    """`count` nodes, named n1, n2, …, which know each other when this is made."""

    def __init__(self, directory, count=3):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True)
        ports = harness.free_ports(2 * count)
        self.ports, clusters = ports[:count], ports[count:]
        self.processes = []
        for i in range(count):
            name = f"n{i + 1}"
            joins = [arg for j, port in enumerate(clusters) if j != i for arg in ("--join", f"127.0.0.1:{port}")]
            self.processes.append(harness.Process(
                ["rethinkdb", "--directory", str(self.dir / name), "--server-name", name, "--bind", "127.0.0.1", "--driver-port", str(self.ports[i]),
                 "--cluster-port", str(clusters[i]), "--no-http-admin", "--no-update-check", "--cache-size", "64", *joins], self.dir / f"{name}.log"))
        for i in range(count):
            harness.wait_for("the nodes to join", lambda i=i: len(self.rows("server_status", i)) == count)

    @property
    def hosts(self):
        return [f"127.0.0.1:{port}" for port in self.ports]

    @property
    def url(self):
        return f"rethinkdb://{','.join(self.hosts)}/trough_configuration"

    def rows(self, table, node=0):
        """A system table, as a node gives it."""
        from rethinkdb import RethinkDB, errors
        r = RethinkDB()
        try:
            with contextlib.closing(r.connect("127.0.0.1", self.ports[node], timeout=5)) as connection:
                return list(r.db("rethinkdb").table(table).run(connection))
        except errors.ReqlError as e:
            raise OSError(str(e)) from e

    def primary(self, table, node=0):
        """Which node has the primary replica of a table of trough's."""
        [config] = [c for c in self.rows("table_config", node) if c["name"] == table]
        return int(config["shards"][0]["primary_replica"][1:]) - 1

    def freeze(self, node):
        os.kill(self.processes[node].p.pid, signal.SIGSTOP)

    def thaw(self, node):
        os.kill(self.processes[node].p.pid, signal.SIGCONT)

    def kill(self):
        for process in self.processes:
            process.kill()
