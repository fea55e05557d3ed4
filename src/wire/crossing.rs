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
//! Bedrock's clients ask in two shapes, Converse and, by InvokeModel, a message of Anthropic's in Bedrock's dress; its providers
//! are asked for a chat in the first alone. What goes to a model in its own shape is the same on both sides, or Claude's.
//!
//! It is chosen before an attempt stands in a queue and travels with it, so that each attempt of a request has its own: a
//! request may fall back from a provider of one shape to one of another. A shape that comes to be spoken is an arm of each
//! `match` on a [`Dialect`] here, in `stream` and in `dialect`, and nothing else.

mod stream;

#[cfg(feature = "bedrock")]
use super::bedrock;
use super::chat::Meta;
use super::openai::{self, Step, chat};
use super::{Dialect, anthropic, route, sse};
use crate::error::{Code, Error};
#[cfg(feature = "bedrock")]
use crate::model::Named;
#[cfg(feature = "bedrock")]
use crate::model::chat::unsupported;
use crate::model::chat::{Lost, Reply, Request};
use crate::model::{BodyFields, Call, Operation, Usage};
pub(crate) use stream::Stream;
pub(super) use stream::Writer;

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
    Translated(Asked),
}

/// A shape in which a client asks for a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Chat,
    Message,
    #[cfg(feature = "bedrock")]
    Converse,
    #[cfg(feature = "bedrock")]
    Invoke,
}

/// The header by which a client asks for what stands beside the model and judges what it says: no mere hint.
#[cfg(feature = "bedrock")]
const GUARDRAIL: &str = "x-amzn-bedrock-guardrailidentifier";

/// What Bedrock is asked for where a chat is translated; the model and the stream are the path's.
#[cfg(feature = "bedrock")]
static CONVERSE: Operation = Operation::Converse(Named { model: String::new(), stream: false });

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
        let first = spoken.first().copied().unwrap_or(Dialect::OpenAi);
        let from = match Dialect::of(operation) {
            None => return Ok(Self { to: first, how: How::Forwarded }),
            Some(from) if spoken.contains(&from) => return Ok(Self { to: from, how: How::Same }),
            Some(_) => Asked::of(operation),
        };
        let Some(from) = from else {
            let route = route(operation).unwrap_or_default();
            let text = format!("this provider has no {route}, nor anything that it could be translated to");
            return Err(Error::new(Code::Unsupported, text));
        };
        // The nearest of what it speaks.
        let to = from.kin().filter(|kin| spoken.contains(kin)).unwrap_or(first);
        Ok(Self { to, how: How::Translated(from) })
    }

    /// Whether words of ours that are no answer can stand in what the client's stream is.
    pub(crate) fn has_comments(self) -> bool {
        match self.how {
            How::Forwarded | How::Same => self.to.has_comments(),
            How::Translated(from) => from.dialect().has_comments(),
        }
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
                !name.starts_with(from.dialect().family())
                    && !self.headers().iter().any(|(written, _)| *written == name)
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
            #[cfg(feature = "bedrock")]
            (How::Translated(_), Dialect::Bedrock) => &CONVERSE,
        }
    }

    /// Writes the body for the provider, which calls the model `model`, into `out`, which is cleared first; what could not be
    /// said is named. `asks_usage` is whether the provider takes it that a stream's tokens are asked for. What is forwarded
    /// goes as it came, and never comes here.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] and [`Code::Unsupported`], naming the field, for what cannot be translated.
    pub(crate) fn encode(self, call: &Call, model: &str, asks_usage: bool, out: &mut Vec<u8>) -> Result<Lost, Error> {
        #[cfg(feature = "bedrock")]
        if self.to == Dialect::Bedrock {
            bedrock::check_model(model)?;
        }
        match (self.how, self.to) {
            // Its path names the model, and the body is the client's to the last byte.
            #[cfg(feature = "bedrock")]
            (How::Same, Dialect::Bedrock) => {
                out.clear();
                out.extend_from_slice(&call.body);
                Ok(Lost::default())
            }
            (How::Forwarded | How::Same, _) => {
                openai::splice(&call.body, &call.fields, model, asks_usage, out);
                Ok(Lost::default())
            }
            (How::Translated(from), to) => {
                let mut request = from.read_request(call)?;
                request.usage_unasked = !asks_usage;
                to.write_request(&request, model, out)
            }
        }
    }

    /// Judges a whole answer, and makes the client's of it. `error_type` is what AWS's header of that name says, and `meta` is
    /// asked for where something has to be written.
    ///
    /// # Errors
    /// What the provider says that it failed by, and [`Code::UpstreamBadResponse`] for what is no answer.
    #[cfg_attr(not(feature = "bedrock"), expect(unused_variables, reason = "no other shape has such a header"))]
    pub(crate) fn decode<'a>(
        self,
        operation: &Operation,
        (status, error_type): (u16, Option<&str>),
        body: &[u8],
        meta: impl FnOnce() -> Meta<'a>,
    ) -> Result<Decoded, Error> {
        let asked = self.asks(operation);
        let usage = match (self.how, self.to) {
            (How::Forwarded, _) | (_, Dialect::OpenAi) => openai::decode(asked, status, body)?,
            (_, Dialect::Anthropic) => anthropic::decode(asked, status, body)?,
            #[cfg(feature = "bedrock")]
            (_, Dialect::Bedrock) => bedrock::decode(asked, (status, error_type), body)?,
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
        if streamed { self.to.stream_type() } else { "application/json" }
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
        match self.how {
            How::Forwarded => None,
            How::Same => Some(Stream::same(self.to, operation, fields, max_event_bytes)),
            How::Translated(from) => Some(Stream::translated(self.to, Writer::of(from, meta()), max_event_bytes)),
        }
    }
}

