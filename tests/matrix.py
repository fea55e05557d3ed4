"""Holds tests/matrix.toml against a run of the SDKs' tests, and the README's tables against it.

    python3 tests/matrix.py REPORT
    python3 tests/matrix.py --check
    python3 tests/matrix.py --table

REPORT is what pytest's `--junit-xml` wrote. A cell whose tests did not run with its provider, or did not all pass, is a
failure; so are tables in the README that are others than `--table` prints. `--check` tries this program itself.
"""

import re
import sys
import tomllib
import xml.etree.ElementTree as xml
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORDS = {"passes", "translated", "left out", "refused"}


def parsed(name):
    """The function of a test's name, and the words in its brackets."""
    function, words = re.fullmatch(r"([^\[]+)(?:\[(.*)\])?", name).groups()
    return function, set((words or "").split("-"))


def runs(report):
    """Each run of a test: its file, function and words, and whether it was green."""
    for case in xml.fromstring(report).iter("testcase"):
        function, words = parsed(case.get("name"))
        green = not any(child.tag in ("failure", "error", "skipped") for child in case)
        yield case.get("classname").rpartition(".")[2], function, words, green


def cells(table):
    """Each cell: its feature, interface and provider, what it says, and its tests by file, function and words. An interface
    that does not have the feature has no cells of it."""
    for feature in table["feature"]:
        for interface in table["interface"]:
            key, usual = interface["key"], feature["tests"]
            usual = usual.get(key) if isinstance(usual, dict) else usual
            if usual is None:
                continue
            for provider in table["providers"]:
                said = feature.get("cells", {}).get(key, {}).get(provider, {})
                word = said.get("is", "passes" if key == provider else "translated")
                tests = []
                for name in said.get("tests", usual):
                    file, _, name = name.rpartition("::")
                    function, words = parsed(name)
                    tests.append((file or interface["file"], function, (words - {""}) | {provider}))
                yield feature["name"], key, provider, word, tests


def misses(table, found):
    """What is wrong, a line each."""
    found = list(found)
    known = {interface["key"] for interface in table["interface"]}
    for feature in table["feature"]:
        said = feature.get("cells", {})
        named = {provider for row in said.values() for provider in row}
        of = set(feature["tests"]) if isinstance(feature["tests"], dict) else known
        for stray in sorted((set(said) | of) - known | set(said) - of | named - set(table["providers"])):
            yield f"{feature['name']}: there is no {stray}"
    for name, interface, provider, word, tests in cells(table):
        place = f"{name}, {interface} to {provider}"
        if word not in WORDS:
            yield f"{place}: {word!r} is no word of this table"
        if not tests:
            yield f"{place}: no test is named"
        for file, function, words in tests:
            outcomes = [green for *which, has, green in found if which == [file, function] and words <= has]
            if not outcomes or not all(outcomes):
                why = "is not green" if outcomes else "did not run"
                yield f"{place}: {file}::{function} with {', '.join(sorted(words))} {why}"


def rows(table):
    """The README's tables, one for each interface."""
    said = {(name, key, provider): word for name, key, provider, word, _ in cells(table)}
    for each in table["interface"]:
        if each != table["interface"][0]:
            yield ""
        yield f"| {each['title']} | " + " | ".join(table["providers"]) + " |"
        yield "| --- |" + " --- |" * len(table["providers"])
        for feature in table["feature"]:
            words = [said.get((feature["name"], each["key"], provider)) for provider in table["providers"]]
            if all(words):
                yield f"| {feature['name']} | " + " | ".join(words) + " |"


def check():
    """That each kind of miss is one, and a pass is none."""
    report = (
        '<testsuites><testsuite><testcase classname="tests.sdk.test_a" name="test_x[1-a]"/>'
        '<testcase classname="tests.sdk.test_a" name="test_x[1-b]"><failure/></testcase>'
        '<testcase classname="tests.sdk.test_a" name="test_x[2-b]"/>'
        '<testcase classname="tests.sdk.test_a" name="test_y[a]"><skipped/></testcase>'
        '<testcase classname="tests.sdk.test_b" name="test_z[a-a.b]"/></testsuite></testsuites>'
    )
    found = list(runs(report))

    def table(provider, tests, cell=None):
        feature = {"name": "f", "tests": tests, "cells": {"a": {provider: cell}} if cell else {}}
        return {"providers": [provider], "interface": [{"key": "a", "title": "as", "file": "test_a"}], "feature": [feature]}

    for given, good in [
        (table("a", ["test_x"]), True),
        (table("b", ["test_x"]), False),
        (table("b", ["test_x[2]"]), True),
        (table("c", ["test_x"]), False),
        (table("a", ["test_y"]), False),
        (table("a", ["test_z"]), False),
        (table("a", ["test_b::test_z[a.b]"]), True),
        (table("a", ["test_b::test_z[b]"]), False),
        (table("a", []), False),
        (table("a", {"b": ["test_x"]}), False),
        (table("a", {}, {"tests": ["test_x"]}), False),
        (table("a", ["test_y"], {"tests": ["test_x"]}), True),
        (table("a", ["test_x"], {"is": "perhaps"}), False),
        (table("a", ["test_x"], {"tests": []}), False),
    ]:
        assert bool(list(misses(given, found))) != good, given
    told = table("b", {"a": ["test_x"]}, {"is": "refused"})
    told["interface"].append({"key": "z", "title": "zs", "file": "test_z"})
    assert list(rows(told)) == ["| as | b |", "| --- | --- |", "| f | refused |", "", "| zs | b |", "| --- | --- |"]


def main(arguments):
    check()
    if arguments == ["--check"]:
        return 0
    table = tomllib.loads((HERE / "matrix.toml").read_text())
    printed = "\n".join(rows(table))
    if arguments == ["--table"]:
        print(printed)
        return 0
    missed = list(misses(table, runs(Path(arguments[0]).read_text())))
    if f"\n\n{printed}\n\n" not in (HERE.parent / "README.md").read_text():
        missed.append("README.md: the tables are others than `python3 tests/matrix.py --table` prints")
    tested = {test[:2] for *_, tests in cells(table) for test in tests}
    pairs = len(table["interface"]) * len(table["providers"])
    features, cell_count = len(table["feature"]), len(list(cells(table)))
    print(f"{features} features, {pairs} pairs of interface and provider: {cell_count} cells")
    print(f"{len(tested)} tests named, {len(missed)} misses")
    print("\n".join(missed), end="\n" if missed else "")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
