"""curl with its odd flags: what it sends, and the status, version and exit code that come of it."""

import json
import subprocess

from house import Case, Missing, body, expect

SHOW = "%{http_code} %{http_version} %{num_connects} %{exitcode}\n"
"""What curl is to say of each answer."""

CHAT, LIVE = "/v1/chat/completions", "/livez"


def curl(*flags, path=CHAT, post=True, gives=(), data=None, answer=""):
    """A run of curl: its flags, and what it is to say. `gives` is one line or more, each `STATUS VERSION CONNECTS`."""

    def run(house):
        ask = ["-H", "content-type: application/json", "-d", data or body()] if post else []
        out = house.run("curl", "-sS", "-m", 20, "-o", "answer", "-w", SHOW, *flags, *ask, f"{house.url}{path}")
        lines = [line.rsplit(" ", 1)[0] for line in out.splitlines() if line[:3].isdigit()]
        expect(lines == list(gives), f"{lines}, not {list(gives)}")
        came = (house.folder / "answer").read_text(errors="replace")
        expect(answer in came, f"{answer!r} is not in {came[:80]!r}")
        return "; ".join(f"{line.split()[0]} over HTTP/{line.split()[1]}" for line in lines)

    return run


def preface(house):
    """HTTP/2 without asking: the gateway's 505 is no frame of that, which curl's versions tell in different ways."""
    before = house.stats()["connections"]["bad_requests_total"]
    house.run("curl", "-sS", "-m", 20, "--http2-prior-knowledge", f"{house.url}{LIVE}", codes=(1, 16, 52, 56))
    expect(house.stats()["connections"]["bad_requests_total"] == before + 1, "it was not refused as a bad request")
    return "refused as a bad request, at once"


def chunked_upload(house):
    """A body from a pipe, whose length curl does not know."""
    out = house.run(
        *("curl", "-sS", "-m", 20, "-X", "POST", "-T", "-", "-H", "content-type: application/json", "-w", SHOW),
        *("-o", "answer", house.chat_url),
        input=body(),
    )
    expect(out.startswith("200 1.1"), out)
    return "200 over HTTP/1.1, sent in chunks of unknown number"


def raw(house):
    """The chunks of a stream as they stand on the wire: the last one comes, and comes once."""
    house.run("curl", "-sS", "-m", 20, "--raw", "-o", "answer", "-d", body("sim/lorem-5", True), house.chat_url)
    answer = (house.folder / "answer").read_bytes()
    expect(answer.endswith(b"\r\n0\r\n\r\n") and answer.count(b"\r\n0\r\n") == 1, repr(answer[-40:]))
    expect(answer.count(b"data: [DONE]") == 1, "not one [DONE]")
    return "the stream's chunks end by the last one, after one [DONE]"


def leaves(house, *flags, words, codes):
    """A client that goes in the middle of a stream: its request is counted as cancelled."""
    before = house.requests()["cancelled_total"]
    house.run("curl", "-sS", "-N", *flags, "-d", body("sim/lorem-2000+gap-20ms", True), house.chat_url, codes=codes)
    house.settles("it was not noticed", lambda now: now["cancelled_total"] == before + 1 and now["in_flight"] == 0)
    return words


def pipe_closes(house):
    """`curl | head`: the pipe that curl writes into closes while the stream runs."""
    before = house.requests()["cancelled_total"]
    command = ["curl", "-sS", "-N", "-m", "20", "-d", body("sim/lorem-2000+gap-20ms", True), house.chat_url]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            expect(process.stdout.read(200).startswith(b"data: "), "no stream")
            process.stdout.close()
            expect(process.wait(20) != 0, "curl did not notice")
    except FileNotFoundError:
        raise Missing("curl is not there") from None
    house.settles("it was not noticed", lambda now: now["cancelled_total"] == before + 1 and now["in_flight"] == 0)
    return "the client's pipe closed after 200 bytes: cancelled upstream"


def parallel(house):
    """Fifty at once, over as many connections as curl likes."""
    lines = "".join(
        f'next\nurl = "{house.chat_url}"\noutput = "/dev/null"\nsilent\nwrite-out = "%{{http_code}}\\n"\ndata = {json.dumps(body())}\n'
        for _ in range(50)
    )
    config = house.file("fifty", lines.removeprefix("next\n"))
    out = house.run("curl", "--parallel", "--parallel-max", 50, "--no-progress-meter", "-K", config)
    expect(out.split() == ["200"] * 50, out[-80:])
    return "50 of 50 are 200"


