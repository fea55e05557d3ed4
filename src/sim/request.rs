//! What a request asks of the simulated provider, in any of the shapes that it speaks.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::content::{self, Said, words};
use super::words::Say;

/// Which shape the answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's text completions.
    Completions,
    /// OpenAI's embeddings.
    Embeddings,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
    /// What one of these would take.
    CountTokens,
}

impl Shape {
    /// Whether it is Anthropic's.
    pub(super) fn is_anthropic(self) -> bool {
        matches!(self, Self::Messages | Self::CountTokens)
    }
}

/// A request's body, of which only what the answer depends on is read.
#[derive(Debug, Deserialize)]
pub(super) struct Asked<'a> {
    #[serde(borrow)]
    pub(super) model: Cow<'a, str>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(borrow, default)]
    messages: Option<Vec<Turn<'a>>>,
    #[serde(borrow, default)]
    system: Option<&'a RawValue>,
    #[serde(borrow, default)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    n: Option<u32>,
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(borrow, default)]
    encoding_format: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct Turn<'a> {
    #[serde(borrow, default)]
    role: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    /// What an item of OpenAI's responses is, if it is no message.
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

/// The most choices of one answer.
const MAX_CHOICES: u32 = 128;
/// The most values of one vector.
const MAX_DIMENSIONS: usize = 4096;
const DEFAULT_DIMENSIONS: usize = 64;

/// A field that keeps a request from being answered, and what is wrong with it.
pub(super) type Wrong = (Option<&'static str>, String);

impl<'a> Asked<'a> {
    /// Reads a body.
    pub(super) fn parse(body: &'a [u8], shape: Shape) -> Result<Self, Wrong> {
        let mut asked: Self =
            serde_json::from_slice(body).map_err(|error| (None, format!("the body is no good: {error}")))?;
        if shape == Shape::Responses {
            // A text, or a list of what was said; of its items only those that have a role say something.
            match asked.input.map(|input| serde_json::from_str(input.get())) {
                Some(Ok(turns)) => asked.messages = Some(turns),
                _ => asked.prompt = asked.input,
            }
        }
        let missing = |field: &'static str| Err((Some(field), format!("'{field}' is missing")));
        match shape {
            Shape::Chat | Shape::Messages | Shape::CountTokens if asked.messages.is_none() => missing("messages"),
            Shape::Completions if asked.prompt.is_none() => missing("prompt"),
            Shape::Embeddings | Shape::Responses if asked.input.is_none() => missing("input"),
            _ => Ok(asked),
        }
    }

    pub(super) fn streamed(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(super) fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    pub(super) fn choices(&self) -> u32 {
        self.n.unwrap_or(1).clamp(1, MAX_CHOICES)
    }

    pub(super) fn dimensions(&self) -> usize {
        self.dimensions.unwrap_or(DEFAULT_DIMENSIONS).clamp(1, MAX_DIMENSIONS)
    }

    pub(super) fn wants_base64(&self) -> bool {
        self.encoding_format.as_deref() == Some("base64")
    }

    /// The texts to make vectors of: a string, a list of strings, a list of tokens, a list of lists of tokens.
    pub(super) fn inputs(&self) -> Vec<String> {
        let Some(input) = self.input else { return Vec::new() };
        match serde_json::from_str::<Value>(input.get()) {
            Ok(Value::String(text)) => vec![text],
            Ok(Value::Array(items)) if items.iter().any(Value::is_number) => vec![Value::Array(items).to_string()],
            Ok(Value::Array(items)) => {
                items.into_iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
            }
            _ => vec![input.get().to_owned()],
        }
    }

    /// How many words were asked with.
    pub(super) fn prompt_tokens(&self) -> u64 {
        let turns = self.messages.iter().flatten().filter_map(|turn| turn.content);
        turns
            .chain(self.system)
            .chain(self.instructions)
            .chain(self.prompt)
            .map(|content| words(&text_of(content)))
            .sum()
    }

    /// The last user message, or the prompt.
    fn last_words(&self) -> Cow<'a, str> {
        let mut turns = self.messages.iter().flatten().rev();
        let last = turns.find(|turn| turn.role == "user").and_then(|turn| turn.content).or(self.prompt);
        last.map_or(Cow::Borrowed(""), text_of)
    }

    /// What is said to it.
    pub(super) fn said(&self, say: Say) -> Result<Said, Wrong> {
        Ok(match say {
            Say::Echo => Said::Text(self.last_words().into_owned()),
            Say::Lorem(n) => Said::Lorem(n),
            Say::Json => Said::Text(content::json_object(&self.last_words())),
            // Whoever brings what a tool came to gets words: a program's round of tools comes to an end.
            Say::Tool => match self.tool_result() {
                Some(result) => return Ok(Said::Text(result.into_owned())),
                None => self
                    .first_tool()
                    .ok_or_else(|| (Some("tools"), "the word 'tool' needs a tool to call".to_owned()))?,
            },
        })
    }

    /// What a tool came to, if that is the last message, or stands in it as a part.
    fn tool_result(&self) -> Option<Cow<'a, str>> {
        let last = self.messages.as_ref()?.last()?;
        let result = match (&*last.role, &*last.kind) {
            ("tool", _) => last.content,
            (_, "function_call_output") => last.output,
            _ => {
                let parts: Vec<Part<'a>> = serde_json::from_str(last.content?.get()).ok()?;
                parts.into_iter().find(|part| part.kind == "tool_result")?.content
            }
        };
        Some(result.map_or(Cow::Borrowed(""), text_of))
    }

    fn first_tool(&self) -> Option<Said> {
        let tools: Vec<Value> = serde_json::from_str(self.tools?.get()).ok()?;
        let tool = tools.first()?;
        let function = tool.get("function").unwrap_or(tool);
        let schema = function.get("parameters").or_else(|| function.get("input_schema"));
        let name = function.get("name")?.as_str()?.to_owned();
        Some(Said::Tool { name, arguments: content::arguments(schema) })
    }
}

