//! A stream, relayed event by event from the provider to the client's sink, by the worker alone.
//!
//! **Protocol.** Up to the first good event the waiter holds the thread and the sink stands in the job: an error goes back
//! to the waiter, who can still answer with a status of its own. At the first good event the worker takes the sink and
//! tells the waiter, who is free; if the sink is gone, so is the client, and the attempt ends. From then on the sink is
//! told the end, whatever it is. A stream is complete only if its shape's own end was seen (P5).
//!
//! The bytes of a forwarded answer go the same way, read by nobody: the sink is taken at its head, nothing is put among
//! them, and they are complete when their framing says so. One that the provider frames by its connection's end alone, as
//! HTTP/1.0 did, cannot be told from a cut one.
//!
//! **Panics.** One that comes while the sink is held is caught, told to the client as the stream's last word, and goes on
//! to the worker, which ends by it (I8).
//!
//! **Invariants.** I1: a sink taken is finished, by its own drop if need be. I5: each read ends at the nearest of silence,
//! the stream's whole length, the request's deadline and the next keep-alive.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt::{Active, Scratch, coded, count_tokens, is_of, masked, transport_error};
use super::face::{Face, WorkerState};
use super::figures::Running;
use super::gate::{Done, Pass};
use super::headers;
use super::job::{Progress, Reached, Reply};
use super::pool::{Shared, cancelled};
use crate::config::StreamGarbage;
use crate::error::{Attempt, Code, Error};
use crate::model::{Call, Sink, SinkError, StreamEnd, StreamHead, StreamKind};
use crate::queue::Permit;
use crate::sync::{CancelReason, threads};
use crate::time::{Deadline, now};
use crate::transport::{Body, Incoming, TransportError, TransportErrorKind};
use crate::wire::openai::{EventStream, Step};
use crate::wire::sse;

/// The largest single event, in bytes.
const MAX_EVENT: usize = 4 << 20;

/// How much is read at a time.
const READ: usize = 16 << 10;

/// After how much silence a comment keeps the client's connection alive.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// What stands in the stream where an event was left out.
const LEFT_OUT: &[u8] = b": an event that was no JSON was left out\n\n";

/// How long a stream may be silent between its finish reason and its `[DONE]`, which some providers forget.
const AFTER_END: Duration = Duration::from_secs(2);

/// What a client that reads slowly may take of a worker's time on top of the stream's own.
const STALLED: Duration = Duration::from_secs(60);

/// How long the end of a finished stream's body is waited for, so that its connection can be used again.
const CLEAN_END: Duration = Duration::from_millis(50);

/// The stream being read.
struct Source<'a> {
    body: Body,
    decoder: sse::Decoder,
    /// `None` for bytes that nobody reads on their way: their end is that of their framing.
    judge: Option<EventStream>,
    garbage: StreamGarbage,
    shared: &'a Shared,
    first_content: Option<Instant>,
    /// Whether an event that was no JSON has been left out.
    left_out: bool,
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

impl Source<'_> {
    /// Reads once, if nothing is left of the last read, and puts whole events that a client should see into `out`.
    fn next(&mut self, read: &mut [u8], out: &mut Vec<u8>, until: Deadline) -> Result<Batch, Fault> {
        let n = self.body.read(read, until).map_err(Fault::Transport)?;
        let Some(judge) = &mut self.judge else {
            out.extend_from_slice(&read[..n]);
            return Ok(if n == 0 { Batch::Done } else { Batch::More });
        };
        if n > 0 {
            self.decoder.push(&read[..n]);
        }
        loop {
            // At the end of the bytes, what stands without its blank line is an event all the same.
            let event = if n == 0 { self.decoder.finish() } else { self.decoder.next() };
            let Some(event) = event else { return Ok(if n == 0 { Batch::End } else { Batch::More }) };
            let event = event.map_err(|error| Fault::Answer(bad(error.to_string())))?;
            match judge.next(&event) {
                Step::Forward { first_content } => {
                    if first_content {
                        self.first_content = Some(now());
                    }
                    out.extend_from_slice(event.raw);
                }
                Step::Comment => out.extend_from_slice(event.raw),
                Step::Last => {
                    out.extend_from_slice(event.raw);
                    return Ok(Batch::Done);
                }
                Step::Omit => {}
                Step::Done => return Ok(Batch::Done),
                Step::Error(error) => {
                    return Err(Fault::Answer(masked(error, &self.shared.attempt.settings.mask)));
                }
                Step::Garbage => {
                    self.shared.figures.garbage_events.inc();
                    if self.garbage == StreamGarbage::Fail {
                        return Err(Fault::Answer(bad("an event of the stream is no JSON object".to_owned())));
                    }
                    self.left_out = true;
                    out.extend_from_slice(LEFT_OUT);
                }
            }
        }
    }

    /// Whether the shape's end was seen. Bytes have none.
    fn is_complete(&self) -> bool {
        self.judge.as_ref().is_some_and(EventStream::is_complete)
    }
}

