//! A whole answer, with what a caller usually wants of it within reach.

use serde_json::Value;

use super::{Message, from_json, usage};
use crate::error::{Code, Error};
use crate::model::{Answer, Served, Usage};

/// A whole answer.
///
/// ```
/// use sluicegate::{ChatRequest, Gateway};
///
/// let reply = Gateway::from_env()?.chat(&ChatRequest::new("sim/echo", "Hello"))?;
/// assert_eq!((reply.text(), reply.finish_reason()), ("Hello", Some("stop")));
/// let served = reply.served();
/// assert_eq!((&*served.provider, served.model.as_str(), served.attempts), ("sim", "echo", 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChatReply {
    /// The tokens, if the provider counted them.
    pub usage: Option<Usage>,
    /// The answer as the provider sent it.
    pub raw: Value,
    served: Served,
}

/// One of the answers to a request; there are several only where that asked for them.
///
/// ```
/// use sluicegate::{ChatRequest, Gateway};
///
/// let gateway = Gateway::from_env()?;
/// let reply = gateway.chat(&ChatRequest::new("sim/echo", "Hello").with("n", 2))?;
/// let choices: Vec<_> = reply.choices().map(|choice| (choice.index(), choice.text())).collect();
/// assert_eq!(choices, [(0, "Hello"), (1, "Hello")]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a>(&'a Value);

/// A function that the model wants called.
///
/// ```
/// use std::collections::BTreeMap;
/// use sluicegate::{Message, ToolCall};
///
/// let call = ToolCall::new("call_1", "weather", r#"{"city":"Oslo"}"#);
/// let arguments: BTreeMap<String, String> = call.arguments_as()?;
/// let answer = match (call.name.as_str(), arguments["city"].as_str()) {
///     ("weather", "Oslo") => Message::tool(call.id, "rain"),
///     (name, _) => Message::tool(call.id, format!("there is no tool {name:?}")),
/// };
/// assert_eq!((answer.text(), &answer.extra["tool_call_id"]), ("rain", &"call_1".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolCall {
    /// Names the call; [`Message::tool`] answers it.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// Its arguments: a JSON object, if the model kept to what it was told.
    pub arguments: String,
}

impl ToolCall {
    /// A call of the function `name`.
    #[must_use]
    pub fn new(id: impl Into<String>, name: impl Into<String>, arguments: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), arguments: arguments.into() }
    }
}

impl ChatReply {
    /// Reads a whole answer.
    ///
    /// # Errors
    /// [`Code::UpstreamBadResponse`] if it is no JSON.
    pub fn from_answer(answer: &Answer) -> Result<Self, Error> {
        Ok(Self::from_parts(from_json(&answer.body)?, answer.served.clone()))
    }

    pub(crate) fn from_parts(raw: Value, served: Served) -> Self {
        Self { usage: usage(&raw), raw, served }
    }

    /// The first choice's text; empty if it has none, as when it calls a tool.
    #[must_use]
    pub fn text(&self) -> &str {
        self.first().map_or("", |choice| choice.text())
    }

    /// Why the first choice finished.
    #[must_use]
    pub fn finish_reason(&self) -> Option<&str> {
        self.first()?.finish_reason()
    }

    /// What the first choice wants called; none for most answers.
    #[must_use]
    pub fn tool_calls(&self) -> Vec<ToolCall> {
        self.first().map_or_else(Vec::new, |choice| choice.tool_calls())
    }

    /// The first choice as a message, to go on with the conversation.
    ///
    /// ```
    /// use sluicegate::{ChatRequest, Gateway, Message};
    ///
    /// let gateway = Gateway::from_env()?;
    /// let mut request = ChatRequest::new("sim/echo", "Hello");
    /// let reply = gateway.chat(&request)?;
    /// request.messages.extend([reply.message(), Message::user("And now?")]);
    /// assert_eq!(gateway.chat(&request)?.text(), "And now?");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn message(&self) -> Message {
        self.first().map_or_else(|| Message::assistant(""), |choice| choice.message())
    }

    /// Every choice, in the provider's order.
    pub fn choices(&self) -> impl Iterator<Item = Choice<'_>> {
        self.raw.get("choices").and_then(Value::as_array).into_iter().flatten().map(Choice)
    }

    /// The model that answered, as the provider names it; what it was asked for as is in [`served`](Self::served).
    #[must_use]
    pub fn model(&self) -> &str {
        self.raw.get("model").and_then(Value::as_str).unwrap_or(&self.served.model)
    }

    /// Who answered after how many attempts, and where the time went.
    #[must_use]
    pub fn served(&self) -> &Served {
        &self.served
    }

    fn first(&self) -> Option<Choice<'_>> {
        self.choices().next()
    }
}

