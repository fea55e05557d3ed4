//! One answer of the simulated provider, as a body or as events, and its errors: the part that shapes have in common.

use super::content::Said;
use super::request::Shape;
use super::{anthropic, openai, responses};

/// When everything was made: a fixed moment, so that an answer is a function of its request.
pub(super) const CREATED: u64 = 1_700_000_000;

/// Everything an answer is made of.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    pub(super) shape: Shape,
    /// The number in its id.
    pub(super) number: u64,
    pub(super) model: &'a str,
    pub(super) said: Said,
    pub(super) prompt_tokens: u64,
    /// How many times it is said.
    pub(super) choices: u32,
    /// A stream says its usage.
    pub(super) include_usage: bool,
    /// A stream ends without its end marker.
    pub(super) no_done: bool,
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It comes before any token.
    Opening,
    /// It says the next token.
    Token,
    /// It says the same token of another choice.
    Again,
    /// It comes after the last token.
    Closing,
}

impl Reply<'_> {
    /// The whole answer, not streamed.
    pub(super) fn body(&self) -> Vec<u8> {
        match self.shape {
            Shape::Messages => anthropic::body(self),
            Shape::Responses => responses::body(self),
            _ => openai::body(self),
        }
    }

    /// The answer as a stream.
    pub(super) fn events(&self) -> Events<'_> {
        match self.shape {
            Shape::Messages => Events::Anthropic(anthropic::Events::new(self)),
            Shape::Responses => Events::Responses(responses::Events::new(self)),
            _ => Events::OpenAi(openai::Events::new(self)),
        }
    }
}

/// The events of a stream one by one.
#[derive(Debug)]
pub(super) enum Events<'a> {
    OpenAi(openai::Events<'a>),
    Anthropic(anthropic::Events<'a>),
    Responses(responses::Events<'a>),
}

impl Events<'_> {
    /// Appends the next event to `out` and says what it is; `None` after the last.
    pub(super) fn next(&mut self, out: &mut Vec<u8>) -> Option<Part> {
        match self {
            Self::OpenAi(events) => events.next(out),
            Self::Anthropic(events) => events.next(out),
            Self::Responses(events) => events.next(out),
        }
    }
}

/// An error as one body, in the shape of the route.
pub(super) fn error_body(shape: Option<Shape>, status: u16, message: &str, param: Option<&str>) -> Vec<u8> {
    match shape {
        Some(shape) if shape.is_anthropic() => anthropic::error_body(status, message),
        _ => openai::error_body(status, message, param),
    }
}

/// An error as an event of a stream.
pub(super) fn error_event(shape: Shape, status: u16, message: &str) -> Vec<u8> {
    let name: &[u8] = if shape.is_anthropic() { b"event: error\n" } else { b"" };
    [name, b"data: ", &error_body(Some(shape), status, message, None), b"\n\n"].concat()
}

/// An event that is no JSON: one cut off in its middle.
pub(super) fn garbage_event(shape: Shape) -> &'static [u8] {
    match shape {
        Shape::Messages => b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"del\n\n",
        _ => b"data: {\"id\":\"chatcmpl-sim\",\"choices\":[{\"index\":0,\"delta\":{\"cont\n\n",
    }
}

/// A body that is no JSON.
pub(super) const GARBAGE_BODY: &[u8] = b"{\"id\":\"chatcmpl-sim\",\"choices\":[{\"index\":0,\"mess";

/// Appends `text` as a JSON string.
pub(super) fn push_json(out: &mut Vec<u8>, text: &str) {
    // Writing a string to memory has no way to fail.
    let _ = serde_json::to_writer(out, text);
}

/// Appends a whole number.
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}
