"""A program that serves on loopback for the tests: started apart, found again by a file beside its log, and stopped."""

import json
import os
import pathlib
import signal
import subprocess

from hadoop import free_ports, wait_for


class Server:
    """One, whose files in the test's directory begin with `name`; `mark` stands in its command line."""

    def __init__(self, directory, name, mark):
        self.directory, self.mark = pathlib.Path(directory), mark
        self.log, self.state = self.directory / f"{name}.log", self.directory / f"{name}.json"

    def start(self, command, path, answers, patience):
        """Runs `command(port)`; gives `http://127.0.0.1:PORT` and the path, as soon as `answers(address)`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        [port] = free_ports(1)
        address = f"http://127.0.0.1:{port}{path}"
        with open(self.log, "ab") as log:
            process = subprocess.Popen(command(port), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.state.write_text(json.dumps({"pid": process.pid, "address": address}))

        def serves():
            if process.poll() is not None:
                raise RuntimeError(self.log.read_text()[-2000:])
            return answers(address)

        wait_for(self.mark, serves, patience)
        return address

    def stop(self):
        """Stops it, unless its process is another's by now."""
        pid = json.loads(self.state.read_text())["pid"]
        command = pathlib.Path(f"/proc/{pid}/cmdline")
        if command.exists() and self.mark.encode() in command.read_bytes():
            os.kill(pid, signal.SIGTERM)
        self.state.unlink()
