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

use super::chat::{Meta, Read};
use super::openai::{self, EventStream, Step, chat};
use super::{Dialect, anthropic, route, sse};
use crate::error::{Code, Error};
use crate::model::chat::{Event, Lost, Reply, Request, Tokens};
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
    /// It is asked for in this shape.
    Translated(Dialect),
}

/// A whole answer that is one.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The tokens, if the provider counted them.
    pub(crate) usage: Option<Usage>,
    /// The body in the client's shape, JSON always; none if it is the provider's own.
    pub(crate) body: Option<Vec<u8>>,
}

impl Crossing {
    /// The way of `operation` to a provider that speaks `spoken`, of which the first is what others are translated to.
    ///
    /// # Errors
    /// [`Code::Unsupported`], naming the route, if there is none.
    pub(crate) fn of(operation: &Operation, spoken: &[Dialect]) -> Result<Self, Error> {
        let to = spoken.first().copied().unwrap_or(Dialect::OpenAi);
        let how = match Dialect::of(operation) {
            None => How::Forwarded,
            Some(from) if spoken.contains(&from) => return Ok(Self { to: from, how: How::Same }),
            Some(from) if matches!(operation, Operation::ChatCompletions | Operation::Messages) => {
                How::Translated(from)
            }
            Some(_) => {
                let route = route(operation).unwrap_or_default();
                let text = format!("this provider has no {route}, nor anything that it could be translated to");
                return Err(Error::new(Code::Unsupported, text));
            }
        };
        Ok(Self { to, how })
    }

    /// Whether the client gets something else than the provider's own bytes.
    pub(crate) fn translates(self) -> bool {
        matches!(self.how, How::Translated(_))
    }

    /// Header lines that the provider asks for, if nobody says them.
    pub(crate) fn headers(self) -> &'static [(&'static str, &'static str)] {
        self.to.headers()
    }

    /// Whether a header line of the client's goes to the provider: where the shape is left behind, what speaks of its trials or
    /// of an account there does not, nor does a version of the other, which is that of what is written here.
    pub(crate) fn takes(self, name: &str) -> bool {
        match self.how {
            How::Translated(from) => {
                !name.starts_with(from.family()) && !self.headers().iter().any(|(written, _)| *written == name)
            }
            How::Forwarded | How::Same => true,
        }
    }

    /// What the provider is asked for.
    pub(crate) fn asks(self, operation: &Operation) -> &Operation {
        match (self.how, self.to) {
            (How::Forwarded | How::Same, _) => operation,
            (How::Translated(_), Dialect::OpenAi) => &Operation::ChatCompletions,
            (How::Translated(_), Dialect::Anthropic) => &Operation::Messages,
        }
    }

    /// Writes the body for the provider, which calls the model `model`, into `out`, which is cleared first; what could not be
    /// said is named. `asks_usage` is whether the provider takes it that a stream's tokens are asked for. What is forwarded
    /// goes as it came, and never comes here.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] and [`Code::Unsupported`], naming the field, for what cannot be translated.
    pub(crate) fn encode(self, call: &Call, model: &str, asks_usage: bool, out: &mut Vec<u8>) -> Result<Lost, Error> {
        match self.how {
            How::Forwarded | How::Same => {
                openai::splice(&call.body, &call.fields, model, asks_usage, out);
                Ok(Lost::default())
            }
            How::Translated(from) => {
                let mut request = from.read_request(&call.body)?;
                request.usage_unasked = !asks_usage;
                self.to.write_request(&request, model, out)
            }
        }
    }

    /// Judges a whole answer, and makes the client's of it. `meta` is asked for where something has to be written.
    ///
    /// # Errors
    /// What the provider says that it failed by, and [`Code::UpstreamBadResponse`] for what is no answer.
    pub(crate) fn decode<'a>(
        self,
        operation: &Operation,
        status: u16,
        body: &[u8],
        meta: impl FnOnce() -> Meta<'a>,
    ) -> Result<Decoded, Error> {
        let asked = self.asks(operation);
        let usage = match (self.how, self.to) {
            (How::Forwarded, _) | (_, Dialect::OpenAi) => openai::decode(asked, status, body)?,
            (_, Dialect::Anthropic) => anthropic::decode(asked, status, body)?,
        };
        let How::Translated(from) = self.how else {
            return Ok(Decoded { usage, body: None });
        };
        let meta = meta();
        let mut out = Vec::with_capacity(body.len() + body.len() / 4);
        from.write_reply(&self.to.read_reply(body, meta.model)?, &meta, &mut out);
        Ok(Decoded { usage, body: Some(out) })
    }

    /// What the provider is asked to answer in.
    pub(crate) fn accept(self, streamed: bool) -> &'static str {
        match self.to {
            Dialect::OpenAi | Dialect::Anthropic if streamed => "text/event-stream",
            Dialect::OpenAi | Dialect::Anthropic => "application/json",
        }
    }

    /// What takes the bytes of a stream apart, whose events have at most `max_event_bytes`; none for bytes that nobody reads.
    /// `meta` is asked for where something has to be written.
    pub(crate) fn stream<'a>(
        self,
        operation: &Operation,
        fields: &BodyFields,
        max_event_bytes: usize,
        meta: impl FnOnce() -> Meta<'a>,
    ) -> Option<Stream> {
        let judge = match (self.how, self.to) {
            (How::Forwarded, _) => return None,
            (How::Same, Dialect::OpenAi) => Judge::OpenAi(EventStream::new(operation, fields)),
            (How::Same, Dialect::Anthropic) => Judge::Anthropic(anthropic::EventStream::new()),
            (How::Translated(from), to) => Judge::Translated(Box::new(Translated {
                reader: Reader::of(to),
                writer: Writer::of(from, meta()),
                tokens: None,
                content: false,
            })),
        };
        Some(Stream { decoder: sse::Decoder::new(max_event_bytes), judge })
    }
}

