//! From one shape to another and back, for whoever measures what that takes.
//!
//! The gateway translates only between shapes that differ; here any two make a pair, a shape with itself too, which is what
//! the parts of a translation cost alike in all.

use super::chat::{Meta, Read};
use super::crossing::{Asked, Reader, Writer};
use super::openai::chat;
use super::{Dialect, anthropic, sse};
use crate::error::Error;

/// A shape whose streams are of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// OpenAI's chats.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
}

impl Shape {
    fn asked(self) -> Asked {
        match self {
            Self::OpenAi => Asked::Chat,
            Self::Anthropic => Asked::Message,
        }
    }

    fn spoken(self) -> Dialect {
        match self {
            Self::OpenAi => Dialect::OpenAi,
            Self::Anthropic => Dialect::Anthropic,
        }
    }

    fn reader(self) -> Reader {
        match self {
            Self::OpenAi => Reader::OpenAi(chat::StreamReader::new()),
            Self::Anthropic => Reader::Anthropic(anthropic::StreamReader::new()),
        }
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
        Stream { reader: self.provider.reader(), writer: Writer::of(self.client.asked(), META) }
    }
}

/// A stream on its way.
#[derive(Debug)]
pub struct Stream {
    reader: Reader,
    writer: Writer,
}

impl Stream {
    /// Appends what a provider's event becomes to `out`; gives whether it was one that the shape has.
    pub fn event(&mut self, event: &sse::Event<'_>, out: &mut Vec<u8>) -> bool {
        let read = self.reader.next(event, &mut |said| self.writer.event(&said, out));
        !matches!(read, Read::Garbage | Read::Failed(_))
    }
}
