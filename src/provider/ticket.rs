//! The waiter's side of a job: waiting for its answer, and leaving without it.
//!
//! **Protocol.** The waiter waits for {reply, cancel, deadline}. Until `wait_until` the deadline is the queue's: the waiter
//! then tries to take the payload back, and having it means that no worker did. If the payload is gone, a worker is at it
//! and the deadline becomes the attempt's, with a margin, since the worker keeps its own time-outs and its answer says more.
//!
//! **Invariants.** I1, I3: the reply channel is given back only once its reply was received. I9: whoever leaves a running
//! job cancels its token, but not before it has left: a stream that begins in that very moment is the worker's, and goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::select;

use super::figures::Unserved;
use super::job::{Job, Payload, Reached, Reply, ReplyChannel};
use super::pool::{Refused, Shared, cancelled, since};
use super::rescue::Heartbeat;
use crate::error::{Code, Error};
use crate::model::{Call, Sink, Timing};
use crate::recycle::{Joint, Lease};
use crate::sync::{CancelReason, State, threads};
use crate::time::{Deadline, now};

/// How much longer than the worker's own limit a waiter waits for a running job: it is the worker's answer that should
/// come, and only a stuck worker makes this run out.
const MARGIN: Duration = Duration::from_millis(50);

/// The same for a stream that is held: which of its limits it ran into only the worker knows, so more is given for its word.
const HELD_MARGIN: Duration = Duration::from_secs(1);

/// A job handed in, to be waited for.
#[derive(Debug)]
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    job: Joint<Job>,
    replies: Lease<ReplyChannel>,
    submitted: Instant,
    wait_until: Deadline,
}

/// How a wait ended.
#[derive(Debug)]
pub(crate) struct Waited {
    pub(crate) result: Result<Reached, Error>,
    pub(crate) timing: Timing,
    /// The sink, if nobody used it.
    pub(crate) sink: Option<Box<dyn Sink>>,
}

/// What the waiter left behind.
#[expect(clippy::large_enum_variant, reason = "there is one a wait that is left, taken apart as soon as it is made")]
enum Left {
    /// The payload: no worker had taken it.
    Queued(Payload),
    /// A worker is at it, and has not taken the sink if there is one.
    Running(Option<Box<dyn Sink>>),
    /// The worker has taken the sink: the stream is on its way.
    Streaming,
}

impl Ticket {
    pub(crate) fn new(
        shared: Arc<Shared>,
        job: Joint<Job>,
        replies: Lease<ReplyChannel>,
        submitted: Instant,
        wait_until: Deadline,
    ) -> Self {
        Self { shared, job, replies, submitted, wait_until }
    }

    /// Waits for the job's answer, at most until the call's deadline if there is one, and in any case no longer than the
    /// queue's and the attempt's limits together. `has_sink` says that a sink was handed in, which a stream has that is not
    /// held; for a client whose stream is held, `heartbeat` says a word from time to time.
    pub(crate) fn wait(self, call: &Call, has_sink: bool, mut heartbeat: Option<Heartbeat<'_>>) -> Waited {
        let (cancel, held) = (&call.cancel, self.shared.attempt.holds(call));
        let mut until = self.wait_until;
        let mut queued = true;
        let mut own = false;
        let _waiting = threads::enter(State::WaitingChannel);
        loop {
            let word = heartbeat.as_mut().map(|heartbeat| (heartbeat.next(now()), heartbeat));
            let word = word.filter(|(next, _)| *next < until);
            select! {
                recv(self.replies.receiver()) -> reply => return self.received(reply.ok(), has_sink),
                recv(cancel.channel()) -> _ => {
                    let reason = cancel.reason().unwrap_or(CancelReason::Caller);
                    return self.leave(has_sink, || cancelled(reason));
                }
                default(word.as_ref().map_or(until, |(next, _)| *next).remaining()) => {}
            }
            if let Some((_, heartbeat)) = word {
                if let Err(error) = heartbeat.beat() {
                    return self.leave(has_sink, || error);
                }
                continue;
            }
            if queued && self.job.payload.is_held() {
                let shared = Arc::clone(&self.shared);
                return self.leave(has_sink, || shared.queue_timeout("worker"));
            }
            if queued {
                queued = false;
                until = Deadline::after(self.shared.attempt.longest(call));
                if let Some(deadline) = call.deadline {
                    own = deadline < until;
                    until = until.earlier(deadline);
                }
                let margin = if held { HELD_MARGIN } else { MARGIN };
                until = Deadline::from(until.instant(), margin);
                continue;
            }
            let shared = Arc::clone(&self.shared);
            return self.leave(has_sink, || {
                cancel.cancel_for(CancelReason::Deadline);
                if held {
                    return Error::new(
                        Code::StreamTooLong,
                        "the stream, which is held until its end, did not end in time",
                    );
                }
                shared.attempt.late(call.fields.stream, own)
            });
        }
    }