def twice(house):
    """Two requests of one run share a connection."""
    url = f"{house.url}{LIVE}"
    out = house.run("curl", "-sS", "-m", 20, "-w", SHOW, "-o", "answer", url, "-o", "second", url)
    connects = [line.split()[2] for line in out.splitlines()]
    expect(connects == ["1", "0"], out)
    return "the second request goes over the first one's connection"


def proxied(house):
    """As a client of a proxy: the target is in absolute form, and no tunnel is dug."""
    out = house.run("curl", "-sS", "-m", 20, "-x", house.url, "-w", SHOW, "-o", "answer", f"{house.url}{LIVE}")
    expect(out.startswith("200 1.1"), out)
    house.run("curl", "-sS", "-m", 20, "-p", "-x", house.url, f"{house.url}{LIVE}", codes=(56,))
    return "absolute form 200, CONNECT refused"


def big(house):
    """A body past the limit whose sender waits for leave: refused before it is sent."""
    house.file("big", "x" * (2 << 20))
    return curl("-H", "expect: 100-continue", data="@big", gives=["413 1.1 1"], answer="body_too_large")(house)


def get(*flags, path=LIVE, **options):
    return curl(*flags, path=path, post=False, **options)


CASES = [
    Case("curl", curl(gives=["200 1.1 1"], answer="Hello")),
    Case("curl --http1.0", curl("--http1.0", gives=["200 1.1 1"])),
    Case("curl --http0.9 --http1.0", get("--http0.9", "--http1.0", gives=["200 1.1 1"])),
    Case("curl --http2", curl("--http2", gives=["200 1.1 1"])),
    Case("curl --http2-prior-knowledge", preface),
    Case("curl -T -", chunked_upload),
    Case("curl transfer-encoding", curl("-H", "transfer-encoding: chunked", gives=["200 1.1 1"])),
    Case(
        "curl both lengths",
        curl("-H", "transfer-encoding: chunked", "-H", "content-length: 5", gives=["400 1.1 1"], answer="invalid_request"),
    ),
    Case("curl two lengths", curl("-H", "content-length: 5, 5", gives=["400 1.1 1"])),
    Case("curl --expect100-timeout", curl("--expect100-timeout", 15, "-H", "expect: 100-continue", gives=["200 1.1 1"])),
    Case("curl other expectation", curl("-H", "expect: a-miracle", gives=["417 1.1 1"])),
    Case("curl big body", big),
    Case("curl --path-as-is", curl("--path-as-is", path=f"/v1/..{CHAT}", gives=["400 1.1 1"])),
    Case("curl encoded slash", curl(path="/v1%2Fchat/completions", gives=["404 1.1 1"])),
    Case("curl -H Host:", curl("-H", "Host:", gives=["400 1.1 1"])),
    Case("curl -H Host;", curl("-H", "Host;", gives=["400 1.1 1"])),
    Case("curl two hosts", curl("-H", "Host: a.example, b.example", gives=["400 1.1 1"])),
    Case("curl --request-target", get("--request-target", "http://other.example/livez", gives=["400 1.1 1"])),
    Case("curl -x, -p", proxied),
    Case("curl --haproxy-protocol", curl("--haproxy-protocol", gives=["400 1.1 1"])),
    Case("curl --tcp-fastopen", curl("--tcp-fastopen", gives=["200 1.1 1"])),
    Case("curl --compressed", curl("--compressed", gives=["200 1.1 1"], answer='"choices"')),
    Case("curl no gzip inside", curl("-H", "content-encoding: gzip", gives=["400 1.1 1"])),
    Case("curl --raw", raw),
    Case("curl --range", get("--range", "0-1", gives=["200 1.1 1"], answer="ok")),
    Case("curl -I", get("-I", gives=["200 1.1 1"])),
    Case("curl -F", get("-F", "file=@/dev/null", path=CHAT, gives=["400 1.1 1"])),
    Case("curl -X TRACE", get("-X", "TRACE", gives=["405 1.1 1"])),
    Case("curl -X BREW", get("-X", "BREW", gives=["501 1.1 1"])),
    Case("curl long line", get("-H", f"x-long: {'a' * 40000}", gives=["431 1.1 1"])),
    Case("curl 200 lines", get(*(f"-Hx-{n}: 1" for n in range(200)), gives=["431 1.1 1"])),
    Case("curl twice", twice),
    Case("curl connection: close", curl("-H", "connection: close", gives=["200 1.1 1"])),
    Case("curl websocket", get("-H", "connection: upgrade", "-H", "upgrade: websocket", gives=["200 1.1 1"])),
    Case("curl --parallel", parallel),
    Case("curl -m 1", lambda house: leaves(house, "-m", 1, words="the client left after 1 s: cancelled upstream", codes=(28,))),
    Case("curl | head", pipe_closes),
]
