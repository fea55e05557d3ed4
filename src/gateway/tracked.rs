//! The sink of a stream on its way to the caller: it ends the request when it ends, and shows plugins what goes through.
//!
//! **Protocol.** It stands around the caller's own sink from the request's beginning. Comments may go through it before any
//! attempt has succeeded; it comes back unused then all the same, and its parts with it.
//!
//! **Invariants.** I1: it ends its request once, by its drop if a defect loses it; counted before the last byte is written.

use std::any::Any;

use super::requests::RequestGuard;
use crate::error::{Code, Error};
use crate::model::{Served, Sink, SinkError, StreamEnd, StreamHead, StreamKind, Usage};
use crate::plugin::{self, StreamSummary};
use crate::provider::cancelled;
use crate::sync::CancelReason;

/// A sink with the guard of its request: the request ends when the stream does. Its plugins see the events on the way.
pub(super) struct Tracked {
    inner: Option<Box<dyn Sink>>,
    guard: Option<RequestGuard>,
    plugins: Option<plugin::Run>,
    /// Whether the client has heard something; comments that keep it alive come before any attempt has succeeded.
    pub(super) begun: bool,
    /// What plugins are told at the end; only where there are some.
    served: Option<Served>,
    /// Bytes that went to the client.
    bytes: u64,
    /// What plugins made of events.
    made: Vec<u8>,
}

impl Tracked {
    /// A sink into which comments have gone already if it has `begun`.
    pub(super) fn new(inner: Box<dyn Sink>, guard: RequestGuard, plugins: Option<plugin::Run>, begun: bool) -> Self {
        let (inner, guard) = (Some(inner), Some(guard));
        Self { inner, guard, plugins, begun, served: None, bytes: 0, made: Vec::new() }
    }

    /// A sink that came back.
    pub(super) fn of(sink: Box<dyn Sink>) -> Option<Box<Self>> {
        sink.into_any().downcast().ok()
    }

    /// Whether its end was told already: by a plugin that let no comment through.
    pub(super) fn is_over(&self) -> bool {
        self.guard.is_none()
    }

    /// The parts of a sink that came back unused; where there was none, what was `kept`.
    pub(super) fn open(tracked: Option<Box<Self>>, kept: Option<Kept>) -> (Option<Box<dyn Sink>>, Option<Kept>) {
        match tracked {
            Some(mut tracked) => {
                let kept = tracked.guard.take().map(|guard| (guard, tracked.plugins.take()));
                (tracked.inner.take(), kept)
            }
            None => (None, kept),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.bytes += bytes.len() as u64;
        self.inner.as_mut().map_or(Err(SinkError::Gone), |inner| inner.event(bytes))
    }

    /// What plugins made of events goes out, if there is any of it.
    fn send_made(&mut self) -> Result<(), SinkError> {
        if self.made.is_empty() {
            return Ok(());
        }
        let made = std::mem::take(&mut self.made);
        let sent = self.send(&made);
        self.made = made;
        self.made.clear();
        sent
    }

    /// A plugin ends the stream: the client is told so behind the events that got through, and the worker that nobody reads
    /// on.
    fn broken(&mut self, error: Error) -> SinkError {
        // If the client has gone, it hears nothing of the end either.
        let _ = self.send_made();
        self.end(StreamEnd::Failed(error));
        SinkError::Gone
    }

    /// Tells plugins how it ended, once, and gives that.
    fn told(&mut self, usage: Option<Usage>, result: Result<(), Error>) -> Result<(), Error> {
        match (self.plugins.take(), self.served.take()) {
            (Some(mut run), Some(served)) => run.streamed(StreamSummary { served, usage, bytes: self.bytes }, result),
            (Some(mut run), None) => match result {
                Err(error) => run.failed(error).map(drop),
                Ok(()) => Ok(()),
            },
            (None, _) => result,
        }
    }

    /// Ends it, once. It is counted before the last byte is written, and in flight until it is.
    fn end(&mut self, end: StreamEnd) {
        let (usage, result) = match end {
            StreamEnd::Complete(usage) => (usage, Ok(())),
            StreamEnd::Failed(error) => (None, Err(error)),
        };
        let result = self.told(usage, result);
        let guard = self.guard.take().map(|mut guard| {
            match &result {
                Ok(()) => guard.succeed(),
                Err(error) => guard.fail(error),
            }
            guard
        });
        if let Some(inner) = self.inner.take() {
            inner.finish(match result {
                Ok(()) => StreamEnd::Complete(usage),
                Err(error) => StreamEnd::Failed(error),
            });
        }
        drop(guard);
    }
}

/// What a request without a sink keeps while its attempts run.
pub(super) type Kept = (RequestGuard, Option<plugin::Run>);

impl Sink for Tracked {
    fn begin(&mut self, mut head: StreamHead) -> Result<(), SinkError> {
        if self.plugins.is_some() {
            self.served = Some(head.served.clone());
        }
        if let Some(run) = &mut self.plugins
            && head.kind == StreamKind::Events
            && let Err(error) = run.begin_stream(&mut head.headers)
        {
            return Err(self.broken(error));
        }
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        if let Some(guard) = &self.guard {
            guard.note_overhead(head.served.overhead);
        }
        self.inner.as_mut().map_or(Err(SinkError::Gone), |inner| inner.begin(head))
    }

    fn event(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let Some(run) = self.plugins.as_mut().filter(|run| run.looks_at_events()) else { return self.send(bytes) };
        match run.events(bytes, &mut self.made) {
            Ok(()) => self.send_made(),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn finish(mut self: Box<Self>, end: StreamEnd) {
        let mut end = end;
        if let (StreamEnd::Complete(_), Some(run)) = (&end, &mut self.plugins) {
            let left = run.end_stream(&mut self.made);
            match (self.send_made(), left) {
                (Ok(()), Ok(())) => {}
                (Err(SinkError::Gone), _) => end = StreamEnd::Failed(cancelled(CancelReason::ClientGone)),
                (Err(SinkError::TooSlow), _) => end = StreamEnd::Failed(cancelled(CancelReason::ClientSlow)),
                (Ok(()), Err(error)) => end = StreamEnd::Failed(error),
            }
        }
        self.end(end);
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

impl Drop for Tracked {
    /// Lost by a panic between its taking and its end: plugins are told and it is counted before the inner sink's own drop
    /// tells the client.
    fn drop(&mut self) {
        if self.guard.is_some() {
            let lost = self.told(None, Err(Error::new(Code::Internal, "the stream was lost")));
            if let (Some(guard), Err(error)) = (&mut self.guard, lost) {
                guard.fail(&error);
            }
        }
    }
}
