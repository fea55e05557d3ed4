//! A job: what stands in a lane, who may take what out of it, and how its answer comes back.
//!
//! **Protocol.** A [`Job`] is shared by its waiter and the lane. Its payload stands in a slot of one taker: the worker that
//! takes it serves the job, the waiter that takes it has left the queue, and what is left in the lane is a tombstone. For a
//! stream the client's sink stands in a second slot: the worker takes it at the first good event, the waiter takes it to
//! report an error itself. Nobody else ever decides.
//!
//! **Invariants.** I1: a [`Responder`] that is dropped unanswered answers. I3: a reply channel is given back only by the
//! waiter that received the one reply of its one responder; in every other case it is discarded. A job's shell goes back
//! when the last of waiter, lane and worker has let go of it, whoever that is: a worker lets go before it answers, so that it
//! is the waiter most often, and a tombstone is given back by the worker that comes upon it.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::figures::{Entry, Figures};
use super::gate::Pass;
use super::health::Check;
use super::listing::Listing;
use crate::error::{Attempt, Code, Error};
use crate::model::{Answer, Call, Priority, Sink, Timing};
use crate::queue::{Bytes, Permit, Queued};
use crate::recycle::{Joint, Recycle};
use crate::sync::Slot;
use crate::sync::locks::classes;
use crate::time::Deadline;
use crate::wire::crossing::Crossing;

/// What a worker reports to its waiter.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The answer, word that the stream has begun, or the error.
    pub(crate) result: Result<Reached, Error>,
    /// Where the time went in this attempt.
    pub(crate) timing: Timing,
}

/// What a successful attempt came to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one an attempt, taken apart as soon as it is received")]
pub enum Reached {
    /// A complete answer, or a stream that was held until its end, and the bytes of the budget that it holds.
    Answer(Answer, Option<Bytes>),
    /// The client's sink is taken care of: a worker relays into it, or what was held for it was delivered.
    Streaming,
}

/// The way back for one reply at a time; pooled.
#[derive(Debug)]
pub struct ReplyChannel {
    sender: Sender<Reply>,
    receiver: Receiver<Reply>,
}

impl ReplyChannel {
    /// The end to wait on.
    pub(crate) fn receiver(&self) -> &Receiver<Reply> {
        &self.receiver
    }

    /// The end that answers.
    pub(crate) fn responder(&self, figures: &Arc<Figures>) -> Responder {
        Responder { sender: Some(self.sender.clone()), figures: Arc::clone(figures) }
    }
}

impl Recycle for ReplyChannel {
    fn make() -> Self {
        let (sender, receiver) = bounded(1);
        Self { sender, receiver }
    }

    fn reset(&mut self) -> bool {
        // Given back only after its one reply was received: a second one would be somebody else's.
        self.receiver.is_empty()
    }

    fn bytes(&self) -> u64 {
        // One slot and the channel's own bookkeeping, cache-line padded.
        (size_of::<Reply>() + 640) as u64
    }
}

/// Answers one job exactly once.
#[derive(Debug)]
pub(crate) struct Responder {
    sender: Option<Sender<Reply>>,
    figures: Arc<Figures>,
}

impl Responder {
    /// Sends the reply; one whose waiter has gone is discarded and counted.
    pub(crate) fn answer(mut self, reply: Reply) {
        self.send(reply);
    }

    /// The waiter itself took the job back: nothing is to be answered.
    pub(crate) fn disarm(mut self) {
        self.sender = None;
    }

    fn send(&mut self, reply: Reply) {
        let Some(sender) = self.sender.take() else { return };
        // Word that a stream has begun is no result: its waiter may have seen the sink gone, and left it to the stream.
        let is_result = !matches!(reply.result, Ok(Reached::Streaming));
        if sender.try_send(reply).is_err() && is_result {
            self.figures.results_discarded.inc();
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.sender.is_some() {
            let error = Error::new(Code::Internal, "the job ended without an answer; its request id is in the log");
            self.send(Reply { result: Err(error), timing: Timing::default() });
        }
    }
}

/// What a request has behind it when an attempt begins: for the headers of an answer, and for what an error lists.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Attempts made.
    pub attempts: u32,
    /// Targets left for another.
    pub fallbacks: u32,
    /// Where the time went.
    pub spent: Timing,
    /// The attempts themselves.
    pub tried: Vec<Attempt>,
}

/// What a worker needs to serve a job. Field order is drop order: a dropped payload is counted, and waits no more, before
/// its place goes to another, so that never more wait than there are places; its responder answers last.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) pass: Pass,
    pub(crate) entry: Entry,
    pub(crate) permit: Permit,
    pub(crate) responder: Responder,
    pub(crate) call: Arc<Call>,
    /// How it gets to the provider, and its answer back.
    pub(crate) crossing: Crossing,
    /// The model as the provider knows it.
    pub(crate) model: Arc<str>,
    /// When the attempt was handed in.
    pub(crate) submitted: Instant,
    /// Until when a worker may take it.
    pub(crate) wait_until: Deadline,
    pub(crate) progress: Progress,
}

/// What a worker looks at that is no job of anybody's.
#[derive(Debug)]
pub(crate) enum Look {
    /// Whether the provider is there.
    Health(Check),
    /// Its list of models.
    Models(Listing),
}

/// One job, shared by its waiter and its lane; pooled.
#[derive(Debug)]
pub struct Job {
    pub(crate) payload: Slot<Payload>,
    pub(crate) sink: Slot<Box<dyn Sink>>,
    /// Instead of a payload: what the worker is to look at.
    pub(crate) look: Slot<Look>,
    pub(crate) priority: Priority,
}

impl Job {
    /// Fills an empty shell.
    pub(crate) fn fill(&mut self, priority: Priority, payload: Payload, sink: Option<Box<dyn Sink>>) {
        self.priority = priority;
        self.payload.set(Some(payload));
        self.sink.set(sink);
    }

    /// Makes an empty shell a check of the provider's health.
    pub(crate) fn fill_check(&mut self, check: Check) {
        self.priority = Priority::Interactive;
        self.look.set(Some(Look::Health(check)));
    }

    /// Makes an empty shell a look at the provider's list of models.
    pub(crate) fn fill_listing(&mut self, listing: Listing) {
        self.priority = Priority::Interactive;
        self.look.set(Some(Look::Models(listing)));
    }
}

impl Recycle for Job {
    fn make() -> Self {
        Self {
            payload: Slot::empty(&classes::JOB),
            sink: Slot::empty(&classes::SINK),
            look: Slot::empty(&classes::JOB),
            priority: Priority::Interactive,
        }
    }

    fn reset(&mut self) -> bool {
        // What still stands in the slots is nobody's any more; dropped, it answers and counts itself.
        drop((self.payload.set(None), self.sink.set(None), self.look.set(None)));
        true
    }

    fn bytes(&self) -> u64 {
        size_of::<Self>() as u64
    }
}

impl Queued for Joint<Job> {
    fn is_tombstone(&self) -> bool {
        !self.payload.is_held() && !self.look.is_held()
    }

    fn priority(&self) -> Priority {
        self.priority
    }

    fn since(&self) -> Option<Instant> {
        self.payload.peek(|payload| payload.submitted)
    }
}