/// Why a stream failed.
enum Fault {
    Transport(TransportError),
    Answer(Error),
}

fn bad(message: String) -> Error {
    Error::new(Code::UpstreamBadResponse, message)
}

/// Whether `events` hold more than comments: a good event has come.
fn has_event(events: &[u8]) -> bool {
    let mut line_start = true;
    for &byte in events {
        if line_start && byte != b':' && byte != b'\n' && byte != b'\r' {
            return true;
        }
        if line_start && byte == b':' {
            line_start = false;
            continue;
        }
        line_start = byte == b'\n' || byte == b'\r';
    }
    false
}

/// Relays the stream whose head has come.
pub(super) fn run(
    shared: &Shared,
    face: &Face,
    mut active: Active,
    incoming: Incoming,
    first_until: Deadline,
    scratch: &mut Scratch,
) {
    let settings = &shared.attempt.settings;
    let call = &active.call;
    let forwarded = call.operation.is_forward();
    if let Some(coding) = headers::coding(&incoming.headers).filter(|_| !forwarded) {
        let error = coded(coding);
        return active.end(shared, Err(error));
    }
    let kind = if forwarded {
        StreamKind::Bytes { status: incoming.status, events: is_of(&incoming, "text/event-stream") }
    } else {
        StreamKind::Events
    };
    let mut source = Source {
        body: incoming.body,
        decoder: sse::Decoder::new(MAX_EVENT),
        judge: (!forwarded).then(|| EventStream::new(&call.operation, &call.fields)),
        garbage: settings.stream_garbage,
        shared,
        first_content: None,
        left_out: false,
    };
    (scratch.read, scratch.out) = (shared.stock.buffers.buffer(), shared.stock.buffers.buffer());
    scratch.read.resize(READ, 0);
    let opened = match &source.judge {
        None => Ok(Opened::More),
        Some(_) => open(&mut source, &active, scratch, first_until, settings.early_keepalive),
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let error = headers::with_upstream(error, incoming.headers, &settings.mask);
            return active.end(shared, Err(error));
        }
    };
    let Some(sink) = active.job.take().and_then(|job| job.sink.take()) else {
        // The waiter took it to report something itself: its deadline, or the client's leaving.
        let reason = active.call.cancel.reason().unwrap_or(CancelReason::Deadline);
        return active.end(shared, Err(cancelled(reason)));
    };
    face.enter(WorkerState::Responding);
    let timing = active.timing();
    let headers = headers::for_client(incoming.headers, &settings.mask, forwarded);
    let head = StreamHead { kind, headers, served: active.served(shared, timing) };
    let Active { mut pass, permit, running, responder, call, model, progress, taken, queue, .. } = active;
    if matches!(opened, Opened::More | Opened::Done) {
        pass.begun(timing.upstream);
    }
    let streaming = Streaming { pass, permit, running, call, model, progress, queue, taken, began: now(), sink };
    responder.answer(Reply { result: Ok(Reached::Streaming), timing });
    streaming.relay(shared, source, head, opened, scratch);
}

/// What came together with a stream's first good event.
enum Opened {
    /// Nothing that ends it.
    More,
    /// Not even that event: the client is kept alive while it is waited for, at most until then.
    Early(Deadline),
    /// Its end.
    Done,
    /// What it fails by: how bytes fall into reads must not decide whether the events before it are shown.
    Failed(Error),
}