/// The text of a message's content: a string, or the text parts of a list.
fn text_of(content: &RawValue) -> Cow<'_, str> {
    let json = content.get();
    match json.as_bytes().first() {
        Some(b'"') if !json.contains('\\') => Cow::Borrowed(&json[1..json.len() - 1]),
        Some(b'"') => serde_json::from_str(json).map_or(Cow::Borrowed(""), Cow::Owned),
        Some(b'[') => match serde_json::from_str::<Vec<Part<'_>>>(json) {
            Ok(parts) => Cow::Owned(parts.into_iter().filter_map(|part| part.text).collect()),
            Err(_) => {
                serde_json::from_str::<Vec<String>>(json).map_or(Cow::Borrowed(""), |list| Cow::Owned(list.concat()))
            }
        },
        _ => Cow::Borrowed(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &str, shape: Shape, say: Say) -> Result<Said, Wrong> {
        Asked::parse(body.as_bytes(), shape)?.said(say)
    }

    fn text(text: &str) -> Result<Said, Wrong> {
        Ok(Said::Text(text.to_owned()))
    }

    #[test]
    fn echo_repeats_the_last_user_message_in_any_form() {
        for (body, wanted) in [
            (
                r#"{"model":"echo","messages":[{"role":"user","content":"one"},{"role":"user","content":"two \"x\" \u00e9"},{"role":"assistant","content":"no"}]}"#,
                "two \"x\" é",
            ),
            (
                r#"{"model":"echo","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}},{"type":"text","text":"\nb"}]}]}"#,
                "a\nb",
            ),
            (r#"{"model":"echo","messages":[{"role":"user","content":null}]}"#, ""),
            (r#"{"model":"echo","messages":[]}"#, ""),
        ] {
            assert_eq!(said(body, Shape::Chat, Say::Echo), text(wanted), "{body}");
        }
        assert_eq!(said(r#"{"model":"echo","prompt":"p q"}"#, Shape::Completions, Say::Echo), text("p q"));
        assert_eq!(said(r#"{"model":"echo","prompt":["p"," q"]}"#, Shape::Completions, Say::Echo), text("p q"));
    }

    #[test]
    fn a_body_that_cannot_be_answered_names_its_field() {
        for (body, shape, field) in [
            ("{", Shape::Chat, None),
            (r#"{"messages":[]}"#, Shape::Chat, None),
            (r#"{"model":"echo"}"#, Shape::Chat, Some("messages")),
            (r#"{"model":"echo"}"#, Shape::Messages, Some("messages")),
            (r#"{"model":"echo","messages":[]}"#, Shape::Completions, Some("prompt")),
            (r#"{"model":"echo"}"#, Shape::Embeddings, Some("input")),
        ] {
            assert_eq!(Asked::parse(body.as_bytes(), shape).expect_err(body).0, field);
        }
        assert_eq!(
            said(r#"{"model":"tool","messages":[]}"#, Shape::Chat, Say::Tool).expect_err("no tool").0,
            Some("tools")
        );
    }

    #[test]
    fn the_first_tool_is_called_in_either_shape() {
        let wanted = Said::Tool { name: "f".to_owned(), arguments: r#"{"a":1}"#.to_owned() };
        let schema = r#"{"type":"object","properties":{"a":{"type":"integer"}}}"#;
        let openai = format!(
            r#"{{"model":"tool","messages":[],"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]}}"#
        );
        let anthropic = format!(r#"{{"model":"tool","messages":[],"tools":[{{"name":"f","input_schema":{schema}}}]}}"#);
        assert_eq!(said(&openai, Shape::Chat, Say::Tool), Ok(wanted.clone()));
        assert_eq!(said(&anthropic, Shape::Messages, Say::Tool), Ok(wanted));
    }

    #[test]
    fn what_a_tool_came_to_is_said_in_every_shape_and_ends_its_round() {
        let tools = r#""tools":[{"name":"f","input_schema":{}}]"#;
        for (last, shape) in [
            (r#"{"role":"tool","tool_call_id":"c","content":"rain \"x\""}"#, Shape::Chat),
            (r#"{"role":"tool","tool_call_id":"c","content":[{"type":"text","text":"rain \"x\""}]}"#, Shape::Chat),
            (
                r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"c","content":"rain \"x\""}]}"#,
                Shape::Messages,
            ),
            (
                r#"{"role":"user","content":[{"type":"tool_result","content":[{"type":"text","text":"rain \"x\""}]},{"type":"text","text":"so?"}]}"#,
                Shape::Messages,
            ),
            (r#"{"type":"function_call_output","call_id":"c","output":"rain \"x\""}"#, Shape::Responses),
        ] {
            let field = if shape == Shape::Responses { "input" } else { "messages" };
            let asked = |turns: &str| format!(r#"{{"model":"tool",{tools},"{field}":[{turns}]}}"#);
            assert_eq!(said(&asked(last), shape, Say::Tool), text("rain \"x\""), "{last}");
            let more = asked(&format!(r#"{last},{{"role":"user","content":"again"}}"#));
            assert!(matches!(said(&more, shape, Say::Tool), Ok(Said::Tool { .. })), "{last}");
        }
    }

    #[test]
    fn inputs_come_in_four_forms() {
        let inputs = |input: &str| {
            let body = format!(r#"{{"model":"echo","input":{input}}}"#);
            Asked::parse(body.as_bytes(), Shape::Embeddings).expect("good").inputs()
        };
        assert_eq!(inputs(r#""a""#), ["a"]);
        assert_eq!(inputs(r#"["a","b"]"#), ["a", "b"]);
        assert_eq!(inputs("[1,2]"), ["[1,2]"]);
        assert_eq!(inputs("[[1],[2]]"), ["[1]", "[2]"]);
    }
}
