"""boto3 as a client of Bedrock's routes, before providers of each shape. Where that is Bedrock, botocore checks what is signed
and sent."""

import base64
import json

import anthropic
import boto3
import pytest
from bedrock import STATUSES
from botocore.exceptions import ClientError, EventStreamError, ReadTimeoutError
from conftest import FAILURES, INSIDE, KINDS, PIXEL, STREAMED, WAYS
from conftest import ask, connect, connect_boto3, failing, left, schema_of, tools_of
from gateway import CLIENT_KEY, Gateway, provider
from scripted import BROKEN

EXCEPTIONS = {status: name for name, status in STATUSES.items() if name != "ModelNotReadyException"}
"""What boto3 calls an error of a status, Bedrock's own or another's that means the same."""
EXCEPTIONS |= {422: "ValidationException", 502: "InternalServerException", 529: "ServiceUnavailableException"}


def tool(name, **properties):
    schema = {"type": "object", "properties": properties}
    return {"toolSpec": {"name": name, "description": f"Tells the {name}.", "inputSchema": {"json": schema}}}


WEATHER = tool("weather", city={"type": "string"}, days={"type": "integer"})
CLOCK = tool("clock", zone={"type": "string"})


@pytest.fixture(scope="module")
def client(shapes):
    return connect_boto3(shapes)


def named(way, model):
    """A bare model means the provider `bedrock`."""
    return model if way == "bedrock" else f"{way}/{model}"


def said(*content):
    return [{"role": "user", "content": [{"text": part} if isinstance(part, str) else part for part in content]}]


def answer_of(client, streamed, **call):
    """A whole answer, or what the events of one come to."""
    if not streamed:
        return client.converse(**call)
    blocks, answer = {}, {}
    for event in client.converse_stream(**call)["stream"]:
        ((kind, told),) = event.items()
        if kind == "contentBlockStart":
            blocks[told["contentBlockIndex"]] = [told["start"]]
        elif kind == "contentBlockDelta":
            blocks.setdefault(told["contentBlockIndex"], []).append(told["delta"])
        elif kind in ("messageStop", "metadata"):
            answer |= told
    assert list(blocks) == list(range(len(blocks))), "the blocks come in their order"
    return answer | {"output": {"message": {"role": "assistant", "content": [sum_of(pieces) for pieces in blocks.values()]}}}


def sum_of(pieces):
    """A block out of what is said of it."""
    kind = next(iter(pieces[0]))
    if kind == "text":
        return {"text": "".join(piece["text"] for piece in pieces)}
    if kind == "toolUse":
        assert len(pieces) > 2, "the arguments come in pieces"
        call = pieces[0]["toolUse"]
        return {"toolUse": call | {"input": json.loads("".join(piece["toolUse"]["input"] for piece in pieces[1:]))}}
    thoughts = [piece["reasoningContent"] for piece in pieces]
    text = {key: "".join(thought.get(key, "") for thought in thoughts) for key in ("text", "signature")}
    return {"reasoningContent": {"reasoningText": {key: value for key, value in text.items() if value}}}


def content(answer):
    return answer["output"]["message"]["content"]


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_answer(client, way):
    answer = client.converse(
        modelId=named(way, "echo"), messages=said("through the sluice"), system=[{"text": "Be brief."}],
        inferenceConfig={"maxTokens": 50},
    )  # fmt: skip
    assert answer["output"]["message"] == {"role": "assistant", "content": [{"text": "through the sluice"}]}
    assert (answer["stopReason"], answer["usage"]["totalTokens"]) == ("end_turn", 8)
    assert answer["ResponseMetadata"]["RequestId"]
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-sluicegate-provider"] == way


