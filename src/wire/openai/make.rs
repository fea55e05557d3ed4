//! Answers that a program makes instead of a provider: typed ones put together, and written in OpenAI's shape.
//!
//! Pure: which id an answer has and when it was made is handed in by whoever sends it.

use serde_json::{Map, Value, json};

use super::DONE;
use super::types::ChatChunk;

/// A whole answer to a chat, as a provider gives it.
///
/// ```
/// use sluicegate::serde_json::json;
/// use sluicegate::ProviderReply;
///
/// let told = ProviderReply::text("It rains.").with_usage(12, 3);
/// let asked = ProviderReply::text("").with_tool_call("call_1", "weather", &json!({ "city": "Oslo" }));
/// let cut = ProviderReply::text("It ra").with_finish_reason("length");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderReply {
    raw: Value,
}

impl From<Value> for ProviderReply {
    /// The answer's body, in OpenAI's shape. Of `id`, `object`, `created` and `model` what is missing is added.
    fn from(raw: Value) -> Self {
        Self { raw }
    }
}

impl ProviderReply {
    /// An answer that says `text` and has come to its end.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        let message = json!({ "role": "assistant", "content": text.into() });
        json!({ "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] }).into()
    }

    /// Calls a tool: `id` names the call, `arguments` is usually an object. It then finishes by `tool_calls`.
    #[must_use]
    pub fn with_tool_call(mut self, id: &str, name: &str, arguments: &Value) -> Self {
        let function = json!({ "name": name, "arguments": arguments.to_string() });
        let call = json!({ "id": id, "type": "function", "function": function });
        if let Some(message) = self.raw.pointer_mut("/choices/0/message").and_then(Value::as_object_mut) {
            if message.get("content").and_then(Value::as_str) == Some("") {
                message.insert("content".to_owned(), Value::Null);
            }
            match message.entry("tool_calls").or_insert_with(|| json!([])) {
                Value::Array(calls) => calls.push(call),
                other => *other = json!([call]),
            }
        }
        self.with_finish_reason("tool_calls")
    }

    /// Says why it finished: `stop`, `length`, `tool_calls`, …
    #[must_use]
    pub fn with_finish_reason(mut self, reason: &str) -> Self {
        if let Some(found) = self.raw.pointer_mut("/choices/0/finish_reason") {
            *found = reason.into();
        }
        self
    }

    /// Says how many tokens the request and the answer had.
    #[must_use]
    pub fn with_usage(mut self, input: u64, output: u64) -> Self {
        self.raw["usage"] = usage(input, output);
        self
    }

    /// The same as a stream: what it says, why it finished, how many tokens it had.
    pub(crate) fn into_chunks(self) -> Vec<ChatChunk> {
        let Value::Object(mut raw) = self.raw else { return Vec::new() };
        let counted = raw.remove("usage").filter(|usage| !usage.is_null());
        let choices = raw.remove("choices").and_then(into_array).unwrap_or_default();
        let mut chunks = Vec::new();
        for mut choice in choices.into_iter().filter_map(into_object) {
            let mut delta = choice.remove("message").and_then(into_object).unwrap_or_default();
            // In a delta the calls of tools are counted through.
            let calls = delta.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten();
            for (index, call) in calls.enumerate().filter(|(_, call)| call.is_object()) {
                call["index"] = index.into();
            }
            let reason = choice.remove("finish_reason").unwrap_or(Value::Null);
            let index = choice.remove("index").unwrap_or_else(|| 0.into());
            chunks.push(chunk(&raw, json!([{ "index": index, "delta": delta, "finish_reason": null }])));
            chunks.push(chunk(&raw, json!([{ "index": index, "delta": {}, "finish_reason": reason }])));
        }
        chunks.extend(counted.map(|counted| {
            let mut last = chunk(&raw, json!([]));
            last.raw["usage"] = counted;
            last
        }));
        chunks
    }

    /// The answer's bytes.
    pub(crate) fn into_body(mut self, made: &Made<'_>) -> Vec<u8> {
        made.complete(&mut self.raw, "chat.completion");
        self.raw.to_string().into_bytes()
    }
}

impl ChatChunk {
    /// An event that adds `text` to the answer.
    ///
    /// ```
    /// use sluicegate::ChatChunk;
    ///
    /// assert_eq!(ChatChunk::from_text("Hel").text(), "Hel");
    /// assert_eq!(ChatChunk::from_finish_reason("length").finish_reason(), Some("length"));
    /// assert_eq!(ChatChunk::from_usage(3, 1).usage().map(|usage| usage.output), Some(1));
    /// ```
    #[must_use]
    pub fn from_text(text: impl Into<String>) -> Self {
        Self::of(&json!({ "content": text.into() }), &Value::Null)
    }

    /// An event that begins the `index`th call of a tool, with as much of its arguments' JSON as there is.
    ///
    /// ```
    /// use sluicegate::ChatChunk;
    ///
    /// let begin = ChatChunk::from_tool_call(0, "call_1", "weather", "{\"city\":");
    /// let rest = ChatChunk::from_tool_arguments(0, "\"Oslo\"}");
    /// assert_eq!(rest.raw["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"], "\"Oslo\"}");
    /// # assert_eq!(begin.raw["choices"][0]["delta"]["tool_calls"][0]["function"]["name"], "weather");
    /// ```
    #[must_use]
    pub fn from_tool_call(index: usize, id: &str, name: &str, arguments: &str) -> Self {
        let function = json!({ "name": name, "arguments": arguments });
        let call = json!({ "index": index, "id": id, "type": "function", "function": function });
        Self::of(&json!({ "tool_calls": [call] }), &Value::Null)
    }

