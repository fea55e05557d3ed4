//! How one request gets across to one provider, and its answer back: as it came, translated, or not at all.
//!
//! ```text
//!  operation × what the provider speaks ─▶ Crossing ─┬─ Forwarded   bytes that nobody looks at
//!                                                    ├─ Same        the client's bytes but for the model's name
//!                                                    ├─ Translated  read into a `model::chat`, written in the other shape
//!                                                    └─ unsupported, which names the route
//!
//!                 Same                                   Translated
//!  request   splice(body)                           from.read_request ─▶ to.write_request   (what is lost is named)
//!  answer    look for errors and tokens; bytes stay to.read_reply ─▶ from.write_reply
//!  stream    judge each event; its bytes stay       to's reader ─▶ events of a chat ─▶ from's writer
//!  error     read as the provider's shape has it; every client is told in the shape of its own route, by `Dialect`
//! ```
//!
//! It is chosen before an attempt stands in a queue and travels with it, so that each attempt of a request has its own: a
//! request may fall back from a provider of one shape to one of another. A shape that comes to be spoken is an arm of each
//! `match` on a [`Dialect`] here and in `dialect`, and nothing else.

use super::openai::{EventStream, Step};
use super::{Dialect, anthropic, openai, route, sse};
use crate::error::{Code, Error};
use crate::model::{BodyFields, Call, Operation, Usage};

/// The way of one request to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crossing {
    /// What the provider is spoken to in.
    to: Dialect,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Forwarded,
    Same,
}

impl Crossing {
    /// The way of `operation` to a provider that speaks `spoken`, of which the first is what others are translated to.
    ///
    /// # Errors
    /// [`Code::Unsupported`], naming the route, if there is none.
    pub(crate) fn of(operation: &Operation, spoken: &[Dialect]) -> Result<Self, Error> {
        let to = spoken.first().copied().unwrap_or(Dialect::OpenAi);
        match Dialect::of(operation) {
            None => Ok(Self { to, how: How::Forwarded }),
            Some(from) if spoken.contains(&from) => Ok(Self { to: from, how: How::Same }),
            Some(_) => {
                let route = route(operation).unwrap_or_default();
                let text = format!("this provider has no {route}, and nothing that it could be translated to");
                Err(Error::new(Code::Unsupported, text))
            }
        }
    }

    /// Header lines that the provider asks for, if nobody says them.
    pub(crate) fn headers(self) -> &'static [(&'static str, &'static str)] {
        self.to.headers()
    }

    /// What the provider is asked for.
    pub(crate) fn asks<'a>(&self, operation: &'a Operation) -> &'a Operation {
        operation
    }

    /// Writes the body for the provider, which calls the model `model`, into `out`, which is cleared first. What is forwarded
    /// goes as it came, and never comes here.
    pub(crate) fn encode(self, call: &Call, model: &str, out: &mut Vec<u8>) -> Result<(), Error> {
        openai::encode(&call.body, &call.fields, model, out);
        Ok(())
    }

    /// Judges a whole answer.
    pub(crate) fn decode(self, operation: &Operation, status: u16, body: &[u8]) -> Result<Option<Usage>, Error> {
        let usage = match (self.how, self.to) {
            (How::Forwarded, _) | (_, Dialect::OpenAi) => openai::decode(operation, status, body)?,
            (_, Dialect::Anthropic) => anthropic::decode(operation, status, body)?,
        };
        // Counting takes no tokens, and nobody is to guess how many.
        Ok(if *operation == Operation::CountTokens { Some(Usage::default()) } else { usage })
    }

    /// What judges the events of the answer; none for bytes that nobody reads.
    pub(crate) fn judge(self, operation: &Operation, fields: &BodyFields) -> Option<Judge> {
        match (self.how, self.to) {
            (How::Forwarded, _) => None,
            (How::Same, Dialect::OpenAi) => Some(Judge::OpenAi(EventStream::new(operation, fields))),
            (How::Same, Dialect::Anthropic) => Some(Judge::Anthropic(anthropic::EventStream::new())),
        }
    }
}

/// Judges a stream's events one by one, and says what the client gets of each.
#[derive(Debug)]
pub(crate) enum Judge {
    OpenAi(EventStream),
    Anthropic(anthropic::EventStream),
}

impl Judge {
    /// Judges the next event, and puts what the client gets of it into `out`.
    pub(crate) fn next(&mut self, event: &sse::Event<'_>, out: &mut Vec<u8>) -> Step {
        let step = match self {
            Self::OpenAi(stream) => stream.next(event),
            Self::Anthropic(stream) => stream.next(event),
        };
        if matches!(step, Step::Forward { .. } | Step::Last | Step::Comment) {
            out.extend_from_slice(event.raw);
        }
        step
    }

    /// The tokens, once the provider has said them.
    pub(crate) fn usage(&self) -> Option<Usage> {
        match self {
            Self::OpenAi(stream) => stream.usage(),
            Self::Anthropic(stream) => stream.usage(),
        }
    }

    /// Whether the shape's end was seen.
    pub(crate) fn is_complete(&self) -> bool {
        match self {
            Self::OpenAi(stream) => stream.is_complete(),
            Self::Anthropic(stream) => stream.is_complete(),
        }
    }
}