/// Reads up to the first good event.
fn open(
    source: &mut Source<'_>,
    active: &Active,
    scratch: &mut Scratch,
    first_until: Deadline,
    early_keepalive: bool,
) -> Result<Opened, Error> {
    let early = early_keepalive.then(|| Deadline::from(active.taken, KEEP_ALIVE_EVERY));
    loop {
        let until = early.map_or(first_until, |early| early.earlier(first_until));
        match source.next(&mut scratch.read, &mut scratch.out, until) {
            Ok(Batch::More) if has_event(&scratch.out) => return Ok(Opened::More),
            // Comments are no first event, and nobody is there yet to be kept alive by them. That something was left out is
            // still to be said, once.
            Ok(Batch::More) => {
                scratch.out.clear();
                if source.left_out {
                    scratch.out.extend_from_slice(LEFT_OUT);
                }
            }
            Ok(Batch::Done) => return Ok(Opened::Done),
            Ok(Batch::End) if source.is_complete() => return Ok(Opened::Done),
            Ok(Batch::End) if has_event(&scratch.out) => return Ok(Opened::More),
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
            Err(Fault::Transport(error)) => return Err(transport_error(source.shared, active, error)),
            Err(Fault::Answer(error)) if has_event(&scratch.out) => return Ok(Opened::Failed(error)),
            Err(Fault::Answer(error)) => return Err(error),
        }
    }
}

/// A stream whose sink is the worker's. Field order is drop order: place and count go first, the client hears last.
struct Streaming {
    pass: Pass,
    permit: Permit,
    running: Running,
    call: Arc<Call>,
    model: Arc<str>,
    progress: Progress,
    queue: Duration,
    taken: Instant,
    began: Instant,
    sink: Box<dyn Sink>,
}

