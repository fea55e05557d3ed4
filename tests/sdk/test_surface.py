"""Everything of the SDK beside plain chat: tools, JSON mode, images, embeddings, responses, models, completions."""

import json
import math
import urllib.request

import openai
import pytest
from conftest import ask, connect
from pydantic import BaseModel

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
ARGUMENTS = {"city": "sim", "days": 3}
"""What the simulated provider makes of that schema."""


def test_a_tool_is_called_whole(client):
    answer = client.chat.completions.create(model="sim/tool", messages=ask(), tools=[TOOL])
    call = answer.choices[0].message.tool_calls[0]
    assert (answer.choices[0].finish_reason, call.function.name) == ("tool_calls", "weather")
    assert json.loads(call.function.arguments) == ARGUMENTS


def test_a_tools_arguments_stream_in_pieces(client):
    stream = client.chat.completions.create(model="sim/tool", messages=ask(), tools=[TOOL], stream=True)
    deltas = [call for chunk in stream for choice in chunk.choices for call in choice.delta.tool_calls or []]
    pieces = [call.function.arguments for call in deltas]
    assert deltas[0].function.name == "weather" and len(pieces) > 2
    assert json.loads("".join(pieces)) == ARGUMENTS


def test_json_mode(client, upstream):
    answer = client.chat.completions.create(
        model="sim/json", messages=ask("two words"), response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content) == {"answer": "two words", "words": 2}
    client.chat.completions.create(model="up/plain", messages=ask(), response_format={"type": "json_object"})
    assert json.loads(upstream.last()[2])["response_format"] == {"type": "json_object"}


def test_a_typed_answer_is_parsed(client):
    class Said(BaseModel):
        answer: str
        words: int

    parsed = client.chat.completions.parse(model="sim/json", messages=ask("two words"), response_format=Said)
    assert parsed.choices[0].message.parsed == Said(answer="two words", words=2)


def test_images_in_messages_pass_through(client, upstream):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo=" * 2000, "detail": "low"}}
    content = [{"type": "text", "text": "what is it?"}, image]
    client.chat.completions.create(model="up/plain", messages=[{"role": "user", "content": content}])
    assert json.loads(upstream.last()[2])["messages"][0]["content"] == content


def test_the_stream_helper_of_chat(client):
    with client.chat.completions.stream(model="sim/lorem-4", messages=ask()) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    assert answer.choices[0].message.content == "lorem ipsum dolor sit"


def test_several_choices_stream_side_by_side(client):
    stream = client.chat.completions.create(model="sim/lorem-3", messages=ask(), n=3, stream=True)
    ended = [choice.index for chunk in stream for choice in chunk.choices if choice.finish_reason == "stop"]
    assert sorted(ended) == [0, 1, 2]


def test_usage_of_a_stream_is_shown_where_it_is_asked_for(client):
    options = {"include_usage": True}
    stream = client.chat.completions.create(model="sim/lorem-3", messages=ask(), stream=True, stream_options=options)
    usages = [chunk.usage for chunk in stream if chunk.usage]
    assert [usage.completion_tokens for usage in usages] == [3]


@pytest.mark.parametrize("encoding", [openai.omit, "float", "base64"])
def test_embeddings_come_in_either_encoding(client, encoding):
    answer = client.embeddings.create(model="sim/echo", input=["one", "two"], dimensions=8, encoding_format=encoding)
    assert [vector.index for vector in answer.data] == [0, 1]
    assert answer.usage.prompt_tokens == 2
    for vector in answer.data:
        if encoding == "base64":
            assert isinstance(vector.embedding, str)
        else:
            assert math.isclose(sum(x * x for x in vector.embedding), 1.0, rel_tol=1e-4)


def test_a_response_whole(client):
    answer = client.responses.create(model="sim/echo", input="through the sluice", instructions="be brief")
    assert (answer.status, answer.output_text) == ("completed", "through the sluice")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (5, 3)


