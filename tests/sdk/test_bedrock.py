"""boto3 as a client of Bedrock's routes, before providers of each shape; and Bedrock as a provider, whose stand-in has botocore
check what is signed and what is sent."""

import base64
import json
import time

import anthropic
import boto3
import openai
import pytest
from bedrock import ACCESS_KEY, ARGUMENTS, BEARER, REGION, SECRET_KEY, STATUSES, TOKEN, Bedrock
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError, ReadTimeoutError
from conftest import ask, connect, connect_anthropic
from gateway import Gateway, provider

WAYS = ["bedrock", "sim", "openai", "anthropic"]
"""A provider that speaks Bedrock's shape, the simulated one, and that one spoken to in OpenAI's and in Anthropic's."""

PIXEL = b"\x89PNG\r\n\x1a\n-a-picture"

WEATHER = {
    "toolSpec": {
        "name": "weather",
        "inputSchema": {"json": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}},
    }
}


@pytest.fixture(scope="session")
def upstream_bedrock():
    with Bedrock() as upstream:
        yield upstream
    assert not upstream.wrong


@pytest.fixture(scope="session")
def bedrock(upstream_bedrock, simulated, tmp_path_factory):
    """A gateway whose provider `bedrock` signs, and whose provider `bearer` sends a key."""
    signing = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "session_token": TOKEN, "region": REGION}
    own = provider(upstream_bedrock.url, kind="bedrock", keys=[{"name": "a", "value": "", "bedrock_key_config": signing}])
    bearer = provider(upstream_bedrock.url, kind="bedrock", keys=[{"name": "b", "value": BEARER}])
    impatient = json.loads(json.dumps(own))
    impatient["network_config"]["default_request_timeout_in_seconds"] = "300ms"
    providers = {"bedrock": own, "bearer": bearer, "impatient": impatient, "sim": {}}
    for kind in ("openai", "anthropic"):
        providers[kind] = provider(simulated.url, kind=kind, keys=[])
    with Gateway(tmp_path_factory.mktemp("bedrock"), {"providers": providers}) as gateway:
        yield gateway
        for secret in (SECRET_KEY, TOKEN, BEARER, ACCESS_KEY):
            assert secret not in gateway.text()


def connect_boto3(gateway, timeout=20.0, **options):
    """boto3 as a user sets it up, except that it never tries again."""
    return boto3.client(
        "bedrock-runtime", region_name="us-west-2", endpoint_url=f"{gateway.data}/bedrock",
        aws_access_key_id="client-id", aws_secret_access_key="client-secret",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=timeout), **options,
    )  # fmt: skip


@pytest.fixture
def client(bedrock):
    return connect_boto3(bedrock)


def named(way, model):
    """A bare model means the provider `bedrock`."""
    return model if way == "bedrock" else f"{way}/{model}"


def said(*content):
    return [{"role": "user", "content": [{"text": part} if isinstance(part, str) else part for part in content]}]


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
@pytest.mark.parametrize("streamed", [False, True])
def test_a_round_of_tools(client, way, streamed):
    question = said("The weather?")
    call = {"modelId": named(way, "tool"), "messages": question, "toolConfig": {"tools": [WEATHER]}}
    if streamed:
        events = list(client.converse_stream(**call)["stream"])
        (start,) = [event["contentBlockStart"]["start"]["toolUse"] for event in events if "contentBlockStart" in event]
        pieces = [event["contentBlockDelta"]["delta"]["toolUse"]["input"] for event in events if "contentBlockDelta" in event]
        assert len([piece for piece in pieces if piece]) > 1, "the arguments come in pieces"
        use = start | {"input": json.loads("".join(pieces))}
        (reason,) = [event["messageStop"]["stopReason"] for event in events if "messageStop" in event]
    else:
        answer = client.converse(**call)
        (block,) = answer["output"]["message"]["content"]
        use, reason = block["toolUse"], answer["stopReason"]
    assert (use["name"], set(use["input"]), reason) == ("weather", set(ARGUMENTS), "tool_use")
    result = {"toolResult": {"toolUseId": use["toolUseId"], "content": [{"text": "It rains."}]}}
    turns = [*question, {"role": "assistant", "content": [{"toolUse": use}]}, {"role": "user", "content": [result]}]
    answer = client.converse(modelId=named(way, "tool"), messages=turns, toolConfig={"tools": [WEATHER]})
    assert answer["output"]["message"]["content"] == [{"text": "It rains."}]


@pytest.mark.parametrize("way", WAYS)
def test_an_image(client, upstream_bedrock, way):
    image = {"image": {"format": "png", "source": {"bytes": PIXEL}}}
    answer = client.converse(modelId=named(way, "echo"), messages=said("What is it?", image))
    assert answer["output"]["message"]["content"][0]["text"] == "What is it?"
    if way == "bedrock":
        path, _, body = upstream_bedrock.last()
        assert path == "/model/echo/converse"
        assert json.loads(body)["messages"][0]["content"][1]["image"]["format"] == "png"


