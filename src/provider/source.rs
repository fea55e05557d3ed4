//! A provider's stream as it is read: whole events that a client should see, up to its end or to what it fails by.
//!
//! What becomes of them is another's business, an [`Outlet`]'s: `relay` sends them on as they come, `rescue` holds them until
//! the end was seen. A stream is complete only if its shape's own end was seen (P5); once it was, nothing that follows makes
//! a failure of it but the provider's own word that it failed.
//!
//! **Invariants.** I5: each read ends at the nearest of silence, the stream's whole length, the request's deadline and the
//! next keep-alive.

use std::time::{Duration, Instant};

use super::attempt::{Active, Scratch, masked, transport_error};
use super::figures::Running;
use super::pool::{Shared, cancelled};
use super::series::Chunks;
use crate::config::StreamGarbage;
use crate::error::{Code, Error};
use crate::model::{Call, Usage};
use crate::time::{Deadline, format_duration, now};
use crate::transport::{Body, TransportError, TransportErrorKind};
use crate::wire::crossing::Stream;
use crate::wire::openai::Step;
use crate::wire::sse;

/// The largest single event, in bytes.
const MAX_EVENT: usize = 4 << 20;

/// How much is read at a time.
const READ: usize = 16 << 10;

/// After how much silence a comment keeps the client's connection alive.
pub(super) const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// What stands in the stream where an event was left out.
const LEFT_OUT: &[u8] = b": an event that was no JSON was left out\n\n";

/// How long a stream may be silent between its finish reason and its `[DONE]`, which some providers forget.
const AFTER_END: Duration = Duration::from_secs(2);

/// How long the end of a finished stream's body is waited for, so that its connection can be used again.
const CLEAN_END: Duration = Duration::from_millis(50);

/// Where a stream's events go.
pub(super) trait Outlet {
    /// Takes what stands in `events`, whole events or bytes that nobody reads, and leaves it empty.
    ///
    /// # Errors
    /// If it takes no more; that is the stream's end.
    fn take(&mut self, events: &mut Vec<u8>) -> Result<(), Error>;

    /// Whether somebody is there to be kept alive while nothing comes.
    fn is_live(&self) -> bool;
}

/// The stream being read.
pub(super) struct Source<'a> {
    body: Body,
    /// `None` for bytes that nobody reads on their way: their end is that of their framing.
    stream: Option<Stream>,
    garbage: StreamGarbage,
    /// Whether words of ours can stand among what the client gets.
    has_comments: bool,
    shared: &'a Shared,
    first_content: Option<Instant>,
    chunks: Chunks,
    /// Whether an event has come that is no comment.
    begun: bool,
    /// Whether an event that was no JSON has been left out.
    left_out: bool,
}

/// What came together with a stream's first good event.
pub(super) enum Opened {
    /// Nothing that ends it.
    More,
    /// Not even that event: the client is kept alive while it is waited for, at most until then.
    Early(Deadline),
    /// Its end.
    Done,
    /// What it fails by: how bytes fall into reads must not decide whether the events before it are shown.
    Failed(Error),
}

/// What one read brought.
enum Batch {
    /// Events in `out`, maybe none.
    More,
    /// The shape's end.
    Done,
    /// The bytes ended.
    End,
}

/// Why a stream failed.
enum Fault {
    Transport(TransportError),
    Answer(Error),
}

pub(super) fn bad(message: String) -> Error {
    Error::new(Code::UpstreamBadResponse, message)
}

impl<'a> Source<'a> {
    /// The stream of an answer whose head has come, and memory to read it with.
    pub(super) fn new(shared: &'a Shared, active: &Active, body: Body, scratch: &mut Scratch) -> Self {
        (scratch.read, scratch.out) = (shared.stock.buffers.buffer(), shared.stock.buffers.buffer());
        scratch.read.resize(READ, 0);
        Self {
            body,
            stream: active.crossing.stream(&active.call.operation, &active.call.fields, MAX_EVENT, || active.meta()),
            garbage: shared.attempt.settings.stream_garbage,
            has_comments: active.crossing.has_comments(),
            shared,
            first_content: None,
            chunks: Chunks::since(active.taken),
            begun: false,
            left_out: false,
        }
    }

