"""Each kind of error as the exception that the SDK's users catch."""

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from conftest import ask, connect
from gateway import Gateway, provider

STATUSES = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
    529: openai.InternalServerError,
}


def refusal(client, kind, model, **more):
    """The exception that a call ends with, which must be of exactly this kind."""
    with pytest.raises(openai.APIError) as caught:
        client.chat.completions.create(model=model, messages=ask(), **more)
    assert type(caught.value) is kind, repr(caught.value)
    return caught.value


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", STATUSES)
def test_a_providers_own_error_keeps_its_status_and_words(client, status, stream):
    error = refusal(client, STATUSES[status], f"keyless/status-{status}", stream=stream)
    assert error.status_code == status
    assert error.code == f"made_up_{status}"
    assert (error.type, error.param) == ("made_up_error", "made_up")
    assert f"refused with {status}" in error.message
    ours = error.response.json()["sluicegate"]
    assert (ours["code"], ours["origin"], ours["provider"]) == ("upstream_error", "provider", "keyless")
    assert ours["request_id"] == error.response.headers["x-request-id"]
    assert [attempt["status"] for attempt in ours["attempts"]] == [status]


def test_a_refusal_of_the_gateways_own_key_is_not_told_as_the_callers(client):
    error = refusal(client, openai.InternalServerError, "refused/status-401")
    assert (error.status_code, error.code) == (502, "credentials_exhausted")
    assert [attempt["status"] for attempt in error.response.json()["sluicegate"]["attempts"]] == [401]


def test_a_providers_retry_after_is_passed_on(client):
    error = refusal(client, openai.RateLimitError, "up/status-429")
    assert error.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("model", ["nowhere/m", "bare-name"])
def test_a_model_that_is_not_there(client, model):
    error = refusal(client, openai.NotFoundError, model)
    assert error.code == "model_not_found"


@pytest.mark.parametrize("field, value", [("stream", "yes"), ("fallbacks", 5)])
def test_a_bad_value_is_named(client, field, value):
    error = refusal(client, openai.BadRequestError, "up/plain", extra_body={field: value})
    assert (error.code, error.param) == ("invalid_request", field)


def test_a_provider_that_is_not_there(client):
    error = refusal(client, openai.InternalServerError, "nobody/m")
    assert (error.status_code, error.code) == (502, "upstream_connect_error")


def test_a_provider_that_does_not_answer_in_time(client):
    error = refusal(client, openai.InternalServerError, "impatient/hang")
    assert (error.status_code, error.code) == (504, "upstream_timeout")


def test_a_caller_that_does_not_wait(gateway):
    with connect(gateway, timeout=0.3) as client:
        refusal(client, openai.APITimeoutError, "up/hang")


def test_a_gateway_that_is_not_there_any_more(upstream, tmp_path):
    with Gateway(tmp_path, {"providers": {"up": provider(upstream.url)}}) as gateway:
        pass
    with connect(gateway) as client:
        refusal(client, openai.APIConnectionError, "up/plain")


def test_a_gateway_key_that_is_missing_or_wrong(upstream, tmp_path):
    config = {"server": {"keys": ["sk-let-me-in"]}, "providers": {"up": provider(upstream.url)}}
    with Gateway(tmp_path, config) as gateway:
        with connect(gateway, api_key="sk-wrong") as client:
            error = refusal(client, openai.AuthenticationError, "up/plain")
            assert error.code == "unauthorized"
        with connect(gateway, api_key="sk-let-me-in") as client:
            answer = client.chat.completions.create(model="up/plain", messages=ask())
            assert answer.choices[0].message.content == "Hello there"


def test_a_queue_without_place_refuses_at_once(upstream, tmp_path):
    sizes = {"concurrency": 1, "buffer_size": 1}
    full = provider(upstream.url, concurrency_and_buffer_size=sizes, queue={"policy": "error"})
    config = {"providers": {"up": full}}
    with Gateway(tmp_path, config) as gateway, connect(gateway) as client, upstream.holding():
        # One stream runs, a second request waits: those are all the places that there are.
        running = client.chat.completions.create(model="up/held", messages=ask(), stream=True)
        assert next(running).choices[0].delta.content == "begun "
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.chat.completions.create, model="up/plain", messages=ask())
            gateway.wait_for(lambda stats: stats["providers"]["up"]["queue"]["depth"] == 1)
            error = refusal(client, openai.RateLimitError, "up/plain")
            assert error.code == "queue_full"
            assert 1 <= int(error.response.headers["retry-after"]) <= 60
            upstream.go.set()
            assert [chunk.choices[0].finish_reason for chunk in running if chunk.choices][-1] == "stop"
            assert waiting.result(20).choices[0].message.content == "Hello there"
