"""What botocore makes of requests and frames, written down for the Rust tests: `python tests/sdk/aws.py` writes the files.

`test_aws.py` holds the files to it, so that both sides are judged by the same botocore.
"""

import base64
import datetime
import io
import json
import struct
from binascii import crc32
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlsplit

import boto3
import botocore.auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.credentials import Credentials

GOLDEN = Path(__file__).parent.parent / "golden"
ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = 1_790_000_000

MODELS = {
    "a model": "anthropic.claude-3-5-sonnet-20241022-v2:0",
    "an inference profile": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "a model's ARN": "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0",
    "a profile's ARN": "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a1b2c3d4e5f6",
    "a provisioned model's ARN": "arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:provisioned-model/abcdefghijkl",
    "a prompt's ARN": "arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ:1",
    "spaces and letters": "odd name/naïve~%2F+?#&=\u2028",
}


def sign(name, *, method="POST", target="/", headers=(), body="", token=None, region="us-east-1", service="bedrock",
         time=NOW, host="bedrock-runtime.us-east-1.amazonaws.com"):
    """A request, and the headers that botocore's signer gives it."""
    request = AWSRequest(method=method, url=f"https://{host}{target}", headers=dict(headers), data=body.encode())
    moment = datetime.datetime.fromtimestamp(time, datetime.timezone.utc)
    with patch("botocore.auth.get_current_datetime", lambda: moment):
        botocore.auth.SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY, token), service, region).add_auth(request)
    assert request.headers.get("X-Amz-Security-Token") == token
    return {
        "name": name, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "token": token, "region": region,
        "service": service, "time": time, "method": method, "host": host, "target": target,
        "headers": [[key, value] for key, value in headers], "body": body,
        "date": request.headers["X-Amz-Date"], "authorization": request.headers["Authorization"],
    }  # fmt: skip