@pytest.mark.parametrize("way", WAYS)
def test_a_stream(client, way):
    answer = client.converse_stream(modelId=named(way, "echo"), messages=said("one two three"))
    events = list(answer["stream"])
    pieces = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    assert pieces == ["one", " two", " three"]
    kinds = [next(iter(event)) for event in events]
    assert kinds == ["messageStart", *["contentBlockDelta"] * 3, "contentBlockStop", "messageStop", "metadata"]
    assert events[-2]["messageStop"]["stopReason"] == "end_turn"
    assert events[-1]["metadata"]["usage"]["outputTokens"] == 3


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_a_round_of_tools(client, way, streamed):
    question = said("The weather?")
    call = {"modelId": named(way, "tool"), "toolConfig": {"tools": [WEATHER]}}
    answer = answer_of(client, streamed, messages=question, **call)
    (block,) = content(answer)
    use = block["toolUse"]
    assert (use["name"], use["input"], answer["stopReason"]) == ("weather", {"city": "sim", "days": 1}, "tool_use")
    result = {"toolResult": {"toolUseId": use["toolUseId"], "content": [{"text": "It rains."}]}}
    turns = [*question, {"role": "assistant", "content": [block]}, {"role": "user", "content": [result]}]
    answer = answer_of(client, streamed, messages=turns, **call)
    assert (content(answer), answer["stopReason"]) == ([{"text": "It rains."}], "end_turn")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_tools_that_are_called_at_once(client, plays, kind, streamed):
    call = {"toolConfig": {"tools": [WEATHER, CLOCK]}}
    answer = answer_of(client, streamed, modelId=f"scripted-{kind}/play-parallel", messages=said("Where?"), **call)
    uses = [
        {"toolUse": {"toolUseId": "call_a", "name": "weather", "input": {"city": "Oslo"}}},
        {"toolUse": {"toolUseId": "call_b", "name": "clock", "input": {"zone": "CET"}}},
    ]
    assert (content(answer), answer["stopReason"]) == (uses, "tool_use")
    results = [
        {"toolResult": {"toolUseId": "call_a", "content": [{"text": "It rains."}], "status": "success"}},
        {"toolResult": {"toolUseId": "call_b", "content": [{"json": {"hour": 12}}]}},
        {"text": "And now?"},
    ]
    turns = [*said("Where?"), {"role": "assistant", "content": uses}, {"role": "user", "content": results}]
    client.converse(modelId=f"scripted-{kind}/play-typed", messages=turns, **call)
    sent = plays[kind].sent()["messages"]
    if kind == "openai":
        assert [call["id"] for call in sent[1]["tool_calls"]] == ["call_a", "call_b"]
    noon = '{"hour": 12}'
    assert sent[2:] == {
        "openai": [
            {"role": "tool", "tool_call_id": "call_a", "content": "It rains."},
            {"role": "tool", "tool_call_id": "call_b", "content": noon},
            {"role": "user", "content": "And now?"},
        ],
        "anthropic": [
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_a", "content": "It rains."},
                    {"type": "tool_result", "tool_use_id": "call_b", "content": noon},
                    {"type": "text", "text": "And now?"},
                ],
            }
        ],
        "bedrock": turns[2:],
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_words_before_a_call(client, kind, streamed):
    call = {"modelId": f"scripted-{kind}/play-busy", "messages": said("Where?"), "toolConfig": {"tools": [WEATHER]}}
    answer = answer_of(client, streamed, **call)
    use = {"toolUseId": "call_c", "name": "weather", "input": {"city": "Rome"}}
    assert (content(answer), answer["stopReason"]) == ([{"text": "I look."}, {"toolUse": use}], "tool_use")


