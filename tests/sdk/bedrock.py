"""A stand-in for Bedrock's runtime: botocore judges how requests are signed and what they say, and the model's name says how it
answers, in the words of the simulated provider or by a play."""

import base64
import datetime
import json
import socket
from collections import Counter
from itertools import islice
from unittest.mock import patch
from urllib.parse import unquote

import aws
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.parsers import create_parser
from botocore.validate import ParamValidator
from scripted import PLAYS, Call, Play, Text, anthropic_says, anthropic_whole, bedrock_says, bedrock_whole, pieces
from upstream import FUSE, Quiet, Recording

REGION, ACCESS_KEY, SECRET_KEY, TOKEN = "eu-central-1", "AKIDUPSTREAM", "up/stream+secret", "up-stream-token=="
BEARER = "bedrock-api-key-upstream"
MODEL = aws.client().meta.service_model
"""What botocore knows of Bedrock's runtime."""
STATUSES = {name: MODEL.shape_for(name).metadata["error"]["httpStatusCode"] for name in (
    "AccessDeniedException", "InternalServerException", "ModelErrorException", "ModelNotReadyException", "ModelTimeoutException",
    "ResourceNotFoundException", "ServiceUnavailableException", "ThrottlingException", "ValidationException",
)}  # fmt: skip
NAMES = {str(status): name for name, status in STATUSES.items() if name != "ModelNotReadyException"}
"""The name that each status has; a 429 is a throttled caller's."""


class Bedrock(Recording):
    """Keeps the requests that it lets in."""

    def __init__(self):
        super().__init__(Handler)
        self.wrong = []
        """What was wrong with the others."""
        self.leavers = Counter()

    def model(self):
        """The model that was asked for last."""
        return unquote(self.last()[0].split("/")[2])

    def left(self, model):
        """How many answers of this model's their readers have left."""
        with self.lock:
            return self.leavers[model]


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
    shape = MODEL.operation_model("Converse").input_shape
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
        _, _, model, self.action = self.path.split("/")
        self.model, self.request_body = unquote(model), json.loads(body)
        if self.action.startswith("converse") and (wrong := problems(self.request_body)):
            self.server.wrong.append(wrong)
            return self.error("ValidationException", wrong)
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers.items()), body))
        word, _, rest = self.model.partition("-")
        answer = getattr(self, f"model_{word}", None)
        if answer is None:
            return self.error("ResourceNotFoundException", f"there is no model {self.model}")
        answer(rest)

    def error(self, name, message, status=None, headers=()):
        named = ("x-amzn-ErrorType", f"{name}:http://internal.amazon.com/coral/")
        self.whole({"message": message}, status or STATUSES[name], [named, *headers])

    def whole(self, said, status=200, headers=()):
        body = json.dumps(said).encode()
        self.send_response(status)
        for name, value in [("content-type", "application/json"), ("content-length", str(len(body))), *headers]:
            self.send_header(name, value)
        self.send_header("x-amzn-RequestId", "up-1")
        self.end_headers()
        self.wfile.write(body)

    def model_echo(self, _):
        """Says what was said last."""
        self.say(self.last().split(" "))

    def model_tool(self, _):
        """Calls the first tool; a tool's result is said."""
        results = [block["toolResult"] for block in self.blocks() if "toolResult" in block]
        if results:
            return self.say(results[0]["content"][0]["text"].split(" "))
        name = self.request_body["toolConfig"]["tools"][0]["toolSpec"]["name"]
        self.tell(Play([Call("tooluse_1", name, {"city": "sim", "days": 1})], "tools"))

    def model_play(self, name):
        """What is known by heart under this name."""
        self.tell(PLAYS[name])

    def model_fail(self, rest):
        """Fails by this name, or by that of a status."""
        asked = rest.partition("+")[0]
        self.error(NAMES.get(asked, asked), f"asked to fail with {asked}")

    def model_status(self, rest):
        """The same, and says when to come again."""
        self.error(NAMES[rest.partition("+")[0]], "refused", headers=[("retry-after", "7")])

    def model_hang(self, _):
        self.until_left()

    def model_error(self, _):
        """A stream that begins well, and at once has an exception."""
        self.begin()
        self.frame("internalServerException", {"message": "it failed inside a 200"})
        self.wfile.write(b"0\r\n\r\n")

    def model_cut(self, rest):
        """A stream whose connection dies after so many words."""
        self.first(int(rest))
        self.close_connection = True

    def model_lorem(self, _):
        """A stream that goes on until its reader leaves."""
        self.first(1)
        self.until_left()

    def until_left(self):
        """Waits for the end of the connection."""
        self.connection.settimeout(FUSE)
        try:
            gone = self.connection.recv(1, socket.MSG_PEEK) == b""
        except OSError as error:
            gone = not isinstance(error, TimeoutError)
        with self.server.lock:
            self.server.leavers[self.model] += gone
        self.close_connection = True

    def blocks(self):
        """What was said last, in Converse's blocks, which Claude's of text resemble."""
        content = self.request_body["messages"][-1]["content"]
        return [{"text": content}] if isinstance(content, str) else content

    def last(self):
        return " ".join(block["text"] for block in self.blocks() if "text" in block)

    def say(self, words):
        """Says this, a word in each event of a stream; words are its tokens."""
        heard = [*self.request_body.get("system", []), *self.blocks()]
        usage = {"input": sum(len(block["text"].split()) for block in heard if "text" in block), "output": len(words)}
        self.tell(Play([Text(" ".join(words))], usage=usage), by_word)

    def tell(self, play, split=pieces):
        """A play in the shape that was asked for: Converse's, or Claude's by InvokeModel; whole, or in frames."""
        whole = anthropic_whole if self.action.startswith("invoke") else bedrock_whole
        if not self.action.endswith("stream"):
            return self.whole(whole(play))
        self.begin()
        for name, said in self.events(play, split):
            self.frame(name, said)
        self.wfile.write(b"0\r\n\r\n")

    def first(self, number):
        """The beginning of a stream by Converse, and so many words of what was said last."""
        self.begin()
        for name, said in islice(bedrock_says(Play([Text(self.last())]), by_word), 1 + number):
            self.frame(name, said)

    def events(self, play, split):
        if self.action.startswith("converse"):
            return bedrock_says(play, split)
        wrapped = (base64.b64encode(json.dumps(event).encode()).decode() for event in anthropic_says(play, split))
        return (("chunk", {"bytes": event, "p": "abc"}) for event in wrapped)

    def begin(self):
        self.send_response(200)
        self.send_header("content-type", "application/vnd.amazon.eventstream")
        self.send_header("x-amzn-RequestId", "up-1")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def frame(self, name, payload):
        data = aws.event(name, json.dumps(payload).encode(), "exception" if name.endswith("Exception") else "event")
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def by_word(text):
    """A text in its words, each but the first with the space before it."""
    first, *others = text.split(" ")
    return [first, *(f" {word}" for word in others)]
