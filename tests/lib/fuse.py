"""A FUSE mount of a folder of the live HDFS, by rclone (Debian: rclone, fuse3). It is no NFS mount and stands for none."""

import os
import pathlib
import shutil
import subprocess
import urllib.request

import hadoop


class Missing(Exception):
    """The mount cannot be had, but should be: rclone or fusermount3 is not installed, or it does not mount."""


class NoDevice(Missing):
    """This machine has no /dev/fuse, which nothing that is installed can mend."""


class Mount:
    """Mounts `path` of `hdfs` at `point`, read-only, and waits until it is there. `options` go to `rclone mount`."""

    def __init__(self, hdfs, path, point, *options):
        if not os.path.exists("/dev/fuse"):
            raise NoDevice("there is no /dev/fuse")
        for program in ["rclone", "fusermount3"]:
            if not shutil.which(program):
                raise Missing(f"no {program}; install it with: scripts/setup.sh test")
        self.point = pathlib.Path(point).absolute()
        self.point.mkdir(parents=True, exist_ok=True)
        self.log = self.point.with_name(f"{self.point.name}.log")
        [self.port] = hadoop.free_ports(1)
        remote = f":hdfs,namenode='127.0.0.1:{hdfs.state['rpc']}',username={hadoop.USER}:{path}"
        command = ["rclone", "mount", remote, str(self.point), "--read-only", "--config", "/dev/null",
                   "--rc", "--rc-addr", f"127.0.0.1:{self.port}", "--rc-no-auth", *options]
        with open(self.log, "ab") as log:
            self.p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            hadoop.wait_for("the FUSE mount", self.mounted, 30)
        except BaseException:
            self.stop()
            raise

    def mounted(self):
        if self.p.poll() is not None:
            raise Missing(f"rclone does not mount: {self.log.read_text(errors='replace')[-1000:]}")
        return os.path.ismount(self.point)

    def forget(self):
        """Has rclone look at the folders anew, instead of believing what it knows."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/vfs/forget", data=b"{}", method="POST",
                                         headers={"content-type": "application/json"})
        urllib.request.urlopen(request, timeout=10).close()

    def stop(self):
        # Lazily: it must go even while somebody has a file of it open, or it stays when rclone is gone.
        if str(self.point) in pathlib.Path("/proc/mounts").read_text().split():
            subprocess.run(["fusermount3", "-u", "-z", str(self.point)], check=True)
        if self.p.poll() is None:
            self.p.terminate()
        self.p.wait(20)