@pytest.mark.parametrize("name", STATUSES)
@pytest.mark.parametrize("operation", ["converse", "converse_stream", "invoke_model"])
def test_bedrocks_own_errors_are_the_exceptions_that_they_are(client, operation, name):
    fields = {"body": "{}"} if operation == "invoke_model" else {"messages": said("x")}
    with pytest.raises(ClientError) as caught:
        getattr(client, operation)(modelId=f"fail-{name}", **fields)
    assert type(caught.value).__name__ == name, caught.value
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == STATUSES[name]


@pytest.mark.parametrize(
    "way, model, name, status",
    [
        ("openai", "fail-429", "ThrottlingException", 429),
        ("anthropic", "fail-529", "ServiceUnavailableException", 529),
        ("openai", "fail-400", "ValidationException", 400),
        ("sim", "fail-500", "InternalServerException", 500),
        ("sim", "nonsense", "ResourceNotFoundException", 404),
    ],
)
@pytest.mark.parametrize("operation", ["converse", "converse_stream"])
def test_errors_of_others_are_told_by_the_exceptions_that_boto3_has(client, operation, way, model, name, status):
    with pytest.raises(ClientError) as caught:
        getattr(client, operation)(modelId=f"{way}/{model}", messages=said("x"))
    response = caught.value.response
    assert (type(caught.value).__name__, response["ResponseMetadata"]["HTTPStatusCode"]) == (name, status)
    assert response["Error"]["Message"]


def test_what_cannot_be_said_is_refused_by_name(client):
    guarded = {"guardrailConfig": {"guardrailIdentifier": "abcdefghij", "guardrailVersion": "1"}}
    with pytest.raises(ClientError) as caught:
        client.converse(modelId="openai/echo", messages=said("x"), **guarded)
    assert type(caught.value).__name__ == "ValidationException" and "guardrailConfig" in str(caught.value)
    with pytest.raises(ClientError) as caught:
        client.invoke_model(modelId="openai/echo", body='{"inputText":"x"}')
    assert "anthropic_version" in str(caught.value)


@pytest.mark.parametrize("way", ["bedrock", "openai"])
def test_a_cut_stream_raises_after_what_had_come(client, way):
    words = "one two three"
    stream = client.converse_stream(modelId=named(way, "cut-2"), messages=said(words))["stream"]
    pieces = []
    with pytest.raises(EventStreamError) as caught:
        for event in stream:
            pieces += [event["contentBlockDelta"]["delta"]["text"]] if "contentBlockDelta" in event else []
    assert len(pieces) == 2
    assert caught.value.response["Error"]["Code"] == "modelStreamErrorException"


def test_an_exception_in_a_stream_keeps_its_words(client):
    with pytest.raises(EventStreamError, match="it broke"):
        list(client.converse_stream(modelId="break-2", messages=said("x"))["stream"])


def test_time_outs_of_either_side(bedrock, client):
    with pytest.raises(client.exceptions.ModelTimeoutException) as caught:
        client.converse(modelId="impatient/hang", messages=said("x"))
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 504
    with pytest.raises(ReadTimeoutError):
        connect_boto3(bedrock, 0.3).converse(modelId="hang", messages=said("x"))


@pytest.mark.parametrize("way", ["bedrock", "sim"])
def test_a_caller_that_leaves_ends_it_upstream(bedrock, client, upstream_bedrock, way):
    before = bedrock.wait_for(lambda _: True)["requests"]["cancelled_total"]
    left = upstream_bedrock.left
    model = "long" if way == "bedrock" else "sim/lorem-500+gap-50ms"
    stream = client.converse_stream(modelId=model, messages=said("x"))["stream"]
    next(iter(stream))
    stream.close()
    bedrock.wait_for(lambda stats: stats["requests"]["cancelled_total"] > before)
    deadline = time.monotonic() + 10
    while way == "bedrock" and upstream_bedrock.left == left:
        assert time.monotonic() < deadline, "the provider was never left"
        time.sleep(0.02)


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


def test_anthropics_sdk_for_bedrock_has_its_stream(bedrock):
    client = anthropic.AnthropicBedrock(
        base_url=f"{bedrock.data}/bedrock", aws_access_key="x", aws_secret_key="y", aws_region="us-east-1", max_retries=0
    )
    with client.messages.stream(model="sim/echo", **{key: CLAUDE[key] for key in ("max_tokens", "messages")}) as stream:
        assert "".join(stream.text_stream) == "one two three"


