"""OpenAI's SDK before providers of each shape: what speaks its own, and what is translated."""

import json

import openai
import pytest
from bedrock import STATUSES
from conftest import ERRORS, FAILURES, INSIDE, KINDS, PIXEL, STREAMED, WAYS, ask, connect, failing, left, schema_of, tools_of
from pydantic import BaseModel
from scripted import BROKEN


def tool(name, **properties):
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "description": f"Tells the {name}.", "parameters": parameters}}


WEATHER = tool("weather", city={"type": "string"}, days={"type": "integer"})
CLOCK = tool("clock", zone={"type": "string"})


@pytest.fixture(scope="module")
def client(shapes):
    with connect(shapes) as client:
        yield client


def answer_of(client, streamed, **call):
    """A whole answer, or what the SDK makes of the events of one."""
    if not streamed:
        return client.chat.completions.create(**call)
    with client.chat.completions.stream(**call, stream_options={"include_usage": True}) as stream:
        return stream.get_final_completion()


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_answer(client, way):
    answer = client.chat.completions.create(model=f"{way}/echo", messages=ask("through the sluice"))
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "through the sluice", "stop")
    assert (answer.object, answer.usage.total_tokens) == ("chat.completion", 6)
    assert answer.id and answer.model and answer.created


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("usage", [False, True])
def test_a_stream(client, way, usage):
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(client.chat.completions.create(model=f"{way}/echo", messages=ask("one two three"), stream=True, **options))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert [piece for piece in pieces if piece] == ["one", " two", " three"]
    assert (reasons[-1], set(reasons[:-1])) == ("stop", {None})
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([6] if usage else [])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_a_round_of_tools(client, way, streamed):
    call = {"model": f"{way}/tool", "messages": ask("The weather?"), "tools": [WEATHER]}
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
    assert json.loads(use.function.arguments) == {"city": "sim", "days": 1}
    turns = [*ask("The weather?"), said(choice.message), result(use, "It rains.")]
    answer = answer_of(client, streamed, model=f"{way}/tool", messages=turns, tools=[WEATHER])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("It rains.", "stop")


