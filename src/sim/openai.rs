//! OpenAI's shapes: chat and text completions, whole and streamed, embeddings, models, errors.

use serde_json::json;

use super::content::{Said, Tokens, seed, unit_vector, words};
use super::reply::{CREATED, Part, Reply, push_json, push_number};
use super::request::{Asked, Shape};
use crate::wire::base64;

fn id_prefix(shape: Shape) -> &'static str {
    if shape == Shape::Completions { "cmpl-sim-" } else { "chatcmpl-sim-" }
}

fn finish_reason(said: &Said) -> &'static str {
    if matches!(said, Said::Tool { .. }) { "tool_calls" } else { "stop" }
}

fn call_id(reply: &Reply<'_>, name: &str) -> String {
    format!("call_{:016x}", seed(name.as_bytes()).wrapping_add(reply.number))
}

/// What every answer and every event begins with, up to its choices.
fn push_head(out: &mut Vec<u8>, reply: &Reply<'_>, object: &str) {
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(id_prefix(reply.shape).as_bytes());
    push_number(out, reply.number);
    out.extend_from_slice(b"\",\"object\":\"");
    out.extend_from_slice(object.as_bytes());
    out.extend_from_slice(b"\",\"created\":");
    push_number(out, CREATED);
    out.extend_from_slice(b",\"model\":");
    push_json(out, reply.model);
    out.extend_from_slice(b",\"system_fingerprint\":\"fp_sim\",\"choices\":[");
}

fn push_usage(out: &mut Vec<u8>, reply: &Reply<'_>) {
    let output = reply.said.count() * u64::from(reply.choices);
    out.extend_from_slice(b"{\"prompt_tokens\":");
    push_number(out, reply.prompt_tokens);
    out.extend_from_slice(b",\"completion_tokens\":");
    push_number(out, output);
    out.extend_from_slice(b",\"total_tokens\":");
    push_number(out, reply.prompt_tokens + output);
    out.push(b'}');
}

fn push_said(out: &mut Vec<u8>, reply: &Reply<'_>) {
    match &reply.said {
        Said::Text(text) => push_json(out, text),
        // Filler has nothing to escape.
        said => {
            out.push(b'"');
            said.tokens().for_each(|token| out.extend_from_slice(token.as_bytes()));
            out.push(b'"');
        }
    }
}

/// The whole answer, not streamed.
pub(super) fn body(reply: &Reply<'_>) -> Vec<u8> {
    let chat = reply.shape == Shape::Chat;
    let mut out = Vec::with_capacity(512);
    push_head(&mut out, reply, if chat { "chat.completion" } else { "text_completion" });
    for index in 0..reply.choices {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"index\":");
        push_number(&mut out, u64::from(index));
        match &reply.said {
            Said::Tool { name, arguments } => {
                out.extend_from_slice(
                    b",\"message\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":",
                );
                push_json(&mut out, &call_id(reply, name));
                out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
                push_json(&mut out, name);
                out.extend_from_slice(b",\"arguments\":");
                push_json(&mut out, arguments);
                out.extend_from_slice(b"}}],\"refusal\":null}");
            }
            _ if chat => {
                out.extend_from_slice(b",\"message\":{\"role\":\"assistant\",\"content\":");
                push_said(&mut out, reply);
                out.extend_from_slice(b",\"refusal\":null}");
            }
            _ => {
                out.extend_from_slice(b",\"text\":");
                push_said(&mut out, reply);
            }
        }
        out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":\"");
        out.extend_from_slice(finish_reason(&reply.said).as_bytes());
        out.extend_from_slice(b"\"}");
    }
    out.extend_from_slice(b"],\"usage\":");
    push_usage(&mut out, reply);
    out.push(b'}');
    out
}

