"""OpenAI's SDK before a provider of Anthropic's shape."""

import json
import time

import openai
import pytest
from conftest import ask, connect

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
def client(shapes):
    with connect(shapes) as client:
        yield client


def test_a_whole_answer(client, simulated):
    messages = [{"role": "system", "content": "Be brief."}, *ask("through the sluice")]
    answer = client.chat.completions.create(model="anthropic/echo", messages=messages, stop=["x"])
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("through the sluice", "stop")
    assert (answer.object, answer.usage.total_tokens) == ("chat.completion", 8)
    path, sent = simulated.sent()
    assert (path, sent["max_tokens"], sent["stop_sequences"]) == ("/v1/messages", 4096, ["x"])


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream(client, usage):
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(
        client.chat.completions.create(model="anthropic/echo", messages=ask("one two three"), stream=True, **options)
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert (text, reasons[-1], set(reasons[:-1])) == ("one two three", "stop", {None})
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([6] if usage else [])


@pytest.mark.parametrize("streamed", [False, True])
def test_a_round_of_tools(client, streamed):
    call = {"model": "anthropic/tool", "messages": ask("The weather?"), "tools": [WEATHER]}
    if streamed:
        with client.chat.completions.stream(**call) as stream:
            pieces = [event.arguments_delta for event in stream if event.type == "tool_calls.function.arguments.delta"]
            answer = stream.get_final_completion()
        assert len([piece for piece in pieces if piece]) > 1, "the arguments come in pieces"
    else:
        answer = client.chat.completions.create(**call)
    choice = answer.choices[0]
    (use,) = choice.message.tool_calls
    assert (choice.finish_reason, use.function.name) == ("tool_calls", "weather")
    assert set(json.loads(use.function.arguments)) == {"city", "days"}
    said = {"role": "assistant", "tool_calls": [{"id": use.id, "type": "function", "function": {"name": "weather", "arguments": use.function.arguments}}]}
    result = {"role": "tool", "tool_call_id": use.id, "content": "It rains."}
    answer = client.chat.completions.create(
        model="anthropic/tool", messages=[*ask("The weather?"), said, result], tools=[WEATHER]
    )
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("It rains.", "stop")


def test_an_image(client, simulated):
    url = {"url": f"data:image/png;base64,{PIXEL}"}
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": url}]
    answer = client.chat.completions.create(model="anthropic/echo", messages=ask(content))
    assert answer.choices[0].message.content == "What is it?"
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    assert simulated.sent()[1]["messages"][0]["content"][1] == {"type": "image", "source": source}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "status, kind",
    [(400, openai.BadRequestError), (429, openai.RateLimitError), (529, openai.InternalServerError)],
)
def test_a_providers_error_keeps_its_status_and_words(client, status, kind, streamed):
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=f"anthropic/fail-{status}", messages=ask(), stream=streamed)
    assert caught.value.status_code == status
    assert f"asked to fail with {status}" in caught.value.message


def test_what_cannot_be_said_is_refused_or_named(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="anthropic/echo", messages=ask(), n=2)
    assert (caught.value.code, caught.value.param) == ("unsupported", "n")
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="anthropic/echo", input="x")
    assert caught.value.code == "unsupported"
    raw = client.chat.completions.with_raw_response.create(model="anthropic/echo", messages=ask(), seed=5)
    assert raw.headers["x-sluicegate-dropped"] == "seed"


def test_a_cut_stream_raises_after_what_had_come(client):
    pieces = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in client.chat.completions.create(model="anthropic/cut-2", messages=ask("one two three"), stream=True):
            pieces.append(chunk.choices[0].delta.content)
    assert "".join(piece or "" for piece in pieces) == "one two"
    assert caught.value.code == "stream_cut"


def test_time_outs_of_either_side(shapes, client):
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="impatient-anthropic/hang", messages=ask())
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")
    with connect(shapes, timeout=0.3) as hasty, pytest.raises(openai.APITimeoutError):
        hasty.chat.completions.create(model="anthropic/hang", messages=ask())


def test_a_caller_that_leaves_ends_it_upstream(client, simulated):
    before = simulated.left()
    with client.chat.completions.create(
        model="anthropic/lorem-500+gap-50ms", messages=ask(), stream=True
    ) as stream:
        next(iter(stream))
    deadline = time.monotonic() + 10
    while simulated.left() == before:
        assert time.monotonic() < deadline, "the provider was never left"
        time.sleep(0.02)
