//! A stream on its way across: taken apart as the provider frames it, judged event by event, and what the client gets of it.
//!
//! Events of SSE and frames of Bedrock's come out of decoders of their own; what judges and reads the one never meets the
//! other, while whatever is translated is written in any shape.

use super::super::chat::{Meta, Read};
use super::super::openai::{EventStream, Step, chat};
use super::super::{Dialect, anthropic, sse};
#[cfg(feature = "bedrock")]
use super::super::{bedrock, event_stream};
use super::Asked;
use crate::error::{Code, Error};
use crate::model::chat::{Event, Tokens};
use crate::model::{BodyFields, Operation, Usage};

/// A stream on its way: takes the provider's bytes apart, judges each event, and says what the client gets of it.
#[derive(Debug)]
pub(crate) struct Stream(Framed);

/// By how the provider frames it.
#[derive(Debug)]
enum Framed {
    Events(sse::Decoder, OfEvents),
    #[cfg(feature = "bedrock")]
    Frames(event_stream::Decoder, OfFrames),
}

/// What judges events.
#[derive(Debug)]
enum OfEvents {
    OpenAi(EventStream),
    Anthropic(anthropic::EventStream),
    Translated(Box<(Reader, Translated)>),
}

/// What judges frames.
#[cfg(feature = "bedrock")]
#[derive(Debug)]
enum OfFrames {
    Same(bedrock::FrameStream),
    Translated(Box<(bedrock::StreamReader, Translated)>),
}

impl Stream {
    /// One whose bytes the client gets as they come.
    pub(in crate::wire) fn same(
        to: Dialect,
        operation: &Operation,
        fields: &BodyFields,
        max_event_bytes: usize,
    ) -> Self {
        let judge = match to {
            Dialect::OpenAi => OfEvents::OpenAi(EventStream::new(operation, fields)),
            Dialect::Anthropic => OfEvents::Anthropic(anthropic::EventStream::new()),
            #[cfg(feature = "bedrock")]
            Dialect::Bedrock => {
                let judge = OfFrames::Same(bedrock::FrameStream::new(operation));
                return Self(Framed::Frames(event_stream::Decoder::new(max_event_bytes), judge));
            }
        };
        Self(Framed::Events(sse::Decoder::new(max_event_bytes), judge))
    }

    /// One of which `writer` writes what the client gets.
    pub(in crate::wire) fn translated(to: Dialect, writer: Writer, max_event_bytes: usize) -> Self {
        let translated = Translated { writer, tokens: None, content: false };
        let reader = match to {
            Dialect::OpenAi => Reader::OpenAi(chat::StreamReader::new()),
            Dialect::Anthropic => Reader::Anthropic(anthropic::StreamReader::new()),
            #[cfg(feature = "bedrock")]
            Dialect::Bedrock => {
                let judge = OfFrames::Translated(Box::new((bedrock::StreamReader::new(), translated)));
                return Self(Framed::Frames(event_stream::Decoder::new(max_event_bytes), judge));
            }
        };
        Self(Framed::Events(sse::Decoder::new(max_event_bytes), OfEvents::Translated(Box::new((reader, translated)))))
    }

    /// Takes what came. Call [`next`](Self::next) until it has nothing more before pushing again.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Framed::Events(decoder, _) => decoder.push(bytes),
            #[cfg(feature = "bedrock")]
            Framed::Frames(decoder, _) => decoder.push(bytes),
        }
    }

    /// Judges the next whole event, and puts what the client gets of it into `out`; none until more is pushed. At the end of
    /// the bytes, which `over` says, what stands without its end is an event all the same, but for half a frame, which is
    /// none.
    ///
    /// # Errors
    /// [`Code::UpstreamBadResponse`] if nothing more can be made out.
    pub(crate) fn next(&mut self, over: bool, out: &mut Vec<u8>) -> Option<Result<Step, Error>> {
        let bad = |text: String| Error::new(Code::UpstreamBadResponse, text);
        match &mut self.0 {
            Framed::Events(decoder, judge) => {
                let event = if over { decoder.finish() } else { decoder.next() }?;
                Some(event.map(|event| judge.next(&event, out)).map_err(|error| bad(error.to_string())))
            }
            #[cfg(feature = "bedrock")]
            Framed::Frames(decoder, judge) => {
                let frame = decoder.next()?;
                Some(frame.map(|frame| judge.next(&frame, out)).map_err(|broken| bad(broken.to_string())))
            }
        }
    }

    /// It is complete: puts into `out` what was held back for its end. Called once.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        match &mut self.0 {
            Framed::Events(_, OfEvents::Translated(stream)) => stream.1.writer.finish(out),
            #[cfg(feature = "bedrock")]
            Framed::Frames(_, OfFrames::Translated(stream)) => stream.1.writer.finish(out),
            _ => {}
        }
    }

    /// The tokens, once the provider has said them.
    pub(crate) fn usage(&self) -> Option<Usage> {
        match &self.0 {
            Framed::Events(_, OfEvents::OpenAi(stream)) => stream.usage(),
            Framed::Events(_, OfEvents::Anthropic(stream)) => stream.usage(),
            Framed::Events(_, OfEvents::Translated(stream)) => stream.1.tokens.map(Usage::from),
            #[cfg(feature = "bedrock")]
            Framed::Frames(_, OfFrames::Same(stream)) => stream.usage(),
            #[cfg(feature = "bedrock")]
            Framed::Frames(_, OfFrames::Translated(stream)) => stream.1.tokens.map(Usage::from),
        }
    }

    /// Whether the shape's end was seen.
    pub(crate) fn is_complete(&self) -> bool {
        match &self.0 {
            Framed::Events(_, OfEvents::OpenAi(stream)) => stream.is_complete(),
            Framed::Events(_, OfEvents::Anthropic(stream)) => stream.is_complete(),
            Framed::Events(_, OfEvents::Translated(stream)) => stream.0.is_complete(),
            #[cfg(feature = "bedrock")]
            Framed::Frames(_, OfFrames::Same(stream)) => stream.is_complete(),
            #[cfg(feature = "bedrock")]
            Framed::Frames(_, OfFrames::Translated(stream)) => stream.0.is_complete(),
        }
    }
}

