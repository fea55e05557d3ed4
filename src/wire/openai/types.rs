//! Typed requests and answers for library users. What they don't name is kept: unknown fields live in `extra` or `raw`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Code, Error};
use crate::model::Usage;

/// A chat request.
///
/// ```
/// use sluicegate::wire::openai::{ChatRequest, Message};
///
/// let request = ChatRequest::new("sim/echo", "Hello")
///     .with_message(Message::assistant("Hello yourself."))
///     .with_message(Message::user("And now?"))
///     .with("temperature", 0.2);
/// assert_eq!(request.messages.len(), 3);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChatRequest {
    /// `provider/model`, or an alias.
    pub model: String,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// What is tried next if the model fails. Never goes upstream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
    /// Every other field, as it goes upstream. Whether it is streamed is decided by the method called, not here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ChatRequest {
    /// A request of one user message.
    #[must_use]
    pub fn new(model: impl Into<String>, prompt: impl Into<String>) -> Self {
        Self { model: model.into(), messages: vec![Message::user(prompt)], ..Self::default() }
    }

    /// A request without messages yet.
    #[must_use]
    pub fn to(model: impl Into<String>) -> Self {
        Self { model: model.into(), ..Self::default() }
    }

    /// Adds a message.
    #[must_use]
    pub fn with_message(mut self, message: Message) -> Self {
        self.messages.push(message);
        self
    }

    /// Adds a model to try if the ones before it fail.
    #[must_use]
    pub fn with_fallback(mut self, model: impl Into<String>) -> Self {
        self.fallbacks.push(model.into());
        self
    }

    /// Sets any other field of the API: `temperature`, `max_tokens`, `tools`, …
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(field.into(), value.into());
        self
    }

    /// The request as a body, asking for a stream or not.
    #[must_use]
    pub fn to_body(&self, stream: bool) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            model: &'a str,
            messages: &'a [Message],
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            fallbacks: &'a [String],
            stream: bool,
            #[serde(flatten)]
            extra: Map<String, Value>,
        }
        let mut extra = self.extra.clone();
        // A key that stands twice would be refused; the fields above are the ones that count.
        for named in ["model", "messages", "fallbacks", "stream"] {
            extra.shift_remove(named);
        }
        let body = Body { model: &self.model, messages: &self.messages, fallbacks: &self.fallbacks, stream, extra };
        // Keys are strings and numbers finite by their types: there is nothing that could fail to be written.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, …
    pub role: String,
    /// What it says; an assistant's message that only calls tools has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Every other field: `tool_calls`, `tool_call_id`, `name`, …
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Content {
    /// Text.
    Text(String),
    /// Parts: text, images, files, as the API defines them.
    Parts(Vec<Value>),
}

impl Message {
    /// A message of any role.
    #[must_use]
    pub fn new(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self { role: role.into(), content: Some(Content::Text(text.into())), extra: Map::new() }
    }

    /// A system message.
    #[must_use]
    pub fn system(text: impl Into<String>) -> Self {
        Self::new("system", text)
    }

    /// A user's message.
    #[must_use]
    pub fn user(text: impl Into<String>) -> Self {
        Self::new("user", text)
    }

