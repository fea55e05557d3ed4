"""slowhttptest's four modes: who is slow is put out at the gateway's own times, and nobody else notices."""

import re

from house import Case, expect

CONNECTIONS = 300
SECONDS = 10


def slow(house, *options):
    refused = house.stats()["connections"]
    out = house.run("slowhttptest", "-c", CONNECTIONS, "-r", 300, "-l", SECONDS, "-p", 2, *options)
    out = re.sub(r"\x1b\[[0-9;]*m", "", out)
    ended = re.search(r"Test ended on (\d+)th second", out)
    expect(ended and "service available:   YES" in out, out[-200:])
    expect("service available:   NO" not in out, "somebody else was not served")
    now = house.stats()["connections"]
    taken = now["accepted_total"] - refused["accepted_total"]
    expect(taken >= CONNECTIONS, f"only {taken} connections were made")
    return int(ended[1]), now, {name: now[name] - refused[name] for name in ("header_timeouts_total", "bad_requests_total")}


def headers(house):
    seconds, _, more = slow(house, "-H", "-i", 1, "-x", 24, "-u", f"{house.url}/livez")
    expect(seconds < SECONDS, "connections were held until the end")
    expect(more["header_timeouts_total"] >= CONNECTIONS, f"{more}")
    return f"{CONNECTIONS} heads that never end: each put out in time, all within {seconds} s"


def bodies(house):
    before = house.requests()
    seconds, _, _ = slow(house, "-B", "-i", 1, "-s", 8192, "-x", 10, "-t", "POST", "-u", house.chat_url)
    expect(seconds < SECONDS, "connections were held until the end")
    house.settles("requests are still under way", lambda now: now["in_flight"] == 0)
    failed = house.requests()["failed_total"] - before["failed_total"]
    expect(failed >= CONNECTIONS, f"only {failed} requests were refused")
    return f"{CONNECTIONS} bodies that never end: each refused in time, all within {seconds} s"


def readers(house):
    # It reads a byte every two seconds; what is left in its own kernel's buffer is no longer the gateway's.
    seconds, now, _ = slow(house, "-X", "-w", 1, "-y", 2, "-n", 2, "-z", 1, "-k", 10, "-u", f"{house.url}/health")
    expect(now["open"] <= 2, f"{now['open']} connections are still open")
    return f"{CONNECTIONS} readers of a byte in 2 s: none holds a connection after {seconds} s"


def ranges(house):
    seconds, _, _ = slow(house, "-R", "-a", 1, "-b", 500, "-t", "GET", "-u", f"{house.url}/health")
    expect(seconds < SECONDS, "connections were held until the end")
    return f"{CONNECTIONS} requests for 500 ranges each: answered whole, within {seconds} s"


CASES = [
    Case("slowhttptest -H", headers),
    Case("slowhttptest -B", bodies),
    Case("slowhttptest -X", readers),
    Case("slowhttptest -R", ranges),
]