/// What a program answers to a chat, written for whoever asked for it. Programs write such an answer in OpenAI's shape, whatever
/// the request's; none if this is no such answer, or was asked for in that shape.
///
/// # Errors
/// [`Code::UpstreamBadResponse`] if it cannot be read.
pub(crate) fn answered(operation: &Operation, body: &[u8], meta: &Meta<'_>) -> Result<Option<Vec<u8>>, Error> {
    let Some(shape) = Dialect::of(operation).filter(|_| *operation == Operation::Messages) else { return Ok(None) };
    if !openai::has_choices(body) {
        return Ok(None);
    }
    let mut out = Vec::with_capacity(body.len());
    shape.write_reply(&Dialect::OpenAi.read_reply(body, meta.model)?, meta, &mut out);
    Ok(Some(out))
}

/// A whole answer of a shape with events that are not made like its answers, as the events of a complete stream; none for other
/// shapes.
///
/// # Errors
/// [`Code::UpstreamBadResponse`] if it cannot be read.
pub(crate) fn streamed(operation: &Operation, body: &[u8], meta: Meta<'_>) -> Result<Option<Vec<u8>>, Error> {
    let Some(shape) = Dialect::of(operation).filter(|_| *operation == Operation::Messages) else { return Ok(None) };
    let reply = shape.read_reply(body, meta.model)?;
    let (mut writer, mut out) = (Writer::of(shape, meta), Vec::with_capacity(2 * body.len() + 512));
    reply.into_events(&mut |event| writer.event(&event, &mut out));
    writer.finish(&mut out);
    Ok(Some(out))
}

/// A chat, in each of the shapes.
impl Dialect {
    pub(super) fn read_request(self, body: &[u8]) -> Result<Request<'_>, Error> {
        match self {
            Self::OpenAi => chat::read_request(body),
            Self::Anthropic => anthropic::read_request(body),
        }
    }

    pub(super) fn write_request(self, request: &Request<'_>, model: &str, out: &mut Vec<u8>) -> Result<Lost, Error> {
        match self {
            Self::OpenAi => chat::write_request(request, model, out),
            Self::Anthropic => anthropic::write_request(request, model, out),
        }
    }

    pub(super) fn read_reply<'a>(self, body: &'a [u8], model: &'a str) -> Result<Reply<'a>, Error> {
        match self {
            Self::OpenAi => chat::read_reply(body, model),
            Self::Anthropic => anthropic::read_reply(body, model),
        }
    }

    pub(super) fn write_reply(self, reply: &Reply<'_>, meta: &Meta<'_>, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi => chat::write_reply(reply, meta, out),
            Self::Anthropic => anthropic::write_reply(reply, meta, out),
        }
    }
}

/// A stream on its way: takes the provider's bytes apart, judges each event, and says what the client gets of it.
#[derive(Debug)]
pub(crate) struct Stream {
    decoder: sse::Decoder,
    judge: Judge,
}

impl Stream {
    /// Takes what came. Call [`next`](Self::next) until it has nothing more before pushing again.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
    }

    /// Judges the next whole event, and puts what the client gets of it into `out`; none until more is pushed. At the end of
    /// the bytes, which `over` says, what stands without its end is an event all the same.
    pub(crate) fn next(&mut self, over: bool, out: &mut Vec<u8>) -> Option<Result<Step, sse::TooLong>> {
        let event = if over { self.decoder.finish() } else { self.decoder.next() };
        event.map(|event| event.map(|event| self.judge.next(&event, out)))
    }

    /// It is complete: puts into `out` what was held back for its end. Called once.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if let Judge::Translated(stream) = &mut self.judge {
            stream.writer.finish(out);
        }
    }

    /// The tokens, once the provider has said them.
    pub(crate) fn usage(&self) -> Option<Usage> {
        match &self.judge {
            Judge::OpenAi(stream) => stream.usage(),
            Judge::Anthropic(stream) => stream.usage(),
            Judge::Translated(stream) => stream.tokens.map(Usage::from),
        }
    }

    /// Whether the shape's end was seen.
    pub(crate) fn is_complete(&self) -> bool {
        match &self.judge {
            Judge::OpenAi(stream) => stream.is_complete(),
            Judge::Anthropic(stream) => stream.is_complete(),
            Judge::Translated(stream) => stream.reader.is_complete(),
        }
    }
}

