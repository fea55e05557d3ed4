"""A provider for the tests: it records what it is sent, byte for byte, and the model's name says how it answers."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from scripted import PLAYS, SHAPES

FUSE = 20.0
"""Seconds after which anything that waits for a test gives up."""

ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","x_top":{"kept":1.50},'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"Hello there","x_inner":[1e2]},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
)
"""A whole answer, with fields and spellings that no parser would write back like this."""


SOUND = bytes(range(256)) * 1024
"""What is no text, and too long to be held: 256 KiB."""

MODERATION = {"id": "modr-1", "model": "omni-moderation", "results": [{"flagged": True, "categories": {}, "category_scores": {}}]}
FILE = {"id": "file-1", "object": "file", "bytes": 3, "created_at": 1, "filename": "a.bin", "purpose": "batch", "status": "processed"}

OTHERS = {
    ("POST", "/v1/moderations"): ("application/json", json.dumps(MODERATION).encode()),
    ("POST", "/v1/files"): ("application/json", json.dumps(FILE).encode()),
    ("GET", "/v1/files"): ("application/json", json.dumps({"object": "list", "data": [FILE], "has_more": False}).encode()),
    ("GET", "/v1/files/file-1/content"): ("application/octet-stream", SOUND),
    ("DELETE", "/v1/files/file-1"): ("application/json", b'{"id":"file-1","object":"file","deleted":true}'),
    ("POST", "/v1/batches/b-1/cancel"): ("application/json", b'{"id":"b-1","object":"batch","status":"cancelling"}'),
    ("POST", "/v1/audio/speech"): ("audio/mpeg", SOUND),
    ("POST", "/v1/audio/transcriptions"): ("application/json", b'{"text":"heard","usage":{"type":"tokens","input_tokens":4,"output_tokens":2,"total_tokens":6}}'),
    ("POST", "/v1/images/generations"): ("application/json", b'{"created":1,"data":[{"b64_json":"aGk="}]}'),
    ("GET", "/v1/models"): ("application/json", b'{"object":"list","data":[{"id":"bare","object":"model","created":1,"owned_by":"up"}]}'),
}
"""What routes that name no model are answered with: by method and path, the type and the bytes."""


def chunk(text, finish=None):
    """One event of a stream."""
    delta = {"content": text} if text is not None else {}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


class Recording(ThreadingHTTPServer):
    """Listens on a free port and keeps what it is sent; `with` starts and ends it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.requests = []
        """(path, headers, body) of each request, as it came."""
        self.lock = threading.Lock()
        self.end = threading.Event()
        """Requests of model `hang` wait for this."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def last(self):
        """The request that came last."""
        with self.lock:
            return self.requests[-1]

    def sent(self):
        """The body of that, as what it says."""
        return json.loads(self.last()[2])

    def handle_error(self, request, client_address):
        """A client that leaves is what some tests are about."""

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.shutdown()
        self.server_close()


class Upstream(Recording):
    """A provider of OpenAI's shape."""

    def __init__(self):
        super().__init__(Handler)
        self.go = threading.Event()
        """Streams of model `held` send their first event, then wait for this."""
        self.together = threading.Barrier(50)
        """Streams of model `together` begin when so many have come."""

    @contextmanager
    def holding(self):
        """Streams of model `held` wait within this, unless they are let go."""
        self.go.clear()
        try:
            yield
        finally:
            self.go.set()

    def __exit__(self, *_):
        self.go.set()
        self.together.abort()
        super().__exit__()


class Quiet(BaseHTTPRequestHandler):
    """Speaks HTTP/1.1, and of it to nobody."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def body(self):
        return self.rfile.read(int(self.headers.get("content-length", 0)))


class Handler(Quiet):
    def do_POST(self):
        body = self.body()
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers.items()), body))
        other = OTHERS.get((self.command, self.path.partition("?")[0]))
        if other is not None:
            return self.whole(200, other[1], content_type=other[0])
        request = json.loads(body)
        word, _, rest = request["model"].partition("-")
        answer = getattr(self, f"model_{word}", None)
        if answer is None:
            return self.error(404, f"the model {request['model']} does not exist", "model_not_found")
        answer(rest, request)

    do_GET = do_DELETE = do_POST

    def whole(self, status, body, headers=(), content_type="application/json"):
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def error(self, status, message, code, headers=()):
        error = {"message": message, "type": "made_up_error", "param": "made_up", "code": code}
        self.whole(status, json.dumps({"error": error}).encode(), headers)

    def model_plain(self, _, request):
        """A whole answer, or a stream that says the last message word by word."""
        if not request.get("stream"):
            return self.whole(200, ANSWER)
        self.begin()
        self.say(request)

    def model_play(self, name, request):
        """What is known by heart under this name, in the shape of the route."""
        whole, events = SHAPES[self.path]
        if not request.get("stream"):
            return self.whole(200, json.dumps(whole(PLAYS[name])).encode())
        self.begin()
        for event in events(PLAYS[name]):
            self.send(event)
        self.wfile.write(b"0\r\n\r\n")

    def model_status(self, rest, _):
        """An error of this status."""
        headers = [("retry-after", "7")] if rest == "429" else []
        self.error(int(rest), f"refused with {rest}", f"made_up_{rest}", headers)

    def model_hang(self, *_):
        """No answer."""
        self.server.end.wait(FUSE)
        self.close_connection = True

    def model_cut(self, rest, _):
        """A stream whose connection dies after so many events."""
        self.begin()
        for number in range(int(rest)):
            self.send(chunk(f"{number} "))
        self.close_connection = True

    def model_held(self, _, request):
        """A stream that waits after its first event."""
        self.begin()
        self.send(chunk("begun "))
        self.server.go.wait(FUSE)
        self.say(request)

    def model_together(self, _, request):
        """A stream that begins once all the others are there."""
        self.server.together.wait(FUSE)
        self.begin()
        self.say(request)

    def begin(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def send(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def say(self, request):
        for word in request["messages"][-1]["content"].split():
            self.send(chunk(word + " "))
        self.send(chunk(None, "stop"))
        self.send(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")
