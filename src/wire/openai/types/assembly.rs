//! A whole answer out of the chunks of a stream.
//!
//! A delta's texts are put one behind the other, whatever their names, so that what providers add of their own (reasoning,
//! refusals) comes out whole, too. Of a tool call only the arguments come in pieces; a role and an id are said once.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{ChatChunk, ChatReply};
use crate::model::Served;

/// What has come of an answer so far.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// `id`, `model`, `created` and whatever else stands beside the choices.
    head: Map<String, Value>,
    choices: BTreeMap<u64, Parts>,
}

/// What has come of one choice.
#[derive(Debug, Default)]
struct Parts {
    message: Map<String, Value>,
    calls: BTreeMap<u64, Map<String, Value>>,
    finish_reason: Value,
}

impl Assembly {
    /// Takes what the next chunk brings.
    pub(crate) fn push(&mut self, chunk: &ChatChunk) {
        for (key, value) in chunk.raw.as_object().into_iter().flatten() {
            match (key.as_str(), value) {
                ("choices", Value::Array(choices)) => choices.iter().for_each(|choice| self.choice(choice.clone())),
                (_, Value::Null) => {}
                // What every chunk repeats is kept once.
                (_, value) if self.head.get(key) == Some(value) => {}
                (_, value) => {
                    self.head.insert(key.clone(), value.clone());
                }
            }
        }
    }

    fn choice(&mut self, choice: Value) {
        let Value::Object(mut choice) = choice else { return };
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
        let parts = self.choices.entry(index).or_default();
        if let Some(reason @ Value::String(_)) = choice.remove("finish_reason") {
            parts.finish_reason = reason;
        }
        let Some(Value::Object(delta)) = choice.remove("delta") else { return };
        for (key, value) in delta {
            match (key.as_str(), value) {
                ("tool_calls", Value::Array(calls)) => calls.into_iter().for_each(|call| parts.call(call)),
                ("role", value) => {
                    parts.message.insert(key, value);
                }
                (_, value) => append(&mut parts.message, key, value),
            }
        }
    }

    /// The answer.
    pub(crate) fn finish(self, served: Served) -> ChatReply {
        let mut raw = self.head;
        raw.insert("object".to_owned(), json!("chat.completion"));
        let choices: Vec<Value> = self.choices.into_iter().map(|(index, parts)| parts.finish(index)).collect();
        raw.insert("choices".to_owned(), choices.into());
        ChatReply::from_parts(Value::Object(raw), served)
    }
}

impl Parts {
    fn call(&mut self, call: Value) {
        let Value::Object(mut call) = call else { return };
        let index = call.remove("index").and_then(|index| index.as_u64()).unwrap_or(0);
        let known = self.calls.entry(index).or_default();
        if let Some(Value::Object(function)) = call.remove("function") {
            let whole = known.entry("function").or_insert_with(|| json!({}));
            if let Value::Object(whole) = whole {
                for (key, value) in function {
                    if key == "arguments" { append(whole, key, value) } else { say_once(whole, key, value) }
                }
            }
        }
        call.into_iter().for_each(|(key, value)| say_once(known, key, value));
    }

    fn finish(mut self, index: u64) -> Value {
        self.message.entry("role").or_insert_with(|| json!("assistant"));
        self.message.entry("content").or_insert(Value::Null);
        if !self.calls.is_empty() {
            let calls: Vec<Value> = self.calls.into_values().map(Value::Object).collect();
            self.message.insert("tool_calls".to_owned(), calls.into());
        }
        json!({ "index": index, "message": self.message, "finish_reason": self.finish_reason })
    }
}

/// Puts a text behind what stands under `key`; anything else takes its place, and null changes nothing.
fn append(into: &mut Map<String, Value>, key: String, value: Value) {
    match (into.get_mut(&key), value) {
        (_, Value::Null) => {}
        (Some(Value::String(text)), Value::String(more)) => text.push_str(&more),
        (_, value) => {
            into.insert(key, value);
        }
    }
}

/// Keeps what was said first; some providers say it again, empty.
fn say_once(into: &mut Map<String, Value>, key: String, value: Value) {
    let said = into.get(&key).is_some_and(|known| known != "");
    if !said && !value.is_null() {
        into.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assembled(chunks: &[Value]) -> Value {
        let served = Served {
            provider: "p".into(),
            model: "m".to_owned(),
            attempts: 1,
            fallbacks: 0,
            timing: crate::model::Timing::default(),
            overhead: std::time::Duration::ZERO,
        };
        let mut assembly = Assembly::default();
        for chunk in chunks {
            assembly.push(&ChatChunk::from_data(chunk.to_string().as_bytes()).expect("JSON"));
        }
        assembly.finish(served).raw
    }

    fn delta(index: u64, delta: Value) -> Value {
        json!({ "id": "x", "object": "chat.completion.chunk", "choices": [{ "index": index, "delta": delta }] })
    }

    #[test]
    fn texts_are_put_together_choice_by_choice_with_the_usage() {
        let whole = assembled(&[
            delta(0, json!({ "role": "assistant", "content": "" })),
            delta(1, json!({ "content": "z" })),
            delta(0, json!({ "content": "Hel", "reasoning": "h" })),
            delta(0, json!({ "content": "lo", "reasoning": "m", "refusal": null })),
            json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }], "usage": null }),
            json!({ "choices": [], "usage": { "prompt_tokens": 1, "completion_tokens": 2 } }),
        ]);
        let wanted = json!({
            "id": "x", "object": "chat.completion", "usage": { "prompt_tokens": 1, "completion_tokens": 2 },
            "choices": [
                { "index": 0, "finish_reason": "stop",
                    "message": { "role": "assistant", "content": "Hello", "reasoning": "hm" } },
                { "index": 1, "finish_reason": null, "message": { "role": "assistant", "content": "z" } },
            ],
        });
        assert_eq!(whole, wanted);
    }

    #[test]
    fn tool_calls_are_put_together_by_their_index() {
        let call = |call: Value| delta(0, json!({ "tool_calls": [call] }));
        let whole = assembled(&[
            call(json!({ "index": 0, "id": "a", "type": "function", "function": { "name": "f", "arguments": "" } })),
            call(json!({ "index": 0, "function": { "arguments": "{\"x\"" } })),
            call(json!({ "index": 1, "id": "b", "function": { "name": "g", "arguments": "{}" } })),
            call(json!({ "index": 0, "id": "", "function": { "name": "", "arguments": ":1}" } })),
        ]);
        let message = &whole["choices"][0]["message"];
        assert_eq!(message["content"], Value::Null);
        let wanted = json!([
            { "id": "a", "type": "function", "function": { "name": "f", "arguments": "{\"x\":1}" } },
            { "id": "b", "function": { "name": "g", "arguments": "{}" } },
        ]);
        assert_eq!(message["tool_calls"], wanted);
    }

    #[test]
    fn chunks_of_another_shape_change_nothing() {
        let whole = assembled(&[json!(5), json!({ "choices": 3 }), json!({ "choices": [4, { "delta": 5 }] })]);
        assert_eq!(whole["object"], "chat.completion");
    }
}
