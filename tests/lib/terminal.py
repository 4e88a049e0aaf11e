"""A shell on a real terminal: a pty, and an emulator that shows what a person would see."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading

import harness
import pyte

# The sign is another one while suggestions are shown.
PROMPT = re.compile(r"^trough(:\S+|:\[\d+ segments\]\(\w+\))?[>|] ")


def environment(**more):
    """The tests' own, without what would change the shell's manners."""
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "PAGER", "TROUGH_PAGER", "TROUGH_URL", "TROUGH_TOKEN")}
    return {**plain, "TERM": "xterm-256color", **more}


def run(url, *args, input=None, cwd=None, env=None, text=True):
    """A shell without a terminal, to its end."""
    stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
    return subprocess.run([harness.BIN, "shell", "-u", url, *args], capture_output=True, text=text, timeout=120, cwd=cwd,
                          env=environment(**(env or {})), **stdin)


def unlocked(url, segment):
    """Waits until nobody holds the segment's write lock."""
    harness.wait_for(f"the lock of {segment}", lambda: f'"{segment}"' not in run(url, "-f", "raw", "-c", "show locks").stdout)


def canonical(url, segment):
    """Makes an empty segment that is promoted and not locked, so that it can be shredded."""
    done = run(url, "-w", segment, "-c", f"provision {segment}", "-c", "promote")
    assert done.returncode == 0, done
    unlocked(url, segment)


class Shell:
    """`trough shell` on a terminal of so many rows."""

    def __init__(self, url, *args, history, rows=600, columns=120, cwd=None, env=None):
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = bytearray()
        self.news = threading.Condition()
        self.ended = False
        command = [harness.BIN, "shell", "-u", url, *args]
        variables = environment(TROUGH_HISTORY=str(history), **(env or {}))
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd or "/")
            os.execve(command[0], command, variables)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        # The editor asks where the cursor is.
        self.screen.write_process_input = lambda answer: os.write(self.fd, answer.encode())
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.wait("the first prompt", self.at_prompt)

    def read(self):
        while True:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            with self.news:
                self.raw += data
                if data:
                    self.stream.feed(data)
                else:
                    self.ended = True
                self.news.notify_all()
            if not data:
                return

    def lines(self):
        return [line.rstrip() for line in self.screen.display]

    def text(self):
        return "\n".join(self.lines()).rstrip()

    def cursor_line(self):
        row = self.screen.buffer[self.screen.cursor.y]
        return "".join(row[x].data for x in range(self.screen.columns))

    def at_prompt(self):
        """Whether an empty prompt waits."""
        found = PROMPT.match(self.cursor_line())
        return bool(found) and self.screen.cursor.x == found.end() and not self.cursor_line()[found.end():].strip()

    def wait(self, what, condition, timeout=60):
        with self.news:
            if not self.news.wait_for(condition, timeout):
                raise AssertionError(f"gave up waiting for {what}; the terminal shows\n{self.text()}")

    def wait_for(self, pattern, timeout=60):
        self.wait(pattern, lambda: re.search(pattern, self.text()), timeout)

    def keys(self, text):
        os.write(self.fd, text.encode())

    def type(self, text):
        """Types into the prompt and waits until it stands there."""
        self.keys(text)
        self.wait(f"{text!r} to be shown", lambda: self.cursor_line().rstrip().endswith(text.rstrip()))

    def command(self, line, expect=None, end="prompt", timeout=60):
        """Types a command and gives what it prints; `expect` must be found in it."""
        with self.news:
            begin = self.screen.cursor.y
        self.keys(line + "\r")
        if end == "prompt":
            self.wait(f"the prompt after {line!r}", lambda: self.screen.cursor.y > begin and self.at_prompt(), timeout)
        else:
            self.wait(f"{end!r} after {line!r}", lambda: re.search(end, "\n".join(self.lines()[begin + 1:])), timeout)
        with self.news:
            output = "\n".join(self.lines()[begin + 1:self.screen.cursor.y])
        if expect is not None:
            assert re.search(expect, output), f"{line}: {expect!r} is not in\n{output}"
        return output

    def quit(self, how="quit\r"):
        """Leaves; the exit code."""
        self.keys(how)
        self.wait("the end", lambda: self.ended)
        _, status = os.waitpid(self.pid, 0)
        self.pid = None
        return os.waitstatus_to_exitcode(status)

    def close(self):
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = None
        self.reader.join(10)
        os.close(self.fd)
