#!/usr/bin/env python3
"""How the status page does with a large cluster: tests/page/scale.py [SEGMENTS [WORKERS]], 1,000,000 and 100 by default.

Needs `cargo build --example simulate -p trough-sync` (SIMULATE names another binary). Prints when the page can be used, what
it loads, how long the server takes for each request and how much memory it has; TROUGH_PAGE_SHOTS names a directory for a
screenshot. Every request runs while the others of a page poll."""

import os
import pathlib
import statistics
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import harness  # noqa: E402
import support  # noqa: E402

PATHS = ["/", "/assets/main.js", "/v1/whoami", "/v1/cluster?named=5", "/v1/copies?limit=60", "/v1/problems", "/v1/problems?kind=under_replicated&limit=50",
         "/v1/problems?kind=locked&limit=50", "/v1/locks?limit=100", "/v1/segments?limit=60", "/v1/segments?limit=60&matching=%5Ecrawl-09999",
         "/v1/segments?limit=60&matching=77$", "/v1/segments?limit=60&matching=nothing-like-that"]
TIMES = 7


def ask(url, etag=None):
    """Seconds, bytes on the wire, the answer's tag."""
    headers = {"accept": "text/html, application/json", "accept-encoding": "gzip", **({"if-none-match": etag} if etag else {})}
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return time.perf_counter() - began, len(answer.read()), answer.headers["etag"]
    except urllib.error.HTTPError as e:
        assert e.code == 304, e
        return time.perf_counter() - began, 0, None


def memory(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) // 1024 for line in lines if line.startswith(("VmRSS", "VmHWM"))}


def busy(pid):
    """Processor seconds so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(segments, workers):
    binary = os.environ.get("SIMULATE", str(support.ROOT / "target/debug/examples/simulate"))
    port = harness.free_ports(1)[0]
    began = time.monotonic()
    server = subprocess.Popen([binary, str(segments), str(workers), str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        assert line.startswith("ready"), line
        print(f"{segments:,} segments and {workers} workers are there after {time.monotonic() - began:.0f} s; memory {memory(server.pid)} MiB")
        look(server.pid, f"http://127.0.0.1:{port}")
    finally:
        server.stdin.close()
        server.wait(60)


def look(pid, base):
    with support.chromium() as browser:
        for run in ("first visit", "again"):
            context = browser.new_context(viewport={"width": 1400, "height": 1000}) if run == "first visit" else context
            page = context.new_page()
            page.goto(base)
            support.until(page, "performance.getEntriesByName('trough-interactive').length")
            at = page.evaluate("performance.getEntriesByName('trough-interactive')[0].startTime")
            loaded = page.evaluate("[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].reduce((sum, e) => sum + e.transferSize, 0)")
            requests = page.evaluate("performance.getEntriesByType('resource').length + 1")
            print(f"{run}: interactive after {at:.0f} ms, {loaded:,} bytes in {requests} requests")
            if run == "again":
                support.shot(page, "100-workers", full=False)
                before, used = time.monotonic(), busy(pid)
                support.until(page, "began => performance.now() > began + 20000", arg=page.evaluate("performance.now()"), timeout=60_000)
                print(f"one open page costs the server {(busy(pid) - used) / (time.monotonic() - before):.1%} of a processor")
    for path in PATHS:
        answers = [ask(base + path) for _ in range(TIMES)]
        _, kept, _ = ask(base + path, answers[-1][2])
        same = "304 if known" if answers[-1][2] and kept == 0 else ""
        print(f"{statistics.median(a[0] for a in answers) * 1000:8.1f} ms (at most {max(a[0] for a in answers) * 1000:.1f})  {answers[-1][1]:8,} bytes  {path}  {same}")
    print(f"memory {memory(pid)} MiB")


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:3]] + [1_000_000, 100][len(sys.argv) - 1:]
    main(*numbers)
