"""The command line where a terminal is, and its JSON schema by a validator that others wrote."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest
from gateway import BINARY, ROOT
from jsonschema import Draft202012Validator

FUSE = 20


class Terminal:
    """A command on a terminal of its own, 80 columns wide."""

    def __init__(self, *args, **env):
        self.seen = b""
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm", **env})
            os.execv(BINARY, [str(BINARY), *args])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.end)
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass

    def type(self, text):
        os.write(self.end, text.encode())

    def read(self):
        """What has come within a moment; nothing at the end."""
        if not select.select([self.end], [], [], 0.05)[0]:
            return True
        try:
            piece = os.read(self.end, 65536)
        except OSError:
            return False
        self.seen += piece
        return bool(piece)

    def until(self, pattern):
        """Reads until what came since the last call matches."""
        fuse = time.monotonic() + FUSE
        while not (found := re.search(pattern.encode(), self.seen, re.DOTALL)):
            assert time.monotonic() < fuse and self.read(), f"no {pattern} in {self.seen!r}"
        self.seen = self.seen[found.end() :]
        return found

    def exit_code(self):
        fuse = time.monotonic() + FUSE
        while self.read():
            assert time.monotonic() < fuse, f"it goes on: {self.seen!r}"
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture(scope="module")
def validator():
    done = subprocess.run([BINARY, "check", "--schema"], capture_output=True, check=True, timeout=FUSE)
    schema = json.loads(done.stdout)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


GOOD = [
    {"$schema": "sluicegate.schema.json"},
    {"server": {"keys": ["env.KEY", {"name": "b", "value": "file:/run/key"}], "tls": None}, "client": None},
    {"server": {"max_connections": "${MOST:-100}", "max_in_flight": "auto", "header_timeout": 5000}},
    {"providers": {"local": {"kind": "openai", "network_config": {"base_url": "env.LOCAL_URL"}}}},
    {"providers": {"sim": {"rate_limit": None, "queue": {"wait_timeout": "env.PATIENCE", "batch_share": None}}}},
    {"providers": {"sim": {"kind": None, "queue": {"policy": "${POLICY:-drop}"}}}},
    {"aliases": {"c": {"targets": [{"model": "sim/echo"}], "strategy": None}}},
    {"aliases": {"a": "sim/echo", "b": {"targets": [{"model": "sim/echo", "weight": "env.W"}]}}},
]
BAD = [
    {"serverr": {}},
    {"server": {"listen": 5}},
    {"server": {"max_connections": "many"}},
    {"server": {"max_connections": 0}},
    {"providers": {"sim": {"queue": {"policy": "yield"}}}},
    {"providers": {"sim": {"queue": {"wait_timeout": "5 parsecs"}}}},
    {"providers": {"sim": {"concurrency_and_buffer_size": {"concurrency": 0}}}},
    {"providers": {"sim": {"early_keepalive": 1}}},
    {"aliases": {"a": 5}},
    {"plugins": [{"name": "nobody's"}]},
]


@pytest.mark.parametrize("document", GOOD, ids=str)
def test_the_schema_takes_what_the_gateway_takes(validator, document):
    assert [error.message for error in validator.iter_errors(document)] == []


@pytest.mark.parametrize("document", BAD, ids=str)
def test_the_schema_refuses_what_the_gateway_refuses(validator, document, tmp_path):
    assert not validator.is_valid(document)
    (tmp_path / "bad.json").write_text(json.dumps(document))
    done = subprocess.run([BINARY, "check", tmp_path / "bad.json"], capture_output=True, timeout=FUSE)
    assert done.returncode == 2, done


def test_the_examples_and_what_is_in_force_fit_the_schema(validator):
    examples = sorted((ROOT / "examples").glob("*.json"))
    assert examples
    for example in examples:
        document = json.loads(example.read_text())
        # Dashboards and the like stand there, too.
        if not {"providers", "server", "aliases"} & document.keys():
            continue
        assert [error.message for error in validator.iter_errors(document)] == [], example
        done = subprocess.run([BINARY, "check", example], capture_output=True, check=True, timeout=FUSE)
        assert [error.message for error in validator.iter_errors(json.loads(done.stdout))] == [], example


def test_a_session_on_a_terminal_prompts_and_ctrl_c_ends_the_answer_alone():
    with Terminal("chat", "-i") as chat:
        chat.until(r"Ctrl-D leaves\r\n> ")
        chat.type("Hello\n")
        chat.until(r"Hello\r\nHello\r\nsim/echo: attempts 1.*> ")
        chat.type("half a line\x03")
        chat.until(r"/quit leaves\r\n> ")
        chat.type("/model sim/lorem-1000+gap-20ms\nTell me\n")
        chat.until(r"lorem ipsum")
        chat.type("\x03")
        chat.until(r"what came is kept\r\n> ")
        chat.type("/model sim/echo\none \\\n")
        chat.until(r"… ".encode().decode())
        chat.type("two\n")
        chat.until(r"one \r\ntwo\r\n.*> ")
        chat.type("\x04")
        assert chat.exit_code() == 0


def test_what_is_said_does_not_steer_a_terminal_and_a_pipe_has_it_whole():
    said = "a\x1b]52;c;QUJD\x07b\x9b2Jc"
    for stream in [[], ["--stream"]]:
        with Terminal("chat", *stream, said) as chat:
            assert chat.exit_code() == 0
            assert "a]52;c;QUJDb2Jc\r\n".encode() in chat.seen and b"\x1b" not in chat.seen, chat.seen
        piped = subprocess.run([BINARY, "chat", *stream, said], capture_output=True, check=True, timeout=FUSE)
        assert piped.stdout.decode() == said + "\n"


@pytest.mark.parametrize("end", ["\x03", signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_the_watched_table_stays_in_its_place_and_gives_the_terminal_back(gateway, end):
    with Terminal("stats", "--watch", "--admin", gateway.admin) as watch:
        watch.until(r"\x1b\[\?1049h\x1b\[\?25l\x1b\[H\x1b\[2J")
        frame = watch.until(r"\x1b\[H(.*?)\x1b\[J")[1].decode()
        again = watch.until(r"\x1b\[H(.*?)\x1b\[J")[1].decode()
        for text in [frame, again]:
            assert "\x1b[2J" not in text, "it is written over, not cleared"
            lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).rstrip("\r") for line in text.split("\n")]
            assert max(map(len, lines)) <= 80 and any(line.startswith("sim ") for line in lines), lines
            assert text.count("\x1b[K") == len(lines)
        if isinstance(end, str):
            watch.type(end)
        else:
            os.kill(watch.pid, end)
        watch.until(r"\x1b\[\?25h\x1b\[\?1049l.*provider")
        assert watch.exit_code() == 0


def test_a_watch_that_is_stopped_gives_the_terminal_back_and_takes_it_again(gateway):
    with Terminal("stats", "--watch", "--admin", gateway.admin) as watch:
        watch.until(r"\x1b\[\?1049h.*provider")
        watch.type("\x1a")
        watch.until(r"\x1b\[\?25h\x1b\[\?1049l")
        assert os.WIFSTOPPED(os.waitpid(watch.pid, os.WUNTRACED)[1])
        os.kill(watch.pid, signal.SIGCONT)
        watch.until(r"\x1b\[\?1049h\x1b\[\?25l.*provider")
        watch.type("\x03")
        assert watch.exit_code() == 0


def test_colours_are_for_terminals_that_take_them(gateway):
    bold = b"\x1b[1m"
    for env, coloured in [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]:
        with Terminal("stats", "--admin", gateway.admin, **env) as stats:
            assert stats.exit_code() == 0 and (bold in stats.seen) == coloured, (env, stats.seen)
    with Terminal("--help") as help_text:
        assert help_text.exit_code() == 0 and b"\x1b[" in help_text.seen
    piped = subprocess.run([BINARY, "--help"], capture_output=True, check=True, timeout=FUSE)
    assert b"\x1b[" not in piped.stdout
