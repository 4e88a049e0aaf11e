"""Disks: a small file system of its own (ext4 on a loop device) for each daemon that keeps files, so that it can be filled and stopped."""

import os
import pathlib

from .net import run


class Disk:
    """A file system of `megabytes` at `path`."""

    def __init__(self, path, megabytes):
        self.path = pathlib.Path(path)
        self.path.mkdir()
        self.image = self.path.with_suffix(".img")
        with open(self.image, "wb") as image:
            image.truncate(megabytes << 20)
        # Blocks as large as pages, as any disk of use has: with smaller ones SQLite's mapped -shm has holes, and a full disk kills who writes there.
        run("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", str(self.image))
        run("mount", "-o", "loop", str(self.image), str(self.path))
        self.data = self.path / "data"
        self.data.mkdir()
        self.ballast = self.path / "ballast"

    def fill(self):
        """Takes all room that is left."""
        with open(self.ballast, "ab") as file:
            while room := (stat := os.statvfs(self.path)).f_bavail * stat.f_frsize:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, room)
                except OSError:
                    break  # the last blocks are for the file's own map

    def empty(self):
        self.ballast.unlink(missing_ok=True)

    def freeze(self):
        """Whoever writes waits from now on."""
        run("fsfreeze", "--freeze", str(self.path), check=False)

    def thaw(self):
        run("fsfreeze", "--unfreeze", str(self.path), check=False)

    def close(self):
        self.thaw()
        run("umount", str(self.path), check=False)
        self.image.unlink(missing_ok=True)
