"""Network namespaces: every daemon has one of its own, with an address of its own on a bridge; clients are on the host, at the
bridge's address. Needs root, iproute2 and nftables."""

import os
import subprocess


def run(*args, check=True):
    """Runs a command; its error text is in the exception."""
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(args)}: {done.stderr.strip() or done.stdout.strip()}")
    return done


class Network:
    """A bridge with namespaces. Names and addresses carry a number that is free on this machine."""

    def __init__(self):
        for number in range(os.getpid() % 100, 200):
            self.bridge = f"trchaos{number}"
            self.prefix = f"10.213.{number}"
            if not run("ip", "link", "show", self.bridge, check=False).returncode == 0:
                break
        else:
            raise RuntimeError("no free number for a bridge")
        run("ip", "link", "add", self.bridge, "type", "bridge")
        self.names = {}
        try:
            run("ip", "addr", "add", f"{self.prefix}.1/24", "dev", self.bridge)
            run("ip", "link", "set", self.bridge, "up")
        except RuntimeError:
            self.close()
            raise

    def namespace(self, node):
        return f"{self.bridge}-{node}"

    def add(self, node):
        """A namespace for the node; gives its address."""
        number = len(self.names) + 10
        address, name = f"{self.prefix}.{number}", self.namespace(node)
        inside, outside = f"{self.bridge[5:]}i{number}", f"{self.bridge[5:]}o{number}"
        run("ip", "netns", "add", name)
        self.names[node] = (address, inside)
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside)
        run("ip", "link", "set", inside, "netns", name)
        run("ip", "link", "set", outside, "master", self.bridge, "up")
        for args in (["addr", "add", f"{address}/24", "dev", inside], ["link", "set", inside, "up"], ["link", "set", "lo", "up"]):
            run("ip", "-n", name, *args)
        for statement in (
            "add table inet cut",
            "add chain inet cut input { type filter hook input priority 0; }",
            "add set inet cut sources { type ipv4_addr; }",
            "add rule inet cut input ip saddr @sources drop",
        ):
            run("ip", "netns", "exec", name, "nft", statement)
        return address

    def expose_loopback(self, node, port):
        """Who connects to the port at the node's address reaches what listens on loopback in its namespace."""
        name = self.namespace(node)
        run("ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv4.conf.{self.names[node][1]}.route_localnet=1")
        for statement in (
            "add table ip expose",
            "add chain ip expose prerouting { type nat hook prerouting priority -100; }",
            f"add rule ip expose prerouting tcp dport {port} dnat to 127.0.0.1",
        ):
            run("ip", "netns", "exec", name, "nft", statement)

    def address(self, node):
        """A node's address; `host` is where the clients are."""
        return f"{self.prefix}.1" if node == "host" else self.names[node][0]

    def command(self, node, args):
        """The command that runs `args` in the node's namespace, as the same process."""
        return ["nsenter", f"--net=/run/netns/{self.namespace(node)}", *args]

    def cut(self, source, target):
        """What `source` sends does not reach the node `target` any more."""
        self._element("add", source, target)

    def mend(self, source, target):
        self._element("delete", source, target)

    def _element(self, verb, source, target):
        run(
            "ip",
            "netns",
            "exec",
            self.namespace(target),
            "nft",
            f"{verb} element inet cut sources {{ {self.address(source)} }}",
            check=verb == "add",
        )

    def slow(self, node, kbit):
        """What the node sends is held back to so many kilobits a second."""
        self._qdisc("replace", node, "tbf", "rate", f"{kbit}kbit", "burst", "4kb", "latency", "2s")

    def quick(self, node):
        self._qdisc("del", node, check=False)

    def _qdisc(self, verb, node, *args, check=True):
        run("tc", "-n", self.namespace(node), "qdisc", verb, "dev", self.names[node][1], "root", *args, check=check)

    def close(self):
        for node in self.names:
            run("ip", "netns", "del", self.namespace(node), check=False)
        run("ip", "link", "del", self.bridge, check=False)
