"""Runs each example as a reader would and holds it to what it must say.

    cargo build --examples && python3 tests/examples.py [NAME ...]

Each ends by itself within LIMIT seconds and with 0, prints on standard output what SAYS names, in this order and on lines of
their own, and nothing on standard error but what is said there. There is neither key nor terminal: what is meant for a
terminal alone must not be printed. An example that is not named here is a failure, as is a file too long for one look.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "target" / "debug" / "examples"

# Seconds, for a debug build on a busy machine; each takes one or two.
LIMIT = 60
MOST_LINES = 100

SAYS = {
    "one_call": [r"Hello from a plain thread"],
    "stream": [r"lorem( \w+){19}"],
    "threads": [r"32 callers answered by \d+ workers, at most \d+ waited at once"],
    "front_end": [r"base URL .* http://127\.0\.0\.1:\d+/v1", r'"Hello over HTTP"', r"Hello from inside"],
    "stats": [
        r"5 requests: 3 succeeded, 2 failed, 0 under way",
        r"  model_not_found: 1",
        r"  upstream_error: 1",
        r"sim: \d+ workers, 0 of 500 places in the queue taken, waited \d+ µs, served in \d+ µs \(medians\)",
        r"  \d+ tokens in, \d+ out, 0 retries",
        r"event: phase gateway: running",
    ],
    "policies": [
        r" +block: answered, answered, answered, answered, answered",
        r" +error: answered, answered, queue_full, queue_full, queue_full",
        r" +drop: answered, answered, request_dropped, request_dropped, request_dropped",
        r"drop_oldest: request_dropped, request_dropped, request_dropped, answered, answered",
    ],
    "batch": [
        r"996 answered, 4 failed",
        r"prompt \d+: upstream_error \(sim\): .+",
        r"prompt \d+: upstream_error \(sim\): .+",
    ],
    "cancel": [
        r"upstream_timeout \(sim\): .*the request allows",
        r"client_closed: .*cancelled.*",
        r"fast was first",
    ],
    "custom_provider": [
        r"A gate that lets water through as it can be borne\.",
        r"lorem( \w+){4} \(sim\)",
        r"1 answered, 1 passed on",
    ],
    "embeddings": [r" *-?\d\.\d\d  a gate in a weir", r" 1\.00  a lock on a canal", r" *-?\d\.\d\d  a cat on a mat"],
    "testing": [r"None"],
    "plugin": [r"7 words asked, 13 words answered", r"2 calls, 0 errors, \d+ µs before each \(median\)"],
    "repl": [r"Hello", r"And again", r"5 messages"],
    "fallbacks": [
        r"Who is there\?",
        r"Who is there\? \(second/echo after \d+ attempts\)",
        r"upstream_error \(first\): .+",
        r"  first/fail-503: upstream_error Some\(503\) in \d+ ms",
        r"  second/fail-500: upstream_error Some\(500\) in \d+ ms",
    ],
    "tools": [r'weather\(\{"city":".*"\}\) = sunny in .*', r"lorem( \w+){7}"],
}

# What is typed into those that read.
TYPED = {"repl": "Hello\n\nAnd again\n"}


def complaints(name):
    """What is wrong with an example, a line each."""
    source = ROOT / "examples" / f"{name}.rs"
    text = source.read_text()
    if f"`cargo run --example {name}" not in text:
        yield "its first lines do not say how to run it"
    if (lines := text.count("\n")) > MOST_LINES:
        yield f"{lines} lines, more than {MOST_LINES}"
    # A key that happens to be set must not send an example out of this machine.
    env = {key: value for key, value in os.environ.items() if "_KEY" not in key and "_BASE_URL" not in key}
    try:
        run = subprocess.run(
            [BUILT / name], input=TYPED.get(name, ""), capture_output=True, text=True, timeout=LIMIT, env=env, cwd=ROOT
        )
    except FileNotFoundError:
        yield "it is not built: cargo build --examples"
        return
    except subprocess.TimeoutExpired as late:
        yield f"it did not end within {LIMIT} s:\n{late.stdout}"
        return
    if run.returncode:
        yield f"it ended with {run.returncode}:\n{run.stdout}{run.stderr}"
        return
    if run.stderr:
        yield f"it complains: {run.stderr}"
    if found := re.search(r"[\x00-\x08\x0b-\x1f]", run.stdout):
        yield f"it prints for a terminal ({found[0]!r}) although there is none"
    lines = iter(run.stdout.splitlines())
    for wanted in SAYS[name]:
        if not any(re.fullmatch(wanted, line) for line in lines):
            yield f"it does not say, or not in this order: {wanted}\n{run.stdout}"
            return


def main(names):
    there = {file.stem for file in (ROOT / "examples").glob("*.rs")}
    wrong = [f"{name}: it stands on one side only: a file in examples, or what it must say" for name in there ^ SAYS.keys()]
    for name in names or sorted(there & SAYS.keys()):
        begun = time.monotonic()
        found = [f"{name}: {complaint}" for complaint in complaints(name)]
        print(f"example {name}: {'failed' if found else 'ok'}, {time.monotonic() - begun:.1f} s", flush=True)
        wrong += found
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
