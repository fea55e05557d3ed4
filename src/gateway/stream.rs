//! A stream for a library caller: an iterator over a bounded channel that a worker fills.
//!
//! **Protocol.** The channel is `result_buffer` deep and holds at most [`MAX_HELD`] bytes. A worker that finds it full waits
//! until the caller takes something, at most the gateway's `write_timeout` in all, as for a client's socket. The caller
//! takes bytes off the count and then says so on a channel of one; a worker looks at the count again after each word, so
//! none is lost. Dropping the iterator cancels the request, which shuts the upstream connection down (I9).
//!
//! **Invariants.** I4: what is held for a caller is bounded in number and bytes.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};

use super::Gateway;
use super::call::Handled;
use super::options::CallOptions;
use crate::error::{Code, Error, Result};
use crate::model::{Operation, Served, Sink, SinkError, StreamEnd, StreamHead};
use crate::sync::{CancelReason, CancelToken};
use crate::time::now;
use crate::wire::openai::{Assembly, ChatChunk, ChatReply};
use crate::wire::pieces::Framing;
use crate::wire::sse;

/// The largest event taken apart, in bytes; the worker lets none through that is larger.
const MAX_EVENT: usize = 4 << 20;

/// The most bytes held for a caller; a single larger event is let through when nothing else is held, and so is a stream
/// that comes as a whole.
const MAX_HELD: usize = 4 << 20;

/// The pieces of a stream that was held, or that a plugin answers with: its head, all its events, what plugins put before
/// its end, and its end. They are sent by the thread that reads them afterwards, so that there must be places for all.
const HELD_PIECES: usize = 4;

/// What a worker sends to the iterator.
enum Piece {
    Head(Served),
    Events(Vec<u8>),
    End(Option<Error>),
}

struct ChannelSink {
    sender: Sender<Piece>,
    held: Arc<AtomicUsize>,
    /// Says that the count of held bytes has fallen.
    room: Receiver<()>,
    /// Who reads once the stream has begun: until then nobody does, and for himself he need not wait.
    reader: ThreadId,
    patience: Duration,
}

impl ChannelSink {
    fn send(&mut self, piece: Piece) -> std::result::Result<(), SinkError> {
        let sent = self.stalled(|sink| sink.sender.send_timeout(piece, sink.patience));
        sent.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => SinkError::TooSlow,
            SendTimeoutError::Disconnected(_) => SinkError::Gone,
        })
    }

    /// Waits until `bytes` more may be held.
    fn make_room(&mut self, bytes: usize) -> std::result::Result<(), SinkError> {
        loop {
            let held = self.held.load(Ordering::SeqCst);
            if held == 0 || held.saturating_add(bytes) <= MAX_HELD || thread::current().id() == self.reader {
                return Ok(());
            }
            self.stalled(|sink| sink.room.recv_timeout(sink.patience)).map_err(|error| match error {
                RecvTimeoutError::Timeout => SinkError::TooSlow,
                RecvTimeoutError::Disconnected => SinkError::Gone,
            })?;
        }
    }

    /// Takes what `wait` lasts off the patience: a caller who has used it up is not waited for again.
    fn stalled<T>(&mut self, wait: impl FnOnce(&Self) -> T) -> T {
        let start = now();
        let result = wait(self);
        self.patience = self.patience.saturating_sub(now().saturating_duration_since(start));
        result
    }
}

impl Sink for ChannelSink {
    fn begin(&mut self, head: StreamHead) -> std::result::Result<(), SinkError> {
        self.send(Piece::Head(head.served))
    }

    fn event(&mut self, bytes: &[u8]) -> std::result::Result<(), SinkError> {
        // A connection may have to be kept alive; a channel has not, and its places are for events.
        if bytes == sse::KEEP_ALIVE {
            return Ok(());
        }
        self.make_room(bytes.len())?;
        self.held.fetch_add(bytes.len(), Ordering::SeqCst);
        self.send(Piece::Events(bytes.to_vec()))
    }

