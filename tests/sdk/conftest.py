"""What the tests share: one provider and one gateway for all of them, a client for each."""

import os
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest
from anthropic import Anthropic
from gateway import CLIENT_KEY, Gateway, Simulated, provider
from openai import OpenAI
from upstream import Upstream

KINDS = ["openai", "anthropic"]
"""The shapes that a provider can speak."""
WAYS = ["sim", *KINDS]
"""The gateway's own simulated provider, which speaks the client's shape, and one of each kind."""
STREAMED = [False, True]
ERRORS = {
    400: "BadRequestError",
    404: "NotFoundError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    529: "InternalServerError",
}
"""How both SDKs call an error of a status; Anthropic's has a kind of its own of the last."""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A picture."""


@pytest.fixture(scope="session")
def upstream():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def gateway(upstream, tmp_path_factory):
    impatient = provider(upstream.url)
    impatient["network_config"]["default_request_timeout_in_seconds"] = "300ms"
    config = {
        "providers": {
            "up": provider(upstream.url),
            "openai": provider(upstream.url),
            "keyless": provider(upstream.url, keys=[]),
            "refused": provider(upstream.url),
            "impatient": impatient,
            "nobody": provider("http://127.0.0.1:9"),
            "sim": {},
        }
    }
    with Gateway(tmp_path_factory.mktemp("gateway"), config) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    with Simulated(tmp_path_factory.mktemp("simulated")) as simulated:
        yield simulated


@pytest.fixture(scope="session")
def shapes(simulated, upstream, tmp_path_factory):
    """A gateway on providers of each shape: each is the simulated one, spoken to as its kind says, or one that knows plays."""
    # Each test means one request, here as elsewhere.
    providers = {"sim": {"network_config": {"max_retries": 0}, "breaker": {"enabled": False}}}
    providers["keyed"] = provider(simulated.url, kind="anthropic")
    for kind in KINDS:
        # Without keys, none of which is to rest after what one of the tests asks for.
        providers[kind] = provider(simulated.url, kind=kind, keys=[])
        providers[f"impatient-{kind}"] = provider(simulated.url, kind=kind, keys=[])
        providers[f"impatient-{kind}"]["network_config"]["default_request_timeout_in_seconds"] = "300ms"
        providers[f"scripted-{kind}"] = provider(upstream.url, kind=kind, keys=[])
    with Gateway(tmp_path_factory.mktemp("shapes"), {"providers": providers}) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """What the gateway shows who comes by https, and its key; who trusts the one trusts the gateway."""
    if not shutil.which("openssl"):
        if os.environ.get("CI") == "true":
            pytest.fail("no openssl to make a certificate with, and CI leaves nothing out")
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = ["openssl", "req", "-x509", *kind, *subject, "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True, timeout=20)
    return cert, key


@pytest.fixture
def client(gateway):
    with connect(gateway) as client:
        yield client


def connect(gateway, prefix="", **options):
    """The SDK as a user sets it up, except that it never tries again: each test means one request."""
    options = {"api_key": CLIENT_KEY, "max_retries": 0, "timeout": 20.0} | options
    return OpenAI(base_url=f"{gateway.data}{prefix}/v1", **options)


def connect_anthropic(gateway, prefix="", **options):
    """The same of the other SDK."""
    options = {"api_key": CLIENT_KEY, "max_retries": 0, "timeout": 20.0} | options
    return Anthropic(base_url=f"{gateway.data}{prefix}", **options)


@contextmanager
def left(simulated, model):
    """Gives the model, and waits until one more answer of its was left by its reader."""
    before = simulated.left(model)
    yield model
    deadline = time.monotonic() + 10
    while simulated.left(model) == before:
        assert time.monotonic() < deadline, "the provider was never left"
        time.sleep(0.02)


def ask(content="Hello there"):
    """The simplest conversation."""
    return [{"role": "user", "content": content}]