/// Whether what was judged so goes on to the client as it is.
fn goes_on(step: &Step) -> bool {
    matches!(step, Step::Forward { .. } | Step::Last | Step::Comment)
}

impl OfEvents {
    fn next(&mut self, event: &sse::Event<'_>, out: &mut Vec<u8>) -> Step {
        let step = match self {
            Self::OpenAi(stream) => stream.next(event),
            Self::Anthropic(stream) => stream.next(event),
            Self::Translated(stream) => {
                let (reader, translated) = &mut **stream;
                // A comment is one in any shape of events; a ping is what a provider keeps us alive by, and no business of the
                // client's.
                if event.is_comment && translated.writer.has_comments() {
                    out.extend_from_slice(event.raw);
                }
                return translated.take(out, |emit| reader.next(event, emit));
            }
        };
        if goes_on(&step) {
            out.extend_from_slice(event.raw);
        }
        step
    }
}

#[cfg(feature = "bedrock")]
impl OfFrames {
    fn next(&mut self, frame: &event_stream::Frame<'_>, out: &mut Vec<u8>) -> Step {
        match self {
            Self::Same(stream) => {
                let step = stream.next(frame);
                if goes_on(&step) {
                    out.extend_from_slice(frame.raw);
                }
                step
            }
            Self::Translated(stream) => {
                let (reader, translated) = &mut **stream;
                translated.take(out, |emit| reader.next(frame, emit))
            }
        }
    }
}

/// A stream that is written in another shape than it is read in.
#[derive(Debug)]
struct Translated {
    writer: Writer,
    tokens: Option<Tokens>,
    /// Something that a reader would show or act on has come.
    content: bool,
}

impl Translated {
    /// Writes what `read` makes of the next event.
    fn take(&mut self, out: &mut Vec<u8>, read: impl FnOnce(&mut dyn FnMut(Event<'_>)) -> Read) -> Step {
        let Self { writer, tokens, content } = self;
        let read = read(&mut |said| {
            if let Event::Tokens(counted) = &said {
                *tokens = Some(*counted);
            }
            writer.event(&said, out);
        });
        match read {
            Read::Nothing => Step::Comment,
            Read::More { content: more } => {
                let first_content = more && !*content;
                *content |= more;
                Step::Forward { first_content }
            }
            Read::Done => Step::Done,
            Read::Garbage => Step::Garbage,
            Read::Failed(error) => Step::Error(error),
        }
    }
}

/// What reads events in the provider's shape.
#[derive(Debug)]
enum Reader {
    OpenAi(chat::StreamReader),
    Anthropic(anthropic::StreamReader),
}

impl Reader {
    fn next(&mut self, event: &sse::Event<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Read {
        match self {
            Self::OpenAi(reader) => reader.next(event, emit),
            Self::Anthropic(reader) => reader.next(event, emit),
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Self::OpenAi(reader) => reader.is_complete(),
            Self::Anthropic(reader) => reader.is_complete(),
        }
    }
}

/// What writes a stream in the client's shape.
#[derive(Debug)]
pub(in crate::wire) enum Writer {
    OpenAi(chat::StreamWriter),
    Anthropic(anthropic::StreamWriter),
    #[cfg(feature = "bedrock")]
    Converse(bedrock::StreamWriter),
    #[cfg(feature = "bedrock")]
    Invoke(bedrock::InvokeWriter),
}

impl Writer {
    pub(in crate::wire) fn of(asked: Asked, meta: Meta<'_>) -> Self {
        match asked {
            Asked::Chat => Self::OpenAi(chat::StreamWriter::new(meta)),
            Asked::Message => Self::Anthropic(anthropic::StreamWriter::new(meta)),
            #[cfg(feature = "bedrock")]
            Asked::Converse => Self::Converse(bedrock::StreamWriter::new(meta)),
            #[cfg(feature = "bedrock")]
            Asked::Invoke => Self::Invoke(bedrock::InvokeWriter::new(meta)),
        }
    }

    pub(super) fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi(writer) => writer.event(event, out),
            Self::Anthropic(writer) => writer.event(event, out),
            #[cfg(feature = "bedrock")]
            Self::Converse(writer) => writer.event(event, out),
            #[cfg(feature = "bedrock")]
            Self::Invoke(writer) => writer.event(event, out),
        }
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi(writer) => writer.finish(out),
            Self::Anthropic(writer) => writer.finish(out),
            #[cfg(feature = "bedrock")]
            Self::Converse(writer) => writer.finish(out),
            #[cfg(feature = "bedrock")]
            Self::Invoke(writer) => writer.finish(out),
        }
    }

    /// Whether comments can stand among what it writes.
    fn has_comments(&self) -> bool {
        matches!(self, Self::OpenAi(_) | Self::Anthropic(_))
    }
}
