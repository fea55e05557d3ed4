"""The SDK over https, as a user sets it up: a base URL, and the authority that signed the gateway's certificate."""

import ssl

import openai
import pytest
from conftest import ask
from gateway import Gateway, provider


@pytest.fixture(scope="module")
def secure(certificate, upstream, tmp_path_factory):
    cert, key = certificate
    config = {
        "server": {"tls": {"cert_file": str(cert), "key_file": str(key)}},
        "providers": {"up": provider(upstream.url), "sim": {}},
    }
    with Gateway(tmp_path_factory.mktemp("secure"), config) as gateway:
        yield gateway


def connect(gateway, **trust):
    client = openai.DefaultHttpxClient(**trust)
    return openai.OpenAI(
        base_url=f"{gateway.data}/v1", api_key="x", max_retries=0, timeout=20.0, http_client=client
    )


def test_answers_and_streams_come_through_tls(secure, certificate):
    trusted = ssl.create_default_context(cafile=certificate[0])
    with connect(secure, verify=trusted) as client:
        answer = client.chat.completions.create(model="up/plain", messages=ask())
        assert answer.choices[0].message.content == "Hello there"
        for _ in range(3):
            stream = client.chat.completions.create(model="sim/lorem-20", messages=ask(), stream=True)
            assert sum(1 for chunk in stream if chunk.choices) > 20
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="nobody/m", messages=ask())


def test_a_certificate_that_nobody_signed_for_us_is_refused_by_the_sdk(secure):
    with connect(secure) as client, pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(model="sim/echo", messages=ask())
