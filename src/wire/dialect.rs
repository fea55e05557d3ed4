//! The shapes themselves: which operation is asked for in which, where each lives, and what of the gateway's own is said in it.
//!
//! A client asks in the shape of its route, and a provider speaks one or more. Whoever has to say something of the gateway's own
//! to a client, an error above all, says it in the client's.

#[cfg(feature = "bedrock")]
use super::bedrock;
use super::{anthropic, openai};
use crate::error::Error;
#[cfg(feature = "front")]
use crate::ids::RequestId;
use crate::model::{BodyFields, Operation};

/// A shape in which a client asks or a provider answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's API, and what resembles it.
    OpenAi,
    /// Anthropic's API.
    Anthropic,
    /// Amazon Bedrock's runtime.
    #[cfg(feature = "bedrock")]
    Bedrock,
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
            #[cfg(feature = "bedrock")]
            Operation::Converse(_) | Operation::Invoke(_) => Some(Self::Bedrock),
            Operation::Forward(_) => None,
        }
    }

    /// Header lines without which its providers do not answer; what the configuration or the client says goes before them.
    pub(crate) fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::OpenAi => &[],
            Self::Anthropic => &[("anthropic-version", anthropic::VERSION)],
            #[cfg(feature = "bedrock")]
            Self::Bedrock => &[],
        }
    }

    /// What the names of the header lines begin with that speak of it alone.
    pub(crate) fn family(self) -> &'static str {
        match self {
            Self::OpenAi => "openai-",
            Self::Anthropic => "anthropic-",
            #[cfg(feature = "bedrock")]
            Self::Bedrock => "x-amzn-",
        }
    }

    /// What its streams are, as a header says it.
    pub(crate) fn stream_type(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Anthropic => "text/event-stream",
            #[cfg(feature = "bedrock")]
            Self::Bedrock => bedrock::STREAM_TYPE,
        }
    }

    /// Whether a word that is nobody's answer can stand among the events of its streams: none can among frames.
    pub(crate) fn has_comments(self) -> bool {
        match self {
            Self::OpenAi | Self::Anthropic => true,
            #[cfg(feature = "bedrock")]
            Self::Bedrock => false,
        }
    }
}

/// What a client of the data plane is told in it.
#[cfg(feature = "front")]
impl Dialect {
    /// The event that ends a complete stream and is the gateway's to send; none where the shape's own last event does.
    pub(crate) fn stream_end(self) -> &'static [u8] {
        match self {
            Self::OpenAi => openai::DONE,
            Self::Anthropic => b"",
            #[cfg(feature = "bedrock")]
            Self::Bedrock => b"",
        }
    }

    /// The header in which its clients look for the request's name, beside the gateway's own.
    pub(crate) fn request_header(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => None,
            Self::Anthropic => Some("request-id"),
            #[cfg(feature = "bedrock")]
            Self::Bedrock => Some("x-amzn-requestid"),
        }
    }

    /// The header line that tells its clients what `error` is, where its bodies do not.
    #[cfg_attr(not(feature = "bedrock"), expect(unused_variables, reason = "no other shape has such a header"))]
    pub(crate) fn error_header(self, error: &Error) -> Option<(&'static str, &str)> {
        match self {
            Self::OpenAi | Self::Anthropic => None,
            #[cfg(feature = "bedrock")]
            Self::Bedrock => Some((bedrock::ERROR_TYPE, bedrock::error_name(error))),
        }
    }

    /// The body that tells `error` to a client; `id` names the request where the error itself does not.
    #[must_use]
    pub fn error_body(self, error: &Error, id: Option<&RequestId>) -> Vec<u8> {
        let id = id.or(error.request_id());
        match self {
            Self::OpenAi => openai::error_body(error, id),
            Self::Anthropic => anthropic::error_body(error, id),
            #[cfg(feature = "bedrock")]
            Self::Bedrock => bedrock::error_body(error, id),
        }
    }

    /// The same as the last event of a stream that failed.
    #[must_use]
    pub fn error_event(self, error: &Error) -> Vec<u8> {
        match self {
            Self::OpenAi => openai::error_event(error),
            Self::Anthropic => anthropic::error_event(error),
            #[cfg(feature = "bedrock")]
            Self::Bedrock => bedrock::error_event(error),
        }
    }
}

/// Checks the body of a request for `operation`, and finds what routing and encoding need, as [`openai::parse`] does; of one
/// whose route names the model nothing but whether it is what it says.
///
/// # Errors
/// [`Code::InvalidRequest`](crate::error::Code::InvalidRequest), naming the field where one is at fault.
pub(crate) fn parse(operation: &Operation, body: &[u8]) -> Result<BodyFields, Error> {
    match operation {
        #[cfg(feature = "bedrock")]
        Operation::Converse(_) | Operation::Invoke(_) => bedrock::parse(operation, body),
        _ => openai::parse(operation, body),
    }
}

/// Where an operation lives behind a provider's version prefix; none for what is forwarded, which says so itself, and for what
/// Bedrock is asked for, whose route names the model.
#[must_use]
pub(crate) fn route(operation: &Operation) -> Option<&'static str> {
    match operation {
        Operation::Messages => Some("/messages"),
        Operation::CountTokens => Some("/messages/count_tokens"),
        other => openai::route(other),
    }
}