impl<'a> Choice<'a> {
    /// Its number among the choices, from 0.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.0.get("index").and_then(Value::as_u64).unwrap_or(0)
    }

    /// Its text; empty if it has none.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.0.pointer("/message/content").and_then(Value::as_str).unwrap_or("")
    }

    /// Why it finished.
    #[must_use]
    pub fn finish_reason(&self) -> Option<&'a str> {
        self.0.get("finish_reason")?.as_str()
    }

    /// What it wants called.
    #[must_use]
    pub fn tool_calls(&self) -> Vec<ToolCall> {
        let calls = self.0.pointer("/message/tool_calls").and_then(Value::as_array);
        calls.into_iter().flatten().map(ToolCall::read).collect()
    }

    /// It as a message, with whatever the provider put into it.
    #[must_use]
    pub fn message(&self) -> Message {
        let message = self.0.get("message").cloned().unwrap_or_default();
        serde_json::from_value(message).unwrap_or_else(|_| Message::assistant(self.text()))
    }

    /// It as the provider sent it.
    #[must_use]
    pub fn raw(&self) -> &'a Value {
        self.0
    }
}

impl ToolCall {
    /// The arguments as a type of the caller's own.
    ///
    /// # Errors
    /// [`Code::UpstreamBadResponse`] if the model wrote something else.
    pub fn arguments_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.arguments).map_err(|error| {
            let text = format!("the arguments of {:?} are not what they should be", self.name);
            Error::new(Code::UpstreamBadResponse, text).with_source(error)
        })
    }

    fn read(raw: &Value) -> Self {
        let text = |at: &str| raw.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { id: text("/id"), name: text("/function/name"), arguments: text("/function/arguments") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reply(raw: Value) -> ChatReply {
        let served = Served {
            provider: "p".into(),
            model: "asked".to_owned(),
            attempts: 1,
            fallbacks: 0,
            timing: crate::model::Timing::default(),
            overhead: std::time::Duration::ZERO,
        };
        ChatReply::from_parts(raw, served)
    }

    #[test]
    fn an_answer_gives_its_text_and_usage() {
        let reply = reply(json!({
            "model": "m-1",
            "choices": [{ "message": { "content": "hi" }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 1, "completion_tokens": 2 },
        }));
        assert_eq!((reply.text(), reply.finish_reason(), reply.model()), ("hi", Some("stop"), "m-1"));
        assert_eq!(reply.usage, Some(Usage { input: 1, output: 2 }));
        assert!(reply.tool_calls().is_empty());
    }

    #[test]
    fn tool_calls_are_read_and_go_back_in_the_message() {
        let call = json!({ "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{\"a\":[1,2]}" } });
        let message = json!({ "role": "assistant", "content": null, "tool_calls": [call], "refusal": null });
        let reply = reply(json!({ "choices": [{ "index": 0, "message": message }] }));
        let calls = reply.tool_calls();
        assert_eq!((calls[0].id.as_str(), calls[0].name.as_str(), reply.text()), ("c1", "f", ""));
        assert_eq!(calls[0].arguments_as::<Value>().expect("JSON"), json!({ "a": [1, 2] }));
        assert!(calls[0].arguments_as::<Vec<u8>>().is_err());
        let again = serde_json::to_value(reply.message()).expect("JSON");
        assert_eq!((&again["tool_calls"][0], again.get("content")), (&call, None));
    }

    #[test]
    fn an_answer_of_another_shape_is_empty_and_no_panic() {
        for raw in
            [json!(null), json!([]), json!({ "choices": 5 }), json!({ "choices": [5] }), json!({ "choices": [] })]
        {
            let reply = reply(raw);
            assert_eq!((reply.text(), reply.finish_reason(), reply.model()), ("", None, "asked"));
            assert_eq!((reply.tool_calls().len(), reply.message()), (0, Message::assistant("")));
        }
    }

    #[test]
    fn each_choice_speaks_for_itself() {
        let choice =
            |index: u64, text: &str| json!({ "index": index, "message": { "role": "assistant", "content": text } });
        let reply = reply(json!({ "choices": [choice(0, "one"), choice(1, "two")] }));
        let all: Vec<_> = reply.choices().map(|choice| (choice.index(), choice.text())).collect();
        assert_eq!(all, [(0, "one"), (1, "two")]);
    }
}
