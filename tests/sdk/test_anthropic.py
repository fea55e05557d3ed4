"""Anthropic's SDK before providers of each shape: what speaks its own natively, and what is translated."""

import anthropic
import pytest
from bedrock import STATUSES
from conftest import ERRORS, FAILURES, INSIDE, KINDS, PIXEL, STREAMED, WAYS, connect_anthropic, failing, left, schema_of, tools_of
from gateway import Gateway
from pydantic import BaseModel
from scripted import BROKEN

WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}
CLOCK = {
    "name": "clock",
    "description": "The time of a zone.",
    "input_schema": {"type": "object", "properties": {"zone": {"type": "string"}}},
}


@pytest.fixture(scope="module")
def client(shapes):
    with connect_anthropic(shapes) as client:
        yield client


def said(content):
    return {"max_tokens": 100, "messages": [{"role": "user", "content": content}]}


def answer_of(client, streamed, **call):
    """A whole answer, or what the SDK makes of the events of one."""
    if not streamed:
        return client.messages.create(**call)
    with client.messages.stream(**call) as stream:
        return stream.get_final_message()


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
@pytest.mark.parametrize("streamed", STREAMED)
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
    answer = answer_of(client, streamed, model=f"{way}/tool", max_tokens=100, tools=[WEATHER], messages=turns)
    assert (answer.content[0].text, answer.stop_reason) == ("It rains.", "end_turn")
    if way == "openai":
        assert simulated.get("last")["path"] == "/v1/chat/completions"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_tools_that_are_called_at_once(client, plays, kind, streamed):
    tools = [WEATHER, CLOCK]
    call = {"model": f"scripted-{kind}/play-parallel", "tools": tools, **said("Where?")}
    answer = answer_of(client, streamed, **call)
    uses = [(use.type, use.id, use.name, use.input) for use in answer.content]
    assert uses == [("tool_use", "call_a", "weather", {"city": "Oslo"}), ("tool_use", "call_b", "clock", {"zone": "CET"})]
    results = [
        {"type": "tool_result", "tool_use_id": "call_a", "content": "It rains."},
        {"type": "tool_result", "tool_use_id": "call_b", "content": [{"type": "text", "text": "Noon."}]},
        {"type": "text", "text": "And now?"},
    ]
    content = [use.model_dump(include={"type", "id", "name", "input"}) for use in answer.content]
    turns = [*call["messages"], {"role": "assistant", "content": content}, {"role": "user", "content": results}]
    client.messages.create(model=f"scripted-{kind}/play-typed", max_tokens=100, tools=tools, messages=turns)
    sent = plays[kind].sent()["messages"]
    if kind == "openai":
        assert [call["id"] for call in sent[1]["tool_calls"]] == ["call_a", "call_b"]
    assert sent[2:] == {
        "openai": [
            {"role": "tool", "tool_call_id": "call_a", "content": "It rains."},
            {"role": "tool", "tool_call_id": "call_b", "content": "Noon."},
            {"role": "user", "content": "And now?"},
        ],
        "anthropic": turns[2:],
        "bedrock": [
            {
                "role": "user",
                "content": [
                    {"toolResult": {"toolUseId": "call_a", "content": [{"text": "It rains."}]}},
                    {"toolResult": {"toolUseId": "call_b", "content": [{"text": "Noon."}]}},
                    {"text": "And now?"},
                ],
            }
        ],
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_words_before_a_call(client, kind, streamed):
    answer = answer_of(client, streamed, model=f"scripted-{kind}/play-busy", tools=[WEATHER], **said("Where?"))
    assert ([block.type for block in answer.content], answer.stop_reason) == (["text", "tool_use"], "tool_use")
    assert (answer.content[0].text, answer.content[1].id) == ("I look.", "call_c")


CHOICES = {
    "auto": {"anthropic": {"type": "auto"}, "openai": "auto", "bedrock": {"auto": {}}},
    "any": {"anthropic": {"type": "any"}, "openai": "required", "bedrock": {"any": {}}},
    "tool": {
        "anthropic": {"type": "tool", "name": "clock"},
        "openai": {"type": "function", "function": {"name": "clock"}},
        "bedrock": {"tool": {"name": "clock"}},
    },
}
"""Which tools may be called, as each says it."""
SPOKEN = {
    "anthropic": CLOCK,
    "openai": {
        "type": "function",
        "function": {"name": "clock", "description": "The time of a zone.", "parameters": CLOCK["input_schema"]},
    },
    "bedrock": {
        "toolSpec": {
            "name": "clock",
            "description": "The time of a zone.",
            "inputSchema": {"json": CLOCK["input_schema"]},
        }
    },
}
"""A tool, as each says it."""


def chosen(client, provider, kind, choice):
    """What a provider is told of two tools, and of which may be called."""
    tools = [WEATHER, CLOCK]
    client.messages.create(model=f"scripted-{kind}/play-typed", tools=tools, tool_choice=choice, **said("x"))
    return tools_of(kind, provider.sent())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", CHOICES)
def test_which_tools_may_be_called(client, plays, kind, choice):
    tools, choice_sent, _ = chosen(client, plays[kind], kind, CHOICES[choice]["anthropic"])
    assert (tools[1], choice_sent) == (SPOKEN[kind], CHOICES[choice][kind])


@pytest.mark.parametrize("kind", KINDS)
def test_that_no_tool_may_be_called(client, plays, kind):
    tools, choice, _ = chosen(client, plays[kind], kind, {"type": "none"})
    # Bedrock has no word for it, and is told of no tools.
    assert (tools and tools[1], choice) == {
        "anthropic": (SPOKEN["anthropic"], {"type": "none"}),
        "openai": (SPOKEN["openai"], "none"),
        "bedrock": (None, None),
    }[kind]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_one_tool_at_a_time(client, plays, kind):
    one = {"type": "auto", "disable_parallel_tool_use": True}
    _, choice, parallel = chosen(client, plays[kind], kind, one)
    assert (choice, parallel) == {"anthropic": (one, None), "openai": ("auto", False)}[kind]


def image(**source):
    return [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]


HERE = image(type="base64", media_type="image/png", data=PIXEL)
THERE = image(type="url", url="https://example.com/a.png")


@pytest.mark.parametrize("kind", KINDS)
def test_an_image(client, simulates, kind):
    answer = client.messages.create(model=f"{kind}/echo", **said(HERE))
    assert answer.content[0].text == "What is it?"
    url = f"data:image/png;base64,{PIXEL}"
    assert simulates[kind].sent()["messages"][-1]["content"] == {
        "anthropic": HERE,
        "openai": [{"type": "image_url", "image_url": {"url": url}}, HERE[1]],
        "bedrock": [{"image": {"format": "png", "source": {"bytes": PIXEL}}}, {"text": "What is it?"}],
    }[kind]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_an_image_by_its_address(client, simulates, kind):
    client.messages.create(model=f"{kind}/echo", **said(THERE))
    wanted = {"anthropic": THERE[0], "openai": {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}}
    assert simulates[kind].sent()["messages"][-1]["content"][0] == wanted[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_document(client, simulates, kind):
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}
    document = {"type": "document", "source": source, "title": "a.pdf"}
    client.messages.create(model=f"{kind}/echo", **said([document, {"type": "text", "text": "Read."}]))
    file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}
    assert simulates[kind].sent()["messages"][-1]["content"][0] == {
        "anthropic": document,
        "openai": {"type": "file", "file": file},
        # There is no dot in a document's name there.
        "bedrock": {"document": {"format": "pdf", "name": "a-pdf", "source": {"bytes": "JVBERg=="}}},
    }[kind]


