"""What the cases share: the gateway as a process, how it is doing, and how another's program is run."""

import json
import os
import shutil
import subprocess
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass

from gateway import Gateway

CONFIG = {
    "server": {
        "header_timeout": "2s",
        "body_timeout": "2s",
        "write_timeout": "2s",
        "idle_timeout": "3s",
        "max_body_bytes": "1MiB",
    },
    "threads": {"idle_timeout": "1s"},
    "client": {"initial_pool_size": 16},
    "providers": {
        "sim": {
            "concurrency_and_buffer_size": {"concurrency": 10, "min_concurrency": 10, "buffer_size": 500},
            "network_config": {"idle_connection_timeout": "1s"},
        }
    },
}
"""Short times, so that what holds on is let go while somebody waits; workers that stay, so that threads can be counted."""

SERVING = 1.0
"""Seconds within which the gateway answers, whatever was done to it."""
BACK = 15.0
"""Seconds within which it must hold what it held before: its own times, and slack for a busy machine."""
FUSE = 60
"""Seconds that another's program may take."""


class Wrong(Exception):
    """An outcome that was not to be."""


class Missing(Exception):
    """A tool that is not on this machine."""


@dataclass
class Case:
    name: str
    run: object
    """Takes the house, returns what came of it in a few words, or raises."""


@dataclass
class Figures:
    threads: int
    files: int
    mb: float


def expect(holds, words):
    if not holds:
        raise Wrong(words)


def body(model="sim/echo", stream=False, content="Hello"):
    """A request's body."""
    return json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": content}]})


class House:
    """The gateway, served until the end of its `with`."""

    def __init__(self, folder):
        self.folder = folder
        self.gateway = Gateway(folder, CONFIG)
        self.url = self.gateway.data
        self.chat_url = f"{self.url}/v1/chat/completions"
        self.chat()

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        self.gateway.__exit__(*reason)

    def file(self, name, text):
        """Writes a file for a tool to read."""
        path = self.folder / name
        path.write_text(text)
        return path

    def chat(self):
        """One request; how long it took."""
        start = time.monotonic()
        request = urllib.request.Request(self.chat_url, body().encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            expect(answer.status == 200 and b"Hello" in answer.read(), "a plain request is not served")
        return time.monotonic() - start

    def stats(self):
        with urllib.request.urlopen(f"{self.gateway.admin}/stats?fresh=1", timeout=5) as answer:
            return json.load(answer)

    def requests(self):
        return self.stats()["requests"]

    def figures(self):
        """What the kernel counts of the process now."""
        proc = f"/proc/{self.gateway.process.pid}"
        with open(f"{proc}/status") as file:
            status = dict(line.split(":", 1) for line in file)
        return Figures(int(status["Threads"]), len(os.listdir(f"{proc}/fd")), int(status["VmRSS"].split()[0]) / 1024)

    @contextmanager
    def watched(self):
        """Keeps the peak of threads, files and memory while this lasts."""
        peak, end = self.figures(), threading.Event()

        def watch():
            while not end.wait(0.02):
                now = self.figures()
                peak.threads = max(peak.threads, now.threads)
                peak.files = max(peak.files, now.files)
                peak.mb = max(peak.mb, now.mb)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield peak
        finally:
            end.set()
            watcher.join()

    def at_rest(self):
        """Waits until nothing is under way any longer, and returns what the process then holds."""
        deadline = time.monotonic() + BACK
        while True:
            stats = self.stats()
            wrong = unbalanced(stats) or (stats["connections"]["open"] and f"{stats['connections']['open']} connections")
            # The connection of this very look, and its thread, go by themselves.
            first, _, second = self.figures(), time.sleep(0.3), self.figures()
            if not wrong and (first.threads, first.files) == (second.threads, second.files):
                return second
            expect(time.monotonic() < deadline, f"it does not come to rest: {wrong}")

    def back_to(self, before):
        """It serves at once, and holds no more than before; how long that took."""
        start = time.monotonic()
        expect(self.chat() < SERVING, "it took more than a second to serve the next")
        while True:
            wrong = unbalanced(self.stats())
            now = self.figures()
            # The look at the statistics holds a connection and may hold a thread.
            if not wrong and now.threads <= before.threads + 2 and now.files <= before.files + 4:
                return time.monotonic() - start
            late = f"it is not back: {wrong or ''} {now}, before {before}"
            expect(time.monotonic() < start + BACK, late)
            time.sleep(0.1)

    def run(self, *command, codes=(0,), **options):
        """Runs another's program; what it printed."""
        program = shutil.which(command[0])
        if program is None:
            raise Missing(f"{command[0]} is not there")
        try:
            done = subprocess.run(
                [program, *map(str, command[1:])], capture_output=True, timeout=FUSE, cwd=self.folder, text=True, **options
            )
        except subprocess.TimeoutExpired:
            raise Wrong(f"{command[0]} did not end within {FUSE} s") from None
        expect(done.returncode in codes, f"exit {done.returncode}: {(done.stderr or done.stdout).strip()[-120:]}")
        return done.stdout + done.stderr

    def settles(self, words, condition):
        """Waits until the requests' counts fulfil a condition."""
        deadline = time.monotonic() + BACK
        while not condition(self.requests()):
            expect(time.monotonic() < deadline, words)
            time.sleep(0.05)


def unbalanced(stats):
    """What does not add up at rest, if something does not."""
    requests, queue = stats["requests"], stats["providers"]["sim"]["queue"]
    jobs = stats["providers"]["sim"]["jobs"]
    ended = requests["succeeded_total"] + requests["failed_total"] + requests["cancelled_total"]
    left = sum(queue[f"{end}_total"] for end in ("completed", "dropped", "rejected", "timed_out", "abandoned"))
    worked = sum(jobs[f"{end}_total"] for end in ("succeeded", "failed", "timed_out", "cancelled"))
    sums = [
        (requests["in_flight"], 0, "in flight"),
        (requests["received_total"], ended, "received and ended"),
        (queue["submitted_total"], left, "submitted and left"),
        (queue["completed_total"], worked, "completed and worked"),
    ]
    return next((f"{what}: {one} and {other}" for one, other, what in sums if one != other), None)