    fn finish(mut self: Box<Self>, end: StreamEnd) {
        let error = match end {
            StreamEnd::Complete(_) => None,
            StreamEnd::Failed(error) => Some(error),
        };
        // A caller that has gone, or takes nothing, hears nothing: a closed channel is its error then.
        let _ = self.send(Piece::End(error));
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

/// One event of a stream, as the provider sent it.
///
/// ```
/// use sluicegate::Gateway;
/// use sluicegate::model::Operation;
/// use sluicegate::serde_json::{self, Value};
///
/// let gateway = Gateway::from_env()?;
/// let body = r#"{"model":"sim/echo","stream":true,"input":"Hello"}"#;
/// let mut text = String::new();
/// for event in gateway.raw_stream(Operation::Responses, body)? {
///     let event = event?;
///     if event.name == "response.output_text.delta" {
///         let data: Value = serde_json::from_slice(&event.data)?;
///         text.push_str(data["delta"].as_str().unwrap_or_default());
///     }
/// }
/// assert_eq!(text, "Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawEvent {
    /// Its name; empty if it has none, as in chat completions.
    pub name: String,
    /// Its data: JSON, usually.
    pub data: Vec<u8>,
}

/// The events of a streamed answer, as they come. Ends after the last one, or after an error; `[DONE]` is none of them.
/// Dropping it cancels the request upstream.
///
/// ```
/// use sluicegate::Gateway;
/// use sluicegate::model::Operation;
///
/// let gateway = Gateway::from_env()?;
/// let body = r#"{"model":"sim/lorem-3","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;
/// let mut stream = gateway.raw_stream(Operation::ChatCompletions, body)?;
/// let events = stream.by_ref().collect::<Result<Vec<_>, _>>()?;
/// assert!(events.iter().all(|event| event.data.starts_with(b"{")), "[DONE] is none of them");
/// assert_eq!(stream.served().map(|served| served.model.as_str()), Some("lorem-3"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RawStream {
    receiver: Receiver<Piece>,
    held: Arc<AtomicUsize>,
    room: Sender<()>,
    decoder: sse::Decoder,
    cancel: CancelToken,
    served: Option<Served>,
    over: bool,
}

/// Opens a stream for `body`.
pub(super) fn open(gateway: &Gateway, operation: Operation, body: Vec<u8>, options: &CallOptions) -> Result<RawStream> {
    let mut guard = gateway.begin(now());
    if Framing::of(&operation) != Framing::Events {
        let text = "streams of frames are for clients of Bedrock's routes; ask for the same chat by another operation";
        let error = Error::new(Code::Unsupported, text);
        guard.fail(&error);
        return Err(error);
    }
    let call = gateway.own_call(&mut guard, operation, body, true, options)?;
    let house = gateway.house();
    let (config, depth) = (&house.config, house.result_buffer(&call.fields.model));
    let (sender, receiver) = bounded(depth.max(HELD_PIECES));
    let (held, (room, makes_room)) = (Arc::default(), bounded(1));
    let (reader, patience) = (thread::current().id(), config.server.write_timeout);
    let sink = ChannelSink { sender, held: Arc::clone(&held), room: makes_room, reader, patience };
    match gateway.handle(&call, guard, Some(Box::new(sink))) {
        Handled::Streaming => Ok(RawStream {
            receiver,
            held,
            room,
            decoder: sse::Decoder::new(MAX_EVENT),
            cancel: call.cancel.clone(),
            served: None,
            over: false,
        }),
        Handled::Failed(error, _) => Err(error),
        Handled::Answer(..) => Err(Error::new(Code::Internal, "a whole answer came where a stream was asked for")),
    }
}

impl RawStream {
    /// Who answers, and where the time went until the first event; known once a first one was taken.
    #[must_use]
    pub fn served(&self) -> Option<&Served> {
        self.served.as_ref()
    }