@pytest.mark.parametrize("way, status", FAILURES)
@pytest.mark.parametrize("streamed", STREAMED)
def test_a_providers_error_keeps_its_status_and_words(client, way, status, streamed):
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model=failing(way, f"fail-{status}"), stream=streamed, **said("x"))
    error = caught.value
    assert isinstance(error, getattr(anthropic, ERRORS[status])), repr(error)
    assert (error.status_code, error.body["type"]) == (status, "error")
    assert f"asked to fail with {status}" in error.body["error"]["message"]
    assert error.request_id == error.response.headers["x-request-id"]
    assert error.body["sluicegate"]["provider"] == way


@pytest.mark.parametrize("name", STATUSES)
def test_bedrocks_errors_keep_their_names(client, name):
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model=failing("bedrock", f"fail-{name}"), **said("x"))
    assert (caught.value.body["error"]["type"], caught.value.status_code) == (name, STATUSES[name])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_when_to_come_again_is_said_as_the_provider_says_it(client, kind, streamed):
    with pytest.raises(anthropic.RateLimitError) as caught:
        client.messages.create(model=failing(f"scripted-{kind}", "status-429"), stream=streamed, **said("x"))
    assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("kind, streamed", INSIDE)
def test_an_error_inside_a_good_answer(client, kind, streamed):
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model=f"{kind}/error-in-200", stream=streamed, **said("x"))
    assert caught.value.status_code == INSIDE[kind, streamed]
    assert "inside a 200" in caught.value.message


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_in_mid_stream_has_the_providers_words(client, kind):
    pieces = []
    with pytest.raises(anthropic.APIError) as caught:
        for event in client.messages.create(model=f"scripted-{kind}/play-breaks", stream=True, **said("x")):
            if event.type == "content_block_delta":
                pieces.append(event.delta.text)
    assert "".join(pieces) == "So far"
    assert caught.value.body["error"]["message"] == BROKEN


