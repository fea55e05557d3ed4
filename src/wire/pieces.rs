//! The pieces of what a client is streamed, for whoever looks at them on their way: events, or frames.
//!
//! Of a frame that holds an event of a model's own, that event is what is looked at: the frame says nothing beside it.

use std::borrow::Cow;

use super::sse;
#[cfg(feature = "bedrock")]
use super::{base64, bedrock, event_stream};
use crate::error::{Code, Error};
use crate::model::Operation;

/// What a client's stream is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events.
    Events,
    /// Frames with an event each.
    #[cfg(feature = "bedrock")]
    Frames,
    /// Frames that hold a model's own events.
    #[cfg(feature = "bedrock")]
    Chunks,
}

impl Framing {
    /// That of what is asked for so.
    pub(crate) fn of(operation: &Operation) -> Self {
        match operation {
            #[cfg(feature = "bedrock")]
            Operation::Converse(_) => Self::Frames,
            #[cfg(feature = "bedrock")]
            Operation::Invoke(_) => Self::Chunks,
            _ => Self::Events,
        }
    }

    /// Appends a piece of this name and data.
    pub(crate) fn write(self, name: &[u8], data: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Events => sse::write(name, data, out),
            #[cfg(feature = "bedrock")]
            Self::Frames => {
                let name = String::from_utf8_lossy(name);
                event_stream::write(event_stream::Kind::Event, &name, out, |out| out.extend_from_slice(data));
            }
            #[cfg(feature = "bedrock")]
            Self::Chunks => bedrock::write_chunk(data, out),
        }
    }
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    /// Its bytes as they came.
    pub(crate) raw: &'a [u8],
    /// What it is called; empty if it has no name.
    pub(crate) name: &'a [u8],
    /// What it says: JSON, usually.
    pub(crate) data: Cow<'a, [u8]>,
    /// Whether it says nothing to a reader.
    pub(crate) is_comment: bool,
}

/// Takes a stream apart that was written for a client.
#[derive(Debug)]
pub(crate) enum Pieces {
    Events(sse::Decoder),
    #[cfg(feature = "bedrock")]
    Frames(event_stream::Decoder),
    #[cfg(feature = "bedrock")]
    Chunks(event_stream::Decoder),
}

impl Pieces {
    /// One that refuses a piece of more than `most` bytes.
    pub(crate) fn new(framing: Framing, most: usize) -> Self {
        match framing {
            Framing::Events => Self::Events(sse::Decoder::new(most)),
            #[cfg(feature = "bedrock")]
            Framing::Frames => Self::Frames(event_stream::Decoder::new(most)),
            #[cfg(feature = "bedrock")]
            Framing::Chunks => Self::Chunks(event_stream::Decoder::new(most)),
        }
    }

    /// Takes what came. Call [`next`](Self::next) until it has nothing more before pushing again.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Events(decoder) => decoder.push(bytes),
            #[cfg(feature = "bedrock")]
            Self::Frames(decoder) | Self::Chunks(decoder) => decoder.push(bytes),
        }
    }

    /// The next whole piece; none until more is pushed.
    ///
    /// # Errors
    /// [`Code::UpstreamBadResponse`] if nothing more can be made out.
    pub(crate) fn next(&mut self) -> Option<Result<Piece<'_>, Error>> {
        let bad = |text: String| Error::new(Code::UpstreamBadResponse, text);
        match self {
            Self::Events(decoder) => {
                let event = decoder.next()?.map_err(|error| bad(error.to_string()));
                Some(event.map(|sse::Event { raw, data, name, is_comment }| Piece {
                    raw,
                    name,
                    data: Cow::Borrowed(data),
                    is_comment,
                }))
            }
            #[cfg(feature = "bedrock")]
            Self::Frames(decoder) => Some(decoder.next()?.map_err(|broken| bad(broken.to_string())).map(piece)),
            #[cfg(feature = "bedrock")]
            Self::Chunks(decoder) => {
                let frame = decoder.next()?.map_err(|broken| bad(broken.to_string())).map(piece);
                Some(frame.map(|piece| Piece { data: Cow::Owned(held(&piece.data)), ..piece }))
            }
        }
    }
}

#[cfg(feature = "bedrock")]
fn piece<'a>(frame: event_stream::Frame<'a>) -> Piece<'a> {
    Piece { raw: frame.raw, name: frame.name.as_bytes(), data: Cow::Borrowed(frame.payload), is_comment: false }
}

/// The event that a chunk holds; nothing if it holds none.
#[cfg(feature = "bedrock")]
fn held(chunk: &[u8]) -> Vec<u8> {
    bedrock::read_chunk(chunk).and_then(|bytes| base64::decode(&bytes)).unwrap_or_default()
}

#[cfg(all(test, feature = "bedrock"))]
mod tests {
    use super::*;
    use crate::model::Named;

    #[test]
    fn what_is_written_comes_out_in_each_framing() {
        let named = || Named { model: "m".to_owned(), stream: true };
        for (operation, name) in [
            (Operation::Messages, "ping"),
            (Operation::Converse(named()), "messageStart"),
            (Operation::Invoke(named()), "chunk"),
        ] {
            let framing = Framing::of(&operation);
            let mut out = Vec::new();
            framing.write(name.as_bytes(), br#"{"a":1}"#, &mut out);
            let mut pieces = Pieces::new(framing, 1 << 16);
            pieces.push(&out);
            let piece = pieces.next().expect("one").expect("a good one");
            assert_eq!((piece.raw, piece.name, &*piece.data), (&*out, name.as_bytes(), &br#"{"a":1}"#[..]));
            assert!(!piece.is_comment && pieces.next().is_none());
        }
        let mut pieces = Pieces::new(Framing::Frames, 1 << 16);
        pieces.push(b"data: no frame at all\n\n");
        assert_eq!(pieces.next().expect("told").expect_err("it is none").code(), Code::UpstreamBadResponse);
    }
}
