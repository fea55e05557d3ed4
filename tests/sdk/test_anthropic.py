"""Anthropic's SDK before providers of each shape: what speaks its own natively, and what is translated."""

import time

import anthropic
import pytest
from conftest import connect_anthropic

WAYS = ["sim", "anthropic", "openai"]
"""The simulated provider of the gateway, the one that is spoken to in the SDK's shape, and the one in OpenAI's."""

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}


@pytest.fixture
def client(shapes):
    with connect_anthropic(shapes) as client:
        yield client


def said(content):
    return {"max_tokens": 100, "messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_answer(client, way):
    answer = client.messages.create(model=f"{way}/echo", system="Be brief.", **said("through the sluice"))
    assert (answer.type, answer.role, answer.stop_reason) == ("message", "assistant", "end_turn")
    assert [block.text for block in answer.content] == ["through the sluice"]
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (5, 3)
    assert answer._request_id


@pytest.mark.parametrize("way", WAYS)
def test_a_stream(client, way):
    with client.messages.stream(model=f"{way}/echo", **said("one two three")) as stream:
        assert list(stream.text_stream) == ["one", " two", " three"]
        final = stream.get_final_message()
    assert (final.content[0].text, final.stop_reason) == ("one two three", "end_turn")
    assert (final.usage.input_tokens, final.usage.output_tokens) == (3, 3)


@pytest.mark.parametrize("way", WAYS)
def test_the_events_of_a_stream_come_in_their_order(client, way):
    events = [event.type for event in client.messages.create(model=f"{way}/echo", stream=True, **said("one two"))]
    deltas = ["content_block_delta"] * 2
    end = ["content_block_stop", "message_delta", "message_stop"]
    assert events == ["message_start", "content_block_start", *deltas, *end]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_round_of_tools(client, simulated, way, streamed):
    question = said("What is the weather?")
    call = {"model": f"{way}/tool", "tools": [WEATHER], "tool_choice": {"type": "auto"}, **question}
    if streamed:
        with client.messages.stream(**call) as stream:
            pieces = [event.partial_json for event in stream if event.type == "input_json"]
            assert len([piece for piece in pieces if piece]) > 1, "the arguments come in pieces"
            answer = stream.get_final_message()
    else:
        answer = client.messages.create(**call)
    assert answer.stop_reason == "tool_use"
    (use,) = answer.content
    assert (use.type, use.name, set(use.input)) == ("tool_use", "weather", {"city", "days"})
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "It rains."}
    turns = [
        *question["messages"],
        {"role": "assistant", "content": [use.model_dump(exclude_none=True)]},
        {"role": "user", "content": [result]},
    ]
    answer = client.messages.create(model=f"{way}/tool", max_tokens=100, tools=[WEATHER], messages=turns)
    assert (answer.content[0].text, answer.stop_reason) == ("It rains.", "end_turn")
    if way == "openai":
        path, body = simulated.sent()
        assert path == "/v1/chat/completions"
        assert body["messages"][-1] == {"role": "tool", "tool_call_id": use.id, "content": "It rains."}


@pytest.mark.parametrize("way", WAYS[1:])
def test_an_image(client, simulated, way):
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
    answer = client.messages.create(model=f"{way}/echo", **said(content))
    assert answer.content[0].text == "What is it?"
    sent = simulated.sent()[1]["messages"][-1]["content"]
    if way == "openai":
        assert sent[0] == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    else:
        assert sent == content


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "status, kind",
    [
        (400, anthropic.BadRequestError),
        (404, anthropic.NotFoundError),
        (422, anthropic.UnprocessableEntityError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.InternalServerError),
    ],
)
def test_a_providers_error_keeps_its_status_and_words(client, way, status, kind, streamed):
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model=f"{way}/fail-{status}", stream=streamed, **said("x"))
    error = caught.value
    assert isinstance(error, kind), repr(error)
    assert (error.status_code, error.body["type"]) == (status, "error")
    assert f"asked to fail with {status}" in error.body["error"]["message"]
    assert error.request_id == error.response.headers["x-request-id"]
    assert error.body["sluicegate"]["provider"] == way


