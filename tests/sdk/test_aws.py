"""botocore as the judge of what we sign, frame and write for Bedrock: the files of `tests/golden`, which the Rust tests keep to."""

import base64
import json

import aws
import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError, EventStreamError
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator


def golden(name):
    return (aws.GOLDEN / name).read_text(encoding="utf-8")


def lines(name):
    return [json.loads(line) for line in golden(f"bedrock/{name}").splitlines()]


@pytest.mark.parametrize("name", aws.FILES)
def test_what_the_rust_tests_keep_to_is_what_botocore_makes(name):
    assert golden(name) == aws.written(aws.FILES[name]())


def test_botocore_reads_the_frames_that_we_read_and_write():
    wanted = json.loads(golden("eventstream/frames.json"))
    buffer = EventStreamBuffer()
    for byte in b"".join(base64.b64decode(each["frame"]) for each in wanted):
        buffer.add_data(bytes([byte]))
    read = list(buffer)
    assert len(read) == len(wanted)
    for message, each in zip(read, wanted):
        assert message.payload == base64.b64decode(each["payload"]), each["name"]
        names = [message.headers.get(f":{kind}") for kind in ("event-type", "exception-type", "error-code")]
        assert "".join(name or "" for name in names) == each["event"], each["name"]
        assert message.headers.get(":content-type", "") == each["content_type"], each["name"]
        assert message.headers.get(":error-message", "") == each["message"], each["name"]


def test_the_request_that_we_write_is_one_that_boto3_would_send():
    operation = aws.client().meta.service_model.operation_model("Converse")
    body = json.loads(golden("bedrock/request.json"))
    fields = create_parser("rest-json")._parse_shape(operation.input_shape, body) | {"modelId": "x"}
    assert not ParamValidator().validate(fields, operation.input_shape).has_errors()
    again = create_serializer("rest-json").serialize_to_request(fields, operation)["body"]
    assert json.loads(again) == body


def test_boto3_reads_an_answer_as_we_write_it():
    body = {key: json.loads(golden("bedrock/reply-tools.json"))[key] for key in ("output", "stopReason", "usage", "metrics")}
    answer = aws.answered(json.dumps(body).encode())
    thought, hidden, text, call, empty = answer["output"]["message"]["content"]
    assert thought["reasoningContent"]["reasoningText"]["signature"] == "EqQBCkYIARgC"
    assert hidden["reasoningContent"]["redactedContent"] == b"EmcKAhgB"
    assert (text["text"], call["toolUse"]["input"]) == ("To find it, I will look.", {"sign": "WZPZ"})
    assert (empty["toolUse"]["input"], answer["stopReason"]) == ({}, "tool_use")
    assert (answer["usage"]["totalTokens"], answer["usage"]["cacheReadInputTokens"]) == (8264, 7819)


def test_boto3_reads_a_stream_as_we_write_it():
    body = b"".join(aws.event(each["event"], json.dumps(each["payload"]).encode()) for each in lines("stream-tools.jsonl"))
    events = list(aws.answered(body, "converse_stream")["stream"])
    for event, each in zip(events, lines("stream-tools.jsonl"), strict=True):
        (name, payload), = event.items()
        if "redactedContent" in payload.get("delta", {}).get("reasoningContent", {}):
            payload["delta"]["reasoningContent"]["redactedContent"] = "RW1jS0FoZ0I="
        assert (name, payload) == (each["event"], each["payload"])


def test_boto3_reads_a_models_own_stream_as_the_rust_tests_wrap_it():
    events = lines("invoke-claude.jsonl")
    wrapped = [{"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abc"} for event in events]
    body = b"".join(aws.event("chunk", json.dumps(each).encode()) for each in wrapped)
    read = aws.answered(body, "invoke_model_with_response_stream")["body"]
    assert [json.loads(each["chunk"]["bytes"]) for each in read] == events


@pytest.mark.parametrize("error", json.loads(golden("bedrock/errors.json")), ids=lambda error: error["code"])
def test_boto3_raises_the_exception_that_is_named(error):
    body = json.dumps(error["body"]).encode()
    for operation in ("converse", "converse_stream", "invoke_model"):
        with pytest.raises(ClientError) as raised:
            aws.answered(body, operation, error["status"], {"x-amzn-errortype": error["name"]})
        assert type(raised.value).__name__ == error["name"]
        assert raised.value.response["Error"]["Message"] == error["body"]["message"]
    with pytest.raises(EventStreamError) as raised:
        list(aws.answered(aws.event(error["event"], body, "exception"), "converse_stream")["stream"])
    told = raised.value.response["Error"]
    assert (told["Code"], told["Message"]) == (error["event"], error["body"]["message"])