/// Judges a stream's events one by one.
#[derive(Debug)]
enum Judge {
    OpenAi(EventStream),
    Anthropic(anthropic::EventStream),
    Translated(Box<Translated>),
}

impl Judge {
    fn next(&mut self, event: &sse::Event<'_>, out: &mut Vec<u8>) -> Step {
        let step = match self {
            Self::OpenAi(stream) => stream.next(event),
            Self::Anthropic(stream) => stream.next(event),
            Self::Translated(stream) => return stream.next(event, out),
        };
        if matches!(step, Step::Forward { .. } | Step::Last | Step::Comment) {
            out.extend_from_slice(event.raw);
        }
        step
    }
}

/// A stream that is read in one shape and written in another.
#[derive(Debug)]
struct Translated {
    reader: Reader,
    writer: Writer,
    tokens: Option<Tokens>,
    /// Something that a reader would show or act on has come.
    content: bool,
}

impl Translated {
    fn next(&mut self, event: &sse::Event<'_>, out: &mut Vec<u8>) -> Step {
        let Self { reader, writer, tokens, content } = self;
        let read = reader.next(event, &mut |said| {
            if let Event::Tokens(counted) = &said {
                *tokens = Some(*counted);
            }
            writer.event(&said, out);
        });
        match read {
            Read::Nothing => {
                // A comment is one in any shape; a ping is what a provider keeps us alive by, and no business of the client's.
                if event.is_comment {
                    out.extend_from_slice(event.raw);
                }
                Step::Comment
            }
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

/// What reads a stream in the provider's shape.
#[derive(Debug)]
pub(super) enum Reader {
    OpenAi(chat::StreamReader),
    Anthropic(anthropic::StreamReader),
}

impl Reader {
    pub(super) fn of(shape: Dialect) -> Self {
        match shape {
            Dialect::OpenAi => Self::OpenAi(chat::StreamReader::new()),
            Dialect::Anthropic => Self::Anthropic(anthropic::StreamReader::new()),
        }
    }

    pub(super) fn next(&mut self, event: &sse::Event<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Read {
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
pub(super) enum Writer {
    OpenAi(chat::StreamWriter),
    Anthropic(anthropic::StreamWriter),
}

impl Writer {
    pub(super) fn of(shape: Dialect, meta: Meta<'_>) -> Self {
        match shape {
            Dialect::OpenAi => Self::OpenAi(chat::StreamWriter::new(meta)),
            Dialect::Anthropic => Self::Anthropic(anthropic::StreamWriter::new(meta)),
        }
    }

    pub(super) fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi(writer) => writer.event(event, out),
            Self::Anthropic(writer) => writer.event(event, out),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi(writer) => writer.finish(out),
            Self::Anthropic(writer) => writer.finish(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Forward;

    const OPENAI: &[Dialect] = &[Dialect::OpenAi];
    const ANTHROPIC: &[Dialect] = &[Dialect::Anthropic];
    const BOTH: &[Dialect] = &[Dialect::OpenAi, Dialect::Anthropic];

    #[test]
    fn a_request_goes_as_it_came_where_it_can_and_else_by_translation_or_not_at_all() {
        use Operation::{ChatCompletions, Completions, CountTokens, Embeddings, Messages, Responses};
        let forward =
            Operation::Forward(Forward { method: "GET", path: "/x".into(), content_type: None, accept: None });
        for operation in [ChatCompletions, Messages, Completions, Embeddings, Responses, CountTokens, forward] {
            for spoken in [OPENAI, ANTHROPIC, BOTH] {
                let own = Dialect::of(&operation);
                let found = Crossing::of(&operation, spoken);
                let Ok(crossing) = found else {
                    let error = found.expect_err("it is none");
                    let named = route(&operation).expect("it has one");
                    assert!(!matches!(operation, ChatCompletions | Messages | Operation::Forward(_)), "{operation:?}");
                    assert_eq!((error.code(), error.message().contains(named)), (Code::Unsupported, true), "{error}");
                    continue;
                };
                assert!(spoken.contains(&crossing.to), "{operation:?}");
                let is_same = own.is_none_or(|own| spoken.contains(&own));
                assert_eq!((crossing.translates(), *crossing.asks(&operation) == operation), (!is_same, is_same));
                // What is asked for is of the shape that the provider is spoken to in.
                assert!(own.is_none() || Dialect::of(crossing.asks(&operation)) == Some(crossing.to));
            }
        }
    }

    #[test]
    fn header_lines_of_a_shape_stay_behind_with_it() {
        let takes = |operation: &Operation, spoken| {
            let crossing = Crossing::of(operation, spoken).expect("there is a way");
            ["openai-beta", "anthropic-beta", "anthropic-version", "traceparent"].map(|name| crossing.takes(name))
        };
        assert_eq!(takes(&Operation::ChatCompletions, OPENAI), [true; 4]);
        assert_eq!(takes(&Operation::ChatCompletions, ANTHROPIC), [false, true, false, true]);
        assert_eq!(takes(&Operation::Messages, ANTHROPIC), [true; 4]);
        assert_eq!(takes(&Operation::Messages, OPENAI), [true, false, false, true]);
    }
}