def said(message):
    """What a program says again of an answer that called tools."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": call.function.arguments}}
        for call in message.tool_calls
    ]
    return {"role": "assistant", "content": message.content, "tool_calls": calls}


def result(call, content):
    return {"role": "tool", "tool_call_id": call.id, "content": content}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_tools_that_are_called_at_once(client, plays, kind, streamed):
    call = {"model": f"scripted-{kind}/play-parallel", "messages": ask("Where?"), "tools": [WEATHER, CLOCK]}
    message = answer_of(client, streamed, **call).choices[0].message
    weather, clock = message.tool_calls
    assert [(use.id, use.function.name) for use in (weather, clock)] == [("call_a", "weather"), ("call_b", "clock")]
    assert [json.loads(use.function.arguments) for use in (weather, clock)] == [{"city": "Oslo"}, {"zone": "CET"}]
    turns = [*ask("Where?"), said(message), result(weather, "It rains."), result(clock, "Noon.")]
    client.chat.completions.create(model=f"scripted-{kind}/play-typed", messages=turns, tools=[WEATHER, CLOCK])
    anthropic = [
        {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Oslo"}},
        {"type": "tool_use", "id": "call_b", "name": "clock", "input": {"zone": "CET"}},
        {"type": "tool_result", "tool_use_id": "call_a", "content": "It rains."},
        {"type": "tool_result", "tool_use_id": "call_b", "content": "Noon."},
    ]
    bedrock = [
        {"toolUse": {"toolUseId": "call_a", "name": "weather", "input": {"city": "Oslo"}}},
        {"toolUse": {"toolUseId": "call_b", "name": "clock", "input": {"zone": "CET"}}},
        {"toolResult": {"toolUseId": "call_a", "content": [{"text": "It rains."}]}},
        {"toolResult": {"toolUseId": "call_b", "content": [{"text": "Noon."}]}},
    ]
    wanted = {"openai": turns[1:], "anthropic": two_turns(anthropic), "bedrock": two_turns(bedrock)}
    assert plays[kind].sent()["messages"][1:] == wanted[kind]


def two_turns(blocks):
    """Two calls, and what they came to, as the others have them."""
    return [{"role": "assistant", "content": blocks[:2]}, {"role": "user", "content": blocks[2:]}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_words_before_a_call(client, kind, streamed):
    call = {"model": f"scripted-{kind}/play-busy", "messages": ask("Where?"), "tools": [WEATHER]}
    choice = answer_of(client, streamed, **call).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("I look.", "tool_calls")
    assert [use.id for use in choice.message.tool_calls] == ["call_c"]


CHOICES = {
    "auto": {"openai": "auto", "anthropic": {"type": "auto"}, "bedrock": {"auto": {}}},
    "required": {"openai": "required", "anthropic": {"type": "any"}, "bedrock": {"any": {}}},
    "named": {
        "openai": {"type": "function", "function": {"name": "clock"}},
        "anthropic": {"type": "tool", "name": "clock"},
        "bedrock": {"tool": {"name": "clock"}},
    },
}
"""Which tools may be called, as each says it."""
SPOKEN = {
    "openai": CLOCK,
    "anthropic": {"name": "clock", "description": "Tells the clock.", "input_schema": CLOCK["function"]["parameters"]},
    "bedrock": {
        "toolSpec": {
            "name": "clock",
            "description": "Tells the clock.",
            "inputSchema": {"json": CLOCK["function"]["parameters"]},
        }
    },
}
"""A tool, as each says it."""


def chosen(client, provider, kind, **more):
    """What a provider is told of two tools, and of which may be called."""
    client.chat.completions.create(model=f"scripted-{kind}/play-typed", messages=ask(), tools=[WEATHER, CLOCK], **more)
    return tools_of(kind, provider.sent())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", CHOICES)
def test_which_tools_may_be_called(client, plays, kind, choice):
    tools, choice_sent, _ = chosen(client, plays[kind], kind, tool_choice=CHOICES[choice]["openai"])
    assert (tools[1], choice_sent) == (SPOKEN[kind], CHOICES[choice][kind])


@pytest.mark.parametrize("kind", KINDS)
def test_that_no_tool_may_be_called(client, plays, kind):
    tools, choice, _ = chosen(client, plays[kind], kind, tool_choice="none")
    # Bedrock has no word for it, and is told of no tools.
    assert (tools and tools[1], choice) == {
        "openai": (SPOKEN["openai"], "none"),
        "anthropic": (SPOKEN["anthropic"], {"type": "none"}),
        "bedrock": (None, None),
    }[kind]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_one_tool_at_a_time(client, plays, kind):
    _, choice, parallel = chosen(client, plays[kind], kind, tool_choice="auto", parallel_tool_calls=False)
    one = {"type": "auto", "disable_parallel_tool_use": True}
    assert (choice, parallel) == {"openai": ("auto", False), "anthropic": (one, None)}[kind]


def image(url):
    return [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]


HERE, THERE = image(f"data:image/png;base64,{PIXEL}"), image("https://example.com/a.png")


@pytest.mark.parametrize("kind", KINDS)
def test_an_image(client, simulates, kind):
    answer = client.chat.completions.create(model=f"{kind}/echo", messages=ask(HERE))
    assert answer.choices[0].message.content == "What is it?"
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    assert simulates[kind].sent()["messages"][0]["content"] == {
        "openai": HERE,
        "anthropic": [HERE[0], {"type": "image", "source": source}],
        "bedrock": [{"text": "What is it?"}, {"image": {"format": "png", "source": {"bytes": PIXEL}}}],
    }[kind]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_an_image_by_its_address(client, simulates, kind):
    client.chat.completions.create(model=f"{kind}/echo", messages=ask(THERE))
    source = {"type": "url", "url": "https://example.com/a.png"}
    wanted = {"openai": THERE[1], "anthropic": {"type": "image", "source": source}}
    assert simulates[kind].sent()["messages"][0]["content"][1] == wanted[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_document(client, simulates, kind):
    file = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}}
    client.chat.completions.create(model=f"{kind}/echo", messages=ask([file, {"type": "text", "text": "Read."}]))
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}
    assert simulates[kind].sent()["messages"][0]["content"][0] == {
        "openai": file,
        "anthropic": {"type": "document", "source": source, "title": "a.pdf"},
        # There is no dot in a document's name there.
        "bedrock": {"document": {"format": "pdf", "name": "a-pdf", "source": {"bytes": "JVBERg=="}}},
    }[kind]


@pytest.mark.parametrize("way, status", FAILURES)
@pytest.mark.parametrize("streamed", STREAMED)
def test_a_providers_error_keeps_its_status_and_words(client, way, status, streamed):
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=failing(way, f"fail-{status}"), messages=ask(), stream=streamed)
    error = caught.value
    assert type(error) is getattr(openai, ERRORS[status]), repr(error)
    assert error.status_code == status
    assert f"asked to fail with {status}" in error.message
    assert error.response.json()["sluicegate"]["provider"] == way


@pytest.mark.parametrize("name", STATUSES)
def test_bedrocks_errors_keep_their_names(client, name):
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=failing("bedrock", f"fail-{name}"), messages=ask())
    assert (caught.value.type, caught.value.status_code) == (name, STATUSES[name])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_when_to_come_again_is_said_as_the_provider_says_it(client, kind, streamed):
    with pytest.raises(openai.RateLimitError) as caught:
        model = failing(f"scripted-{kind}", "status-429")
        client.chat.completions.create(model=model, messages=ask(), stream=streamed)
    assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("kind, streamed", INSIDE)
def test_an_error_inside_a_good_answer(client, kind, streamed):
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=f"{kind}/error-in-200", messages=ask(), stream=streamed)
    assert caught.value.status_code == INSIDE[kind, streamed]
    assert "inside a 200" in caught.value.message


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_in_mid_stream_has_the_providers_words(client, kind):
    pieces = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in client.chat.completions.create(model=f"scripted-{kind}/play-breaks", messages=ask(), stream=True):
            pieces.append(chunk.choices[0].delta.content)
    assert "".join(piece or "" for piece in pieces) == "So far"
    assert caught.value.message == BROKEN


@pytest.mark.parametrize("way", WAYS)
def test_a_cut_stream_raises_after_what_had_come(client, way):
    pieces = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in client.chat.completions.create(model=f"{way}/cut-2", messages=ask("one two three"), stream=True):
            pieces.append(chunk.choices[0].delta.content)
    assert "".join(piece or "" for piece in pieces) == "one two"
    assert caught.value.code == "stream_cut"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_a_caller_that_does_not_wait_ends_it_upstream(shapes, simulates, kind, streamed):
    hasty = connect(shapes, timeout=0.3)
    with left(shapes, simulates[kind], "hang") as model, hasty, pytest.raises(openai.APITimeoutError):
        hasty.chat.completions.create(model=f"{kind}/{model}", messages=ask(), stream=streamed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_provider_that_does_not_answer_in_time(client, kind):
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=f"impatient-{kind}/hang", messages=ask())
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")


@pytest.mark.parametrize("kind", KINDS)
def test_a_caller_that_leaves_ends_it_upstream(shapes, client, simulates, kind):
    with left(shapes, simulates[kind], "lorem-500+gap-50ms") as model:
        with client.chat.completions.create(model=f"{kind}/{model}", messages=ask(), stream=True) as stream:
            next(iter(stream))


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_system_says(client, plays, kind):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        *ask("Hi"),
        {"role": "assistant", "content": "Hello."},
        *ask("How are you?"),
    ]
    client.chat.completions.create(model=f"scripted-{kind}/play-typed", messages=messages)
    sent = plays[kind].sent()
    if kind == "openai":
        assert sent["messages"] == messages
    else:
        assert [block["text"] for block in sent["system"]] == ["Be brief.", "Be kind."]
        assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]


class Said(BaseModel):
    answer: str
    words: int


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_has_a_schema(client, plays, kind):
    call = {"model": f"scripted-{kind}/play-typed", "messages": ask(), "response_format": Said}
    parsed = client.chat.completions.parse(**call)
    assert parsed.choices[0].message.parsed == Said(answer="yes", words=1)
    assert set(schema_of(kind, plays[kind].sent())["properties"]) == {"answer", "words"}
    with client.chat.completions.stream(**call) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Said(answer="yes", words=1)


@pytest.mark.parametrize("kind", ["openai"])
def test_json_without_a_schema_passes(client, upstream, kind):
    form = {"type": "json_object"}
    client.chat.completions.create(model=f"scripted-{kind}/play-typed", messages=ask(), response_format=form)
    assert upstream.sent()["response_format"] == form


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_thoughts(client, plays, kind, streamed):
    call = {"model": f"scripted-{kind}/play-thinks", "messages": ask(), "reasoning_effort": "medium"}
    answer = answer_of(client, streamed, **call)
    message = answer.choices[0].message
    assert (message.model_extra["reasoning_content"], message.content) == ("27 is 3 cubed.", "It is not.")
    # Bedrock does not count thoughts apart.
    details = answer.usage.completion_tokens_details
    assert (details and details.reasoning_tokens) == {"openai": 5, "anthropic": 5, "bedrock": None}[kind]
    budget = {"type": "enabled", "budget_tokens": 4096}
    wanted = {
        "openai": {"reasoning_effort": "medium"},
        "anthropic": {"thinking": budget},
        "bedrock": {"additionalModelRequestFields": {"thinking": budget}},
    }
    assert plays[kind].sent().items() >= wanted[kind].items()


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_sampling(client, plays, kind):
    asked = {"temperature": 0.25, "top_p": 0.5, "max_completion_tokens": 77, "stop": [", three", "!"]}
    client.chat.completions.create(model=f"scripted-{kind}/play-stops", messages=ask(), **asked)
    stops = {"stop_sequences": [", three", "!"]}
    inference = {"temperature": 0.25, "topP": 0.5, "maxTokens": 77, "stopSequences": [", three", "!"]}
    wanted = {
        "openai": asked,
        "anthropic": {"temperature": 0.25, "top_p": 0.5, "max_tokens": 77} | stops,
        "bedrock": {"inferenceConfig": inference},
    }
    assert plays[kind].sent().items() >= wanted[kind].items()
    # What is not said is left to the provider, but for Anthropic, which has to be told how much.
    client.chat.completions.create(model=f"scripted-{kind}/play-stops", messages=ask(), stop="!")
    wanted = {
        "openai": {"stop": "!"},
        "anthropic": {"max_tokens": 4096, "stop_sequences": ["!"]},
        "bedrock": {"inferenceConfig": {"stopSequences": ["!"]}},
    }
    assert plays[kind].sent().items() >= wanted[kind].items()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
@pytest.mark.parametrize("play, reason", [("stops", "stop"), ("long", "length"), ("refuses", "content_filter")])
def test_why_an_answer_ends(client, kind, play, reason, streamed):
    model = f"scripted-{kind}/play-{play}"
    if streamed:
        reasons = [
            chunk.choices[0].finish_reason
            for chunk in client.chat.completions.create(model=model, messages=ask(), stream=True)
            if chunk.choices
        ]
        assert [found for found in reasons if found] == [reason]
    else:
        assert client.chat.completions.create(model=model, messages=ask()).choices[0].finish_reason == reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_usage_with_what_a_cache_had(client, kind, streamed):
    usage = answer_of(client, streamed, model=f"scripted-{kind}/play-cached", messages=ask()).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (1000, 2, 1002)
    details = usage.prompt_tokens_details
    assert (details.cached_tokens, details.cache_write_tokens) == (900, 60)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_a_fallback_from_another_shape(client, kind, streamed):
    for other in KINDS:
        raw = client.chat.completions.with_raw_response.create(
            model=failing(other, "fail-503"),
            messages=ask("one two"),
            stream=streamed,
            extra_body={"fallbacks": [f"{kind}/echo"]},
        )
        assert raw.headers["x-sluicegate-provider"] == kind
        if streamed:
            assert "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse() if chunk.choices) == "one two"
        else:
            assert raw.parse().choices[0].message.content == "one two"


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_who_asks(client, plays, kind):
    client.chat.completions.create(model=f"scripted-{kind}/play-typed", messages=ask(), user="u-1")
    wanted = {"openai": {"user": "u-1"}, "anthropic": {"metadata": {"user_id": "u-1"}}}
    assert plays[kind].sent().items() >= wanted[kind].items()


def hinted(client, kind, streamed):
    """The names in the header of an answer to what is asked with hints."""
    hints = {"seed": 5, "service_tier": "flex", "metadata": {"a": "b"}, "user": "u-1", "stream": streamed}
    raw = client.chat.completions.with_raw_response.create(model=f"{kind}/echo", messages=ask("hi"), **hints)
    return sorted(raw.headers.get("x-sluicegate-dropped", "").replace(" ", "").split(","))


@pytest.mark.parametrize("kind", ["openai"])
@pytest.mark.parametrize("streamed", STREAMED)
def test_hints_pass_to_who_knows_them(client, simulated, kind, streamed):
    assert hinted(client, kind, streamed) == [""]
    assert simulated.sent()["seed"] == 5


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("streamed", STREAMED)
def test_hints_that_cannot_be_said_are_named(client, simulates, kind, streamed):
    dropped = ["metadata", "seed", "service_tier"]
    assert hinted(client, kind, streamed) == {"anthropic": dropped, "bedrock": [*dropped, "user"]}[kind]
    sent = simulates[kind].sent()
    assert not {"seed", "service_tier"} & sent.keys()
    assert sent.get("metadata") == {"anthropic": {"user_id": "u-1"}, "bedrock": None}[kind]


OWN = {"n": 2, "logprobs": True, "logit_bias": {"5": 1}, "response_format": {"type": "json_object"}, "x_new": 1}
"""What no other shape has, or nobody knows."""


@pytest.mark.parametrize("kind", ["openai"])
def test_what_only_this_shape_has_passes(client, upstream, kind):
    client.chat.completions.create(model=f"scripted-{kind}/play-typed", messages=ask(), extra_body=OWN)
    assert upstream.sent().items() >= OWN.items()


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("field", OWN)
def test_what_cannot_be_said_is_refused(client, kind, field):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=f"{kind}/echo", messages=ask(), extra_body={field: OWN[field]})
    assert (caught.value.code, caught.value.param) == ("unsupported", field)


UNSAID = {
    "messages.0.content.image_url": {"messages": ask(THERE)},
    "parallel_tool_calls": {"messages": ask(), "tools": [WEATHER], "parallel_tool_calls": False},
}
"""What all shapes but Bedrock's can say."""