CHOICES = {
    "auto": {"bedrock": {"auto": {}}, "openai": "auto", "anthropic": {"type": "auto"}},
    "any": {"bedrock": {"any": {}}, "openai": "required", "anthropic": {"type": "any"}},
    "tool": {
        "bedrock": {"tool": {"name": "clock"}},
        "openai": {"type": "function", "function": {"name": "clock"}},
        "anthropic": {"type": "tool", "name": "clock"},
    },
}
"""Which tools may be called, as each says it."""
SCHEMA = CLOCK["toolSpec"]["inputSchema"]["json"]
SPOKEN = {
    "bedrock": CLOCK,
    "openai": {
        "type": "function",
        "function": {"name": "clock", "description": "Tells the clock.", "parameters": SCHEMA},
    },
    "anthropic": {"name": "clock", "description": "Tells the clock.", "input_schema": SCHEMA},
}
"""A tool, as each says it."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", CHOICES)
def test_which_tools_may_be_called(client, plays, kind, choice):
    config = {"tools": [WEATHER, CLOCK], "toolChoice": CHOICES[choice]["bedrock"]}
    client.converse(modelId=f"scripted-{kind}/play-typed", messages=said("x"), toolConfig=config)
    tools, choice_sent, _ = tools_of(kind, plays[kind].sent())
    assert (tools[1], choice_sent) == (SPOKEN[kind], CHOICES[choice][kind])


@pytest.mark.parametrize("kind", KINDS)
def test_an_image(client, simulates, kind):
    image = {"image": {"format": "png", "source": {"bytes": base64.b64decode(PIXEL)}}}
    answer = client.converse(modelId=named(kind, "echo"), messages=said("What is it?", image))
    assert content(answer)[0]["text"] == "What is it?"
    url = f"data:image/png;base64,{PIXEL}"
    assert simulates[kind].sent()["messages"][-1]["content"][1] == {
        "bedrock": {"image": {"format": "png", "source": {"bytes": PIXEL}}},
        "openai": {"type": "image_url", "image_url": {"url": url}},
        "anthropic": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_document(client, simulates, kind):
    document = {"format": "pdf", "name": "a", "source": {"bytes": b"%PDF"}}
    client.converse(modelId=named(kind, "echo"), messages=said({"document": document}, "Read."))
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}
    assert simulates[kind].sent()["messages"][-1]["content"][0] == {
        "bedrock": {"document": document | {"source": {"bytes": "JVBERg=="}}},
        "openai": {"type": "file", "file": {"filename": "a", "file_data": "data:application/pdf;base64,JVBERg=="}},
        "anthropic": {"type": "document", "source": source, "title": "a"},
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_system_says(client, plays, kind):
    texts = ["Be brief.", "Be kind."]
    system = [{"text": text} for text in texts]
    client.converse(modelId=f"scripted-{kind}/play-typed", messages=said("Hi"), system=system)
    sent = plays[kind].sent()
    found = sent["messages"][0]["content"] if kind == "openai" else sent["system"]
    assert [block["text"] for block in found] == texts
    assert [message["role"] for message in sent["messages"]] == (["system"] if kind == "openai" else []) + ["user"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_an_answer_that_has_a_schema(client, plays, kind, streamed):
    schema = {"type": "object", "properties": {"answer": {"type": "string"}, "words": {"type": "integer"}}}
    form = {"type": "json_schema", "structure": {"jsonSchema": {"schema": json.dumps(schema), "name": "said"}}}
    call = {"messages": said("x"), "outputConfig": {"textFormat": form}}
    answer = answer_of(client, streamed, modelId=f"scripted-{kind}/play-typed", **call)
    assert json.loads(content(answer)[0]["text"]) == {"answer": "yes", "words": 1}
    assert schema_of(kind, plays[kind].sent()) == schema


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_thoughts(client, plays, kind, streamed):
    thinking = {"type": "enabled", "budget_tokens": 4096}
    question = said("Is 27 prime?")
    call = {"messages": question, "additionalModelRequestFields": {"thinking": thinking}, "inferenceConfig": {"maxTokens": 8000}}
    answer = answer_of(client, streamed, modelId=f"scripted-{kind}/play-thinks", **call)
    # A provider of OpenAI's shape signs nothing.
    thought = {"text": "27 is 3 cubed."} | ({} if kind == "openai" else {"signature": "c2lnbmVk"})
    assert content(answer) == [{"reasoningContent": {"reasoningText": thought}}, {"text": "It is not."}]
    wanted = {
        "bedrock": {"additionalModelRequestFields": {"thinking": thinking}},
        "openai": {"reasoning_effort": "medium"},
        "anthropic": {"thinking": thinking},
    }
    assert plays[kind].sent().items() >= wanted[kind].items()
    # And back, as a program does that goes on with the conversation.
    turns = [*question, answer["output"]["message"], *said("And 29?")]
    raw = client.converse(modelId=f"scripted-{kind}/play-typed", messages=turns)["ResponseMetadata"]["HTTPHeaders"]
    again = plays[kind].sent()["messages"][1]["content"]
    assert again == {
        "bedrock": turns[1]["content"],
        "openai": "It is not.",
        "anthropic": [
            {"type": "thinking", "thinking": "27 is 3 cubed.", "signature": "c2lnbmVk"},
            {"type": "text", "text": "It is not."},
        ],
    }[kind]
    assert ("x-sluicegate-dropped" in raw) == (kind == "openai")


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_sampling(client, plays, kind):
    stop = ["!", ", three"]
    inference = {"temperature": 0.25, "topP": 0.5, "maxTokens": 77, "stopSequences": stop}
    client.converse(modelId=f"scripted-{kind}/play-stops", messages=said("x"), inferenceConfig=inference)
    wanted = {
        "bedrock": {"inferenceConfig": inference},
        "openai": {"temperature": 0.25, "top_p": 0.5, "max_tokens": 77, "stop": stop},
        "anthropic": {"temperature": 0.25, "top_p": 0.5, "max_tokens": 77, "stop_sequences": stop},
    }
    assert plays[kind].sent().items() >= wanted[kind].items()


@pytest.mark.parametrize("kind", ["bedrock", "anthropic"])
def test_out_of_how_many_tokens_is_chosen(client, plays, kind):
    more = {"additionalModelRequestFields": {"top_k": 5}}
    client.converse(modelId=f"scripted-{kind}/play-typed", messages=said("x"), **more)
    assert plays[kind].sent().items() >= {"bedrock": more, "anthropic": {"top_k": 5}}[kind].items()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
@pytest.mark.parametrize("play, reason", [("stops", "stop_sequence"), ("long", "max_tokens"), ("refuses", "content_filtered")])
def test_why_an_answer_ends(client, kind, play, reason, streamed):
    answer = answer_of(client, streamed, modelId=f"scripted-{kind}/play-{play}", messages=said("x"))
    # OpenAI has one word for an end.
    assert answer["stopReason"] == ("end_turn" if (kind, play) == ("openai", "stops") else reason)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_usage_with_what_a_cache_had(client, kind, streamed):
    usage = answer_of(client, streamed, modelId=f"scripted-{kind}/play-cached", messages=said("x"))["usage"]
    assert (usage["inputTokens"], usage["outputTokens"], usage["totalTokens"]) == (40, 2, 1002)
    assert (usage["cacheReadInputTokens"], usage["cacheWriteInputTokens"]) == (900, 60)


def hinted(client, kind, streamed):
    """The names in the header of an answer to what is asked with hints."""
    call = client.converse_stream if streamed else client.converse
    answer = call(
        modelId=named(kind, "echo"), messages=said("hi"), system=[{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
        requestMetadata={"team": "a"}, performanceConfig={"latency": "optimized"}, serviceTier={"type": "flex"},
        additionalModelResponseFieldPaths=["/stop_sequence"],
    )  # fmt: skip
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    if streamed:
        answer["stream"].close()
    return sorted(headers.get("x-sluicegate-dropped", "").replace(" ", "").split(","))


@pytest.mark.parametrize("kind", ["bedrock"])
@pytest.mark.parametrize("streamed", STREAMED)
def test_hints_pass_to_who_knows_them(client, simulates, kind, streamed):
    assert hinted(client, kind, streamed) == [""]
    sent = simulates[kind].sent()
    assert (sent["serviceTier"], sent["system"][1]) == ({"type": "flex"}, {"cachePoint": {"type": "default"}})


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("streamed", STREAMED)
def test_hints_that_cannot_be_said_are_named(client, kind, streamed):
    dropped = ["additionalModelResponseFieldPaths", "performanceConfig", "requestMetadata", "serviceTier"]
    mark = {"openai": ["cachePoint"], "anthropic": []}
    assert hinted(client, kind, streamed) == sorted(dropped + mark[kind])


@pytest.mark.parametrize("kind", ["anthropic", "bedrock"])
def test_where_a_cache_is_to_begin(client, simulates, kind):
    hinted(client, kind, False)
    assert simulates[kind].sent()["system"] == {
        "bedrock": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
        "anthropic": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    }[kind]


OWN = {
    "guardrailConfig": {"guardrailConfig": {"guardrailIdentifier": "abcdefghij", "guardrailVersion": "1"}},
    "additionalModelRequestFields.x_new": {"additionalModelRequestFields": {"x_new": 1}},
    "promptVariables": {"promptVariables": {"name": {"text": "x"}}},
    "guardContent": {"messages": said({"guardContent": {"text": {"text": "x"}}})},
    "video": {"messages": said({"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://bucket/a.mp4"}}}}, "What?")},
}
"""What no other shape has, or nobody knows."""


@pytest.mark.parametrize("kind", ["bedrock"])
@pytest.mark.parametrize("field", OWN)
def test_what_only_this_shape_has_passes(client, plays, kind, field):
    client.converse(**{"modelId": f"scripted-{kind}/play-typed", "messages": said("x")} | OWN[field])
    assert plays[kind].sent().items() >= OWN[field].items()


REFUSED = {(kind, field): more for kind in ("openai", "anthropic") for field, more in OWN.items()}
REFUSED["openai", "top_k"] = {"additionalModelRequestFields": {"top_k": 5}}


@pytest.mark.parametrize("kind, field", REFUSED)
def test_what_cannot_be_said_is_refused(client, kind, field):
    with pytest.raises(client.exceptions.ValidationException, match=field):
        client.converse(**{"modelId": f"{kind}/echo", "messages": said("x")} | REFUSED[kind, field])


@pytest.mark.parametrize("way, status", FAILURES)
@pytest.mark.parametrize("streamed", STREAMED)
def test_a_providers_error_keeps_its_status_and_words(client, way, status, streamed):
    call = client.converse_stream if streamed else client.converse
    with pytest.raises(ClientError) as caught:
        call(modelId=failing(way, f"fail-{status}"), messages=said("x"))
    response = caught.value.response
    assert (type(caught.value).__name__, response["ResponseMetadata"]["HTTPStatusCode"]) == (EXCEPTIONS[status], status)
    assert f"asked to fail with {status}" in response["Error"]["Message"]


@pytest.mark.parametrize("name", STATUSES)
@pytest.mark.parametrize("operation", ["converse", "converse_stream", "invoke_model"])
def test_bedrocks_own_errors_are_the_exceptions_that_they_are(client, operation, name):
    fields = {"body": "{}"} if operation == "invoke_model" else {"messages": said("x")}
    with pytest.raises(ClientError, match=f"asked to fail with {name}") as caught:
        getattr(client, operation)(modelId=failing("bedrock", f"fail-{name}"), **fields)
    assert type(caught.value).__name__ == name, caught.value
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == STATUSES[name]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_when_to_come_again_is_said_as_the_provider_says_it(client, kind, streamed):
    call = client.converse_stream if streamed else client.converse
    with pytest.raises(client.exceptions.ThrottlingException) as caught:
        call(modelId=failing(f"scripted-{kind}", "status-429"), messages=said("x"))
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "7"


@pytest.mark.parametrize("kind, streamed", INSIDE)
def test_an_error_inside_a_good_answer(client, kind, streamed):
    call = client.converse_stream if streamed else client.converse
    with pytest.raises(client.exceptions.InternalServerException, match="inside a 200") as caught:
        call(modelId=f"{kind}/error-in-200", messages=said("x"))
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == INSIDE[kind, streamed]


def heard(stream, pieces):
    """Notes the words of a stream."""
    for event in stream:
        if "contentBlockDelta" in event:
            pieces.append(event["contentBlockDelta"]["delta"]["text"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_in_mid_stream_has_the_providers_words(client, kind):
    stream, pieces = client.converse_stream(modelId=f"scripted-{kind}/play-breaks", messages=said("x"))["stream"], []
    with pytest.raises(EventStreamError) as caught:
        heard(stream, pieces)
    assert ("".join(pieces), caught.value.response["Error"]["Message"]) == ("So far", BROKEN)


@pytest.mark.parametrize("way", WAYS)
def test_a_cut_stream_raises_after_what_had_come(client, way):
    stream, pieces = client.converse_stream(modelId=named(way, "cut-2"), messages=said("one two three"))["stream"], []
    with pytest.raises(EventStreamError) as caught:
        heard(stream, pieces)
    assert pieces == ["one", " two"]
    assert caught.value.response["Error"]["Code"] == "modelStreamErrorException"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_a_caller_that_does_not_wait_ends_it_upstream(shapes, simulates, kind, streamed):
    hasty = connect_boto3(shapes, timeout=0.3)
    with left(shapes, simulates[kind], "hang") as model, pytest.raises(ReadTimeoutError):
        (hasty.converse_stream if streamed else hasty.converse)(modelId=f"{kind}/{model}", messages=said("x"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_provider_that_does_not_answer_in_time(client, kind):
    with pytest.raises(client.exceptions.ModelTimeoutException) as caught:
        client.converse(modelId=f"impatient-{kind}/hang", messages=said("x"))
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 504


@pytest.mark.parametrize("kind", KINDS)
def test_a_caller_that_leaves_ends_it_upstream(shapes, client, simulates, kind):
    with left(shapes, simulates[kind], "lorem-500+gap-50ms") as model:
        stream = client.converse_stream(modelId=f"{kind}/{model}", messages=said("x"))["stream"]
        next(iter(stream))
        stream.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", STREAMED)
def test_a_fallback_from_another_shape(client, kind, streamed):
    # A body of Bedrock's shape has no place for `fallbacks`: an alias has them.
    for other in KINDS:
        call = client.converse_stream if streamed else client.converse
        answer = call(modelId=f"{other}-then-{kind}", messages=said("one two"))
        assert answer["ResponseMetadata"]["HTTPHeaders"]["x-sluicegate-provider"] == kind
        if streamed:
            pieces = []
            heard(answer["stream"], pieces)
            assert pieces == ["one", " two"]
        else:
            assert content(answer) == [{"text": "one two"}]


@pytest.mark.parametrize("kind", KINDS)
def test_under_its_prefix_only_the_base_url_changes(shapes, simulates, monkeypatch, kind):
    """Which the environment can say, so that the program stays as it is."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", f"{shapes.data}/bedrock")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "client-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CLIENT_KEY)
    client = boto3.Session().client("bedrock-runtime", region_name="us-west-2")
    answer = client.converse(modelId=named(kind, "echo"), messages=said("hi"))
    assert (content(answer), simulates[kind].model()) == ([{"text": "hi"}], "echo")


CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": [{"role": "user", "content": "one two three"}]}


@pytest.mark.parametrize("way", WAYS)
def test_a_model_is_asked_in_claudes_own_shape(client, way):
    answer = client.invoke_model(modelId=named(way, "echo"), body=json.dumps(CLAUDE))
    message = json.loads(answer["body"].read())
    assert (message["type"], message["content"][0]["text"]) == ("message", "one two three")
    assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("end_turn", 3)
    assert answer["contentType"] == "application/json"


@pytest.mark.parametrize("way", WAYS)
def test_a_model_streams_in_claudes_own_shape(client, way):
    answer = client.invoke_model_with_response_stream(modelId=named(way, "echo"), body=json.dumps(CLAUDE))
    events = [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]
    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop")
    assert [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"] == ["one", " two", " three"]


NOVA = {"schemaVersion": "messages-v1", "messages": said("one two"), "inferenceConfig": {"maxTokens": 5}}


@pytest.mark.parametrize("kind", ["bedrock"])
@pytest.mark.parametrize("operation", ["invoke_model", "invoke_model_with_response_stream"])
def test_a_model_is_asked_in_a_shape_of_its_own(client, plays, kind, operation):
    getattr(client, operation)(modelId=f"scripted-{kind}/play-typed", body=json.dumps(NOVA))["body"].close()
    assert plays[kind].sent() == NOVA


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("operation", ["invoke_model", "invoke_model_with_response_stream"])
def test_another_models_own_shape_is_refused_where_it_cannot_be_read(client, kind, operation):
    with pytest.raises(client.exceptions.ValidationException, match="anthropic_version"):
        getattr(client, operation)(modelId=f"{kind}/echo", body=json.dumps(NOVA))


@pytest.mark.parametrize("way", WAYS)
def test_anthropics_sdk_for_bedrock_has_its_stream(shapes, way):
    client = anthropic.AnthropicBedrock(
        base_url=f"{shapes.data}/bedrock", aws_access_key="x", aws_secret_key="y", aws_region="us-east-1", max_retries=0
    )
    call = {"model": named(way, "echo")} | {key: CLAUDE[key] for key in ("max_tokens", "messages")}
    with client, client.messages.stream(**call) as stream:
        assert list(stream.text_stream) == ["one", " two", " three"]


@pytest.mark.parametrize("key", ["bedrock", "bearer"])
@pytest.mark.parametrize("model", ["echo", "echo-arn:aws:bedrock:us-east-1::foundation-model/x.y-v1:0"])
def test_either_kind_of_key_opens_a_model_of_whatever_name(shapes, amazon, key, model):
    call = {"model": f"{key}/{model}", "messages": ask("naïve ☃ words")}
    with connect(shapes) as client:
        answer = client.chat.completions.create(**call)
    assert answer.choices[0].message.content == "naïve ☃ words"
    path, headers, _ = amazon.last()
    assert (amazon.model(), path.count("/")) == (model, 3)
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256" if key == "bedrock" else "Bearer ")


def test_a_gateway_key_comes_as_a_bearer_key_and_signatures_open_nothing(certificate, simulated, tmp_path, monkeypatch):
    """boto3 sends a bearer key by https alone."""
    server = {"keys": ["gw-key-1"], "tls": {"cert_file": str(certificate[0]), "key_file": str(certificate[1])}}
    config = {"server": server, "providers": {"bedrock": provider(simulated.url, kind="openai", keys=[])}}
    with Gateway(tmp_path, config) as gateway:
        with pytest.raises(ClientError) as caught:
            connect_boto3(gateway, verify=str(certificate[0])).converse(modelId="echo", messages=said("x"))
        assert type(caught.value).__name__ == "AccessDeniedException"
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "gw-key-1")
        url, trust = f"{gateway.data}/bedrock", str(certificate[0])
        client = boto3.client("bedrock-runtime", region_name="us-west-2", endpoint_url=url, verify=trust)
        assert content(client.converse(modelId="echo", messages=said("in"))) == [{"text": "in"}]


def test_after_all_of_it_nothing_is_left_under_way(shapes):
    requests = shapes.wait_for(lambda stats: stats["requests"]["in_flight"] == 0)["requests"]
    ended = requests["succeeded_total"] + requests["failed_total"] + requests["cancelled_total"]
    assert requests["received_total"] == ended > 0