    /// Takes the job back before anybody waits for it.
    ///
    /// # Errors
    /// With `why` if no worker had taken it.
    pub(crate) fn withdraw(self, why: impl FnOnce() -> Error) -> Result<Self, Refused> {
        match self.job.payload.take() {
            Some(payload) => {
                let sink = self.job.sink.take();
                let timing = Timing { queue: since(payload.submitted), ..Timing::default() };
                self.bury(payload, Unserved::Abandoned);
                Err(Refused { error: why(), sink, timing })
            }
            None => Ok(self),
        }
    }

    fn received(self, reply: Option<Reply>, has_sink: bool) -> Waited {
        let Some(Reply { result, timing }) = reply else {
            // Both ends stand in the lease, so the channel cannot be closed while it is held.
            let error = Error::new(Code::Internal, "the reply channel was closed");
            return Waited { result: Err(error), timing: Timing::default(), sink: self.job.sink.take() };
        };
        let streaming = matches!(result, Ok(Reached::Streaming));
        let sink = if has_sink && !streaming { self.job.sink.take() } else { None };
        self.replies.give_back();
        Waited { result: result.map_err(|error| error.with_provider(&self.shared.settings.name)), timing, sink }
    }

    /// Leaves with the error `why`, unless the answer is on its way already.
    fn leave(self, has_sink: bool, why: impl FnOnce() -> Error) -> Waited {
        let left = match self.job.payload.take() {
            Some(payload) => Left::Queued(payload),
            None => match self.job.sink.take() {
                None if has_sink => Left::Streaming,
                sink => Left::Running(sink),
            },
        };
        let shared = Arc::clone(&self.shared);
        let failed = |error: Error, timing, sink| Waited {
            result: Err(error.with_provider(&shared.settings.name)),
            timing,
            sink,
        };
        match left {
            Left::Queued(payload) => {
                let sink = self.job.sink.take();
                let error = why();
                let in_time = payload.call.deadline.is_none_or(|deadline| !deadline.passed());
                let outcome = match error.code() {
                    Code::QueueTimeout if in_time => Unserved::TimedOutWorker,
                    _ => Unserved::Abandoned,
                };
                let timing = Timing { queue: since(payload.submitted), ..Timing::default() };
                self.bury(payload, outcome);
                failed(error, timing, sink)
            }
            // A reply that came in this very moment is as good as one that came before.
            Left::Streaming => match self.replies.receiver().try_recv() {
                Ok(reply) => self.received(Some(reply), has_sink),
                Err(_) => Waited { result: Ok(Reached::Streaming), timing: Timing::default(), sink: None },
            },
            Left::Running(sink) => match self.replies.receiver().try_recv() {
                Ok(reply) => {
                    let mut waited = self.received(Some(reply), has_sink);
                    waited.sink = waited.sink.or(sink);
                    waited
                }
                // When the worker took the job only the worker knows; all of the time was another's than the gateway's.
                Err(_) => failed(why(), Timing { upstream: since(self.submitted), ..Timing::default() }, sink),
            },
        }
    }

    /// Gives the place back at once; the shell stays in its lane as a tombstone.
    fn bury(self, payload: Payload, outcome: Unserved) {
        let Payload { permit, entry, responder, .. } = payload;
        responder.disarm();
        entry.settle(outcome);
        drop(permit);
        // The responder is gone and nothing was sent: the channel is as new.
        self.replies.give_back();
        self.shared.lanes.bury(self.job.priority);
    }
}
