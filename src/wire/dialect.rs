//! The shapes themselves: which operation is asked for in which, where each lives, and what of the gateway's own is said in it.
//!
//! A client asks in the shape of its route, and a provider speaks one or more. Whoever has to say something of the gateway's own
//! to a client, an error above all, says it in the client's.

use super::{anthropic, openai};
use crate::error::Error;
use crate::ids::RequestId;
use crate::model::Operation;

/// A shape in which a client asks or a provider answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's API, and what resembles it.
    OpenAi,
    /// Anthropic's API.
    Anthropic,
}

impl Dialect {
    /// The shape in which this is asked for; none for what is forwarded, whose bytes nobody looks at.
    #[must_use]
    pub fn of(operation: &Operation) -> Option<Self> {
        match operation {
            Operation::ChatCompletions | Operation::Completions | Operation::Embeddings | Operation::Responses => {
                Some(Self::OpenAi)
            }
            Operation::Messages | Operation::CountTokens => Some(Self::Anthropic),
            Operation::Forward(_) => None,
        }
    }

    /// Header lines without which its providers do not answer; what the configuration or the client says goes before them.
    pub(crate) fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::OpenAi => &[],
            Self::Anthropic => &[("anthropic-version", anthropic::VERSION)],
        }
    }

    /// What the names of the header lines begin with that speak of it alone.
    pub(crate) fn family(self) -> &'static str {
        match self {
            Self::OpenAi => "openai-",
            Self::Anthropic => "anthropic-",
        }
    }

    /// The event that ends a complete stream and is the gateway's to send; none where the shape's own last event does.
    #[must_use]
    pub fn stream_end(self) -> &'static [u8] {
        match self {
            Self::OpenAi => openai::DONE,
            Self::Anthropic => b"",
        }
    }

    /// The body that tells `error` to a client; `id` names the request where the error itself does not.
    #[must_use]
    pub fn error_body(self, error: &Error, id: Option<&RequestId>) -> Vec<u8> {
        let id = id.or(error.request_id());
        match self {
            Self::OpenAi => openai::error_body(error, id),
            Self::Anthropic => anthropic::error_body(error, id),
        }
    }

    /// The same as the last event of a stream that failed.
    #[must_use]
    pub fn error_event(self, error: &Error) -> Vec<u8> {
        match self {
            Self::OpenAi => openai::error_event(error),
            Self::Anthropic => anthropic::error_event(error),
        }
    }
}

/// Where an operation lives behind a provider's version prefix; none for what is forwarded, which says so itself.
#[must_use]
pub(crate) fn route(operation: &Operation) -> Option<&'static str> {
    match operation {
        Operation::Messages => Some("/messages"),
        Operation::CountTokens => Some("/messages/count_tokens"),
        other => openai::route(other),
    }
}