/// The events of a streamed answer.
#[derive(Debug)]
pub(super) struct Events<'a> {
    reply: &'a Reply<'a>,
    /// `data: {"id":…,"choices":[`, the same in every event.
    head: Vec<u8>,
    tail: &'static [u8],
    tokens: Tokens<'a>,
    token: Option<&'a str>,
    choice: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Tokens,
    Closing,
    Usage,
    Done,
    Over,
}

impl<'a> Events<'a> {
    pub(super) fn new(reply: &'a Reply<'a>) -> Self {
        let chat = reply.shape == Shape::Chat;
        let mut head = Vec::with_capacity(192);
        head.extend_from_slice(b"data: ");
        push_head(&mut head, reply, if chat { "chat.completion.chunk" } else { "text_completion" });
        // As OpenAI does it: once usage was asked for, every event has the field.
        let tail: &[u8] = if reply.include_usage { b"],\"usage\":null}\n\n" } else { b"]}\n\n" };
        let stage = if chat { Stage::Opening } else { Stage::Tokens };
        Self { reply, head, tail, tokens: reply.said.tokens(), token: None, choice: 0, stage }
    }

    pub(super) fn next(&mut self, out: &mut Vec<u8>) -> Option<Part> {
        loop {
            match self.stage {
                Stage::Opening => {
                    self.push_choice(out, "null", push_opening);
                    self.next_choice(Stage::Tokens);
                    return Some(Part::Opening);
                }
                Stage::Tokens => {
                    if self.choice == 0 {
                        self.token = self.tokens.next();
                    }
                    let Some(token) = self.token else {
                        self.stage = Stage::Closing;
                        continue;
                    };
                    let part = if self.choice == 0 { Part::Token } else { Part::Again };
                    self.push_choice(out, "null", |out, reply| push_token(out, reply, token));
                    self.next_choice(Stage::Tokens);
                    return Some(part);
                }
                Stage::Closing => {
                    let reason = if finish_reason(&self.reply.said) == "stop" { "\"stop\"" } else { "\"tool_calls\"" };
                    self.push_choice(out, reason, |out, reply| {
                        out.extend_from_slice(if reply.shape == Shape::Chat {
                            b"\"delta\":{}"
                        } else {
                            b"\"text\":\"\""
                        });
                    });
                    self.next_choice(Stage::Usage);
                    return Some(Part::Closing);
                }
                Stage::Usage => {
                    self.stage = Stage::Done;
                    if self.reply.include_usage {
                        out.extend_from_slice(&self.head);
                        out.extend_from_slice(b"],\"usage\":");
                        push_usage(out, self.reply);
                        out.extend_from_slice(b"}\n\n");
                        return Some(Part::Closing);
                    }
                }
                Stage::Done => {
                    self.stage = Stage::Over;
                    if !self.reply.no_done {
                        out.extend_from_slice(b"data: [DONE]\n\n");
                        return Some(Part::Closing);
                    }
                }
                Stage::Over => return None,
            }
        }
    }

    fn next_choice(&mut self, after_last: Stage) {
        self.choice += 1;
        if self.choice == self.reply.choices {
            self.choice = 0;
            self.stage = after_last;
        }
    }

    fn push_choice(&self, out: &mut Vec<u8>, reason: &str, says: impl FnOnce(&mut Vec<u8>, &Reply<'_>)) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":");
        push_number(out, u64::from(self.choice));
        out.push(b',');
        says(out, self.reply);
        out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":");
        out.extend_from_slice(reason.as_bytes());
        out.push(b'}');
        out.extend_from_slice(self.tail);
    }
}

fn push_opening(out: &mut Vec<u8>, reply: &Reply<'_>) {
    let Said::Tool { name, .. } = &reply.said else {
        out.extend_from_slice(b"\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}");
        return;
    };
    out.extend_from_slice(b"\"delta\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"index\":0,\"id\":");
    push_json(out, &call_id(reply, name));
    out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
    push_json(out, name);
    out.extend_from_slice(b",\"arguments\":\"\"}}],\"refusal\":null}");
}

