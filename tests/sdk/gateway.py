"""The built binary as a child process: started with a configuration, found by what it prints, ended by its own id."""

import base64
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / os.environ.get("SLUICEGATE_BIN", "target/debug/sluicegate")
START = 15.0
"""Seconds until it must have printed its addresses."""
END = 20.0
"""Seconds until it must be gone after SIGTERM."""
WAIT = 10.0
"""Seconds until the statistics must show what a test waits for."""
UPSTREAM_KEY = "sk-upstream-canary"
"""The key of the provider, which no client and no log may ever see."""
CLIENT_KEY = "sk-client-canary"
"""What the SDK sends as its own key, which is nobody's business either."""


class Gateway:
    """Serves until the end of its `with`."""

    def __init__(self, folder, config, log="trace"):
        self.output = folder / "output.txt"
        path = folder / "gateway.json"
        path.write_text(json.dumps(config))
        command = [BINARY, "serve", "--config", path, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        environment = {"PATH": os.environ["PATH"], "UPSTREAM_KEY": UPSTREAM_KEY, "RUST_LOG": log}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder, env=environment
            )
        self.data = self.printed(r"data plane\s+(https?://\S+)")
        self.admin = self.printed(r"admin plane\s+(https?://\S+)")

    def text(self):
        """What it has printed."""
        return self.output.read_text(errors="replace")

    def printed(self, pattern):
        """Waits until it has printed this."""
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            found = re.search(pattern, self.text())
            if found:
                return found.group(1)
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        self.kill()
        raise AssertionError(f"no {pattern!r} in what it printed:\n{self.text()}")

    def wait_for(self, condition):
        """Waits until the statistics fulfil a condition, and returns them."""
        deadline = time.monotonic() + WAIT
        while True:
            with urllib.request.urlopen(f"{self.admin}/stats?fresh=1", timeout=5) as answer:
                stats = json.load(answer)
            if condition(stats):
                return stats
            assert time.monotonic() < deadline, f"it did not come to that: {stats}"
            time.sleep(0.02)

    def terminate(self):
        """Asks it to drain and end."""
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self):
        """Waits for its end."""
        try:
            return self.process.wait(END)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end within {END} s:\n{self.text()}") from None

    def kill(self):
        self.process.kill()
        self.process.wait(END)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.terminate()
            assert self.exit_code() == 0, self.text()
        assert not leaks(self.text()), "a key is in the output"


class Simulated:
    """The simulated provider alone, until the end of its `with`."""

    def __init__(self, folder):
        output = folder / "output.txt"
        with output.open("wb") as file:
            command = [BINARY, "sim", "--listen", "127.0.0.1:0"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=folder)
        deadline = time.monotonic() + START
        while not (found := re.search(r"simulated provider\s+(http://\S+)", output.read_text())):
            assert time.monotonic() < deadline and self.process.poll() is None, output.read_text()
            time.sleep(0.01)
        self.url = found.group(1)

    def get(self, path):
        """What it tells of itself."""
        with urllib.request.urlopen(f"{self.url}/sim/{path}", timeout=5) as answer:
            return json.load(answer)

    def sent(self):
        """The body of the last request."""
        return self.get("last/body")

    def model(self):
        """The model that was asked for last."""
        return self.sent()["model"]

    def left(self, model):
        """How many answers of this model's their readers have left."""
        return self.get("stats")["models"].get(model, {"aborted_by_peer": 0})["aborted_by_peer"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(END)


def leaks(text):
    """The keys that stand in a text, as they are, in hexadecimal, percent-encoded or in base64 at any place of a group."""
    found = []
    for key in (UPSTREAM_KEY, CLIENT_KEY):
        raw = key.encode()
        dresses = [key, raw.hex(), raw.hex().upper(), "".join(f"%{byte:02X}" for byte in raw)]
        for lead, skip in ((0, 0), (1, 2), (2, 3)):
            whole = base64.b64encode(bytes(lead) + raw)[skip:]
            # The last group may hold what comes behind.
            dresses.append(whole[: (len(whole) - 4) // 4 * 4].decode())
        found += [dress for dress in dresses if dress in text]
    return found


def provider(url, **more):
    """A provider at this address, of OpenAI's shape unless another kind is given."""
    keys = [{"name": "a", "value": "env.UPSTREAM_KEY"}]
    # Each test means one request, and none is to be refused for what came of another's.
    network = {"base_url": url, "max_retries": 0}
    # Nor is a look whether it is there, which a gateway takes at times, to be what a provider of the tests' was asked last.
    quiet = {"breaker": {"enabled": False}, "health": {"on_start": False, "interval": 0}}
    return {"kind": "openai", "keys": keys, "network_config": network, **quiet, **more}
