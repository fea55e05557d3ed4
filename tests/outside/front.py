"""nginx in front, with connections to the gateway that are kept, and the openai SDK through it."""

import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager

from house import Case, Missing, body, expect

CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {folder}/nginx; proxy_temp_path {folder}/nginx; fastcgi_temp_path {folder}/nginx;
  uwsgi_temp_path {folder}/nginx; scgi_temp_path {folder}/nginx;
  upstream gateway {{ server {gateway}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://gateway; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_read_timeout 20s; }}
  }}
}}
"""
"""As a user writes it: nothing is said about buffering, which the gateway's own header turns off for streams."""

REQUESTS = 60


@contextmanager
def nginx(house):
    """nginx on a free port, ended with this."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        raise Missing("nginx is not there")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = CONFIG.format(folder=house.folder, gateway=house.url.removeprefix("http://"), port=port)
    command = [program, "-c", house.file("nginx.conf", text), "-e", house.folder / "nginx.log"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            expect(process.poll() is None and time.monotonic() < deadline, "nginx does not start")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def sdk(house):
    """The SDK as a user sets it up, through nginx."""
    try:
        from openai import OpenAI
    except ImportError:
        raise Missing("the openai SDK is not there") from None
    with nginx(house) as url, OpenAI(base_url=f"{url}/v1", api_key="sk-client", max_retries=0, timeout=20.0) as client:
        yield client


def ask(content="Hello there"):
    return [{"role": "user", "content": content}]


def whole(house):
    with sdk(house) as client:
        answer = client.chat.completions.create(model="sim/echo", messages=ask())
        expect(answer.choices[0].message.content == "Hello there", str(answer))
    return "a whole answer, as it was"


def streamed(house):
    """The first token is there long before the last."""
    with sdk(house) as client:
        start, times, text = time.monotonic(), [], ""
        for chunk in client.chat.completions.create(model="sim/lorem-20+gap-50ms", stream=True, messages=ask()):
            if chunk.choices and chunk.choices[0].delta.content:
                times.append(time.monotonic() - start)
                text += chunk.choices[0].delta.content
    expect(len(times) == 20 and text, f"{len(times)} tokens")
    early, late = times[0], times[-1]
    expect(late - early > 0.5, f"the tokens came within {late - early:.2f} s of each other: buffered")
    return f"20 tokens, the first after {early * 1000:.0f} ms, the last after {late * 1000:.0f} ms"


def refused(house):
    """Statuses and codes come through as they are."""
    from openai import APIStatusError

    with sdk(house) as client:
        for model, status in [("sim/fail-503", 503), ("sim/fail-429", 429), ("nobody/x", 404)]:
            try:
                client.chat.completions.create(model=model, messages=ask())
            except APIStatusError as error:
                expect(error.status_code == status, f"{model}: {error.status_code}")
                expect(error.response.headers.get("x-request-id"), "no request id")
            else:
                expect(False, f"{model} was answered")
    return "503, 429 and 404 come through, each with its request id"


def cut(house):
    """A stream that is cut looks cut on the far side of nginx, too."""
    from openai import APIError

    with sdk(house) as client:
        text = ""
        try:
            for chunk in client.chat.completions.create(model="sim/cut-5", stream=True, messages=ask("a b c d e f g h")):
                text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        except APIError as error:
            expect("stream" in str(error) or "ended" in str(error) or "provider" in str(error), str(error))
            return f"an error after {len(text.split())} words, no quiet end"
        expect(False, "a cut stream ended like a whole one")


def leaves(house):
    """The client goes: nginx goes, and the gateway cancels the call."""
    before = house.requests()["cancelled_total"]
    with sdk(house) as client:
        stream = client.chat.completions.create(model="sim/lorem-2000+gap-20ms", stream=True, messages=ask())
        next(iter(stream))
        stream.close()
        house.settles("it was not noticed", lambda now: now["cancelled_total"] == before + 1 and now["in_flight"] == 0)
    return "the client left in mid-stream: cancelled upstream"


def keeps(house):
    """nginx keeps its connections, and none of them is closed under it."""
    with nginx(house) as url:
        before = house.stats()["connections"]["accepted_total"]
        for number in range(REQUESTS):
            request = urllib.request.Request(
                f"{url}/v1/chat/completions", body(content=str(number)).encode(), {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                expect(answer.status == 200 and f'"{number}"'.encode() in answer.read(), f"request {number} got another's answer")
        made = house.stats()["connections"]["accepted_total"] - before
    expect(made <= 3, f"{made} connections for {REQUESTS} requests")
    return f"{REQUESTS} requests over {made} connection{'s' * (made != 1)}"


CASES = [
    Case("nginx keep-alive", keeps),
    Case("nginx + SDK: whole", whole),
    Case("nginx + SDK: streamed", streamed),
    Case("nginx + SDK: errors", refused),
    Case("nginx + SDK: cut", cut),
    Case("nginx + SDK: client leaves", leaves),
]