@pytest.mark.parametrize("kind", ["bedrock"])
@pytest.mark.parametrize("field", UNSAID)
def test_what_bedrock_has_no_words_for_is_refused(client, kind, field):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=f"{kind}/echo", **UNSAID[field])
    assert (caught.value.code, caught.value.param) == ("unsupported", field)


@pytest.mark.parametrize("kind", ["openai"])
def test_what_is_no_chat_passes(client, kind):
    assert len(client.embeddings.create(model=f"{kind}/echo", input="x").data) == 1
    assert client.completions.create(model=f"{kind}/echo", prompt="a b").choices[0].text == "a b"
    assert client.responses.create(model=f"{kind}/echo", input="a b").output_text == "a b"


@pytest.mark.parametrize("kind", KINDS[1:])
def test_what_is_no_chat_is_refused(client, kind):
    for call in [
        lambda: client.embeddings.create(model=f"{kind}/echo", input="x"),
        lambda: client.completions.create(model=f"{kind}/echo", prompt="x"),
        lambda: client.responses.create(model=f"{kind}/echo", input="x"),
    ]:
        with pytest.raises(openai.BadRequestError) as caught:
            call()
        assert caught.value.code == "unsupported"


@pytest.mark.parametrize("kind", KINDS)
def test_under_its_prefix_only_the_base_url_changes(shapes, simulates, kind):
    model = "echo" if kind == "openai" else f"{kind}/echo"
    with connect(shapes, prefix="/openai") as client:
        answer = client.chat.completions.create(model=model, messages=ask("hi"))
        assert answer.choices[0].message.content == "hi"
        assert simulates[kind].model() == "echo"
        with client.chat.completions.stream(model=model, messages=ask("hi")) as stream:
            assert stream.get_final_completion().choices[0].message.content == "hi"


def test_after_all_of_it_nothing_is_left_under_way(shapes):
    requests = shapes.wait_for(lambda stats: stats["requests"]["in_flight"] == 0)["requests"]
    ended = requests["succeeded_total"] + requests["failed_total"] + requests["cancelled_total"]
    assert requests["received_total"] == ended > 0
