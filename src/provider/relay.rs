//! A stream, relayed event by event from the provider to the client's sink, by the worker alone.
//!
//! **Protocol.** Up to the first good event the waiter holds the thread and the sink stands in the job: an error goes back
//! to the waiter, who can still answer with a status of its own. At the first good event the worker takes the sink and
//! tells the waiter, who is free; if the sink is gone, so is the client, and the attempt ends. From then on the sink is
//! told the end, whatever it is. How the stream is read, and what is its end, stands in `source`.
//!
//! The bytes of a forwarded answer go the same way, read by nobody: the sink is taken at its head, nothing is put among
//! them, and they are complete when their framing says so. One that the provider frames by its connection's end alone, as
//! HTTP/1.0 did, cannot be told from a cut one.
//!
//! **Panics.** One that comes while the sink is held is caught, told to the client as the stream's last word, and goes on
//! to the worker, which ends by it (I8).
//!
//! **Invariants.** I1: a sink taken is finished, by its own drop if need be.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt::{Active, Scratch, is_of};
use super::face::{Face, WorkerState};
use super::figures::Running;
use super::gate::{Done, Pass};
use super::headers;
use super::job::{Progress, Reached, Reply};
use super::pool::{Shared, cancelled};
use super::source::{Opened, Outlet, Source};
use crate::error::{Attempt, Code, Error};
use crate::model::{Call, Sink, SinkError, StreamEnd, StreamHead, StreamKind};
use crate::queue::Permit;
use crate::sync::{CancelReason, CancelToken, threads};
use crate::time::{Deadline, now};
use crate::transport::Incoming;

/// What a client that reads slowly may take of a worker's time on top of the stream's own.
const STALLED: Duration = Duration::from_secs(60);

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
    let forwarded = active.call.operation.is_forward();
    let kind = if forwarded {
        StreamKind::Bytes { status: incoming.status, events: is_of(&incoming, "text/event-stream") }
    } else {
        StreamKind::Events
    };
    let mut source = Source::new(shared, &active, incoming.body, scratch);
    let opened = match source.open(&active, scratch, first_until, settings.early_keepalive) {
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
    source.heard(active.taken + timing.upstream);
    let headers = active.headers(shared, incoming.headers);
    let head = StreamHead { kind, headers, served: active.served(shared, timing) };
    let Active { mut pass, permit, running, responder, call, model, progress, taken, queue, .. } = active;
    if matches!(opened, Opened::More | Opened::Done) {
        pass.begun(timing.upstream);
    }
    let streaming = Streaming { pass, permit, running, call, model, progress, queue, taken, began: now(), sink };
    responder.answer(Reply { result: Ok(Reached::Streaming), timing });
    streaming.relay(shared, source, head, opened, scratch);
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
            self.sink.begin(head).map_err(|error| refused(error, &self.call.cancel))?;
            let mut client = Client { sink: &mut *self.sink, cancel: &self.call.cancel };
            source.follow(&self.call, self.began, opened, scratch, &mut client)?;
            source.finish(scratch, &mut client)
        }));
        let (result, panic) = match relayed {
            Ok(result) => (result, None),
            Err(panic) => (Err(panicked()), Some(panic)),
        };
        let ended = now();
        let usage = source.note(&self.running, self.taken, ended);
        let took = ended.saturating_duration_since(self.taken);
        shared.figures.note_service(self.queue, took);
        let Self { pass, permit, running, model, progress, sink, .. } = self;
        match result {
            Ok(()) => {
                pass.end(Ok(&Done { usage, took }));
                running.succeed(took);
                drop(permit);
                sink.finish(StreamEnd::Complete(usage));
                source.wind_up(scratch);
            }
            Err(error) => {
                pass.end(Err(&error));
                running.fail(&error, took);
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
}

/// A client that hears each event as it comes.
struct Client<'a> {
    sink: &'a mut dyn Sink,
    cancel: &'a CancelToken,
}

impl Outlet for Client<'_> {
    fn take(&mut self, events: &mut Vec<u8>) -> Result<(), Error> {
        if events.is_empty() {
            return Ok(());
        }
        let sent = self.sink.event(events);
        events.clear();
        sent.map_err(|error| refused(error, self.cancel))
    }

    fn is_live(&self) -> bool {
        true
    }
}

/// The client reads no more: the provider is told by its connection's end.
pub(super) fn refused(error: SinkError, cancel: &CancelToken) -> Error {
    let reason = match error {
        SinkError::Gone => CancelReason::ClientGone,
        SinkError::TooSlow => CancelReason::ClientSlow,
    };
    cancel.cancel_for(reason);
    cancelled(reason)
}

fn panicked() -> Error {
    Error::new(Code::Internal, "a worker panicked in the middle of the stream; the request id is in the log")
}
