"""Load generators: as many answers as requests, each of them a 200."""

import json
import re

from house import Case, body, expect

REQUESTS = 3000
CONNECTIONS = 32


def counted(house, send):
    """Runs it; the gateway has counted so many requests more, all of them good."""
    before = house.requests()
    sent, words = send()
    house.settles("requests are still under way", lambda now: now["in_flight"] == 0)
    after = house.requests()
    more = {what: after[f"{what}_total"] - before[f"{what}_total"] for what in ("succeeded", "failed", "cancelled")}
    # Who ends by the clock cuts what is under way: at most one request for each connection.
    expect(sent <= more["succeeded"] <= sent + CONNECTIONS, f"{sent} answers there, {more} here")
    expect(more["failed"] == 0 and more["cancelled"] <= CONNECTIONS, f"{more}")
    return words


def h2load(house):
    ask = house.file("ask.json", body())

    def send():
        out = house.run(
            "h2load", "--h1", "-n", REQUESTS, "-c", CONNECTIONS, "-d", ask, "-H", "content-type: application/json", house.chat_url
        )
        codes = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", out)
        expect(codes and int(codes[1]) == REQUESTS and " 0 failed, 0 errored, 0 timeout" in out, out[-200:])
        return REQUESTS, f"{REQUESTS} of {REQUESTS} are 200, none failed"

    return counted(house, send)


def wrk(house):
    script = house.file(
        "post.lua",
        f"wrk.method = 'POST'\nwrk.headers['content-type'] = 'application/json'\nwrk.body = '{body()}'\n"
        # Stops by number too, not only by the clock.
        f"local left = {REQUESTS // 2}\n"
        "function response() left = left - 1 if left == 0 then wrk.thread:stop() end end\n",
    )

    def send():
        out = house.run("wrk", "-t2", f"-c{CONNECTIONS}", "-d10s", "-s", script, house.chat_url)
        found = re.search(r"(\d+) requests in", out)
        expect(found and "Non-2xx" not in out and "Socket errors" not in out, out[-200:])
        return int(found[1]), f"{found[1]} answers, all 200, no socket error"

    return counted(house, send)


def ab(house, *more):
    ask = house.file("ask.json", body())

    def send():
        # Its HTTP is 1.0, so that each answer ends its connection, `-k` or not.
        out = house.run(
            "ab", "-q", "-l", *more, "-n", REQUESTS, "-c", CONNECTIONS, "-p", ask, "-T", "application/json", house.chat_url
        )
        good = re.search(r"Complete requests: +(\d+)\nFailed requests: +0\n", out)
        expect(good and int(good[1]) == REQUESTS and "Non-2xx" not in out, out[-200:])
        return REQUESTS, f"{REQUESTS} of {REQUESTS} are 200, over HTTP/1.0"

    return counted(house, send)


def oha(house):
    ask = house.file("ask.json", body())

    def send():
        out = house.run(
            *("oha", "-n", REQUESTS, "-c", CONNECTIONS, "-m", "POST", "-D", ask, "-T", "application/json"),
            *("--no-tui", "--output-format", "json", house.chat_url),
        )
        report = json.loads(out[out.index("{") :])
        codes, errors = report["statusCodeDistribution"], report["errorDistribution"]
        expect(codes == {"200": REQUESTS} and not errors, f"{codes} {errors}")
        return REQUESTS, f"{REQUESTS} of {REQUESTS} are 200, none failed"

    return counted(house, send)


CASES = [
    Case("h2load --h1", h2load),
    Case("wrk", wrk),
    Case("ab", ab),
    Case("ab -k", lambda house: ab(house, "-k")),
    Case("oha", oha),
]