    /// An assistant's message.
    #[must_use]
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new("assistant", text)
    }

    /// Its text; empty where it has none or consists of parts.
    #[must_use]
    pub fn text(&self) -> &str {
        match &self.content {
            Some(Content::Text(text)) => text,
            _ => "",
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChatReply {
    /// The tokens, if the provider counted them.
    pub usage: Option<Usage>,
    /// The answer as the provider sent it.
    pub raw: Value,
}

impl ChatReply {
    /// Reads an answer's body.
    ///
    /// # Errors
    /// [`Code::UpstreamBadResponse`] if it is no JSON.
    pub fn from_body(body: &[u8]) -> Result<Self, Error> {
        let raw = from_json(body)?;
        Ok(Self { usage: usage(&raw), raw })
    }

    /// The first choice's text; empty if it has none, as when it calls a tool.
    #[must_use]
    pub fn text(&self) -> &str {
        self.raw.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap_or("")
    }

    /// Why the first choice finished.
    #[must_use]
    pub fn finish_reason(&self) -> Option<&str> {
        self.raw.pointer("/choices/0/finish_reason").and_then(Value::as_str)
    }
}

/// One event of a streamed answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChatChunk {
    /// The event's data as the provider sent it.
    pub raw: Value,
}

impl ChatChunk {
    /// Reads an event's data.
    ///
    /// # Errors
    /// [`Code::UpstreamBadResponse`] if it is no JSON.
    pub fn from_data(data: &[u8]) -> Result<Self, Error> {
        Ok(Self { raw: from_json(data)? })
    }

    /// The text that it adds to the first choice; empty if it adds none.
    #[must_use]
    pub fn text(&self) -> &str {
        self.first_choice().and_then(|choice| choice.pointer("/delta/content")).and_then(Value::as_str).unwrap_or("")
    }

    /// Why the first choice finished, in the event that says so.
    #[must_use]
    pub fn finish_reason(&self) -> Option<&str> {
        self.first_choice()?.get("finish_reason")?.as_str()
    }

    /// The tokens, in the event that says them.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        usage(&self.raw)
    }

    /// With several choices, an event speaks of one of them, in any place of the list.
    fn first_choice(&self) -> Option<&Value> {
        let choices = self.raw.get("choices")?.as_array()?;
        choices.iter().find(|choice| choice.get("index").is_none_or(|index| index == 0))
    }
}

fn from_json(text: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(text)
        .map_err(|error| Error::new(Code::UpstreamBadResponse, "the provider's answer is no JSON").with_source(error))
}

fn usage(raw: &Value) -> Option<Usage> {
    let usage = raw.get("usage")?.as_object()?;
    let number = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
    Some(Usage { input: number("prompt_tokens"), output: number("completion_tokens") })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::openai::parse_chat;

    #[test]
    fn a_request_keeps_fields_that_it_does_not_know() {
        let sent = json!({
            "model":"m","seed":7,"messages":[{"role":"user","content":[{"type":"text","text":"x"}],"name":"n"},
                {"role":"assistant","tool_calls":[{"id":"1"}]}],"future":{"a":[1]},
        });
        let request: ChatRequest = serde_json::from_value(sent.clone()).expect("a request");
        assert_eq!(request.extra["future"], json!({"a":[1]}));
        assert_eq!(serde_json::to_value(&request).expect("JSON"), sent);
    }

    #[test]
    fn a_body_is_one_that_the_gateway_takes() {
        let request = ChatRequest::new("a/b", "hi").with_fallback("c/d").with("stream", false).with("n", 1);
        let body = request.to_body(true);
        let fields = parse_chat(&body).expect("good");
        assert!(fields.stream);
        assert_eq!((fields.model.as_str(), fields.fallbacks), ("a/b", vec!["c/d".to_owned()]));
        assert!(String::from_utf8(body).expect("UTF-8").contains(r#""n":1"#));
    }

    #[test]
    fn answers_give_their_text_and_usage() {
        let reply = ChatReply::from_body(
            br#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
        )
        .expect("JSON");
        assert_eq!((reply.text(), reply.finish_reason()), ("hi", Some("stop")));
        assert_eq!(reply.usage, Some(Usage { input: 1, output: 2 }));
        let chunk = ChatChunk::from_data(
            br#"{"choices":[{"index":0,"delta":{"content":"h"},"finish_reason":null}],"usage":null}"#,
        )
        .expect("JSON");
        assert_eq!((chunk.text(), chunk.finish_reason(), chunk.usage()), ("h", None, None));
        let second = ChatChunk::from_data(br#"{"choices":[{"index":1,"delta":{"content":"z"}}]}"#).expect("JSON");
        assert_eq!(second.text(), "");
        assert_eq!(ChatReply::from_body(b"no").expect_err("bad").code(), Code::UpstreamBadResponse);
    }
}