/// What a program answers to a chat, written for whoever asked for it. Programs write such an answer in OpenAI's shape, whatever
/// the request's; none if this is no such answer, or was asked for in that shape.
///
/// # Errors
/// [`Code::UpstreamBadResponse`] if it cannot be read.
pub(crate) fn answered(operation: &Operation, body: &[u8], meta: &Meta<'_>) -> Result<Option<Vec<u8>>, Error> {
    let Some(shape) = Asked::of(operation).filter(|asked| *asked != Asked::Chat) else { return Ok(None) };
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
    let Some(shape) = Asked::of(operation).filter(|asked| *asked != Asked::Chat) else { return Ok(None) };
    let reply = shape.answers_as().read_reply(body, meta.model)?;
    let (mut writer, mut out) = (Writer::of(shape, meta), Vec::with_capacity(2 * body.len() + 512));
    reply.into_events(&mut |event| writer.event(&event, &mut out));
    writer.finish(&mut out);
    Ok(Some(out))
}

/// The events of a complete stream that a program answers to a chat with, written for whoever asked for it: as [`answered`], and
/// none where that gives none.
///
/// # Errors
/// [`Code::UpstreamBadResponse`] if they cannot be read, and what they say that they failed by.
pub(crate) fn told(operation: &Operation, events: &[u8], meta: Meta<'_>) -> Result<Option<Vec<u8>>, Error> {
    let Some(shape) = Asked::of(operation).filter(|asked| *asked != Asked::Chat) else { return Ok(None) };
    if !is_of_chunks(events) {
        return Ok(None);
    }
    let longest = events.len() + openai::DONE.len();
    let mut stream = Stream::translated(Dialect::OpenAi, Writer::of(shape, meta), longest);
    let mut out = Vec::with_capacity(events.len());
    // What it leaves unsaid is why it ended: that it has is certain.
    for piece in [events, openai::DONE] {
        stream.push(piece);
        while let Some(step) = stream.next(false, &mut out) {
            if let Step::Error(error) = step? {
                return Err(error);
            }
        }
    }
    stream.finish(&mut out);
    Ok(Some(out))
}