    /// Reads up to the first good event, which then stands in `scratch.out`. With `early_keepalive` it gives up waiting for it
    /// when a client should hear something.
    ///
    /// # Errors
    /// If the stream fails before that event.
    pub(super) fn open(
        &mut self,
        active: &Active,
        scratch: &mut Scratch,
        first_until: Deadline,
        early_keepalive: bool,
    ) -> Result<Opened, Error> {
        if self.stream.is_none() {
            return Ok(Opened::More);
        }
        let early = (early_keepalive && self.has_comments).then(|| Deadline::from(active.taken, KEEP_ALIVE_EVERY));
        loop {
            let until = early.map_or(first_until, |early| early.earlier(first_until));
            match self.next(&mut scratch.read, &mut scratch.out, until) {
                Ok(Batch::More) if self.begun => return Ok(Opened::More),
                // Comments are no first event, and nobody is there yet to be kept alive by them. That something was left out
                // is still to be said, once.
                Ok(Batch::More) => {
                    scratch.out.clear();
                    if self.left_out && self.has_comments {
                        scratch.out.extend_from_slice(LEFT_OUT);
                    }
                }
                Ok(Batch::Done) => return Ok(Opened::Done),
                Ok(Batch::End) if self.is_complete() => return Ok(Opened::Done),
                Ok(Batch::End) if self.begun => return Ok(Opened::More),
                Ok(Batch::End) => return Err(bad("the stream ended before its first event".to_owned())),
                Err(Fault::Transport(error))
                    if early.is_some() && error.kind == TransportErrorKind::Timeout && !first_until.passed() =>
                {
                    scratch.out.extend_from_slice(sse::KEEP_ALIVE);
                    return Ok(Opened::Early(first_until));
                }
                Err(Fault::Transport(error)) if error.kind == TransportErrorKind::Cut => {
                    let text = "the connection to the provider was cut before the stream's first event";
                    return Err(Error::new(Code::UpstreamConnectError, text).with_source(error));
                }
                Err(Fault::Transport(error)) => return Err(transport_error(self.shared, active, error)),
                Err(Fault::Answer(error)) if self.begun => return Ok(Opened::Failed(error)),
                Err(Fault::Answer(error)) => return Err(error),
            }
        }
    }

    /// Reads on to the stream's end, of which `opened` is the beginning, and hands to `outlet` what comes; [`finish`](Self::finish)
    /// is to follow. The stream's whole length counts from `began`.
    ///
    /// # Errors
    /// What the stream failed by, once everything that came before it was handed on.
    pub(super) fn follow(
        &mut self,
        call: &Call,
        began: Instant,
        opened: Opened,
        scratch: &mut Scratch,
        outlet: &mut impl Outlet,
    ) -> Result<(), Error> {
        outlet.take(&mut scratch.out)?;
        let mut first_until = match opened {
            Opened::More => None,
            Opened::Early(until) => Some(until),
            Opened::Done => return Ok(()),
            Opened::Failed(error) => return Err(error),
        };
        let settings = &self.shared.attempt.settings;
        let whole = self.longest(call, began);
        let (mut heard, mut spoke) = (now(), now());
        loop {
            // Once its end was seen, only the usage and `[DONE]` are to come: not worth a long wait.
            let patience = if self.is_complete() { AFTER_END } else { settings.stream_idle_timeout };
            let patience = patience.min(settings.stream_idle_timeout);
            let silence = first_until.unwrap_or_else(|| Deadline::from(heard, patience));
            // Among bytes that nobody reads there is no place for a word of ours, nor is there among frames.
            let speaks = outlet.is_live() && self.stream.is_some() && self.has_comments;
            let speak = if speaks { Deadline::from(spoke, KEEP_ALIVE_EVERY) } else { whole };
            let batch = self.next(&mut scratch.read, &mut scratch.out, silence.earlier(whole).earlier(speak));
            let spoken = !scratch.out.is_empty();
            if spoken {
                outlet.take(&mut scratch.out)?;
            }
            match batch {
                Ok(Batch::More) => {
                    // Not before it was taken: for how long a client keeps us, the provider is not silent.
                    heard = now();
                    self.chunks.heard(heard);
                    if spoken {
                        spoke = heard;
                    }
                    if self.begun {
                        first_until = None;
                    }
                    if whole.remaining_at(heard).is_zero() {
                        return if self.is_complete() { Ok(()) } else { Err(self.too_long(call, began)) };
                    }
                }
                Ok(Batch::Done) => {
                    // A body that ends with its connection ends cleanly by a cancel, too; only a shape knows better.
                    let cut = call.cancel.reason().filter(|_| self.stream.is_none());
                    return cut.map_or(Ok(()), |reason| Err(cancelled(reason)));
                }
                Ok(Batch::End) => {
                    return if self.is_complete() { Ok(()) } else { Err(cut("it ended before its end was seen")) };
                }
                Err(Fault::Answer(error)) => return Err(error),
                Err(Fault::Transport(error)) => match error.kind {
                    TransportErrorKind::Cancelled(reason) => return Err(cancelled(reason)),
                    TransportErrorKind::Timeout if !whole.passed() && !silence.passed() => {
                        if speaks && speak.passed() {
                            scratch.out.extend_from_slice(sse::KEEP_ALIVE);
                            outlet.take(&mut scratch.out)?;
                            spoke = now();
                        }
                    }
                    // Its end was seen already: what the provider does with the connection then is its own business.
                    _ if self.is_complete() => return Ok(()),
                    TransportErrorKind::Timeout if whole.passed() => return Err(self.too_long(call, began)),
                    TransportErrorKind::Timeout if first_until.is_some() => {
                        let own = call.deadline.is_some_and(Deadline::passed);
                        return Err(self.shared.attempt.late(true, own));
                    }
                    TransportErrorKind::Timeout => return Err(silent(settings.stream_idle_timeout)),
                    TransportErrorKind::TooLarge | TransportErrorKind::Protocol => return Err(bad(error.message)),
                    _ => return Err(cut(&error.message)),
                },
            }
        }
    }

