//! Idle workers, first in first out: the one that has waited longest is handed the next job.
//!
//! This is the reference page's "worker pool" channel turned round: each worker waits on a bounded channel of its own, and
//! stands in this set while it does. With 64 workers waiting on one shared channel, all of them stand in one list behind
//! one lock, which whoever is woken takes first thing, while the waker still holds it: a third of all futex calls of a
//! request were spent on that lock. A channel of one's own is touched by two threads.
//!
//! **Protocol.** A worker enters the set and *then* looks at the lanes once more; a submitter that finds nobody idle pushes
//! into a lane and *then* looks at the set once more. Both looks are ordered by the set's lock, so one of the two sees the
//! other, and no job waits while a worker is idle. Whoever takes a worker out of the set owes it one message, at once.
//!
//! **Lock order.** The set is a leaf; messages are sent outside it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::sync::locks::{Leaf, classes};

/// What an idle worker is sent.
#[derive(Debug)]
pub(super) enum Handed<T> {
    /// A job of its own.
    Job(T),
    /// Word that something stands in a lane.
    Look,
}

/// A worker's own place to wait at.
pub struct Seat<T> {
    number: u64,
    sender: Sender<Handed<T>>,
    receiver: Receiver<Handed<T>>,
}

impl<T> Seat<T> {
    /// Its number: no other worker of the pool has it, nor had.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn receiver(&self) -> &Receiver<Handed<T>> {
        &self.receiver
    }
}

impl<T> fmt::Debug for Seat<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seat").field(&self.number).finish()
    }
}

/// The workers that wait, longest first.
pub(super) struct IdleSet<T> {
    waiting: Leaf<Waiting<T>>,
    next: AtomicU64,
}

struct Waiting<T> {
    queue: VecDeque<(u64, Sender<Handed<T>>)>,
    /// The fewest that a job found, or left, since this was last asked for: the rest were busy. Noted under the lock that
    /// is held anyway, so that a peak between two looks costs a request no counter of its own.
    fewest: usize,
}

impl<T> IdleSet<T> {
    pub(super) fn new() -> Self {
        let waiting = Waiting { queue: VecDeque::new(), fewest: 0 };
        Self { waiting: Leaf::new(&classes::IDLE, waiting), next: AtomicU64::new(1) }
    }

    /// A place for one more worker.
    pub(super) fn seat(&self) -> Seat<T> {
        let (sender, receiver) = bounded(1);
        Seat { number: self.next.fetch_add(1, Ordering::Relaxed), sender, receiver }
    }

    /// The worker begins to wait.
    pub(super) fn enter(&self, seat: &Seat<T>) {
        let sender = seat.sender.clone();
        self.waiting.lock().queue.push_back((seat.number, sender));
    }

    /// The worker waits no more; `false` if somebody has taken it out, whose message is on its way.
    pub(super) fn leave(&self, seat: &Seat<T>) -> bool {
        let mut waiting = self.waiting.lock();
        // The one that leaves by itself is most often the one that entered last.
        let found = waiting.queue.iter().rposition(|(number, _)| *number == seat.number);
        let entry = found.and_then(|at| waiting.queue.remove(at));
        drop(waiting);
        entry.is_some()
    }

    /// Hands `job` to the worker that has waited longest.
    ///
    /// # Errors
    /// If nobody waits; the job comes back.
    pub(super) fn offer(&self, job: T) -> Result<(), T> {
        self.send(Handed::Job(job)).map_err(|back| match back {
            Handed::Job(job) => job,
            Handed::Look => unreachable!("what comes back is what was sent"),
        })
    }

    /// Has the worker that has waited longest look at the lanes. `false` if nobody waits: the next to enter looks by itself.
    pub(super) fn look(&self) -> bool {
        self.send(Handed::Look).is_ok()
    }

    /// The fewest that waited at a time since this was last asked.
    pub(super) fn fewest(&self) -> usize {
        let mut waiting = self.waiting.lock();
        let now = waiting.queue.len();
        std::mem::replace(&mut waiting.fewest, now).min(now)
    }

    /// How many wait now.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().queue.len()
    }

    /// Takes the worker out that has waited longest: it is owed a message.
    pub(super) fn take_out(&self) -> Option<Sender<Handed<T>>> {
        let mut waiting = self.waiting.lock();
        let front = waiting.queue.pop_front();
        waiting.fewest = waiting.fewest.min(waiting.queue.len());
        front.map(|(_, sender)| sender)
    }

    fn send(&self, mut message: Handed<T>) -> Result<(), Handed<T>> {
        loop {
            let Some(sender) = self.take_out() else { return Err(message) };
            match sender.try_send(message) {
                Ok(()) => return Ok(()),
                // A worker that ended by panic while it waited, which takes a defect of ours: the next one then.
                Err(error) => message = error.into_inner(),
            }
        }
    }
}
