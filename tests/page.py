"""Holds each test that tests/page.toml names against the logs of the runs: it ran, and it passed.

    python3 tests/page.py LOG [TARGET=LOG ...]
    python3 tests/page.py --check
    python3 tests/page.py --table

LOG is what `cargo test` printed, its "Running" lines included, which say whose tests follow: `lib` or `main`. Each further
log is of one target whose name is given. A test that was ignored, filtered out or did not pass is a failure, and so is one
that did not run. `--check` tries this program itself; `--table` prints the rows of the README's table.
"""

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

RUNNING = re.compile(r"^\s*Running (?:unittests )?(\S+)")
RESULT = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. (.*)$")
TARGETS = {"src/lib.rs": "lib", "tests/main.rs": "main"}


def results(log, target=None):
    """Each test of a log, by its full name, with what became of it."""
    found = {}
    fixed = target is not None
    for line in log.splitlines():
        if not fixed and (running := RUNNING.match(line)):
            target = TARGETS.get(running[1])
        elif (result := RESULT.match(line)) and target:
            found[f"{target}::{result[1]}"] = result[2].strip()
    return found


def misses(table, found):
    """What is wrong, a line each."""
    for claim in table.get("claim", []):
        for test in claim.get("tests", []):
            outcome = found.get(test, "it did not run")
            if outcome != "ok":
                yield f'line {claim["line"]} ({claim["words"]}): {test}: {outcome}'


def rows(table):
    """A row of the README's table for each heading of the page."""
    for group in table["group"]:
        first, last = group["lines"]
        claims = [claim for claim in table["claim"] if first <= claim["line"] <= last]
        pending = sum("pending" in claim for claim in claims)
        built = [claim for claim in claims if "pending" not in claim]
        modules = Counter(claim["module"].split("/")[0] for claim in built)
        places = Counter("::".join(test.split("::")[:-1][:3]) for claim in built for test in claim["tests"])
        cells = [", ".join(f"`{name}`" for name, _ in counted.most_common(4)) for counted in (modules, places)]
        yield f'| {group["title"]} | {len(claims)} | {pending} | {cells[0]} | {cells[1]} |'


def check():
    """That each kind of miss is one, and a pass is none."""
    log = "\n".join([
        "     Running unittests src/lib.rs (target/debug/deps/a)", "test a::passes ... ok", "test a::is_left ... ignored",
        "     Running unittests src/main.rs (target/debug/deps/c)", "test a::elsewhere ... ok",
        "     Running tests/main.rs (target/debug/deps/b)", "test b::fails ... FAILED", "test b::passes ... ok",
        "test b::is_left_because ... ignored, it is slow", "   Doc-tests sluicegate"])
    found = results(log) | results("test c::passes ... ok", "models")
    for name, good in {
        "lib::a::passes": True, "main::b::passes": True, "models::c::passes": True, "lib::a::is_left": False,
        "main::b::fails": False, "main::b::is_left_because": False, "lib::b::passes": False, "lib::a::elsewhere": False,
        "main::c::passes": False, "lib::a::passe": False,
    }.items():
        table = {"claim": [{"line": 1, "words": "w", "tests": [name]}]}
        assert bool(list(misses(table, found))) != good, name
    assert not list(misses({"claim": [{"line": 1, "words": "w", "pending": "x"}]}, found))


def main(arguments):
    check()
    if arguments == ["--check"]:
        return 0
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
    if arguments == ["--table"]:
        print("\n".join(rows(table)))
        return 0
    found = {}
    for argument in arguments:
        target, _, path = argument.rpartition("=")
        found |= results(Path(path).read_text(errors="replace"), target or None)
    missed = list(misses(table, found))
    named = {test for claim in table["claim"] for test in claim.get("tests", [])}
    pending = sum("pending" in claim for claim in table["claim"])
    print(f"{len(table['claim'])} claims of the page, {pending} pending; {len(named)} tests named, {len(missed)} misses")
    print("\n".join(missed), end="\n" if missed else "")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