def test_a_response_streamed(client):
    turns = [{"role": "user", "content": [{"type": "input_text", "text": "one two three"}]}]
    events = list(client.responses.create(model="sim/echo", input=turns, stream=True))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "one two three"
    assert events[-1].response.output_text == "one two three"


def test_the_stream_helper_of_responses(client):
    tool = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": False}
    with client.responses.stream(model="sim/tool", input="x", tools=[tool]) as stream:
        for _ in stream:
            pass
        answer = stream.get_final_response()
    assert (answer.output[0].name, json.loads(answer.output[0].arguments)) == ("weather", ARGUMENTS)


@pytest.mark.parametrize("model, code", [("sim/lorem-9+cut-3", "stream_cut"), ("sim/lorem-9+no-done", "stream_cut")])
def test_a_response_that_is_cut_raises(client, model, code):
    seen = []
    with pytest.raises(openai.APIError) as caught:
        for event in client.responses.create(model=model, input="x", stream=True):
            seen.append(event.type)
    assert caught.value.code == code
    assert "response.output_text.delta" in seen and "response.completed" not in seen


def test_text_completions(client):
    answer = client.completions.create(model="sim/echo", prompt="a b c")
    assert (answer.choices[0].text, answer.usage.total_tokens) == ("a b c", 6)
    stream = client.completions.create(model="sim/echo", prompt="a b c", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "a b c"
    with pytest.raises(openai.APIError) as caught:
        list(client.completions.create(model="sim/lorem-9+cut-3", prompt="x", stream=True))
    assert caught.value.code == "stream_cut"


def test_models_are_listed_and_retrieved(client):
    ids = [model.id for model in client.models.list()]
    assert "sim/echo" in ids and "openai/gpt-4o" in ids
    assert client.models.retrieve("sim/echo").owned_by == "sim"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("sim/nonsense")
    assert caught.value.code == "model_not_found"


def test_raw_responses_show_their_headers(client):
    for raw in [
        client.embeddings.with_raw_response.create(model="sim/echo", input="x"),
        client.responses.with_raw_response.create(model="sim/echo", input="x"),
        client.completions.with_raw_response.create(model="sim/echo", prompt="x"),
    ]:
        assert (raw.headers["x-sluicegate-provider"], raw.headers["x-sluicegate-model"]) == ("sim", "echo")
        assert raw.headers["x-request-id"]


def test_a_long_answer_comes_compressed_to_an_sdk_that_takes_it(client):
    raw = client.chat.completions.with_raw_response.create(model="sim/lorem-1000", messages=ask())
    assert raw.headers["content-encoding"] == "gzip"
    assert len(raw.parse().choices[0].message.content.split()) == 1000


@pytest.mark.parametrize("kind", ["chat", "completions", "responses"])
def test_closing_a_stream_ends_it_upstream(gateway, kind):
    model = f"sim/lorem-100000+gap-{5 + len(kind)}ms"
    with connect(gateway) as client:
        create = {
            "chat": lambda: client.chat.completions.create(model=model, messages=ask(), stream=True),
            "completions": lambda: client.completions.create(model=model, prompt="x", stream=True),
            "responses": lambda: client.responses.create(model=model, input="x", stream=True),
        }[kind]
        stream = create()
        next(stream)
        stream.close()
    gateway.wait_for(lambda stats: stats["providers"]["sim"]["workers"]["busy"] == 0)
    with urllib.request.urlopen(f"{gateway.admin}/sim/stats", timeout=5) as answer:
        seen = json.load(answer)["models"][model.removeprefix("sim/")]
    assert (seen["requests"], seen["aborted_by_peer"]) == (1, 1)


@pytest.mark.parametrize("kind", ["embeddings", "responses"])
def test_a_caller_that_does_not_wait_ends_it_upstream(gateway, kind):
    model = f"sim/slow-{30 + len(kind)}s"
    with connect(gateway, timeout=0.3) as client, pytest.raises(openai.APITimeoutError):
        getattr(client, kind).create(model=model, input="x")
    gateway.wait_for(lambda stats: stats["providers"]["sim"]["workers"]["busy"] == 0)
