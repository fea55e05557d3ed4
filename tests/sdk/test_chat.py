"""Chat, streamed and not, and what passes through untouched."""

import base64
import http.client
import json
from urllib.parse import urlsplit

from conftest import ask
from gateway import CLIENT_KEY, UPSTREAM_KEY, leaks
from upstream import ANSWER


def test_a_whole_answer_comes_through(client):
    answer = client.chat.completions.create(model="up/plain", messages=ask())
    assert answer.choices[0].message.content == "Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 5


def test_a_stream_comes_through_event_by_event(client):
    stream = client.chat.completions.create(model="up/plain", messages=ask("one two three"), stream=True)
    pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
    assert pieces == ["one ", "two ", "three ", None]


def test_usage_of_a_stream_is_asked_for_upstream_and_not_shown_unasked(client, upstream):
    stream = client.chat.completions.create(model="up/plain", messages=ask(), stream=True)
    assert all(chunk.choices for chunk in stream)
    assert json.loads(upstream.last()[2])["stream_options"]["include_usage"] is True


def test_the_simulated_provider_answers_with_the_last_message(client):
    answer = client.chat.completions.create(model="sim/echo", messages=ask("through the sluice"))
    assert answer.choices[0].message.content == "through the sluice"
    stream = client.chat.completions.create(model="sim/echo", messages=ask("through the sluice"), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "through the sluice"


def test_what_the_client_sends_goes_upstream_byte_for_byte_but_for_the_model(client, upstream):
    extra = {"x_unknown": {"deep": [1, 2.5, None, "ä\u2028"]}, "logit_bias": {"50256": -100}}
    raw = client.chat.completions.with_raw_response.create(
        model="up/plain", messages=ask("Grüße ☃"), temperature=0.1, extra_body=extra
    )
    sent = raw.http_request.content
    assert sent.count(b'"up/plain"') == 1
    path, headers, received = upstream.last()
    assert path == "/v1/chat/completions"
    assert received == sent.replace(b'"up/plain"', b'"plain"')
    headers = {name.lower(): value for name, value in headers.items()}
    assert headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert CLIENT_KEY not in str(headers), "the client's own key never goes upstream"


def test_spellings_that_no_parser_would_keep_are_kept(gateway, upstream):
    body = b'{ "x":1.50e+2 ,"model" : "up\\/plain","messages":[ {"role":"user","content":"\\u0041"}],\n"y":{"a":1,"a":2}}'
    address = urlsplit(gateway.data)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.read() == ANSWER, "the provider's bytes come back untouched"
    connection.close()
    assert upstream.last()[2] == body.replace(b'"up\\/plain"', b'"plain"')


def test_fields_that_the_sdk_does_not_know_reach_the_caller(client):
    answer = client.chat.completions.create(model="up/plain", messages=ask())
    assert answer.model_extra["x_top"] == {"kept": 1.5}
    assert answer.choices[0].message.model_extra["x_inner"] == [100.0]


def test_an_answer_says_where_it_came_from(client):
    raw = client.chat.completions.with_raw_response.create(
        model="up/plain", messages=ask(), extra_headers={"x-request-id": "named-by-the-test"}
    )
    assert raw.headers["x-request-id"] == "named-by-the-test"
    assert raw.headers["x-sluicegate-provider"] == "up"
    assert int(raw.headers["x-sluicegate-overhead-us"]) >= 0


def test_a_key_in_the_output_would_be_found():
    for key in (UPSTREAM_KEY, CLIENT_KEY):
        for before in ("", "u", "u:"):
            planted = base64.b64encode((before + key).encode()).decode()
            assert leaks(f"Basic {planted} there"), before
        assert leaks(f"say {key}") and leaks(key.encode().hex())
    assert not leaks("sk-upstream, canary")