impl Streaming {
    fn relay(
        mut self,
        shared: &Shared,
        mut source: Source<'_>,
        head: StreamHead,
        opened: Opened,
        scratch: &mut Scratch,
    ) {
        // What the client may stall it comes on top, and the server bounds that.
        let _due = threads::due(shared.attempt.settings.stream_max_duration.saturating_add(STALLED));
        let relayed = catch_unwind(AssertUnwindSafe(|| {
            self.sink.begin(head).map_err(|error| self.sink_error(error))?;
            self.pump(shared, &mut source, opened, scratch)
        }));
        let (result, panic) = match relayed {
            Ok(result) => (result, None),
            Err(panic) => (Err(panicked()), Some(panic)),
        };
        let usage = source.judge.as_ref().and_then(EventStream::usage);
        if let Some(usage) = usage {
            count_tokens(shared, usage);
        }
        if let Some(first) = source.first_content {
            shared.figures.first_token_us.record_micros(first.saturating_duration_since(self.taken));
        }
        let took = now().saturating_duration_since(self.taken);
        shared.figures.note_service(self.queue, took);
        let Self { pass, permit, running, model, progress, sink, .. } = self;
        match result {
            Ok(()) => {
                pass.end(Ok(&Done { usage, took }));
                running.succeed();
                drop(permit);
                sink.finish(StreamEnd::Complete);
                // The chunk that ends the body is on its way or here; past it, the connection serves again.
                let until = Deadline::after(CLEAN_END);
                while !until.passed() && matches!(source.body.read(&mut scratch.read, until), Ok(n) if n > 0) {}
            }
            Err(error) => {
                pass.end(Err(&error));
                running.fail(&error);
                drop(permit);
                drop(source);
                let provider = &shared.settings.name;
                let mut attempts = progress.tried;
                attempts.push(Attempt::of(provider, &model, Some(&error), took));
                sink.finish(StreamEnd::Failed(error.with_provider(provider).with_attempts(attempts)));
            }
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Relays until the stream's end.
    fn pump(
        &mut self,
        shared: &Shared,
        source: &mut Source<'_>,
        opened: Opened,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        let settings = &shared.attempt.settings;
        let longest = Deadline::from(self.began, settings.stream_max_duration);
        let whole = self.call.deadline.map_or(longest, |deadline| deadline.earlier(longest));
        let mut heard = now();
        let mut spoke = heard;
        self.send(&mut scratch.out)?;
        let mut first_until = match opened {
            Opened::More => None,
            Opened::Early(until) => Some(until),
            Opened::Done => return Ok(()),
            Opened::Failed(error) => return Err(error),
        };
        loop {
            // Once its end was seen, only the usage and `[DONE]` are to come: not worth a long wait.
            let patience = if source.is_complete() { AFTER_END } else { settings.stream_idle_timeout };
            let patience = patience.min(settings.stream_idle_timeout);
            let silence = first_until.unwrap_or_else(|| Deadline::from(heard, patience));
            // Among bytes that nobody reads there is no place for a word of ours.
            let speak = if source.judge.is_some() { Deadline::from(spoke, KEEP_ALIVE_EVERY) } else { whole };
            let batch = source.next(&mut scratch.read, &mut scratch.out, silence.earlier(whole).earlier(speak));
            match batch {
                Ok(Batch::More) => {
                    heard = now();
                    if has_event(&scratch.out) {
                        first_until = None;
                    }
                    if !scratch.out.is_empty() {
                        self.send(&mut scratch.out)?;
                        spoke = heard;
                    }
                    if whole.remaining_at(heard).is_zero() {
                        return Err(too_long());
                    }
                }
                Ok(Batch::Done) => {
                    self.send(&mut scratch.out)?;
                    // A body that ends with its connection ends cleanly by a cancel, too; only a shape knows better.
                    let cut = self.call.cancel.reason().filter(|_| source.judge.is_none());
                    return cut.map_or(Ok(()), |reason| Err(cancelled(reason)));
                }
                Ok(Batch::End) => {
                    self.send(&mut scratch.out)?;
                    return if source.is_complete() { Ok(()) } else { Err(cut("ended before its end was seen")) };
                }
                Err(fault) => {
                    self.send(&mut scratch.out)?;
                    let late = if first_until.is_some() { no_first_event } else { silent };
                    match self.fault(fault, source.is_complete(), silence, late, whole)? {
                        Onward::Complete => return Ok(()),
                        Onward::Speak => {
                            scratch.out.extend_from_slice(sse::KEEP_ALIVE);
                            self.send(&mut scratch.out)?;
                            spoke = now();
                        }
                    }
                }
            }
        }
    }

    fn send(&mut self, events: &mut Vec<u8>) -> Result<(), Error> {
        if events.is_empty() {
            return Ok(());
        }
        let sent = self.sink.event(events);
        events.clear();
        sent.map_err(|error| self.sink_error(error))
    }

    /// The client reads no more: the provider is told by its connection's end.
    fn sink_error(&self, error: SinkError) -> Error {
        let reason = match error {
            SinkError::Gone => CancelReason::ClientGone,
            SinkError::TooSlow => CancelReason::ClientSlow,
        };
        self.call.cancel.cancel(reason);
        cancelled(reason)
    }

    /// What a failed read comes to.
    fn fault(
        &self,
        fault: Fault,
        complete: bool,
        silence: Deadline,
        late: fn() -> Error,
        whole: Deadline,
    ) -> Result<Onward, Error> {
        let error = match fault {
            Fault::Answer(error) => return Err(error),
            Fault::Transport(error) => error,
        };
        match error.kind {
            TransportErrorKind::Cancelled(reason) => Err(cancelled(reason)),
            _ if complete && error.kind != TransportErrorKind::Timeout => Ok(Onward::Complete),
            TransportErrorKind::Timeout if whole.passed() => Err(too_long()),
            TransportErrorKind::Timeout if silence.passed() && complete => Ok(Onward::Complete),
            TransportErrorKind::Timeout if silence.passed() => Err(late()),
            TransportErrorKind::Timeout => Ok(Onward::Speak),
            TransportErrorKind::TooLarge | TransportErrorKind::Protocol => Err(bad(error.message)),
            _ => Err(cut(&error.message)),
        }
    }
}

/// How a stream goes on after a read that failed.
enum Onward {
    /// Its end was seen already.
    Complete,
    /// The client is told that all is well.
    Speak,
}

fn cut(why: &str) -> Error {
    Error::new(Code::StreamCut, format!("the provider's stream was cut: {why}"))
}

fn panicked() -> Error {
    Error::new(Code::Internal, "a worker panicked in the middle of the stream; the request id is in the log")
}

fn silent() -> Error {
    Error::new(Code::StreamIdleTimeout, "the provider was silent for too long in the middle of the stream")
}

fn no_first_event() -> Error {
    Error::new(Code::FirstTokenTimeout, "the provider sent no first event in time")
}

fn too_long() -> Error {
    Error::new(Code::StreamTooLong, "the stream ran longer than it may")
}

#[cfg(test)]
mod tests {
    use super::has_event;

    #[test]
    fn comments_and_blank_lines_are_no_event() {
        for none in ["", ": ping\n\n", "\n", ": a\n: b\r\n\r\n"] {
            assert!(!has_event(none.as_bytes()), "{none:?}");
        }
        for some in ["data: 1\n\n", ": ping\n\ndata: 1\n\n", "event: x\ndata: 1\n\n"] {
            assert!(has_event(some.as_bytes()), "{some:?}");
        }
    }
}
