//! One answer of a scripted provider.

use std::time::Duration;

use crossbeam_channel::select;
use serde_json::Value;

use crate::time::unix_ms;
use crate::transport::{Body, Control, Incoming, TransportError, TransportErrorKind};
use crate::wire::openai::{ChatChunk, Made, ProviderReply, error_object, stream_end};

/// What a scripted provider answers one request with.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::serde_json::json;
/// use sluicegate::ProviderReply;
/// use sluicegate::testing::Canned;
///
/// let slow = Canned::text("Hello").after(Duration::from_millis(20));
/// let words = Canned::stream(["Hel", "lo"]);
/// let broken = Canned::stream(["Hel", "lo"]).cut_after(1);
/// let tool = Canned::reply(ProviderReply::text("").with_tool_call("call_1", "weather", &json!({ "city": "Oslo" })));
/// let limited = Canned::error(429, "slow down").with_retry_after(Duration::from_secs(2));
/// let vectors = Canned::json(200, json!({ "object": "list", "data": [{ "index": 0, "embedding": [0.5, 1.0] }] }));
/// let silent = Canned::hang();
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Canned {
    says: Says,
    headers: Vec<(String, String)>,
    after: Duration,
    cut_after: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
enum Says {
    /// A chat's answer, whole or streamed as it was asked for.
    Reply(ProviderReply),
    /// The same in these pieces, if it is streamed.
    Pieces(Vec<String>),
    Json(u16, Value),
    Nothing,
}

impl Canned {
    /// An answer to a chat that says `text`, whole or streamed as it was asked for.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::reply(ProviderReply::text(text))
    }

    /// An answer to a chat, whole or streamed as it was asked for.
    #[must_use]
    pub fn reply(reply: ProviderReply) -> Self {
        Self::of(Says::Reply(reply))
    }

    /// An answer to a chat that comes in these pieces, an event each, if a stream was asked for; else in one.
    #[must_use]
    pub fn stream(pieces: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::of(Says::Pieces(pieces.into_iter().map(Into::into).collect()))
    }

    /// An answer of this HTTP status and body, whatever was asked.
    #[must_use]
    pub fn json(status: u16, body: Value) -> Self {
        Self::of(Says::Json(status, body))
    }

    /// An error of this HTTP status, in the provider's words.
    #[must_use]
    pub fn error(status: u16, message: &str) -> Self {
        Self::json(status, error_object(status, message, None))
    }

    /// No answer: the request ends by its deadline, its provider's time-out or a cancel.
    #[must_use]
    pub fn hang() -> Self {
        Self::of(Says::Nothing)
    }

    fn of(says: Says) -> Self {
        Self { says, headers: Vec::new(), after: Duration::ZERO, cut_after: None }
    }

    /// Says when to come again.
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        self.with_header("retry-after-ms", &after.as_millis().to_string())
    }

    /// Adds a header line, its name in lower case.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// It comes so much later.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.after = delay;
        self
    }

    /// The connection is cut after so many events of a stream, and in the middle of a whole answer.
    #[must_use]
    pub fn cut_after(mut self, events: usize) -> Self {
        self.cut_after = Some(events);
        self
    }

    /// Plays it for one who asked for a stream or not.
    pub(super) fn play(&self, model: &str, streamed: bool, control: &Control<'_>) -> Result<Incoming, TransportError> {
        wait(control, self.after)?;
        let made = Made { model, id: "script", created: unix_ms() / 1000 };
        let (status, content_type, pieces) = match &self.says {
            Says::Nothing => return Err(hang(control)),
            Says::Json(status, body) => (*status, "application/json", vec![body.to_string().into_bytes()]),
            Says::Reply(reply) if streamed => (200, EVENTS, events(reply.clone().into_chunks(), &made)),
            Says::Pieces(pieces) if streamed => {
                (200, EVENTS, events(pieces.iter().map(ChatChunk::from_text).collect(), &made))
            }
            Says::Reply(reply) => (200, "application/json", vec![reply.clone().into_body(&made)]),
            Says::Pieces(pieces) => {
                (200, "application/json", vec![ProviderReply::text(pieces.concat()).into_body(&made)])
            }
        };
        let mut headers = vec![("content-type".to_owned(), content_type.to_owned())];
        headers.extend(self.headers.iter().cloned());
        let body = match self.cut_after {
            None if content_type == EVENTS => Body::from_pieces(pieces.into_iter().map(Ok)),
            None => Body::from_bytes(pieces.concat()),
            Some(most) => {
                let half = |piece: &Vec<u8>| piece[..piece.len() / 2].to_vec();
                let sent: Vec<_> = match content_type {
                    EVENTS => pieces.into_iter().take(most).collect(),
                    _ => pieces.iter().map(half).collect(),
                };
                let cut = TransportError::new(TransportErrorKind::Cut, "the script cuts the connection here");
                Body::from_pieces(sent.into_iter().map(Ok).chain([Err(cut)]))
            }
        };
        Ok(Incoming { status, headers, body })
    }
}

const EVENTS: &str = "text/event-stream";

/// The events of a stream to its end, which belongs to the last of them.
fn events(chunks: Vec<ChatChunk>, made: &Made<'_>) -> Vec<Vec<u8>> {
    let finished = chunks.iter().any(|chunk| chunk.finish_reason().is_some());
    let mut events: Vec<_> = chunks.into_iter().map(|chunk| chunk.into_event(made)).collect();
    events.push(stream_end(made, finished));
    events
}

/// Waits for so long, unless the request ends before.
fn wait(control: &Control<'_>, delay: Duration) -> Result<(), TransportError> {
    let left = control.deadline.remaining();
    if !delay.is_zero() {
        select! {
            recv(control.cancel.channel()) -> _ => {}
            default(delay.min(left)) => {}
        }
    }
    match control.cancel.reason() {
        Some(reason) => Err(TransportError::cancelled(reason)),
        None if delay >= left => Err(too_late()),
        None => Ok(()),
    }
}

fn hang(control: &Control<'_>) -> TransportError {
    wait(control, Duration::MAX).err().unwrap_or_else(too_late)
}

fn too_late() -> TransportError {
    TransportError::new(TransportErrorKind::Timeout, "the script answers too late, or never")
}
