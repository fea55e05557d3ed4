//! OpenAI's Responses API: a response whole, and as the events that it grows by. Its errors are those of its siblings.

use serde_json::{Value, json};

use super::content::{Said, Tokens, seed};
use super::reply::{CREATED, Part, Reply, push_json, push_number};

/// The response, as far as it has come.
fn response(reply: &Reply<'_>, status: &str, output: &[Value]) -> Value {
    let output_tokens = reply.said.count();
    let usage = (status == "completed").then(|| {
        json!({
            "input_tokens": reply.prompt_tokens, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": output_tokens, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": reply.prompt_tokens + output_tokens,
        })
    });
    json!({
        "id": format!("resp_sim_{}", reply.number), "object": "response", "created_at": CREATED, "status": status,
        "error": null, "incomplete_details": null, "instructions": null, "metadata": {}, "model": reply.model,
        "output": output, "parallel_tool_calls": true, "temperature": 1.0, "tool_choice": "auto", "tools": [],
        "top_p": 1.0, "usage": usage,
    })
}

fn text_of(said: &Said) -> String {
    said.tokens().collect()
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": []})
}

fn item_id(reply: &Reply<'_>) -> String {
    let kind = if matches!(reply.said, Said::Tool { .. }) { "fc" } else { "msg" };
    format!("{kind}_sim_{}", reply.number)
}

/// The one item that it puts out: a message, or a call of a tool.
fn item(reply: &Reply<'_>, done: bool) -> Value {
    let status = if done { "completed" } else { "in_progress" };
    match &reply.said {
        Said::Tool { name, arguments } => {
            let call_id = format!("call_{:016x}", seed(name.as_bytes()).wrapping_add(reply.number));
            let arguments = if done { arguments } else { "" };
            json!({
                "type": "function_call", "id": item_id(reply), "status": status, "call_id": call_id, "name": name,
                "arguments": arguments,
            })
        }
        said => {
            let content = if done { vec![part(&text_of(said))] } else { Vec::new() };
            json!({"type": "message", "id": item_id(reply), "status": status, "role": "assistant", "content": content})
        }
    }
}

/// The whole answer, not streamed.
pub(super) fn body(reply: &Reply<'_>) -> Vec<u8> {
    response(reply, "completed", &[item(reply, true)]).to_string().into_bytes()
}

/// The events of a streamed answer.
#[derive(Debug)]
pub(super) struct Events<'a> {
    reply: &'a Reply<'a>,
    tokens: Tokens<'a>,
    stage: Stage,
    sequence: u64,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Created,
    InProgress,
    Item,
    Part,
    Tokens,
    PartDone,
    ItemDone,
    Completed,
    Over,
}

impl<'a> Events<'a> {
    pub(super) fn new(reply: &'a Reply<'a>) -> Self {
        Self { reply, tokens: reply.said.tokens(), stage: Stage::Created, sequence: 0 }
    }

    pub(super) fn next(&mut self, out: &mut Vec<u8>) -> Option<Part> {
        let reply = self.reply;
        let is_text = !matches!(reply.said, Said::Tool { .. });
        let place = json!({"item_id": item_id(reply), "output_index": 0});
        let (name, fields, what, next) = match self.stage {
            Stage::Created => {
                let fields = json!({"response": response(reply, "in_progress", &[])});
                ("response.created", fields, Part::Opening, Stage::InProgress)
            }
            Stage::InProgress => {
                let fields = json!({"response": response(reply, "in_progress", &[])});
                ("response.in_progress", fields, Part::Opening, Stage::Item)
            }
            Stage::Item => {
                let fields = json!({"output_index": 0, "item": item(reply, false)});
                let next = if is_text { Stage::Part } else { Stage::Tokens };
                ("response.output_item.added", fields, Part::Opening, next)
            }
            Stage::Part => {
                let fields = with(place, &[("content_index", json!(0)), ("part", part(""))]);
                ("response.content_part.added", fields, Part::Opening, Stage::Tokens)
            }
            Stage::Tokens => match (self.tokens.next(), &reply.said) {
                (Some(token), _) => {
                    self.push_token(out, token);
                    return Some(Part::Token);
                }
                (None, Said::Tool { name, arguments }) => {
                    let fields = with(place, &[("name", json!(name)), ("arguments", json!(arguments))]);
                    ("response.function_call_arguments.done", fields, Part::Closing, Stage::ItemDone)
                }
                (None, said) => {
                    let text = [("content_index", json!(0)), ("logprobs", json!([])), ("text", json!(text_of(said)))];
                    ("response.output_text.done", with(place, &text), Part::Closing, Stage::PartDone)
                }
            },
            Stage::PartDone => {
                let fields = with(place, &[("content_index", json!(0)), ("part", part(&text_of(&reply.said)))]);
                ("response.content_part.done", fields, Part::Closing, Stage::ItemDone)
            }
            Stage::ItemDone => {
                let fields = json!({"output_index": 0, "item": item(reply, true)});
                let next = if reply.no_done { Stage::Over } else { Stage::Completed };
                ("response.output_item.done", fields, Part::Closing, next)
            }
            Stage::Completed => {
                let fields = json!({"response": response(reply, "completed", &[item(reply, true)])});
                ("response.completed", fields, Part::Closing, Stage::Over)
            }
            Stage::Over => return None,
        };
        self.stage = next;
        let event = with(json!({"type": name, "sequence_number": self.sequence}), &members(fields));
        self.sequence += 1;
        out.extend_from_slice(format!("event: {name}\ndata: {event}\n\n").as_bytes());
        Some(what)
    }