    /// Ends the request upstream. What has come already can still be read.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// The next event of what has been taken: one at a time, since a stream that was held came as a whole.
    fn ready<T>(&mut self, read: impl Fn(sse::Event<'_>) -> Result<T>) -> Option<Result<T>> {
        loop {
            return match self.decoder.next()? {
                Ok(event) if event.is_comment => continue,
                Ok(event) => Some(read(event)),
                Err(error) => Some(Err(Error::new(Code::UpstreamBadResponse, error.to_string()))),
            };
        }
    }

    /// The next event, as `read` takes it; waits for it. The worker's own limits bound the wait: silence, the stream's
    /// length, the deadline.
    fn advance<T>(&mut self, read: impl Fn(sse::Event<'_>) -> Result<T>) -> Option<Result<T>> {
        while !self.over {
            if let Some(ready) = self.ready(&read) {
                if ready.is_err() {
                    // Nobody reads on after an error: the provider need not go on either.
                    self.cancel();
                    self.over = true;
                }
                return Some(ready);
            }
            match self.receiver.recv() {
                Ok(Piece::Head(served)) => self.served = Some(served),
                Ok(Piece::Events(events)) => {
                    self.held.fetch_sub(events.len(), Ordering::SeqCst);
                    // If a word stands there already, the worker looks at the count after taking that one.
                    let _ = self.room.try_send(());
                    self.decoder.push(&events);
                }
                Ok(Piece::End(error)) => {
                    self.over = true;
                    return error.map(Err);
                }
                Err(_) => {
                    self.over = true;
                    let error = match self.cancel.reason() {
                        Some(CancelReason::ClientSlow) => {
                            Error::new(Code::ClientTooSlow, "the stream was not read for too long, and ended")
                        }
                        Some(_) => Error::new(Code::ClientClosed, "the request was cancelled"),
                        None => Error::new(Code::Internal, "the stream ended without a word"),
                    };
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl Iterator for RawStream {
    type Item = Result<RawEvent>;

    /// The next event; waits for it, as long as the request's limits allow.
    fn next(&mut self) -> Option<Self::Item> {
        self.advance(|event| {
            let name = String::from_utf8_lossy(event.name).into_owned();
            Ok(RawEvent { name, data: event.data.to_vec() })
        })
    }
}

impl Drop for RawStream {
    fn drop(&mut self) {
        if !self.over {
            self.cancel.cancel();
        }
    }
}

impl fmt::Debug for RawStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawStream").field("over", &self.over).finish_non_exhaustive()
    }
}

/// The chunks of a streamed answer, as they come. Ends after the last one, or after an error. Dropping it cancels the
/// request upstream.
///
/// It remembers what went by, so that a program can show an answer as it comes and have it whole in the end:
///
/// ```
/// use sluicegate::{ChatRequest, Gateway};
///
/// let gateway = Gateway::from_env()?;
/// let mut request = ChatRequest::new("sim/echo", "one two");
/// let mut stream = gateway.chat_stream(&request)?;
/// for chunk in stream.by_ref() {
///     print!("{}", chunk?.text());
/// }
/// let reply = stream.collect_reply()?;
/// assert_eq!(reply.text(), "one two");
/// // What was said goes with the next turn.
/// request.messages.push(reply.message());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ChatStream {
    raw: RawStream,
    seen: Assembly,
    failed: Option<Error>,
}

impl ChatStream {
    pub(super) fn new(raw: RawStream) -> Self {
        Self { raw, seen: Assembly::default(), failed: None }
    }

    /// Who answers, and where the time went until the first event; known once a first chunk was taken.
    #[must_use]
    pub fn served(&self) -> Option<&Served> {
        self.raw.served()
    }

    /// Ends the request upstream. What has come already can still be read.
    pub fn cancel(&self) {
        self.raw.cancel();
    }

    /// Waits for the chunks that are left and makes a whole answer of all of them, those taken before included, with the
    /// calls of tools put together.
    ///
    /// # Errors
    /// What the stream failed with, also if that was seen before.
    pub fn collect_reply(mut self) -> Result<ChatReply> {
        self.by_ref().try_for_each(|chunk| chunk.map(drop))?;
        if let Some(error) = self.failed {
            return Err(error);
        }
        let served = self.raw.served().cloned();
        let served = served.ok_or_else(|| Error::new(Code::Internal, "the stream ended before it began"))?;
        Ok(self.seen.finish(served))
    }
}

impl Iterator for ChatStream {
    type Item = Result<ChatChunk>;

    /// The next chunk; waits for it, as long as the request's limits allow.
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.raw.advance(|event| ChatChunk::from_data(event.data))?;
        match &next {
            Ok(chunk) => self.seen.push(chunk),
            Err(error) => self.failed = Some(error.retold()),
        }
        Some(next)
    }
}