    /// An event that adds to the arguments of the `index`th call of a tool.
    #[must_use]
    pub fn from_tool_arguments(index: usize, arguments: &str) -> Self {
        let call = json!({ "index": index, "function": { "arguments": arguments } });
        Self::of(&json!({ "tool_calls": [call] }), &Value::Null)
    }

    /// The event that says why the answer finished: `stop`, `length`, `tool_calls`, …
    #[must_use]
    pub fn from_finish_reason(reason: &str) -> Self {
        Self::of(&json!({}), &reason.into())
    }

    /// The event that says how many tokens the request and the answer had.
    #[must_use]
    pub fn from_usage(input: u64, output: u64) -> Self {
        Self { raw: json!({ "choices": [], "usage": usage(input, output) }) }
    }

    fn of(delta: &Value, reason: &Value) -> Self {
        Self { raw: json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": reason }] }) }
    }

    /// The event's bytes, framed.
    pub(crate) fn into_event(mut self, made: &Made<'_>) -> Vec<u8> {
        made.complete(&mut self.raw, "chat.completion.chunk");
        framed(&self.raw)
    }
}

/// The last bytes of a stream that is complete; `finished` is whether an event has said why.
pub(crate) fn stream_end(made: &Made<'_>, finished: bool) -> Vec<u8> {
    let mut end = Vec::new();
    if !finished {
        end = ChatChunk::from_finish_reason("stop").into_event(made);
    }
    end.extend_from_slice(DONE);
    end
}

/// A provider's error in OpenAI's shape.
pub(crate) fn error_object(status: u16, message: &str, code: Option<&str>) -> Value {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
}

/// An event with this data.
pub(crate) fn framed(data: &Value) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

/// What an answer says of itself beside what its maker has said.
pub(crate) struct Made<'a> {
    /// The model that was asked for.
    pub(crate) model: &'a str,
    /// What the answer's name is made of.
    pub(crate) id: &'a str,
    /// When it was made, in seconds since the Unix epoch.
    pub(crate) created: u64,
}

impl Made<'_> {
    /// Adds what is missing.
    fn complete(&self, raw: &mut Value, object: &str) {
        let Value::Object(fields) = raw else { return };
        for (key, value) in [
            ("id", Value::from(format!("chatcmpl-{}", self.id))),
            ("object", object.into()),
            ("created", self.created.into()),
            ("model", self.model.into()),
        ] {
            fields.entry(key).or_insert(value);
        }
    }
}

fn usage(input: u64, output: u64) -> Value {
    json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input.saturating_add(output) })
}

/// An event with the fields of the answer that it is a part of.
fn chunk(fields: &Map<String, Value>, choices: Value) -> ChatChunk {
    let mut raw = fields.clone();
    raw.shift_remove("object");
    raw.insert("choices".to_owned(), choices);
    ChatChunk { raw: Value::Object(raw) }
}

fn into_array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

fn into_object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: Made<'static> = Made { model: "m", id: "7", created: 9 };

    #[test]
    fn an_answer_becomes_a_stream_that_says_the_same() {
        let reply = ProviderReply::text("hi").with_tool_call("c", "f", &json!({ "a": 1 })).with_usage(1, 2);
        let chunks = reply.into_chunks();
        assert_eq!(chunks.len(), 3);
        assert_eq!((chunks[0].text(), chunks[0].finish_reason()), ("hi", None));
        let call = &chunks[0].raw["choices"][0]["delta"]["tool_calls"][0];
        assert_eq!((&call["index"], &call["function"]["arguments"]), (&json!(0), &json!("{\"a\":1}")));
        assert_eq!(chunks[1].finish_reason(), Some("tool_calls"));
        assert_eq!(chunks[2].usage().map(|usage| (usage.input, usage.output)), Some((1, 2)));
    }

    #[test]
    fn what_an_answer_does_not_say_of_itself_is_added_and_what_it_says_stays() {
        let body = ProviderReply::text("hi").into_body(&MADE);
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((&body["id"], &body["object"]), (&json!("chatcmpl-7"), &json!("chat.completion")));
        assert_eq!((&body["created"], &body["model"]), (&json!(9), &json!("m")));
        let mut named = ProviderReply::text("hi");
        named.raw["model"] = "own".into();
        let events = named.into_chunks().into_iter().map(|chunk| chunk.into_event(&MADE));
        let events = String::from_utf8(events.collect::<Vec<_>>().concat()).expect("UTF-8");
        assert_eq!(events.matches("\"model\":\"own\"").count(), 2, "{events}");
        assert_eq!(events.matches("chat.completion.chunk").count(), 2, "{events}");
    }

    #[test]
    fn a_stream_that_never_said_why_it_finished_says_so_at_its_end() {
        let end = |finished| String::from_utf8(stream_end(&MADE, finished)).expect("UTF-8");
        assert_eq!(end(true), "data: [DONE]\n\n");
        assert!(end(false).contains("\"finish_reason\":\"stop\"") && end(false).ends_with("data: [DONE]\n\n"));
    }

    #[test]
    fn an_answer_that_only_calls_tools_has_no_text() {
        let reply = ProviderReply::text("").with_tool_call("c", "f", &json!({}));
        assert_eq!(reply.raw["choices"][0]["message"]["content"], Value::Null);
    }
}