    fn push_token(&mut self, out: &mut Vec<u8>, token: &str) {
        let (name, logprobs): (&str, &[u8]) = match self.reply.said {
            Said::Tool { .. } => ("response.function_call_arguments.delta", b""),
            _ => ("response.output_text.delta", b",\"content_index\":0,\"logprobs\":[]"),
        };
        out.extend_from_slice(format!("event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":").as_bytes());
        push_number(out, self.sequence);
        self.sequence += 1;
        out.extend_from_slice(b",\"item_id\":");
        push_json(out, &item_id(self.reply));
        out.extend_from_slice(b",\"output_index\":0");
        out.extend_from_slice(logprobs);
        out.extend_from_slice(b",\"delta\":");
        push_json(out, token);
        out.extend_from_slice(b"}\n\n");
    }
}

fn members(value: Value) -> Vec<(String, Value)> {
    if let Value::Object(object) = value { object.into_iter().collect() } else { Vec::new() }
}

/// An object with more members behind its own.
fn with(mut object: Value, more: &[(impl AsRef<str>, Value)]) -> Value {
    for (name, value) in more {
        object[name.as_ref()] = value.clone();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::request::Shape;

    fn reply(said: Said) -> Reply<'static> {
        let (number, model, shape) = (3, "echo", Shape::Responses);
        Reply { shape, number, model, said, prompt_tokens: 2, choices: 1, include_usage: false, no_done: false }
    }

    /// The types of a stream's events, and the events.
    fn stream(reply: &Reply<'_>) -> (Vec<String>, Vec<Value>) {
        let (mut events, mut out) = (reply.events(), Vec::new());
        while events.next(&mut out).is_some() {}
        let text = String::from_utf8(out).expect("UTF-8");
        let names = text.lines().filter_map(|line| line.strip_prefix("event: ").map(str::to_owned)).collect();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        (names, data.map(|data| serde_json::from_str(data).expect("JSON")).collect())
    }

    #[test]
    fn a_response_grows_event_by_event_into_what_it_is_whole() {
        let reply = reply(Said::Text("hi you".to_owned()));
        let (names, events) = stream(&reply);
        let wanted = [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ];
        assert_eq!(names, wanted.map(|name| format!("response.{name}")));
        for (number, (event, name)) in events.iter().zip(&names).enumerate() {
            assert_eq!((&event["type"], &event["sequence_number"]), (&json!(name), &json!(number)));
        }
        assert_eq!((&events[4]["delta"], &events[5]["delta"]), (&json!("hi"), &json!(" you")));
        let whole: Value = serde_json::from_slice(&body(&reply)).expect("JSON");
        assert_eq!(events[9]["response"], whole);
        assert_eq!(whole["output"][0]["content"][0]["text"], "hi you");
        assert_eq!(whole["usage"]["total_tokens"], 4);
        let (names, _) = stream(&Reply { no_done: true, ..reply });
        assert_eq!(names.last().map(String::as_str), Some("response.output_item.done"));
    }

    #[test]
    fn a_tool_call_streams_its_arguments_in_pieces() {
        let reply = reply(Said::Tool { name: "f".to_owned(), arguments: r#"{"city":"x"}"#.to_owned() });
        let (names, events) = stream(&reply);
        let deltas: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
        assert_eq!(deltas, r#"{"city":"x"}"#);
        assert!(names.iter().any(|name| name == "response.function_call_arguments.done"), "{names:?}");
        let whole: Value = serde_json::from_slice(&body(&reply)).expect("JSON");
        assert_eq!((&whole["output"][0]["name"], &whole["output"][0]["arguments"]), (&json!("f"), &json!(deltas)));
    }
}