fn push_token(out: &mut Vec<u8>, reply: &Reply<'_>, token: &str) {
    match (&reply.said, reply.shape) {
        (Said::Tool { .. }, _) => {
            out.extend_from_slice(b"\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":");
            push_json(out, token);
            out.extend_from_slice(b"}}]}");
        }
        (_, Shape::Chat) => {
            out.extend_from_slice(b"\"delta\":{\"content\":");
            push_json(out, token);
            out.push(b'}');
        }
        _ => {
            out.extend_from_slice(b"\"text\":");
            push_json(out, token);
        }
    }
}

/// The vectors of each input.
pub(super) fn embeddings(asked: &Asked<'_>) -> Vec<u8> {
    let inputs = asked.inputs();
    let vectors = inputs.iter().enumerate().map(|(index, input)| {
        let vector = unit_vector(input.as_bytes(), asked.dimensions());
        let embedding = if asked.wants_base64() {
            json!(base64::encode(&vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()))
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let data: Vec<_> = vectors.collect();
    let tokens: u64 = inputs.iter().map(|input| words(input)).sum();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    json!({"object": "list", "data": data, "model": asked.model, "usage": usage}).to_string().into_bytes()
}

/// One model, as `GET /v1/models` lists it.
pub(super) fn model(name: &str) -> serde_json::Value {
    json!({"id": name, "object": "model", "created": CREATED, "owned_by": "sluicegate-sim"})
}

/// An error in OpenAI's words for `status`.
pub(super) fn error_body(status: u16, message: &str, param: Option<&str>) -> Vec<u8> {
    let (kind, code) = match status {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        403 => ("permission_error", None),
        404 if param == Some("model") => ("invalid_request_error", Some("model_not_found")),
        429 => ("rate_limit_error", Some("rate_limit_exceeded")),
        400..=499 => ("invalid_request_error", None),
        _ => ("server_error", None),
    };
    json!({"error": {"message": message, "type": kind, "param": param, "code": code}}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(shape: Shape, said: Said) -> Reply<'static> {
        Reply {
            shape,
            number: 7,
            model: "echo",
            said,
            prompt_tokens: 2,
            choices: 1,
            include_usage: false,
            no_done: false,
        }
    }

    fn text(text: &str) -> Said {
        Said::Text(text.to_owned())
    }

    fn stream(reply: &Reply<'_>) -> (Vec<Part>, String) {
        let (mut events, mut out, mut parts) = (reply.events(), Vec::new(), Vec::new());
        while let Some(part) = events.next(&mut out) {
            parts.push(part);
        }
        (parts, String::from_utf8(out).expect("UTF-8"))
    }

    const HEAD: &str = r#"data: {"id":"chatcmpl-sim-7","object":"chat.completion.chunk","created":1700000000,"model":"echo","system_fingerprint":"fp_sim","choices":["#;

    fn lines(choices: &[&str], tail: &str) -> String {
        choices.iter().map(|choice| format!("{HEAD}{choice}{tail}\n\n")).collect()
    }

    const ROLE: &str =
        r#"{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}"#;
    const HI: &str = r#"{"index":0,"delta":{"content":"hi"},"logprobs":null,"finish_reason":null}"#;
    const YOU: &str = r#"{"index":0,"delta":{"content":" \"you\""},"logprobs":null,"finish_reason":null}"#;
    const STOP: &str = r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}"#;

    #[test]
    fn a_chat_stream_is_these_bytes() {
        let (parts, bytes) = stream(&reply(Shape::Chat, text("hi \"you\"")));
        assert_eq!(bytes, lines(&[ROLE, HI, YOU, STOP], "]}") + "data: [DONE]\n\n");
        assert_eq!(parts, [Part::Opening, Part::Token, Part::Token, Part::Closing, Part::Closing]);
    }

    #[test]
    fn usage_asked_for_stands_as_null_in_events_and_then_in_one_of_its_own() {
        let reply = Reply { include_usage: true, no_done: true, ..reply(Shape::Chat, text("hi \"you\"")) };
        let usage = r#""usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4}}"#;
        let wanted = lines(&[ROLE, HI, YOU, STOP], r#"],"usage":null}"#) + &lines(&[""], &format!("],{usage}"));
        assert_eq!(stream(&reply).1, wanted);
    }

    #[test]
    fn a_tool_call_streams_its_arguments_in_pieces() {
        let said = Said::Tool { name: "f".to_owned(), arguments: r#"{"city":"x"}"#.to_owned() };
        let reply = reply(Shape::Chat, said);
        let id = call_id(&reply, "f");
        let wanted = lines(
            &[
                &format!(
                    r#"{{"index":0,"delta":{{"role":"assistant","content":null,"tool_calls":[{{"index":0,"id":"{id}","type":"function","function":{{"name":"f","arguments":""}}}}],"refusal":null}},"logprobs":null,"finish_reason":null}}"#
                ),
                r#"{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]},"logprobs":null,"finish_reason":null}"#,
                r#"{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"x\"}"}}]},"logprobs":null,"finish_reason":null}"#,
                r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}"#,
            ],
            "]}",
        );
        assert_eq!(stream(&reply).1, wanted + "data: [DONE]\n\n");
        let body: serde_json::Value = serde_json::from_slice(&reply.body()).expect("JSON");
        assert_eq!(body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], r#"{"city":"x"}"#);
        assert_eq!(body["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn a_whole_answer_is_these_bytes() {
        let wanted = r#"{"id":"chatcmpl-sim-7","object":"chat.completion","created":1700000000,"model":"echo","system_fingerprint":"fp_sim","choices":[{"index":0,"message":{"role":"assistant","content":"hi","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":1,"total_tokens":3}}"#;
        assert_eq!(String::from_utf8(reply(Shape::Chat, text("hi")).body()).expect("UTF-8"), wanted);
        let wanted = r#"{"id":"cmpl-sim-7","object":"text_completion","created":1700000000,"model":"echo","system_fingerprint":"fp_sim","choices":[{"index":0,"text":"lorem ipsum","logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4}}"#;
        assert_eq!(String::from_utf8(reply(Shape::Completions, Said::Lorem(2)).body()).expect("UTF-8"), wanted);
    }

    #[test]
    fn several_choices_take_turns() {
        let reply = Reply { choices: 2, ..reply(Shape::Chat, text("a b")) };
        let (parts, bytes) = stream(&reply);
        use Part::{Again, Closing, Opening, Token};
        assert_eq!(parts, [Opening, Opening, Token, Again, Token, Again, Closing, Closing, Closing]);
        assert_eq!(bytes.matches("\"finish_reason\":\"stop\"").count(), 2);
        let body: serde_json::Value = serde_json::from_slice(&reply.body()).expect("JSON");
        assert_eq!((&body["choices"][1]["index"], &body["usage"]["completion_tokens"]), (&json!(1), &json!(4)));
    }

    #[test]
    fn embeddings_come_as_numbers_or_as_base64() {
        let asked = |extra: &str| {
            let body = format!(r#"{{"model":"echo","input":["a b","c"],"dimensions":4{extra}}}"#);
            let asked = Asked::parse(body.as_bytes(), Shape::Embeddings).expect("good");
            serde_json::from_slice::<serde_json::Value>(&embeddings(&asked)).expect("JSON")
        };
        let numbers = asked("");
        assert_eq!(numbers["data"][1]["embedding"].as_array().expect("numbers").len(), 4);
        assert_eq!(numbers["usage"]["prompt_tokens"], 3);
        assert_eq!(asked(r#","encoding_format":"base64""#)["data"][0]["embedding"].as_str().expect("text").len(), 24);
    }
}
