"""What can go wrong, and a seeded schedule of it. A fault begins, lasts, and is healed; what it does to whom stands in the history:
`blind` are the nodes that may not learn meanwhile what the metadata says, `down` those that cannot renew their lease."""

import random
import signal
import threading
from dataclasses import dataclass, field

from .cluster import LEASE, MARGIN


@dataclass(frozen=True)
class Fault:
    """One planned fault: `gap` seconds after the one before in its lane has been healed."""

    kind: str
    lane: int
    gap: float
    duration: float
    target: str
    other: str = ""
    amount: int = 0


@dataclass
class Effect:
    """Who is struck."""

    blind: list = field(default_factory=list)
    down: list = field(default_factory=list)


def _durations(dice):
    """Mostly short; some longer than a lease; a few longer than a lease and the margin after which locks change hands."""
    pick = dice.random()
    if pick < 0.62:
        return dice.uniform(0.3, 2.5)
    return dice.uniform(LEASE + 0.5, LEASE + 5) if pick < 0.92 else dice.uniform(LEASE + MARGIN + 1, LEASE + MARGIN + 6)


def targets(cluster, kind):
    """Whom a fault of this kind may strike."""
    group = KINDS[kind][0]
    return {
        "worker": cluster.workers,
        "hot": cluster.hot,
        "sync": cluster.syncs,
        "meta": ["meta"],
        "store": ["store"],
        "any": ["meta", *cluster.syncs, *cluster.workers],
        "leased": cluster.syncs + cluster.workers,
        "disk": ["meta", *cluster.hot],
    }[group]


def fixed(cluster, kinds=None):
    """One fault of each kind, one after the other, with durations of two seconds, and one that outlasts lease and margin."""
    plan = []
    for i, kind in enumerate(kinds or KINDS):
        choice = targets(cluster, kind)
        target = choice[i % len(choice)]
        other = next((name for name in cluster.workers if name != target), "meta")
        plan.append(Fault(kind, 0, 0.3, LEASE + 1.0 if kind == "pause" else 1.2, target, other, 300 + i))
    return plan


def schedule(seed, cluster, lanes=2, kinds=None):
    """An endless plan per lane; only the seed decides it."""

    def lane(number):
        dice = random.Random(f"{seed}/faults/{number}")
        names = list(kinds or KINDS)
        weights = [KINDS[name][1] for name in names]
        while True:
            kind = dice.choices(names, weights)[0]
            target = dice.choice(targets(cluster, kind))
            other = dice.choice([name for name in ["meta", "host", *cluster.syncs, *cluster.workers] if name != target])
            yield Fault(
                kind,
                number,
                round(dice.uniform(0.2, 4), 3),
                round(_durations(dice), 3),
                target,
                other,
                dice.choice([-1, 1]) * dice.choice([2, 20, 300, 86400]),
            )

    return [lane(number) for number in range(lanes)]


