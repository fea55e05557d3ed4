//! From one shape to another and back, for whoever measures what that takes, or tries what can be made of it.
//!
//! The gateway translates only between shapes that differ; here any two make a pair, a shape with itself too, which is what
//! the parts of a translation cost alike in all.

use super::Dialect;
use super::chat::Meta;
use super::crossing::{self, Asked, Writer};
use super::openai::Step;
use crate::error::Error;
#[cfg(feature = "bedrock")]
use crate::model::Named;
use crate::model::{BodyFields, Operation};

/// A shape in which chats are asked for and streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// OpenAI's chats.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Bedrock's Converse.
    #[cfg(feature = "bedrock")]
    Bedrock,
}

impl Shape {
    fn asked(self) -> Asked {
        match self {
            Self::OpenAi => Asked::Chat,
            Self::Anthropic => Asked::Message,
            #[cfg(feature = "bedrock")]
            Self::Bedrock => Asked::Converse,
        }
    }

    fn spoken(self) -> Dialect {
        match self {
            Self::OpenAi => Dialect::OpenAi,
            Self::Anthropic => Dialect::Anthropic,
            #[cfg(feature = "bedrock")]
            Self::Bedrock => Dialect::Bedrock,
        }
    }

    /// A stream of which nothing has come, whose bytes pass through.
    #[must_use]
    pub fn passing(self) -> Stream {
        let operation = match self {
            Self::OpenAi => Operation::ChatCompletions,
            Self::Anthropic => Operation::Messages,
            #[cfg(feature = "bedrock")]
            Self::Bedrock => Operation::Converse(Named { model: META.model.to_owned(), stream: true }),
        };
        let fields = BodyFields { include_usage: true, ..BodyFields::default() };
        Stream(crossing::Stream::same(self.spoken(), &operation, &fields, MAX_EVENT))
    }
}

/// What a client's shape and a provider's shape need to tell one another.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// What the client speaks.
    pub client: Shape,
    /// What the provider speaks.
    pub provider: Shape,
}

const META: Meta<'_> = Meta { id: "chatcmpl-0", created: 0, model: "asked", stream_usage: true };

/// The largest single event, in bytes.
const MAX_EVENT: usize = 1 << 20;

impl Pair {
    /// Writes a client's request for a provider into `out`, which is cleared first.
    ///
    /// # Errors
    /// As the gateway has it.
    pub fn request(self, body: &[u8], model: &str, out: &mut Vec<u8>) -> Result<(), Error> {
        self.provider.spoken().write_request(&self.client.asked().read(body)?, model, out).map(drop)
    }

    /// Appends a provider's answer, as a client reads it, to `out`.
    ///
    /// # Errors
    /// As the gateway has it.
    pub fn reply(self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.client.asked().write_reply(&self.provider.spoken().read_reply(body, META.model)?, &META, out);
        Ok(())
    }

    /// A stream of which nothing has come.
    #[must_use]
    pub fn stream(self) -> Stream {
        let writer = Writer::of(self.client.asked(), META);
        Stream(crossing::Stream::translated(self.provider.spoken(), writer, MAX_EVENT))
    }
}

/// A stream on its way.
#[derive(Debug)]
pub struct Stream(crossing::Stream);

impl Stream {
    /// Takes what a provider sends, and appends what a client gets of it; gives whether all of it was what the shape has. What
    /// was not is left out.
    ///
    /// # Errors
    /// What the provider says that it failed by, and what nothing can be made of. Nothing comes after it.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, Error> {
        let mut good = true;
        self.0.push(bytes);
        while let Some(step) = self.0.next(false, out) {
            match step? {
                Step::Error(error) => return Err(error),
                Step::Garbage => good = false,
                _ => {}
            }
        }
        Ok(good)
    }

    /// Whether the shape's end was seen.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// It is complete: appends what was held back for its end.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.0.finish(out);
    }
}