def client():
    """boto3's client for Bedrock, which never tries again."""
    return boto3.client(
        "bedrock-runtime", region_name="us-east-1", aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


def sent(model, operation="converse", **fields):
    """What boto3 sends for a call, caught before it leaves."""
    bedrock, caught = client(), []

    class Caught(Exception):
        pass

    def catch(request, **_):
        caught.append(request)
        raise Caught

    bedrock.meta.events.register("before-send.bedrock-runtime.*", catch)
    try:
        getattr(bedrock, operation)(modelId=model, **fields)
    except Caught:
        pass
    return caught[0]


class Raw(io.BytesIO):
    """A body as urllib3 gives it."""

    def stream(self, size=7, **_):
        while piece := self.read(size):
            yield piece


def answered(body, operation="converse", status=200, headers=None):
    """What boto3 makes of an answer to a call."""
    bedrock = client()
    kind = "application/vnd.amazon.eventstream" if operation.endswith("stream") and status == 200 else "application/json"
    headers = {"content-type": kind, **(headers or {})}

    def answer(request, **_):
        return AWSResponse(request.url, status, headers, Raw(body))

    bedrock.meta.events.register("before-send.bedrock-runtime.*", answer)
    fields = {"body": "{}"} if operation.startswith("invoke") else {"messages": []}
    return getattr(bedrock, operation)(modelId="x", **fields)


def vectors():
    json_type = (("content-type", "application/json"),)
    converse = '{"messages":[{"role":"user","content":[{"text":"naïve \u2603"}]}]}'
    made = []
    for name, model in MODELS.items():
        target = urlsplit(sent(model, messages=[]).url).path
        made.append(sign(name, target=target, headers=json_type, body=converse))
    token = "FwoGZXIvYXdzE//////////wEaD+token=="
    claude = "/model/anthropic.claude-3-haiku-20240307-v1%3A0"
    made += [
        sign("an empty body", method="GET", target="/model/x/converse"),
        sign("a session token", target=f"{claude}/converse-stream", body=converse, token=token),
        sign("a token and further headers", target=f"{claude}/invoke", body="{}", token=token,
             headers=(("accept", "application/json"), ("x-amzn-bedrock-trace", "ENABLED"), *json_type)),
        sign("a region elsewhere", target=f"{claude}/invoke", region="eu-central-1",
             host="bedrock-runtime.eu-central-1.amazonaws.com"),
        sign("a port", target=f"{claude}/converse", host="localhost:8443"),
        sign("spaces in a header", target="/", headers=(("x-odd", "  a   b  c "), ("a-first", "1"))),
        sign("what is not encoded", target="/model/arn:aws:bedrock:us-east-1::foundation-model/x:y/converse"),
        sign("letters that are not encoded", target="/model/naïve ☃/converse"),
        sign("dots and slashes", target="/a/./b//../c/"),
        sign("a query", method="GET", target="/list?b=2&a=%20x&b=1&c&a=a"),
        sign("the first second of a leap day", target="/", time=1_709_164_800),
        sign("the last second of a year", target="/", time=1_798_761_599),
        sign("another service", target="/", service="service", host="example.amazonaws.com"),
    ]  # fmt: skip
    return made


def paths():
    """Where boto3 sends each call, by the model's name."""
    calls = {
        "converse": {"messages": []},
        "converse_stream": {"messages": []},
        "invoke_model": {"body": "{}"},
        "invoke_model_with_response_stream": {"body": "{}"},
    }
    found = [(model, call, sent(model, call, **fields)) for model in MODELS.values() for call, fields in calls.items()]
    return [{"model": model, "call": call, "path": urlsplit(request.url).path} for model, call, request in found]


def frame(headers, payload):
    """A frame, by the specification: botocore reads frames and writes none."""
    lines = b"".join(bytes([len(name)]) + name.encode() + value for name, value in headers)
    prelude = struct.pack("!II", len(lines) + len(payload) + 16, len(lines))
    whole = prelude + struct.pack("!I", crc32(prelude)) + lines + payload
    return whole + struct.pack("!I", crc32(whole))


def text(value):
    return b"\x07" + struct.pack("!H", len(value.encode())) + value.encode()


def event(name, payload, kind="event"):
    """A frame as Bedrock writes it."""
    naming = ":exception-type" if kind == "exception" else ":event-type"
    headers = [(naming, text(name)), (":content-type", text("application/json")), (":message-type", text(kind))]
    return frame(headers, payload)


def frames():
    delta = '{"contentBlockIndex":0,"delta":{"text":"naïve ☃"},"p":"abcdefgh"}'.encode()
    others = [
        ("a-bool", b"\x00"), ("no-bool", b"\x01"), ("a-byte", b"\x02\xff"), ("a-short", b"\x03\x01\x02"),
        ("an-int", b"\x04" + bytes(4)), ("a-long", b"\x05" + bytes(8)), ("some-bytes", b"\x06\x00\x03\x00\xff\x00"),
        ("a-time", b"\x08" + bytes(8)), ("a-uuid", b"\x09" + bytes(range(16))),
    ]  # fmt: skip
    error = [(":message-type", text("error")), (":error-code", text("InternalError")), (":error-message", text("sorry ☃"))]
    made = [
        ("a delta", "event", "contentBlockDelta", "", delta, event("contentBlockDelta", delta), True),
        ("an empty payload", "event", "messageStart", "", b"", event("messageStart", b""), True),
        ("any bytes", "event", "chunk", "", bytes(range(256)), event("chunk", bytes(range(256))), True),
        ("an exception", "exception", "throttlingException", "", b'{"message":"slow down"}',
         event("throttlingException", b'{"message":"slow down"}', "exception"), True),
        ("headers of every type", "event", "messageStop", "", b"{}",
         frame([*others, (":event-type", text("messageStop")), (":message-type", text("event"))], b"{}"), False),
        ("an error that is no exception", "error", "InternalError", "sorry ☃", b"", frame(error, b""), False),
        ("no headers", "event", "", "", b"x", frame([], b"x"), False),
    ]  # fmt: skip
    return [
        {
            "name": name, "kind": kind, "event": named, "message": message,
            "content_type": "application/json" if ours else "", "payload": base64.b64encode(payload).decode(),
            "frame": base64.b64encode(whole).decode(), "ours": ours,
        }  # fmt: skip
        for name, kind, named, message, payload, whole, ours in made
    ]


FILES = {"sigv4/vectors.json": vectors, "bedrock/paths.json": paths, "eventstream/frames.json": frames}


def written(made):
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, make in FILES.items():
        (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
        (GOLDEN / name).write_text(written(make()), encoding="utf-8")