class Injector:
    """Begins and heals faults, and records them. What two lanes do to the same thing ends when the last of them is healed."""

    def __init__(self, cluster, history):
        self.cluster, self.history = cluster, history
        self.lock, self.locks, self.holding = threading.Lock(), {}, {}
        self.done = 0

    def run(self, plan, stop, pause):
        """Works a lane's plan off until `stop` is set. `pause(seconds)` waits, and gives whether to stop."""
        for fault in plan:
            if pause(fault.gap) or stop.is_set():
                return
            self.strike(fault, pause)

    def strike(self, fault, pause):
        effect = self.effect(fault)
        known = dict(kind=fault.kind, target=fault.target, other=fault.other, amount=fault.amount, planned=fault.duration)
        begun = self.history.now()
        self.history.add("begin", begun, **known)
        begin, heal, key = getattr(self, fault.kind)(fault)
        failure = None
        with self.lock:
            mine = self.locks.setdefault(key, threading.Lock())
        try:
            with mine:
                self.holding[key] = self.holding.get(key, 0) + 1
                if self.holding[key] == 1:
                    begin()
            pause(fault.duration)
        except RuntimeError as e:
            failure = str(e)
        finally:
            with mine:
                self.holding[key] -= 1
                if self.holding[key] == 0:
                    heal()
            with self.lock:
                self.done += 1
            self.history.add(
                "fault", begun, "ok" if failure is None else "fail", error=failure, blind=effect.blind, down=effect.down, **known
            )

    def effect(self, fault):
        """Whom the fault strikes, whether or not it does."""
        everybody = [*self.cluster.syncs, *self.cluster.workers]
        blind, down = KINDS[fault.kind][2]
        if fault.target == "meta" and (blind or down):
            return Effect(everybody + ["host"], everybody)
        if fault.kind == "cut_one_way" or fault.kind == "cut_pair":
            struck = fault.other if fault.target == "meta" else fault.target if fault.other == "meta" else None
            return Effect([struck], [struck]) if struck else Effect()
        return Effect([fault.target] if blind else [], [fault.target] if down else [])

    def node(self, fault):
        return self.cluster.nodes[fault.target]

    # The kinds: each gives how it begins, how it is healed, and what two of the same are told by.

    def kill(self, fault):
        node = self.node(fault)
        return node.kill, node.start, ("process", fault.target)

    def restart(self, fault):
        node = self.node(fault)
        return node.stop, node.start, ("process", fault.target)

    def pause(self, fault):
        node = self.node(fault)
        return lambda: node.signal(signal.SIGSTOP), lambda: node.signal(signal.SIGCONT), ("pause", fault.target)

    def cut_meta(self, fault):
        return self.cut_pair(Fault("cut_pair", fault.lane, 0, 0, fault.target, "meta"))

    def cut_pair(self, fault):
        ends, net = [(fault.target, fault.other), (fault.other, fault.target)], self.cluster.net
        cuts = [pair for pair in ends if pair[1] != "host"]
        return lambda: [net.cut(*p) for p in cuts], lambda: [net.mend(*p) for p in cuts], ("cut", *sorted((fault.target, fault.other)))

    def cut_one_way(self, fault):
        """The target hears nothing of the other, which hears it."""
        net = self.cluster.net
        return (
            lambda: net.cut(fault.other, fault.target),
            lambda: net.mend(fault.other, fault.target),
            ("one way", fault.other, fault.target),
        )

    def cut_off(self, fault):
        net, others = self.cluster.net, ["host", *(name for name in self.cluster.nodes if name != fault.target)]

        def begin():
            for other in others:
                net.cut(other, fault.target)

        def heal():
            for other in others:
                if not self.holding.get(("one way", other, fault.target)) and not self.holding.get(("cut", *sorted((other, fault.target)))):
                    net.mend(other, fault.target)

        return begin, heal, ("off", fault.target)

    def slow_net(self, fault):
        net = self.cluster.net
        return lambda: net.slow(fault.target, 256), lambda: net.quick(fault.target), ("slow", fault.target)

    def full_disk(self, fault):
        disk = self.cluster.disks[fault.target]
        return disk.fill, disk.empty, ("full", fault.target)

    def hung_disk(self, fault):
        disk = self.cluster.disks[fault.target]
        return disk.freeze, disk.thaw, ("frozen", fault.target)

    def slow_disk(self, fault):
        """The disk hangs for 150 ms out of 200."""
        disk, over = self.cluster.disks[fault.target], threading.Event()

        def hang():
            while not over.wait(0.05):
                disk.freeze()
                over.wait(0.15)
                disk.thaw()

        thread = threading.Thread(target=hang, daemon=True)

        def heal():
            over.set()
            thread.join()

        return thread.start, heal, ("slow disk", fault.target)

    def store_gone(self, fault):
        store = self.cluster.store
        aside = store.with_name("store-aside")
        return lambda: store.rename(aside), lambda: aside.rename(store), ("store",)

    def skew(self, fault):
        node = self.node(fault)
        return lambda: node.skew(fault.amount), lambda: node.skew(0), ("skew", fault.target)


# Kind: whom it may strike, its weight, and whether it blinds and whether it fells the target.
KINDS = {
    "kill": ("any", 5, (False, True)),
    "restart": ("any", 2, (False, True)),
    "pause": ("any", 5, (True, True)),
    "cut_meta": ("leased", 3, (True, True)),
    "cut_pair": ("leased", 3, (True, True)),
    "cut_one_way": ("any", 3, (True, True)),
    "cut_off": ("any", 3, (True, True)),
    "slow_net": ("any", 1, (True, True)),
    "full_disk": ("disk", 2, (False, True)),
    "hung_disk": ("disk", 2, (True, True)),
    "slow_disk": ("disk", 1, (True, True)),
    "store_gone": ("store", 2, (False, False)),
    "skew": ("any", 2, (False, False)),
}