@pytest.mark.parametrize("key", ["bedrock", "bearer"])
@pytest.mark.parametrize("model", ["echo", "echo-arn:aws:bedrock:us-east-1::foundation-model/x.y-v1:0"])
def test_openais_sdk_reaches_bedrock(bedrock, upstream_bedrock, key, model):
    with connect(bedrock) as client:
        call = {"model": f"{key}/{model}", "messages": ask("naïve ☃ words")}
        answer = client.chat.completions.create(**call)
        assert (answer.choices[0].message.content, answer.usage.total_tokens) == ("naïve ☃ words", 8)
        chunks = list(client.chat.completions.create(stream=True, **call))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "naïve ☃ words"
    path, headers, _ = upstream_bedrock.last()
    assert path.endswith("/converse-stream") and path.count("/") == 3
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256" if key == "bedrock" else "Bearer ")


@pytest.mark.parametrize("streamed", [False, True])
def test_openais_sdk_has_a_round_of_tools_with_bedrock(bedrock, streamed):
    parameters = WEATHER["toolSpec"]["inputSchema"]["json"]
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    call = {"model": "bedrock/tool", "messages": ask("The weather?"), "tools": [tool]}
    with connect(bedrock) as client:
        if streamed:
            with client.chat.completions.stream(**call) as stream:
                answer = stream.until_done().get_final_completion()
        else:
            answer = client.chat.completions.create(**call)
        (use,) = answer.choices[0].message.tool_calls
        assert json.loads(use.function.arguments) == ARGUMENTS and answer.choices[0].finish_reason == "tool_calls"
        function = {"name": "weather", "arguments": use.function.arguments}
        said = {"role": "assistant", "tool_calls": [{"id": use.id, "type": "function", "function": function}]}
        result = {"role": "tool", "tool_call_id": use.id, "content": "It rains."}
        answer = client.chat.completions.create(model="bedrock/tool", messages=[*ask("The weather?"), said, result], tools=[tool])
        assert answer.choices[0].message.content == "It rains."


@pytest.mark.parametrize(
    "name, kind",
    [("ThrottlingException", openai.RateLimitError), ("ValidationException", openai.BadRequestError),
     ("ServiceUnavailableException", openai.InternalServerError), ("ResourceNotFoundException", openai.NotFoundError)],
)  # fmt: skip
def test_openais_sdk_raises_what_bedrocks_errors_mean(bedrock, name, kind):
    with connect(bedrock) as client, pytest.raises(kind, match=f"asked to fail with {name}"):
        client.chat.completions.create(model=f"bearer/fail-{name}", messages=ask())


def test_a_picture_reaches_bedrock_from_either_sdk(bedrock, upstream_bedrock):
    data = base64.b64encode(PIXEL).decode()
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    source = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    question = {"type": "text", "text": "What is it?"}
    with connect(bedrock) as openai_client, connect_anthropic(bedrock) as anthropic_client:
        for create, picture in [(openai_client.chat.completions.create, url), (anthropic_client.messages.create, source)]:
            create(model="bedrock/echo", max_tokens=50, messages=ask([question, picture]))
            sent = json.loads(upstream_bedrock.last()[2])["messages"][0]["content"]
            assert sent == [{"text": "What is it?"}, {"image": {"format": "png", "source": {"bytes": data}}}]


def test_time_outs_and_leavers_of_the_other_sdks(bedrock, upstream_bedrock):
    with connect(bedrock) as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="impatient/hang", messages=ask())
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")
    with connect(bedrock, timeout=0.3) as hasty, pytest.raises(openai.APITimeoutError):
        hasty.chat.completions.create(model="bedrock/hang", messages=ask())
    left = upstream_bedrock.left
    with connect(bedrock) as client, client.chat.completions.create(model="bedrock/long", messages=ask(), stream=True) as stream:
        next(iter(stream))
    with connect_anthropic(bedrock) as client:
        with client.messages.create(model="bedrock/long", max_tokens=50, messages=ask(), stream=True) as stream:
            next(iter(stream))
    deadline = time.monotonic() + 10
    while upstream_bedrock.left < left + 2:
        assert time.monotonic() < deadline, "the provider was never left"
        time.sleep(0.02)


def test_openais_sdk_hears_of_a_cut_stream(bedrock):
    with connect(bedrock) as client, pytest.raises(openai.APIError) as caught:
        list(client.chat.completions.create(model="bedrock/cut-2", messages=ask(), stream=True))
    assert caught.value.code == "stream_cut"


def test_anthropics_sdk_reaches_bedrock(bedrock):
    with connect_anthropic(bedrock) as client:
        said = {"max_tokens": 50, "messages": ask("one two three")}
        answer = client.messages.create(model="bedrock/echo", **said)
        assert (answer.content[0].text, answer.stop_reason, answer.usage.output_tokens) == ("one two three", "end_turn", 3)
        with client.messages.stream(model="bedrock/echo", **said) as stream:
            assert list(stream.text_stream) == ["one", " two", " three"]
        with pytest.raises(anthropic.RateLimitError):
            client.messages.create(model="bedrock/fail-ThrottlingException", **said)


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
        answer = client.converse(modelId="echo", messages=said("in"))
        assert answer["output"]["message"]["content"] == [{"text": "in"}]
