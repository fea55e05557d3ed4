//! Anthropic's shape: messages, whole and streamed, and errors.

use serde_json::{Value, json};

use super::content::{Said, Tokens, seed};
use super::reply::{Part, Reply, push_json};

fn id(reply: &Reply<'_>) -> String {
    format!("msg_sim_{}", reply.number)
}

fn call_id(reply: &Reply<'_>, name: &str) -> String {
    format!("toolu_{:016x}", seed(name.as_bytes()).wrapping_add(reply.number))
}

fn stop_reason(said: &Said) -> &'static str {
    if matches!(said, Said::Tool { .. }) { "tool_use" } else { "end_turn" }
}

/// The whole answer, not streamed.
pub(super) fn body(reply: &Reply<'_>) -> Vec<u8> {
    let content = match &reply.said {
        Said::Tool { name, arguments } => {
            let input: Value = serde_json::from_str(arguments).unwrap_or_default();
            json!({"type": "tool_use", "id": call_id(reply, name), "name": name, "input": input})
        }
        said => json!({"type": "text", "text": said.tokens().collect::<String>()}),
    };
    let usage = json!({"input_tokens": reply.prompt_tokens, "output_tokens": reply.said.count()});
    let message = json!({
        "id": id(reply), "type": "message", "role": "assistant", "model": reply.model, "content": [content],
        "stop_reason": stop_reason(&reply.said), "stop_sequence": null, "usage": usage,
    });
    message.to_string().into_bytes()
}

/// The events of a streamed answer.
#[derive(Debug)]
pub(super) struct Events<'a> {
    reply: &'a Reply<'a>,
    tokens: Tokens<'a>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Start,
    Block,
    Ping,
    Tokens,
    Delta,
    Stop,
    Over,
}

impl<'a> Events<'a> {
    pub(super) fn new(reply: &'a Reply<'a>) -> Self {
        Self { reply, tokens: reply.said.tokens(), stage: Stage::Start }
    }

    pub(super) fn next(&mut self, out: &mut Vec<u8>) -> Option<Part> {
        let reply = self.reply;
        let (event, part, next) = match self.stage {
            Stage::Start => {
                let message = json!({
                    "id": id(reply), "type": "message", "role": "assistant", "model": reply.model, "content": [],
                    "stop_reason": null, "stop_sequence": null,
                    "usage": {"input_tokens": reply.prompt_tokens, "output_tokens": 1},
                });
                (json!({"type": "message_start", "message": message}), Part::Opening, Stage::Block)
            }
            Stage::Block => {
                let block = match &reply.said {
                    Said::Tool { name, .. } => {
                        json!({"type": "tool_use", "id": call_id(reply, name), "name": name, "input": {}})
                    }
                    _ => json!({"type": "text", "text": ""}),
                };
                let event = json!({"type": "content_block_start", "index": 0, "content_block": block});
                (event, Part::Opening, Stage::Ping)
            }
            Stage::Ping => (json!({"type": "ping"}), Part::Opening, Stage::Tokens),
            Stage::Tokens => match self.tokens.next() {
                Some(token) => {
                    push_token(out, reply, token);
                    return Some(Part::Token);
                }
                None => (json!({"type": "content_block_stop", "index": 0}), Part::Closing, Stage::Delta),
            },
            Stage::Delta => {
                let delta = json!({"stop_reason": stop_reason(&reply.said), "stop_sequence": null});
                let usage = json!({"output_tokens": reply.said.count()});
                let next = if reply.no_done { Stage::Over } else { Stage::Stop };
                (json!({"type": "message_delta", "delta": delta, "usage": usage}), Part::Closing, next)
            }
            Stage::Stop => (json!({"type": "message_stop"}), Part::Closing, Stage::Over),
            Stage::Over => return None,
        };
        self.stage = next;
        let name = event.get("type").and_then(Value::as_str).unwrap_or_default();
        out.extend_from_slice(format!("event: {name}\ndata: {event}\n\n").as_bytes());
        Some(part)
    }
}

fn push_token(out: &mut Vec<u8>, reply: &Reply<'_>, token: &str) {
    out.extend_from_slice(
        b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{",
    );
    out.extend_from_slice(match reply.said {
        Said::Tool { .. } => &b"\"type\":\"input_json_delta\",\"partial_json\":"[..],
        _ => b"\"type\":\"text_delta\",\"text\":",
    });
    push_json(out, token);
    out.extend_from_slice(b"}}\n\n");
}

/// An error in Anthropic's words for `status`.
pub(super) fn error_body(status: u16, message: &str) -> Vec<u8> {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::request::Shape;

    fn reply(said: Said) -> Reply<'static> {
        let (number, model, shape) = (3, "echo", Shape::Messages);
        Reply { shape, number, model, said, prompt_tokens: 2, choices: 1, include_usage: false, no_done: false }
    }

    fn stream(reply: &Reply<'_>) -> String {
        let (mut events, mut out) = (reply.events(), Vec::new());
        while events.next(&mut out).is_some() {}
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_message_stream_is_these_bytes() {
        let wanted = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_sim_3","type":"message","role":"assistant","model":"echo","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":2,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type":"ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" you"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}

event: message_stop
data: {"type":"message_stop"}

"#;
        let reply = reply(Said::Text("hi you".to_owned()));
        assert_eq!(stream(&reply), wanted);
        let cut_short = wanted.replace("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", "");
        assert_eq!(stream(&Reply { no_done: true, ..reply }), cut_short);
    }

    #[test]
    fn a_tool_call_comes_whole_and_in_pieces() {
        let reply = reply(Said::Tool { name: "f".to_owned(), arguments: r#"{"city":"x"}"#.to_owned() });
        let body: Value = serde_json::from_slice(&body(&reply)).expect("JSON");
        assert_eq!((&body["content"][0]["input"], &body["stop_reason"]), (&json!({"city":"x"}), &json!("tool_use")));
        let stream = stream(&reply);
        assert!(stream.contains(r#""delta":{"type":"input_json_delta","partial_json":"{\"city\":"}"#), "{stream}");
        assert!(stream.contains(r#""stop_reason":"tool_use""#));
    }
}