    /// The stream has come to its end: hands to `outlet` what was held back for that.
    ///
    /// # Errors
    /// If it takes no more.
    pub(super) fn finish(&mut self, scratch: &mut Scratch, outlet: &mut impl Outlet) -> Result<(), Error> {
        if let Some(stream) = &mut self.stream {
            stream.finish(&mut scratch.out);
        }
        outlet.take(&mut scratch.out)
    }

    /// When a stream that began at `began` has run for as long as it may.
    pub(super) fn longest(&self, call: &Call, began: Instant) -> Deadline {
        let longest = Deadline::from(began, self.shared.attempt.settings.stream_max_duration);
        call.deadline.map_or(longest, |deadline| deadline.earlier(longest))
    }

    /// It is now `at`, and what stands in `scratch.out` has come.
    pub(super) fn heard(&mut self, at: Instant) {
        self.chunks.heard(at);
    }

    /// Counts what was learned of the stream, which ended at `ended` and whose job a worker took at `taken`; the tokens, if
    /// the provider said them.
    pub(super) fn note(&mut self, running: &Running, taken: Instant, ended: Instant) -> Option<Usage> {
        let usage = self.stream.as_ref().and_then(Stream::usage);
        if let Some(usage) = usage {
            running.note_usage(usage);
        }
        self.chunks.heard(ended);
        running.note_chunks(&self.chunks);
        if let Some(first) = self.first_content {
            self.shared.figures.first_token_us.record_micros(first.saturating_duration_since(taken));
        }
        usage
    }

    /// Reads past the end of a stream that is complete: the chunk that ends the body is on its way or here, and past it the
    /// connection serves again.
    pub(super) fn wind_up(&mut self, scratch: &mut Scratch) {
        let until = Deadline::after(CLEAN_END);
        while !until.passed() && matches!(self.body.read(&mut scratch.read, until), Ok(n) if n > 0) {}
    }

    /// Reads once, if nothing is left of the last read, and puts whole events that a client should see into `out`.
    fn next(&mut self, read: &mut [u8], out: &mut Vec<u8>, until: Deadline) -> Result<Batch, Fault> {
        let n = self.body.read(read, until).map_err(Fault::Transport)?;
        let Some(stream) = &mut self.stream else {
            out.extend_from_slice(&read[..n]);
            return Ok(if n == 0 { Batch::Done } else { Batch::More });
        };
        if n > 0 {
            stream.push(&read[..n]);
        }
        loop {
            let before = out.len();
            let Some(step) = stream.next(n == 0, out) else { return Ok(if n == 0 { Batch::End } else { Batch::More }) };
            let step = match step {
                Ok(step) => step,
                Err(_) if stream.is_complete() => return Ok(Batch::Done),
                Err(error) => return Err(Fault::Answer(error)),
            };
            match step {
                Step::Forward { first_content } => {
                    if first_content {
                        self.first_content = Some(now());
                    }
                    self.begun = true;
                    self.chunks.came();
                }
                // Half an event, since the bytes end in it: neither a comment nor garbage, but what a cut leaves.
                Step::Comment | Step::Garbage if n == 0 => {
                    out.truncate(before);
                    return Ok(Batch::End);
                }
                Step::Comment => {}
                Step::Last => {
                    self.begun = true;
                    self.chunks.came();
                    return Ok(Batch::Done);
                }
                Step::Omit => {}
                Step::Done => return Ok(Batch::Done),
                Step::Error(error) => {
                    return Err(Fault::Answer(masked(error, &self.shared.attempt.settings.mask)));
                }
                Step::Garbage => {
                    self.shared.figures.garbage_events.inc();
                    if self.garbage == StreamGarbage::Fail && !stream.is_complete() {
                        return Err(Fault::Answer(bad("an event of the stream is no JSON object".to_owned())));
                    }
                    self.left_out = true;
                    if self.has_comments {
                        out.extend_from_slice(LEFT_OUT);
                    }
                }
            }
        }
    }

    /// Whether the shape's end was seen. Bytes have none.
    fn is_complete(&self) -> bool {
        self.stream.as_ref().is_some_and(Stream::is_complete)
    }

    /// It ran longer than the provider's streams may, or than the request allows.
    fn too_long(&self, call: &Call, began: Instant) -> Error {
        let most = self.shared.attempt.settings.stream_max_duration;
        let own = call.deadline.is_some_and(|deadline| deadline < Deadline::from(began, most));
        let text = if own {
            "the stream did not end in the time that the request allows".to_owned()
        } else {
            format!("the stream ran longer than {} (stream_max_duration)", format_duration(most))
        };
        Error::new(Code::StreamTooLong, text)
    }
}

fn cut(why: &str) -> Error {
    Error::new(Code::StreamCut, format!("the provider's stream was cut: {why}"))
}

fn silent(limit: Duration) -> Error {
    let limit = format_duration(limit);
    let text =
        format!("the provider was silent for {limit} in the middle of the stream (stream_idle_timeout_in_seconds)");
    Error::new(Code::StreamIdleTimeout, text)
}