def test_what_the_gateway_refuses_is_told_in_the_sdks_shape(client):
    for more, kind, name in [
        ({"model": "nowhere/m"}, anthropic.NotFoundError, "not_found_error"),
        ({"model": "sim/echo", "extra_body": {"stream": "yes"}}, anthropic.BadRequestError, "invalid_request_error"),
    ]:
        with pytest.raises(kind) as caught:
            client.messages.create(**more, **said("x"))
        assert caught.value.body["error"]["type"] == name


OWN = {
    "top_k": 5,
    "container": "c_1",
    "mcp_servers": [{"name": "m"}],
    "tools": [{"type": "web_search_20250305", "name": "web_search"}],
    "x_new": 1,
}
"""What no other shape has, or nobody knows."""


@pytest.mark.parametrize("kind", ["anthropic"])
def test_what_only_this_shape_has_passes(client, upstream, kind):
    client.messages.create(model=f"scripted-{kind}/play-typed", extra_body=OWN, **said("x"))
    assert upstream.sent().items() >= OWN.items()


UNSAID = {
    "messages.0.content.image": said(THERE),
    "tool_choice.disable_parallel_tool_use": {
        "tools": [WEATHER],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    },
}
"""What Bedrock alone has no words for."""
REFUSED = {("openai", field): {field: value} for field, value in OWN.items()}
REFUSED |= {("bedrock", field): {field: value} for field, value in OWN.items() if field != "top_k"}
REFUSED |= {("bedrock", field): more for field, more in UNSAID.items()}


@pytest.mark.parametrize("kind, field", REFUSED)
def test_what_cannot_be_said_is_refused(client, kind, field):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model=f"{kind}/echo", extra_body=REFUSED[kind, field], **said("x"))
    body = caught.value.body
    assert (body["error"]["type"], body["sluicegate"]["code"]) == ("invalid_request_error", "unsupported")
    assert f'"{field}' in body["error"]["message"]


