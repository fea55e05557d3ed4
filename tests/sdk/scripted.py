"""What a provider says by heart, in each shape: what the simulated one has no words for.

A play is what is said, belonging to no shape, and a shape is written here from its public documentation. Another shape is
one more function for a whole answer, and one for the events of a stream.
"""

import json
from dataclasses import dataclass, field


@dataclass
class Thought:
    words: str
    signature: str


@dataclass
class Text:
    words: str


@dataclass
class Call:
    id: str
    name: str
    arguments: dict


@dataclass
class Play:
    said: list
    stop: str = "end"
    """Why it ends: `end`, `text`, `length`, `tools`, `refused`; a stream also in the midst, with an `error`."""
    at: str | None = None
    """At which of the texts that were given."""
    usage: dict = field(default_factory=dict)
    """Beside `input` and `output`, `read` from a cache and `written` to one, both of `input`, and `thought`, of `output`."""


PLAYS = {
    "parallel": Play([Call("call_a", "weather", {"city": "Oslo"}), Call("call_b", "clock", {"zone": "CET"})], "tools"),
    "busy": Play([Text("I look."), Call("call_c", "weather", {"city": "Rome"})], "tools"),
    "thinks": Play([Thought("27 is 3 cubed.", "c2lnbmVk"), Text("It is not.")], usage={"thought": 5}),
    "cached": Play([Text("Known.")], usage={"input": 1000, "output": 2, "read": 900, "written": 60}),
    "stops": Play([Text("One, two")], "text", at=", three"),
    "long": Play([Text("And so on and so")], "length"),
    "refuses": Play([Text("I would rather not.")], "refused"),
    "breaks": Play([Text("So far")], "error"),
    "typed": Play([Text('{"answer": "yes", "words": 1}')]),
}


def counts(play):
    return {"input": 20, "output": 10} | play.usage


BROKEN = "We have too much to do."


def pieces(text):
    """A text in two."""
    half = len(text) // 2
    return text[:half], text[half:]


def openai_usage(play):
    taken = counts(play)
    usage = {"prompt_tokens": taken["input"], "completion_tokens": taken["output"]}
    usage["total_tokens"] = taken["input"] + taken["output"]
    if "read" in taken:
        cached = {"cached_tokens": taken["read"], "cache_write_tokens": taken["written"]}
        usage["prompt_tokens_details"] = cached
    if "thought" in taken:
        usage["completion_tokens_details"] = {"reasoning_tokens": taken["thought"]}
    return usage


OPENAI_STOPS = {"end": "stop", "text": "stop", "length": "length", "tools": "tool_calls", "refused": "content_filter"}


def openai_whole(play):
    message = {"role": "assistant", "content": None, "refusal": None}
    for part in play.said:
        match part:
            case Thought():
                message["reasoning_content"] = part.words
            case Text():
                message["content"] = part.words
            case Call():
                function = {"name": part.name, "arguments": json.dumps(part.arguments)}
                message.setdefault("tool_calls", []).append({"id": part.id, "type": "function", "function": function})
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": OPENAI_STOPS[play.stop]}
    head = {"id": "chatcmpl-7", "object": "chat.completion", "created": 1, "model": "by-heart"}
    return head | {"choices": [choice], "usage": openai_usage(play)}


def openai_events(play):
    head = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1, "model": "by-heart"}

    def event(choices, **more):
        return b"data: " + json.dumps(head | {"choices": choices} | more).encode() + b"\n\n"

    def delta(finish=None, **said):
        return event([{"index": 0, "delta": said, "logprobs": None, "finish_reason": finish}])

    yield delta(role="assistant", content="")
    number = 0
    for part in play.said:
        match part:
            case Thought():
                yield from (delta(reasoning_content=piece) for piece in pieces(part.words))
            case Text():
                yield from (delta(content=piece) for piece in pieces(part.words))
            case Call():
                function = {"name": part.name, "arguments": ""}
                yield delta(tool_calls=[{"index": number, "id": part.id, "type": "function", "function": function}])
                for piece in pieces(json.dumps(part.arguments)):
                    yield delta(tool_calls=[{"index": number, "function": {"arguments": piece}}])
                number += 1
    if play.stop == "error":
        error = {"message": BROKEN, "type": "server_error", "param": None, "code": None}
        yield b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
        return
    yield delta(OPENAI_STOPS[play.stop])
    yield event([], usage=openai_usage(play))
    yield b"data: [DONE]\n\n"


def anthropic_usage(play):
    taken = counts(play)
    cached = {"cache_read_input_tokens": taken.get("read", 0), "cache_creation_input_tokens": taken.get("written", 0)}
    usage = cached | {"input_tokens": taken["input"] - sum(cached.values()), "output_tokens": taken["output"]}
    if "thought" in taken:
        usage["output_tokens_details"] = {"thinking_tokens": taken["thought"]}
    return usage