def test_what_the_gateway_refuses_is_told_in_the_sdks_shape(client):
    for more, kind, name in [
        ({"model": "nowhere/m"}, anthropic.NotFoundError, "not_found_error"),
        ({"model": "openai/echo", "extra_body": {"top_k": 5}}, anthropic.BadRequestError, "invalid_request_error"),
        ({"model": "sim/echo", "extra_body": {"stream": "yes"}}, anthropic.BadRequestError, "invalid_request_error"),
    ]:
        with pytest.raises(kind) as caught:
            client.messages.create(**more, **said("x"))
        assert caught.value.body["error"]["type"] == name


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_that_is_cut_raises_after_what_had_come(client, way):
    pieces = []
    with pytest.raises(anthropic.APIError) as caught:
        for event in client.messages.create(model=f"{way}/cut-2", stream=True, **said("one two three")):
            if event.type == "content_block_delta":
                pieces.append(event.delta.text)
    assert pieces == ["one", " two"]
    assert caught.value.body["sluicegate"]["code"] == "stream_cut"


@pytest.mark.parametrize("way", WAYS)
def test_a_caller_that_does_not_wait(shapes, way):
    with connect_anthropic(shapes, timeout=0.3) as client, pytest.raises(anthropic.APITimeoutError):
        client.messages.create(model=f"{way}/hang", **said("x"))


@pytest.mark.parametrize("way", WAYS[1:])
def test_a_provider_that_does_not_answer_in_time(client, way):
    with pytest.raises(anthropic.InternalServerError) as caught:
        client.messages.create(model=f"impatient-{way}/hang", **said("x"))
    assert (caught.value.status_code, caught.value.body["error"]["type"]) == (504, "timeout_error")


@pytest.mark.parametrize("way", WAYS[1:])
def test_a_caller_that_leaves_ends_it_upstream(client, simulated, way):
    before = simulated.left()
    with client.messages.stream(model=f"{way}/lorem-500+gap-50ms", **said("x")) as stream:
        next(stream.text_stream)
    deadline = time.monotonic() + 10
    while simulated.left() == before:
        assert time.monotonic() < deadline, "the provider was never left"
        time.sleep(0.02)


@pytest.mark.parametrize("way", WAYS[:2])
def test_tokens_are_counted_where_the_provider_can(client, way):
    counted = client.messages.count_tokens(model=f"{way}/echo", messages=said("one two three")["messages"])
    assert counted.input_tokens == 3


def test_under_the_prefix_only_the_base_url_changes(shapes, simulated):
    with connect_anthropic(shapes, prefix="/anthropic") as client:
        assert client.messages.create(model="echo", **said("hi")).content[0].text == "hi"
        assert simulated.sent()[1]["model"] == "echo"
        with client.messages.stream(model="echo", **said("hi")) as stream:
            assert stream.get_final_text() == "hi"
        assert client.models.list().data[0].id == "echo", "what is no message passes through"


def test_the_providers_key_goes_where_its_api_has_it(client, simulated):
    client.messages.create(model="keyed/echo", **said("hi"))
    headers = {name.lower() for name, _ in simulated.get("last")["headers"]}
    assert "x-api-key" in headers and "authorization" not in headers


def test_what_cannot_be_said_elsewhere_is_left_out_by_name(client):
    block = {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
    raw = client.messages.with_raw_response.create(model="openai/echo", system=[block], **said("hi"))
    assert raw.headers["x-sluicegate-dropped"] == "cache_control"
    assert raw.parse().content[0].text == "hi"


def test_after_all_of_it_nothing_is_left_under_way(shapes):
    requests = shapes.wait_for(lambda stats: stats["requests"]["in_flight"] == 0)["requests"]
    ended = requests["succeeded_total"] + requests["failed_total"] + requests["cancelled_total"]
    assert requests["received_total"] == ended > 0