/// Whether the first of these events that is no comment is a piece of a chat in OpenAI's shape.
fn is_of_chunks(events: &[u8]) -> bool {
    let mut decoder = sse::Decoder::new(events.len());
    decoder.push(events);
    while let Some(Ok(event)) = decoder.next() {
        if !event.is_comment {
            return openai::has_choices(event.data);
        }
    }
    false
}

/// A chat, in the shapes of clients.
impl Asked {
    /// The shape of what is asked for, if that is a chat.
    fn of(operation: &Operation) -> Option<Self> {
        match operation {
            Operation::ChatCompletions => Some(Self::Chat),
            Operation::Messages => Some(Self::Message),
            #[cfg(feature = "bedrock")]
            Operation::Converse(_) => Some(Self::Converse),
            #[cfg(feature = "bedrock")]
            Operation::Invoke(_) => Some(Self::Invoke),
            _ => None,
        }
    }

    /// Whose shape it is.
    fn dialect(self) -> Dialect {
        match self {
            Self::Chat => Dialect::OpenAi,
            Self::Message => Dialect::Anthropic,
            #[cfg(feature = "bedrock")]
            Self::Converse | Self::Invoke => Dialect::Bedrock,
        }
    }

    /// In which shape a whole answer to it is.
    fn answers_as(self) -> Dialect {
        self.kin().unwrap_or(self.dialect())
    }

    /// What another shape differs from it by its dress alone, if one does.
    fn kin(self) -> Option<Dialect> {
        match self {
            #[cfg(feature = "bedrock")]
            Self::Invoke => Some(Dialect::Anthropic),
            _ => None,
        }
    }

    fn read_request(self, call: &Call) -> Result<Request<'_>, Error> {
        #[cfg(feature = "bedrock")]
        if self.dialect() == Dialect::Bedrock {
            if call.headers.iter().any(|(name, _)| *name == GUARDRAIL) {
                return Err(unsupported(GUARDRAIL, "the shape"));
            }
            // The path says whether it is streamed.
            return self.read(&call.body).map(|request| Request { stream: call.fields.stream, ..request });
        }
        self.read(&call.body)
    }

    /// What is asked for, as far as the body says it.
    pub(super) fn read(self, body: &[u8]) -> Result<Request<'_>, Error> {
        match self {
            Self::Chat => chat::read_request(body),
            Self::Message => anthropic::read_request(body),
            #[cfg(feature = "bedrock")]
            Self::Converse => bedrock::read_request(body),
            #[cfg(feature = "bedrock")]
            Self::Invoke => bedrock::read_invoke(body),
        }
    }

    pub(super) fn write_reply(self, reply: &Reply<'_>, meta: &Meta<'_>, out: &mut Vec<u8>) {
        match self.answers_as() {
            Dialect::OpenAi => chat::write_reply(reply, meta, out),
            Dialect::Anthropic => anthropic::write_reply(reply, meta, out),
            #[cfg(feature = "bedrock")]
            Dialect::Bedrock => bedrock::write_reply(reply, meta, out),
        }
    }
}

/// A chat, in the shapes of providers.
impl Dialect {
    pub(super) fn write_request(self, request: &Request<'_>, model: &str, out: &mut Vec<u8>) -> Result<Lost, Error> {
        match self {
            Self::OpenAi => chat::write_request(request, model, out),
            Self::Anthropic => anthropic::write_request(request, model, out),
            #[cfg(feature = "bedrock")]
            Self::Bedrock => bedrock::write_request(request, model, out),
        }
    }

    pub(super) fn read_reply<'a>(self, body: &'a [u8], model: &'a str) -> Result<Reply<'a>, Error> {
        match self {
            Self::OpenAi => chat::read_reply(body, model),
            Self::Anthropic => anthropic::read_reply(body, model),
            #[cfg(feature = "bedrock")]
            Self::Bedrock => bedrock::read_reply(body, model),
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