@pytest.mark.parametrize("way", WAYS)
def test_a_cut_stream_raises_after_what_had_come(client, way):
    pieces = []
    with pytest.raises(anthropic.APIError) as caught:
        for event in client.messages.create(model=f"{way}/cut-2", stream=True, **said("one two three")):
            if event.type == "content_block_delta":
                pieces.append(event.delta.text)
    assert pieces == ["one", " two"]
    assert caught.value.body["sluicegate"]["code"] == "stream_cut"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_a_caller_that_does_not_wait_ends_it_upstream(shapes, simulates, kind, streamed):
    hasty = connect_anthropic(shapes, timeout=0.3)
    with left(shapes, simulates[kind], "hang") as model, hasty as client, pytest.raises(anthropic.APITimeoutError):
        client.messages.create(model=f"{kind}/{model}", stream=streamed, **said("x"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_provider_that_does_not_answer_in_time(client, kind):
    with pytest.raises(anthropic.InternalServerError) as caught:
        client.messages.create(model=f"impatient-{kind}/hang", **said("x"))
    assert (caught.value.status_code, caught.value.body["error"]["type"]) == (504, "timeout_error")


@pytest.mark.parametrize("kind", KINDS)
def test_a_caller_that_leaves_ends_it_upstream(shapes, client, simulates, kind):
    with left(shapes, simulates[kind], "lorem-500+gap-50ms") as model:
        with client.messages.stream(model=f"{kind}/{model}", **said("x")) as stream:
            next(stream.text_stream)


@pytest.mark.parametrize("way", ["sim", "anthropic"])
def test_tokens_are_counted_where_the_provider_can(client, way):
    counted = client.messages.count_tokens(model=f"{way}/echo", messages=said("one two three")["messages"])
    assert counted.input_tokens == 3


@pytest.mark.parametrize("kind", ["openai", "bedrock"])
def test_tokens_are_not_counted_where_it_cannot(client, kind):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.count_tokens(model=f"{kind}/echo", messages=said("x")["messages"])
    assert caught.value.body["sluicegate"]["code"] == "unsupported"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [["Be brief."], ["Be brief.", "Be kind."]], ids=len)
def test_what_the_system_says(client, plays, kind, texts):
    blocks = [{"type": "text", "text": text} for text in texts]
    system = blocks if len(texts) > 1 else texts[0]
    client.messages.create(model=f"scripted-{kind}/play-typed", system=system, **said("Hi"))
    sent = plays[kind].sent()
    found = sent["messages"][0]["content"] if kind == "openai" else sent["system"]
    assert found == {"anthropic": system, "openai": system, "bedrock": [{"text": text} for text in texts]}[kind]
    assert [message["role"] for message in sent["messages"]] == (["system"] if kind == "openai" else []) + ["user"]


class Said(BaseModel):
    answer: str
    words: int


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_has_a_schema(client, plays, kind):
    call = {"model": f"scripted-{kind}/play-typed", "output_format": Said, **said("x")}
    assert client.messages.parse(**call).parsed_output == Said(answer="yes", words=1)
    assert set(schema_of(kind, plays[kind].sent())["properties"]) == {"answer", "words"}
    with client.messages.stream(**call) as stream:
        assert stream.get_final_message().parsed_output == Said(answer="yes", words=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_thoughts(client, plays, kind, streamed):
    thinking = {"type": "enabled", "budget_tokens": 4096}
    question = said("Is 27 prime?") | {"max_tokens": 8000}
    answer = answer_of(client, streamed, model=f"scripted-{kind}/play-thinks", thinking=thinking, **question)
    thought, text = answer.content
    # A provider of OpenAI's shape signs nothing.
    signature = {"openai": "", "anthropic": "c2lnbmVk", "bedrock": "c2lnbmVk"}
    assert (thought.type, thought.thinking, thought.signature) == ("thinking", "27 is 3 cubed.", signature[kind])
    assert text.text == "It is not."
    wanted = {
        "openai": {"reasoning_effort": "medium"},
        "anthropic": {"thinking": thinking},
        "bedrock": {"additionalModelRequestFields": {"thinking": thinking}},
    }
    assert plays[kind].sent().items() >= wanted[kind].items()
    # And back, as a program does that goes on with the conversation.
    turns = [
        *question["messages"],
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in answer.content]},
        {"role": "user", "content": "And 29?"},
    ]
    raw = client.messages.with_raw_response.create(model=f"scripted-{kind}/play-typed", max_tokens=100, messages=turns)
    again = plays[kind].sent()["messages"][1]["content"]
    signed = {"text": "27 is 3 cubed.", "signature": "c2lnbmVk"}
    dropped = {"openai": "thinking", "anthropic": None, "bedrock": None}
    assert (again, raw.headers.get("x-sluicegate-dropped")) == ({
        "openai": "It is not.",
        "anthropic": turns[1]["content"],
        "bedrock": [{"reasoningContent": {"reasoningText": signed}}, {"text": "It is not."}],
    }[kind], dropped[kind])  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_sampling(client, plays, kind):
    asked = {"temperature": 0.25, "top_p": 0.5}
    stop = ["!", ", three"]
    extra = {"stop_sequences": stop, "extra_body": asked}
    client.messages.create(model=f"scripted-{kind}/play-stops", **extra, **said("x"))
    wanted = {
        "anthropic": asked | {"max_tokens": 100, "stop_sequences": stop},
        "openai": asked | {"max_tokens": 100, "stop": stop},
        "bedrock": {"inferenceConfig": {"temperature": 0.25, "topP": 0.5, "maxTokens": 100, "stopSequences": stop}},
    }
    assert plays[kind].sent().items() >= wanted[kind].items()


@pytest.mark.parametrize("kind", ["anthropic", "bedrock"])
def test_out_of_how_many_tokens_is_chosen(client, plays, kind):
    client.messages.create(model=f"scripted-{kind}/play-typed", extra_body={"top_k": 5}, **said("x"))
    wanted = {"anthropic": {"top_k": 5}, "bedrock": {"additionalModelRequestFields": {"top_k": 5}}}
    assert plays[kind].sent().items() >= wanted[kind].items()


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_who_asks(client, plays, kind):
    client.messages.create(model=f"scripted-{kind}/play-typed", metadata={"user_id": "u-1"}, **said("x"))
    wanted = {"anthropic": {"metadata": {"user_id": "u-1"}}, "openai": {"user": "u-1"}}
    assert plays[kind].sent().items() >= wanted[kind].items()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
