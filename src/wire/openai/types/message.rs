//! One message of a conversation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ToolCall;
use crate::wire::base64;

/// One message of a conversation.
///
/// ```
/// use sluicegate::Message;
///
/// let asked = Message::user("What is on it?").with_image("https://example.com/cat.png");
/// assert_eq!(asked.text(), "What is on it?");
/// ```
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
///
/// ```
/// use sluicegate::{Content, Message};
///
/// assert_eq!(Message::user("Hello").content, Some(Content::Text("Hello".to_owned())));
/// match Message::user("What is on it?").with_image("https://example.com/cat.png").content {
///     Some(Content::Parts(parts)) => assert_eq!(parts[1]["image_url"]["url"], "https://example.com/cat.png"),
///     other => panic!("an image is a part: {other:?}"),
/// }
/// ```
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

    /// Puts calls of tools on an assistant's message, as [`ChatReply::message`](super::ChatReply::message) has them.
    #[must_use]
    pub fn with_tool_calls(mut self, calls: &[ToolCall]) -> Self {
        let call = |call: &ToolCall| {
            let ToolCall { id, name, arguments } = call;
            json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
        };
        self.extra.insert("tool_calls".to_owned(), calls.iter().map(call).collect());
        self
    }

    /// What a tool came to that the model has called: `id` is its [`ToolCall::id`](super::ToolCall::id).
    #[must_use]
    pub fn tool(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new("tool", text).with("tool_call_id", id.into())
    }

    /// Sets any other field of the message, such as `name`.
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(field.into(), value.into());
        self
    }

    /// Adds any part to what it says, as the API defines it; text that stands there already becomes the first.
    #[must_use]
    pub fn with_part(mut self, part: impl Into<Value>) -> Self {
        let mut parts = match self.content.take() {
            Some(Content::Parts(parts)) => parts,
            Some(Content::Text(text)) => vec![json!({ "type": "text", "text": text })],
            None => Vec::new(),
        };
        parts.push(part.into());
        self.content = Some(Content::Parts(parts));
        self
    }

    /// Adds an image that the provider finds at `url`, which may be a `data:` URL.
    #[must_use]
    pub fn with_image(self, url: impl Into<String>) -> Self {
        self.with_part(json!({ "type": "image_url", "image_url": { "url": url.into() } }))
    }

    /// Adds an image of these bytes, of a type such as `image/png`.
    #[must_use]
    pub fn with_image_bytes(self, media_type: &str, bytes: &[u8]) -> Self {
        self.with_image(format!("data:{media_type};base64,{}", base64::encode(bytes)))
    }

    /// Its text: of several parts that of the first that is text; empty where it has none.
    #[must_use]
    pub fn text(&self) -> &str {
        match &self.content {
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => {
                parts.iter().find_map(|part| part.get("text").and_then(Value::as_str)).unwrap_or("")
            }
            None => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_stands_behind_the_text() {
        let message = Message::user("see").with_image("https://x/y").with_image_bytes("image/png", b"foo");
        let wanted = json!({ "role": "user", "content": [
            { "type": "text", "text": "see" },
            { "type": "image_url", "image_url": { "url": "https://x/y" } },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,Zm9v" } },
        ] });
        assert_eq!(serde_json::to_value(&message).expect("JSON"), wanted);
        assert_eq!(message.text(), "see");
    }

    #[test]
    fn a_tools_answer_names_the_call() {
        let message = serde_json::to_value(Message::tool("call_1", "42")).expect("JSON");
        assert_eq!(message, json!({ "role": "tool", "content": "42", "tool_call_id": "call_1" }));
    }
}
