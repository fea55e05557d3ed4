"""A stand-in for Bedrock's runtime: botocore judges how requests are signed and what they say, and the model's name says how it
answers."""

import base64
import datetime
import json
import time
from unittest.mock import patch
from urllib.parse import unquote

import aws
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.parsers import create_parser
from botocore.validate import ParamValidator
from upstream import FUSE, Quiet, Recording

REGION, ACCESS_KEY, SECRET_KEY, TOKEN = "eu-central-1", "AKIDUPSTREAM", "up/stream+secret", "up-stream-token=="
BEARER = "bedrock-api-key-upstream"
STATUSES = {name: aws.client().meta.service_model.shape_for(name).metadata["error"]["httpStatusCode"] for name in (
    "AccessDeniedException", "InternalServerException", "ModelErrorException", "ModelNotReadyException", "ModelTimeoutException",
    "ResourceNotFoundException", "ServiceUnavailableException", "ThrottlingException", "ValidationException",
)}  # fmt: skip
USAGE = {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8}
ARGUMENTS = {"city": "Łódź", "days": 2}


class Bedrock(Recording):
    """Keeps the requests that it lets in."""

    def __init__(self):
        super().__init__(Handler)
        self.wrong = []
        """What was wrong with the others."""
        self.left = 0
        """Streams that their reader has left."""


def signature(handler, body):
    """What botocore would have signed the request with, by the headers that it says are signed."""
    authorization = handler.headers["Authorization"]
    signed = authorization.split("SignedHeaders=")[1].split(",")[0].split(";")
    moment = datetime.datetime.strptime(handler.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    assert abs((datetime.datetime.now(datetime.timezone.utc) - moment).total_seconds()) < 60, "it is not signed now"
    own = {"host", "x-amz-date", "x-amz-security-token"}
    assert own <= set(signed), f"{own - set(signed)} is not signed"
    headers = {name: handler.headers[name] for name in signed if name not in own}
    request = AWSRequest("POST", f"http://{handler.headers['Host']}{handler.path}", headers=headers, data=body)
    with patch("botocore.auth.get_current_datetime", lambda: moment):
        botocore.auth.SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY, TOKEN), "bedrock", REGION).add_auth(request)
    return request.headers["Authorization"]


def problems(body):
    """What botocore finds wrong with the body of a Converse request."""
    shape = aws.client().meta.service_model.operation_model("Converse").input_shape
    fields = create_parser("rest-json")._parse_shape(shape, body) | {"modelId": "x"}
    report = ParamValidator().validate(fields, shape)
    unknown = set(body) - set(shape.members)
    return report.generate_report() or (f"unknown fields {unknown}" if unknown else "")


class Handler(Quiet):
    def do_POST(self):
        body = self.body()
        authorization = self.headers.get("Authorization", "")
        try:
            if not authorization.startswith("Bearer "):
                assert authorization == signature(self, body), "the signature is not botocore's"
            else:
                assert authorization == f"Bearer {BEARER}", "the bearer key is not the one that there is"
        except AssertionError as error:
            self.server.wrong.append(str(error))
            return self.error("InvalidSignatureException", str(error), 403)
        _, _, model, action = self.path.split("/")
        request = json.loads(body)
        if action.startswith("converse") and (wrong := problems(request)):
            self.server.wrong.append(wrong)
            return self.error("ValidationException", wrong)
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers.items()), body))
        word, _, rest = unquote(model).partition("-")
        getattr(self, f"model_{word}")(rest, Answer(self, action, request))

    def error(self, name, message, status=None):
        body = json.dumps({"message": message}).encode()
        self.whole(status or STATUSES[name], body, [("x-amzn-ErrorType", f"{name}:http://internal.amazon.com/coral/")])

    def whole(self, status, body, headers=()):
        self.send_response(status)
        for name, value in [("content-type", "application/json"), ("content-length", str(len(body))), *headers]:
            self.send_header(name, value)
        self.send_header("x-amzn-RequestId", "up-1")
        self.end_headers()
        self.wfile.write(body)

    def model_echo(self, _, answer):
        """Says what was said last."""
        answer.say(answer.last().split(" "))

    def model_tool(self, _, answer):
        """Calls the first tool; a tool's result is said."""
        result = answer.result()
        answer.say(result.split(" ")) if result else answer.call("tool_1", answer.tool())

    def model_fail(self, rest, _):
        """Fails by this name."""
        self.error(rest, f"asked to fail with {rest}")

    def model_hang(self, *_):
        self.server.end.wait(FUSE)
        self.close_connection = True

    def model_cut(self, rest, answer):
        """A stream whose connection dies after so many words."""
        answer.say([f"{number} " for number in range(int(rest))], end=False)
        self.close_connection = True

    def model_break(self, rest, answer):
        """A stream that ends by an exception after so many words."""
        answer.say([f"{number} " for number in range(int(rest))], end=False)
        answer.send(aws.event("modelStreamErrorException", b'{"message":"it broke"}', "exception"))
        self.wfile.write(b"0\r\n\r\n")

    def model_long(self, _, answer):
        """A stream that goes on until its reader leaves."""
        try:
            for number in range(2000):
                answer.say([f"{number} "], begin=number == 0, end=False)
                time.sleep(0.01)
        except OSError:
            with self.server.lock:
                self.server.left += 1
        self.close_connection = True