@pytest.mark.parametrize("play, reason", [("stops", "stop_sequence"), ("long", "max_tokens"), ("refuses", "refusal")])
def test_why_an_answer_ends(client, kind, play, reason, streamed):
    answer = answer_of(client, streamed, model=f"scripted-{kind}/play-{play}", stop_sequences=[", three"], **said("x"))
    # OpenAI has one word for an end, and neither it nor Bedrock says at which text it was.
    stops = {"openai": ("end_turn", None), "anthropic": (reason, ", three"), "bedrock": (reason, None)}
    assert (answer.stop_reason, answer.stop_sequence) == (stops[kind] if play == "stops" else (reason, None))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_usage_with_what_a_cache_had(client, kind, streamed):
    usage = answer_of(client, streamed, model=f"scripted-{kind}/play-cached", **said("x")).usage
    assert (usage.input_tokens, usage.output_tokens) == (40, 2), "what a cache had or got stands beside it"
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (900, 60)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_a_fallback_from_another_shape(client, kind, streamed):
    for other in KINDS:
        raw = client.messages.with_raw_response.create(
            model=failing(other, "fail-503"), stream=streamed, extra_body={"fallbacks": [f"{kind}/echo"]}, **said("one two")
        )
        assert raw.headers["x-sluicegate-provider"] == kind
        if streamed:
            deltas = [event.delta for event in raw.parse() if event.type == "content_block_delta"]
            assert "".join(delta.text for delta in deltas) == "one two"
        else:
            assert raw.parse().content[0].text == "one two"


@pytest.mark.parametrize("kind", KINDS)
def test_under_its_prefix_only_the_base_url_changes(shapes, simulates, kind):
    model = "echo" if kind == "anthropic" else f"{kind}/echo"
    with connect_anthropic(shapes, prefix="/anthropic") as client:
        assert client.messages.create(model=model, **said("hi")).content[0].text == "hi"
        assert simulates[kind].model() == "echo"
        with client.messages.stream(model=model, **said("hi")) as stream:
            assert stream.get_final_text() == "hi"
        assert client.models.list().data[0].id == "echo", "what is no message passes through"


def test_the_providers_key_goes_where_its_api_has_it(client, simulated):
    client.messages.create(model="keyed/echo", **said("hi"))
    headers = {name.lower() for name, _ in simulated.get("last")["headers"]}
    assert "x-api-key" in headers and "authorization" not in headers


def hinted(client, kind, streamed):
    """The names in the header of an answer to what is asked with hints."""
    block = {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
    hints = {"system": [block], "service_tier": "standard_only", "metadata": {"user_id": "u-1"}, "stream": streamed}
    raw = client.messages.with_raw_response.create(model=f"{kind}/echo", **hints, **said("hi"))
    return sorted(raw.headers.get("x-sluicegate-dropped", "").replace(" ", "").split(","))


@pytest.mark.parametrize("kind", ["anthropic"])
@pytest.mark.parametrize("streamed", STREAMED)
def test_hints_pass_to_who_knows_them(client, simulated, kind, streamed):
    assert hinted(client, kind, streamed) == [""]
    assert simulated.sent()["system"][0]["cache_control"] == {"type": "ephemeral"}


@pytest.mark.parametrize("kind", ["openai", "bedrock"])
@pytest.mark.parametrize("streamed", STREAMED)
def test_hints_that_cannot_be_said_are_named(client, kind, streamed):
    dropped = {"openai": ["cache_control", "service_tier"], "bedrock": ["metadata.user_id", "service_tier"]}
    assert hinted(client, kind, streamed) == dropped[kind]


@pytest.mark.parametrize("kind", ["anthropic", "bedrock"])
def test_where_a_cache_is_to_begin(client, simulates, kind):
    hinted(client, kind, False)
    assert simulates[kind].sent()["system"] == {
        "anthropic": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "bedrock": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
    }[kind]


def test_a_gateway_key_that_is_missing_or_wrong(tmp_path):
    config = {"server": {"keys": ["sk-let-me-in"]}, "providers": {"sim": {}}}
    with Gateway(tmp_path, config) as gateway:
        with connect_anthropic(gateway, api_key="sk-wrong") as client:
            with pytest.raises(anthropic.AuthenticationError) as caught:
                client.messages.create(model="sim/echo", **said("x"))
            assert caught.value.body["error"]["type"] == "authentication_error"
        with connect_anthropic(gateway, api_key="sk-let-me-in") as client:
            assert client.messages.create(model="sim/echo", **said("hi")).content[0].text == "hi"


def test_after_all_of_it_nothing_is_left_under_way(shapes):
    requests = shapes.wait_for(lambda stats: stats["requests"]["in_flight"] == 0)["requests"]
    ended = requests["succeeded_total"] + requests["failed_total"] + requests["cancelled_total"]
    assert requests["received_total"] == ended > 0
