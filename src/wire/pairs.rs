//! From one shape to another and back, for whoever measures what that takes.
//!
//! The gateway translates only between shapes that differ; here any two make a pair, a shape with itself too, which is what
//! the parts of a translation cost alike in all.

use super::chat::{Meta, Read};
use super::openai::chat as openai;
use super::sse;
use crate::error::Error;

/// A shape of chats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// OpenAI's chat completions.
    OpenAi,
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
        let request = match self.client {
            Shape::OpenAi => openai::read_request(body)?,
        };
        match self.provider {
            Shape::OpenAi => openai::write_request(&request, model, out).map(drop),
        }
    }

    /// Appends a provider's answer, as a client reads it, to `out`.
    ///
    /// # Errors
    /// As the gateway has it.
    pub fn reply(self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let reply = match self.provider {
            Shape::OpenAi => openai::read_reply(body, META.model)?,
        };
        match self.client {
            Shape::OpenAi => openai::write_reply(&reply, &META, out),
        }
        Ok(())
    }

    /// A stream of which nothing has come.
    #[must_use]
    pub fn stream(self) -> Stream {
        let reader = match self.provider {
            Shape::OpenAi => openai::StreamReader::new(),
        };
        let writer = match self.client {
            Shape::OpenAi => openai::StreamWriter::new(META),
        };
        Stream { reader, writer }
    }
}

/// A stream on its way.
#[derive(Debug)]
pub struct Stream {
    reader: openai::StreamReader,
    writer: openai::StreamWriter,
}

impl Stream {
    /// Appends what a provider's event becomes to `out`; gives whether it was one that the shape has.
    pub fn event(&mut self, event: &sse::Event<'_>, out: &mut Vec<u8>) -> bool {
        let read = self.reader.next(event, &mut |said| self.writer.event(&said, out));
        !matches!(read, Read::Garbage | Read::Failed(_))
    }
}