class Answer:
    """An answer in the shape that was asked for: Converse's, or Claude's by InvokeModel; whole, or in frames."""

    def __init__(self, handler, action, request):
        self.handler, self.request = handler, request
        self.invoke, self.stream = action.startswith("invoke"), action.endswith("stream")

    def blocks(self):
        content = self.request["messages"][-1]["content"]
        return [{"text": content}] if isinstance(content, str) else content

    def last(self):
        return " ".join(block["text"] for block in self.blocks() if "text" in block)

    def result(self):
        results = [block["toolResult"] for block in self.blocks() if "toolResult" in block]
        return results[0]["content"][0]["text"] if results else ""

    def tool(self):
        return self.request["toolConfig"]["tools"][0]["toolSpec"]["name"]

    def say(self, words, begin=True, end=True):
        pieces = [word if number == 0 else f" {word}" for number, word in enumerate(words)]
        if self.stream:
            deltas = [{"text": piece} for piece in pieces]
            return self.frames(begin, None, deltas, "end_turn" if end else None)
        if self.invoke:
            usage = {"input_tokens": 5, "output_tokens": 3}
            content = [{"type": "text", "text": "".join(pieces)}]
            message = {"id": "msg_bdrk_1", "type": "message", "role": "assistant", "model": "claude", "content": content}
            return self.json(message | {"stop_reason": "end_turn", "stop_sequence": None, "usage": usage})
        self.message([{"text": "".join(pieces)}], "end_turn")

    def call(self, id, name):
        if not self.stream:
            return self.message([{"toolUse": {"toolUseId": id, "name": name, "input": ARGUMENTS}}], "tool_use")
        text = json.dumps(ARGUMENTS)
        deltas = [{"toolUse": {"input": text[at : at + 7]}} for at in range(0, len(text), 7)]
        self.frames(True, {"toolUse": {"toolUseId": id, "name": name}}, deltas, "tool_use")

    def message(self, content, reason):
        message = {"role": "assistant", "content": content}
        self.json({"output": {"message": message}, "stopReason": reason, "usage": USAGE, "metrics": {"latencyMs": 7}})

    def json(self, body):
        self.handler.whole(200, json.dumps(body).encode())

    def frames(self, begin, start, deltas, reason):
        if begin:
            self.handler.send_response(200)
            self.handler.send_header("content-type", "application/vnd.amazon.eventstream")
            self.handler.send_header("x-amzn-RequestId", "up-1")
            self.handler.send_header("transfer-encoding", "chunked")
            self.handler.end_headers()
            self.event("messageStart", {"role": "assistant"}) if not self.invoke else self.chunk(
                {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 5, "output_tokens": 1}}}
            )
        if start:
            self.event("contentBlockStart", {"contentBlockIndex": 0, "start": start})
        for delta in deltas:
            if self.invoke:
                self.chunk({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", **delta}})
            else:
                self.event("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta, "p": "abcdef"})
        if reason is None:
            return
        if self.invoke:
            self.chunk({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 3}})
            self.chunk({"type": "message_stop"})
        else:
            self.event("contentBlockStop", {"contentBlockIndex": 0})
            self.event("messageStop", {"stopReason": reason})
            self.event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 7}})
        self.handler.wfile.write(b"0\r\n\r\n")

    def chunk(self, event):
        self.event("chunk", {"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abc"})

    def event(self, name, payload):
        self.send(aws.event(name, json.dumps(payload).encode()))

    def send(self, data):
        self.handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
