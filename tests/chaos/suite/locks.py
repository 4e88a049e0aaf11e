"""Follows the lock table, so that the history knows who had each lock when."""

import threading

from .cluster import R


class LockFollower(threading.Thread):
    """Writes a `lock` event for each change of a lock's holder; after the feed broke, for what had changed meanwhile."""

    def __init__(self, cluster, history):
        super().__init__(name="locks", daemon=True)
        self.cluster, self.history, self.stop = cluster, history, threading.Event()
        self.known = {}

    def run(self):
        while not self.stop.is_set():
            try:
                self.follow()
            except Exception as e:  # the driver has errors of many kinds, all of which mean: connect again
                self.history.add("locks lost", self.history.now(), "fail", error=f"{type(e).__name__}: {e}"[:200])
                self.unknown()
                self.stop.wait(0.2)

    def unknown(self):
        """Until the feed is back nobody knows who has what."""
        for segment in self.known:
            self.note(segment, "?", None)

    def note(self, segment, node, fence):
        if self.known.get(segment) != (node, fence):
            self.known[segment] = (node, fence)
            self.history.add("lock", self.history.now(), seg=segment, node=node, fence=fence)

    def follow(self):
        with self.cluster.db() as db:
            feed = R.table("lock").changes(include_initial=True, include_states=True).run(db)
            initial = set()
            while not self.stop.is_set():
                try:
                    change = feed.next(wait=1)
                except TimeoutError:
                    self.alive()
                    continue
                except Exception as e:
                    if type(e).__name__ != "ReqlTimeoutError":
                        raise
                    self.alive()
                    continue
                if "state" in change:
                    if change["state"] == "ready":
                        for segment in set(self.known) - initial:
                            self.note(segment, None, None)
                    continue
                row = change.get("new_val") or change.get("old_val")
                initial.add(row["segment"])
                gone = change.get("new_val") is None
                self.note(row["segment"], None if gone else row["node"], None if gone else row.get("fence"))

    def alive(self):
        """A feed that is silent may be cut off; another connection tells."""
        with self.cluster.db(timeout=2) as db:
            R.expr(1).run(db)
