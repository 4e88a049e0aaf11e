#!/usr/bin/env python3
"""The servers of the benchmark's cold rows, for tests/bench/src/cold.rs, which starts this:

    tests/bench/cold.py DIR FILE SEGMENT OTHER

Starts a real HDFS in DIR, puts FILE into it as SEGMENT and as OTHER, mounts it (rclone, FUSE), and starts a cluster with cold
workers: two read HDFS directly, one the mount, one a copy on the local disk. Then prints one line of JSON, and does what
standard input says, a line for each:

    new     SEGMENT's files, HDFS's and the local one, get a later mtime: for a worker they are files that it has never seen
    shown   waits until the mount shows the new mtime
    drop    the kernel forgets the pages of all copies: the data node's blocks, the local file, the mounted file

and answers `done`. At the end of its input it stops everything. Where HDFS or the mount cannot be had, the JSON says why.
"""

import json
import os
import pathlib
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import fuse
import hadoop


class Servers:
    def __init__(self, hdfs):
        self.hdfs, self.mount, self.cluster, self.no_mount = hdfs, None, None, None

    def start(self, directory, file, segment, other):
        prefix = segment[:-3]
        self.local, other_local = (directory / "local" / prefix / f"{name}.sqlite" for name in (segment, other))
        self.local.parent.mkdir(parents=True)
        for copy in (self.local, other_local):
            shutil.copyfile(file, copy)
            self.hdfs.dfs("-put", str(file), f"/trough/.{copy.name}")
        os.environ |= {"TROUGH_TEST_STORE": "hdfs", "TROUGH_TEST_HADOOP": str(self.hdfs.dir)}
        import harness
        mounted = directory / "mounted"
        try:
            self.mount = fuse.Mount(self.hdfs, "/trough", mounted)
        except fuse.Missing as why:
            self.no_mount = str(why)
        # The cluster makes itself a folder below /trough; its name is known when it has started.
        link = directory / "by-mount"
        cold = [{"COLD_MODE": "direct"}, {"COLD_MODE": "direct", "COLD_CHECK": 0},
                {"COLD_MODE": "mount", "COLD_STORAGE_PATH": template(self.local.parents[1])}]
        if self.mount:
            cold.append({"COLD_MODE": "mount", "COLD_STORAGE_PATH": template(link)})
        settings = {"MINIMUM_ASSIGNMENTS": 1, "MAXIMUM_ASSIGNMENTS": 1, "COLD_STORE_SEGMENT": f"segment_id in {json.dumps([segment, other])}",
                    "SYNC_LOOP_TIMING": 2, "LEASE": 60, "LOG_LEVEL": "WARN"}
        self.cluster = harness.Cluster(directory / "cluster", workers=1, settings=settings, cold=cold)
        self.path, other_path = (str(self.cluster.store / prefix / f"{name}.sqlite") for name in (segment, other))
        self.hdfs.webhdfs("PUT", str(self.cluster.store / prefix), "MKDIRS", permission="755")
        for path in (other_path, self.path):
            self.hdfs.rename(f"/trough/.{pathlib.Path(path).name}", path)
        if self.mount:
            link.symlink_to(mounted / self.cluster.store.name)
            self.mounted = link / prefix / f"{segment}.sqlite"
            self.mount.forget()
        for at in range(1, 1 + len(cold)):
            for name in (segment, other):
                harness.wait_for(f"cold worker {at} to serve it", lambda: self.cluster.read(name, "select 1", worker=at).status == 200)
        # Pages that are not on the disk yet cannot be forgotten.
        for path in self.on_disk():
            with open(path, "rb") as f:
                os.fsync(f.fileno())
        self.mtime = int(time.time()) * 1000

    def on_disk(self):
        return [self.local, *(path for path in (self.hdfs.dir / "data-1").rglob("blk_*") if path.is_file())]

    def facts(self):
        names = ["direct", "opening", "local"] + (["mount"] if self.mount else [])
        addresses = {name: f"127.0.0.1:{worker.read_port}" for name, worker in zip(names, self.cluster.workers[1:])}
        return {**addresses, "file": str(self.local), "store": self.cluster.store_url, "path": self.path, "no_mount": self.no_mount}

    def new(self):
        self.mtime += 1000
        self.hdfs.webhdfs("PUT", self.path, "SETTIMES", modificationtime=self.mtime, accesstime=-1)
        os.utime(self.local, ns=(self.mtime * 10**6, self.mtime * 10**6))

    def shown(self):
        def shows():
            self.mount.forget()
            return int(self.mounted.stat().st_mtime * 1000) == self.mtime
        hadoop.wait_for("the mount to show the new mtime", shows, 60)

    def drop(self):
        for path in self.on_disk() + ([self.mounted] if self.mount else []):
            with open(path, "rb") as f:
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def stop(self):
        if self.cluster:
            self.cluster.stop()
        if self.mount:
            self.mount.stop()


def template(folder):
    return f"{folder}/{{prefix}}/{{segment_id}}.sqlite"


def say(line):
    print(line, flush=True)


def main(directory, file, segment, other):
    directory = pathlib.Path(directory)
    hdfs = hadoop.Hadoop(directory / "hadoop")
    try:
        hdfs.start()
    except hadoop.Missing as why:
        return say(json.dumps({"no_hdfs": str(why)}))
    servers = Servers(hdfs)
    try:
        servers.start(directory, pathlib.Path(file), segment, other)
        say(json.dumps(servers.facts()))
        for line in sys.stdin:
            {"new": servers.new, "shown": servers.shown, "drop": servers.drop}[line.strip()]()
            say("done")
    finally:
        servers.stop()
        hdfs.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
