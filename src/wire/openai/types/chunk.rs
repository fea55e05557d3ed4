//! One event of a streamed answer.

use serde_json::Value;

use super::{from_json, usage};
use crate::error::Error;
use crate::model::Usage;

/// One event of a streamed answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChatChunk {
    /// The event's data as the provider sent it.
    pub raw: Value,
}

/// What an event adds to a tool call: the first of a call says its id and name, and those after it bring the arguments in
/// pieces.
///
/// ```
/// use sluicegate::ChatChunk;
///
/// // As a model streams a call: first its name, then its arguments in pieces.
/// let begin = ChatChunk::from_tool_call(0, "call_1", "weather", r#"{"city":"#);
/// let rest = ChatChunk::from_tool_arguments(0, r#""Oslo"}"#);
/// let deltas = [begin.tool_calls(), rest.tool_calls()].concat();
/// assert_eq!((deltas[0].name.as_deref(), &deltas[1].name), (Some("weather"), &None));
/// let arguments: String = deltas.into_iter().map(|delta| delta.arguments).collect();
/// assert_eq!(arguments, r#"{"city":"Oslo"}"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolCallDelta {
    /// Which of the answer's calls, from 0.
    pub index: u64,
    /// Names the call.
    pub id: Option<String>,
    /// The function's name.
    pub name: Option<String>,
    /// What follows what came of the arguments before.
    pub arguments: String,
}

impl ChatChunk {
    /// Reads an event's data.
    ///
    /// # Errors
    /// [`Code::UpstreamBadResponse`](crate::Code::UpstreamBadResponse) if it is no JSON.
    pub fn from_data(data: &[u8]) -> Result<Self, Error> {
        Ok(Self { raw: from_json(data)? })
    }

    /// The text that it adds to the first choice; empty if it adds none.
    #[must_use]
    pub fn text(&self) -> &str {
        self.first_choice().and_then(|choice| choice.pointer("/delta/content")).and_then(Value::as_str).unwrap_or("")
    }

    /// What it adds to the first choice's tool calls; nothing in most events.
    #[must_use]
    pub fn tool_calls(&self) -> Vec<ToolCallDelta> {
        let calls = self.first_choice().and_then(|choice| choice.pointer("/delta/tool_calls"));
        let read = |raw: &Value| {
            let text = |at: &str| raw.pointer(at).and_then(Value::as_str).map(str::to_owned);
            ToolCallDelta {
                index: raw.get("index").and_then(Value::as_u64).unwrap_or(0),
                id: text("/id"),
                name: text("/function/name"),
                arguments: text("/function/arguments").unwrap_or_default(),
            }
        };
        calls.and_then(Value::as_array).into_iter().flatten().map(read).collect()
    }

    /// Why the first choice finished, in the event that says so.
    #[must_use]
    pub fn finish_reason(&self) -> Option<&str> {
        self.first_choice()?.get("finish_reason")?.as_str()
    }

    /// The tokens, in the event that says them: there is one if the request asked for it by
    /// `stream_options: {"include_usage": true}`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_chunk_gives_what_it_adds() {
        let read = |text: &str| ChatChunk::from_data(text.as_bytes());
        let chunk = read(r#"{"choices":[{"index":0,"delta":{"content":"h"},"finish_reason":null}],"usage":null}"#);
        let chunk = chunk.expect("JSON");
        assert_eq!((chunk.text(), chunk.finish_reason(), chunk.usage()), ("h", None, None));
        assert!(chunk.tool_calls().is_empty());
        let second = read(r#"{"choices":[{"index":1,"delta":{"content":"z"}}]}"#).expect("JSON");
        assert_eq!(second.text(), "");
        assert_eq!(read("no").expect_err("bad").code(), Code::UpstreamBadResponse);
    }

    #[test]
    fn a_tool_call_comes_in_pieces() {
        let read = |text: &str| ChatChunk::from_data(text.as_bytes()).expect("JSON").tool_calls();
        let first = read(
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"c","function":{"name":"f","arguments":""}}]}}]}"#,
        );
        let (id, name) = (Some("c".to_owned()), Some("f".to_owned()));
        assert_eq!(first, [ToolCallDelta { index: 1, id, name, arguments: String::new() }]);
        let next = read(r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]}}]}"#);
        assert_eq!(next, [ToolCallDelta { index: 1, id: None, name: None, arguments: "{}".to_owned() }]);
    }
}
