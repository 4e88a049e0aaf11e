"""An HDFS with two name nodes of one name service, `archive`: `namenode-1` (nn1) is active at first, `namenode-2` (nn2) stands by.
They share their edits in a directory, and fail over by hand, as `hdfs haadmin` does it."""

import json
import pathlib
import shutil

from hadoop import CLASSES, Hadoop, fetch, free_ports, jmx, wait_for

SERVICE = "archive"


class HighlyAvailable(Hadoop):
    @property
    def url(self):
        return f"hdfs://{SERVICE}"

    def roles(self):
        return ["namenode-1", "namenode-2", *super().roles()[1:]]

    def start(self):
        fetch()
        self.dir.mkdir(parents=True, exist_ok=True)
        rpc, http, data = (ports := free_ports(7))[:2], ports[2:4], ports[4:]
        self.state = {"nodes": 1, "names": {"namenode-1": (rpc[0], http[0]), "namenode-2": (rpc[1], http[1])},
                      "data": data, "hostname": "127.0.0.1", "pids": {}}
        self.turn_to("namenode-1")
        self.configure()
        self.tool("format", CLASSES["namenode"], *self.own("namenode-1"), "-format", "-force", "-nonInteractive")
        shutil.copytree(self.dir / "name-1", self.dir / "name-2")
        try:
            for role in self.roles():
                self.launch(role)
            self.activate("namenode-1")
            self.webhdfs("PUT", "/trough", "MKDIRS", permission="777")
        except BaseException:
            self.stop()
            raise
        return self

    # Failing over

    @property
    def active(self):
        """The name node that was made active last."""
        return self.state["active"]

    def other(self):
        return next(role for role in self.state["names"] if role != self.active)

    def activate(self, role):
        """Makes one active while the other is not: it is dead, or stands by, too."""
        wait_for(f"{role} to stand by", lambda: self.stands(role) == "standby", 180)
        self.haadmin("-transitionToActive", "--forceactive", name(role))
        self.turn_to(role)
        self.wait_usable()

    def fail_over(self):
        """Makes the active one stand by and the other one active, in good order."""
        role = self.other()
        self.haadmin("-failover", name(self.active), name(role))
        self.turn_to(role)
        self.wait_usable()

    def run(self, role):
        """Starts a killed name node again; it stands by."""
        self.launch(role)
        wait_for(f"{role} to stand by", lambda: self.stands(role) == "standby", 180)
        self.wait_usable()

    def stands(self, role):
        """What a name node takes itself for: active or standby."""
        return jmx(self.http(role), "NameNode,name=NameNodeStatus")["State"]

    def haadmin(self, *arguments):
        self.tool("haadmin", "org.apache.hadoop.hdfs.tools.DFSHAAdmin", *arguments)

    def turn_to(self, role):
        """What is asked of HDFS goes to this name node."""
        self.state.update(active=role, rpc=self.state["names"][role][0], http=self.state["names"][role][1])
        self.save()

    # How

    def http(self, role):
        return f"127.0.0.1:{self.state['names'][role][1]}"

    def runs(self, role):
        """Whether it is alive, and not stopped by a signal."""
        return self.alive(role) and pathlib.Path(f"/proc/{self.pid(role)}/stat").read_text().rpartition(")")[2].split()[0] != "T"

    def registered(self, role):
        """Whether a data node reports to each running name node."""
        properties = self.datanode(int(role.partition("-")[2]))
        info = jmx(properties["dfs.datanode.http.address"], "DataNode,name=DataNodeInfo")
        actors = {actor["NamenodeAddress"].rpartition(":")[2]: actor["ActorState"] for actor in json.loads(info["BPServiceActorInfo"])}
        return all(actors.get(str(rpc)) == "RUNNING" for role, (rpc, _) in self.state["names"].items() if self.runs(role))

    def wait_usable(self, timeout=180):
        """Waits until the active one serves, and whoever stands by could take over at once."""
        def usable():
            for role in self.roles():
                if role in self.state["pids"] and not self.alive(role):
                    raise RuntimeError(f"{role} died:\n" + (self.dir / f"{role}.log").read_text(errors="replace")[-3000:])
            for role in filter(self.runs, self.state["names"]):
                state = jmx(self.http(role), "NameNode,name=FSNamesystemState")
                if state["FSState"] != "Operational" or state["NumLiveDataNodes"] < self.state["nodes"]:
                    return False
            return self.stands(self.active) == "active" and all(self.registered(role) for role in self.roles()[2:])
        wait_for("HDFS", usable, timeout)

    def own(self, role):
        if role in self.state["names"]:
            return ["-D", f"dfs.nameservice.id={SERVICE}", "-D", f"dfs.ha.namenode.id={name(role)}"]
        return super().own(role)

    def client_properties(self):
        """What a client must be told to find the name nodes."""
        addresses = {f"dfs.namenode.rpc-address.{SERVICE}.{name(role)}": f"127.0.0.1:{rpc}" for role, (rpc, _) in self.state["names"].items()}
        return {f"dfs.ha.namenodes.{SERVICE}": ",".join(map(name, self.state["names"])), **addresses}

    def properties(self):
        common = super().properties()
        for one in ["dfs.namenode.name.dir", "dfs.namenode.rpc-address", "dfs.namenode.http-address"]:
            del common[one]
        for role in self.state["names"]:
            own = f"{SERVICE}.{name(role)}"
            common[f"dfs.namenode.http-address.{own}"] = self.http(role)
            common[f"dfs.namenode.name.dir.{own}"] = f"file://{self.dir}/name-{role.partition('-')[2]}"
        return {
            **common, **self.client_properties(), "dfs.nameservices": SERVICE, "dfs.ha.automatic-failover.enabled": "false",
            "dfs.namenode.shared.edits.dir": f"file://{self.dir}/shared", "dfs.ha.tail-edits.period": 1,
            # Whoever kills a name node has fenced it.
            "dfs.ha.fencing.methods": "shell(/bin/true)",
            f"dfs.client.failover.proxy.provider.{SERVICE}": "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider",
        }


def name(role):
    """The name node's name in the configuration."""
    return "nn" + role.partition("-")[2]
