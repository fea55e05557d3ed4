"""What the tests share: one provider and one gateway for all of them, a client for each."""

import itertools
import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager

import bedrock
import boto3
import pytest
from anthropic import Anthropic
from botocore.config import Config
from gateway import CLIENT_KEY, Gateway, Simulated, provider
from openai import OpenAI
from upstream import Upstream

KINDS = ["openai", "anthropic", "bedrock"]
"""The shapes that a provider can speak."""
WAYS = ["sim", *KINDS]
"""The gateway's own simulated provider, which speaks the client's shape unless that is Bedrock's, and one of each kind."""
STREAMED = [False, True]
ERRORS = {
    400: "BadRequestError",
    404: "NotFoundError",
    408: "APIStatusError",
    422: "UnprocessableEntityError",
    424: "APIStatusError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "InternalServerError",
    529: "InternalServerError",
}
"""How both SDKs call an error of a status; Anthropic's has kinds of its own of the last two."""
FAILURES = [
    (way, status)
    for way in WAYS
    for status in ([400, 404, 408, 424, 429, 500, 503] if way == "bedrock" else [400, 404, 422, 429, 500, 529])
]
"""The statuses that each provider's errors have."""
INSIDE = {(kind, streamed): 502 for kind in KINDS for streamed in STREAMED}
del INSIDE["bedrock", False]
INSIDE["bedrock", True] = 500
"""What an error inside a good answer is told as: Bedrock has names for it, and tells it in streams alone."""
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
def amazon():
    with bedrock.Bedrock() as amazon:
        yield amazon
    assert not amazon.wrong


@pytest.fixture(scope="session")
def simulates(simulated, amazon):
    """By kind, who answers as a model's name says: providers of the kind's own name."""
    return {"openai": simulated, "anthropic": simulated, "bedrock": amazon}


@pytest.fixture(scope="session")
def plays(upstream, amazon):
    """By kind, who has learned plays by heart: providers with `scripted-` before the kind's name."""
    return {"openai": upstream, "anthropic": upstream, "bedrock": amazon}


SIGNING = {
    "name": "a",
    "value": "",
    "bedrock_key_config": {
        "access_key": bedrock.ACCESS_KEY,
        "secret_key": bedrock.SECRET_KEY,
        "session_token": bedrock.TOKEN,
        "region": bedrock.REGION,
    },
}
"""A key that signs, at the stand-in for Bedrock."""


@pytest.fixture(scope="session")
def shapes(simulated, amazon, simulates, plays, tmp_path_factory):
    """A gateway on providers of each shape: each is the simulated one, spoken to as its kind says, or one that knows plays."""
    # Each test means one request, here as elsewhere.
    providers = {"sim": {"network_config": {"max_retries": 0}, "breaker": {"enabled": False}}}
    providers["keyed"] = provider(simulated.url, kind="anthropic")
    providers["bearer"] = provider(amazon.url, kind="bedrock", keys=[{"name": "b", "value": bedrock.BEARER}])
    aliases = {}
    for kind in KINDS:
        # Without keys, none of which is to rest after what one of the tests asks for; Bedrock is asked by nobody without one.
        keys = [SIGNING] if kind == "bedrock" else []
        providers[kind] = provider(simulates[kind].url, kind=kind, keys=keys)
        providers[f"impatient-{kind}"] = provider(simulates[kind].url, kind=kind, keys=keys)
        providers[f"impatient-{kind}"]["network_config"]["default_request_timeout_in_seconds"] = "300ms"
        providers[f"scripted-{kind}"] = provider(plays[kind].url, kind=kind, keys=keys)
        for other in KINDS:
            aliases[f"{other}-then-{kind}"] = {"targets": [{"model": f"{other}/fail-503"}], "fallbacks": [f"{kind}/echo"]}
    with Gateway(tmp_path_factory.mktemp("shapes"), {"providers": providers, "aliases": aliases}) as gateway:
        yield gateway
        for secret in (bedrock.SECRET_KEY, bedrock.TOKEN, bedrock.BEARER, bedrock.ACCESS_KEY):
            assert secret not in gateway.text(), "a key is in the output"


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


def connect_boto3(gateway, timeout=20.0, **options):
    """And of AWS's."""
    return boto3.client(
        "bedrock-runtime",
        region_name="us-west-2",
        endpoint_url=f"{gateway.data}/bedrock",
        aws_access_key_id="client-id",
        aws_secret_access_key=CLIENT_KEY,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=timeout),
        **options,
    )


def failing(way, model, number=itertools.count()):
    """A model's whole name; Bedrock's is a new one each time, for a key rests for the model that it has had enough of."""
    return f"{way}/{model}+{next(number)}" if way.endswith("bedrock") else f"{way}/{model}"


def schema_of(kind, sent):
    """The schema that an answer must have, as a provider of a kind was told it."""
    if kind == "bedrock":
        return json.loads(sent["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"])
    form = sent["response_format"]["json_schema"] if kind == "openai" else sent["output_config"]["format"]
    return form["schema"]


def tools_of(kind, sent):
    """The tools that a provider of a kind was told of, which of them may be called, and whether several at once."""
    if kind == "bedrock":
        config = sent.get("toolConfig", {})
        return config.get("tools"), config.get("toolChoice"), None
    return sent.get("tools"), sent.get("tool_choice"), sent.get("parallel_tool_calls")


@contextmanager
def left(gateway, provider, model):
    """Gives the model, and waits until its reader has left an answer of its, and the gateway counts a call more as cancelled."""
    cancelled = gateway.wait_for(lambda _: True)["requests"]["cancelled_total"]
    before = provider.left(model)
    yield model
    deadline = time.monotonic() + 10
    while provider.left(model) == before:
        assert time.monotonic() < deadline, "the provider was never left"
        time.sleep(0.02)
    gateway.wait_for(lambda stats: stats["requests"]["cancelled_total"] > cancelled)


def ask(content="Hello there"):
    """The simplest conversation."""
    return [{"role": "user", "content": content}]
