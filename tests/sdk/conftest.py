"""What the tests share: one provider and one gateway for all of them, a client for each."""

import pytest
from gateway import CLIENT_KEY, Gateway, provider
from openai import OpenAI
from upstream import Upstream


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


@pytest.fixture
def client(gateway):
    with connect(gateway) as client:
        yield client


def connect(gateway, prefix="", **options):
    """The SDK as a user sets it up, except that it never tries again: each test means one request."""
    options = {"api_key": CLIENT_KEY, "max_retries": 0, "timeout": 20.0} | options
    return OpenAI(base_url=f"{gateway.data}{prefix}/v1", **options)


def ask(content="Hello there"):
    """The simplest conversation."""
    return [{"role": "user", "content": content}]