ANTHROPIC_STOPS = {
    "end": "end_turn", "text": "stop_sequence", "length": "max_tokens", "tools": "tool_use", "refused": "refusal"
}


def anthropic_block(part):
    match part:
        case Thought():
            return {"type": "thinking", "thinking": part.words, "signature": part.signature}
        case Text():
            return {"type": "text", "text": part.words}
        case Call():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.arguments}


def anthropic_whole(play):
    head = {"id": "msg_7", "type": "message", "role": "assistant", "model": "by-heart"}
    end = {"stop_reason": ANTHROPIC_STOPS.get(play.stop), "stop_sequence": play.at}
    return head | {"content": [anthropic_block(part) for part in play.said]} | end | {"usage": anthropic_usage(play)}


def anthropic_says(play, split=pieces):
    """The events of a stream, before they are written as such."""

    def event(kind, **more):
        return {"type": kind} | more

    whole = anthropic_whole(play)
    end = {name: whole.pop(name) for name in ("stop_reason", "stop_sequence")}
    start = whole | {"content": [], "stop_reason": None, "stop_sequence": None}
    yield event("message_start", message=start | {"usage": whole["usage"] | {"output_tokens": 1}})
    for index, part in enumerate(play.said):
        block = anthropic_block(part)
        match part:
            case Thought():
                empty = {"thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in split(part.words)]
                deltas.append({"type": "signature_delta", "signature": part.signature})
            case Text():
                empty = {"text": ""}
                deltas = [{"type": "text_delta", "text": piece} for piece in split(part.words)]
            case Call():
                empty = {"input": {}}
                text = json.dumps(part.arguments)
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(text)]
        yield event("content_block_start", index=index, content_block=block | empty)
        yield from (event("content_block_delta", index=index, delta=delta) for delta in deltas)
        yield event("content_block_stop", index=index)
    if play.stop == "error":
        yield event("error", error={"type": "overloaded_error", "message": BROKEN})
        return
    yield event("message_delta", delta=end, usage=whole["usage"])
    yield event("message_stop")


def anthropic_events(play):
    for event in anthropic_says(play):
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def bedrock_usage(play):
    taken = counts(play)
    cached = {"cacheReadInputTokens": taken.get("read", 0), "cacheWriteInputTokens": taken.get("written", 0)}
    usage = cached | {"inputTokens": taken["input"] - sum(cached.values()), "outputTokens": taken["output"]}
    return usage | {"totalTokens": taken["input"] + taken["output"]}


BEDROCK_STOPS = {
    "end": "end_turn", "text": "stop_sequence", "length": "max_tokens", "tools": "tool_use", "refused": "content_filtered"
}


def bedrock_block(part):
    match part:
        case Thought():
            return {"reasoningContent": {"reasoningText": {"text": part.words, "signature": part.signature}}}
        case Text():
            return {"text": part.words}
        case Call():
            return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": part.arguments}}


def bedrock_whole(play):
    message = {"role": "assistant", "content": [bedrock_block(part) for part in play.said]}
    end = {"stopReason": BEDROCK_STOPS.get(play.stop), "usage": bedrock_usage(play), "metrics": {"latencyMs": 7}}
    return {"output": {"message": message}} | end


def bedrock_says(play, split=pieces):
    """The events of a stream by their names. Only a call's block is begun by one of its own."""
    yield "messageStart", {"role": "assistant"}
    for index, part in enumerate(play.said):
        at = {"contentBlockIndex": index}
        match part:
            case Thought():
                deltas = [{"reasoningContent": {"text": piece}} for piece in split(part.words)]
                deltas.append({"reasoningContent": {"signature": part.signature}})
            case Text():
                deltas = [{"text": piece} for piece in split(part.words)]
            case Call():
                yield "contentBlockStart", at | {"start": {"toolUse": {"toolUseId": part.id, "name": part.name}}}
                deltas = [{"toolUse": {"input": piece}} for piece in pieces(json.dumps(part.arguments))]
        # What pads an event hides the length of what it says.
        yield from (("contentBlockDelta", at | {"delta": delta, "p": "abcdef"}) for delta in deltas)
        yield "contentBlockStop", at
    if play.stop == "error":
        yield "modelStreamErrorException", {"message": BROKEN}
        return
    whole = bedrock_whole(play)
    yield "messageStop", {"stopReason": whole["stopReason"]}
    yield "metadata", {"usage": whole["usage"], "metrics": whole["metrics"]}


SHAPES = {
    "/v1/chat/completions": (openai_whole, openai_events),
    "/v1/messages": (anthropic_whole, anthropic_events),
}
"""How a play is told whole, and as a stream, on a route. Bedrock's name the model, and its events are frames: see `bedrock.py`."""
