//! Idle workers, first in first out: the one that has waited longest is handed the next job.
//!
//! This is the reference page's "worker pool" channel turned round: each worker waits on a bounded channel of its own, and
//! stands in this set while it does. With 64 workers waiting on one shared channel, all of them stand in one list behind
//! one lock, which whoever is woken takes first thing, while the waker still holds it: a third of all futex calls of a
//! request were spent on that lock. A channel of one's own is touched by two threads.
//!
//! **Protocol.** A worker enters the set and *then* looks at the lanes once more; a submitter that finds nobody idle pushes
//! into a lane and *then* looks at the set once more. A fence stands between the two steps of either, so one of the two sees
//! the other, and no job waits while a worker is idle. Whoever takes a worker out of the set owes it one message, at once.
//! How many stand in the set is written beside its lock, so that under load, when nobody does, nobody takes that lock.
//!
//! **Lock order.** The set is a leaf; messages are sent outside it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

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
    waiting: Leaf<VecDeque<(u64, Sender<Handed<T>>)>>,
    /// How many wait; written under the lock.
    size: AtomicUsize,
    /// The fewest that a job found, or left, since this was last asked for: the rest were busy. Noted where a worker is
    /// looked for anyway, so that a peak between two looks costs a request no counter of its own.
    fewest: AtomicUsize,
    next: AtomicU64,
}

impl<T> IdleSet<T> {
    pub(super) fn new() -> Self {
        let (size, fewest) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { waiting: Leaf::new(&classes::IDLE, VecDeque::new()), size, fewest, next: AtomicU64::new(1) }
    }

    /// A place for one more worker.
    pub(super) fn seat(&self) -> Seat<T> {
        let (sender, receiver) = bounded(1);
        Seat { number: self.next.fetch_add(1, Ordering::Relaxed), sender, receiver }
    }

    /// The worker begins to wait.
    pub(super) fn enter(&self, seat: &Seat<T>) {
        let sender = seat.sender.clone();
        let mut waiting = self.waiting.lock();
        waiting.push_back((seat.number, sender));
        self.size.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        // Before the look at the lanes that follows.
        fence(Ordering::SeqCst);
    }

    /// The worker waits no more; `false` if somebody has taken it out, whose message is on its way.
    pub(super) fn leave(&self, seat: &Seat<T>) -> bool {
        let mut waiting = self.waiting.lock();
        // The one that leaves by itself is most often the one that entered last.
        let found = waiting.iter().rposition(|(number, _)| *number == seat.number);
        let entry = found.and_then(|at| waiting.remove(at));
        self.size.store(waiting.len(), Ordering::Relaxed);
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
        // After the job was put into its lane.
        fence(Ordering::SeqCst);
        self.send(Handed::Look).is_ok()
    }

    /// The fewest that waited at a time since this was last asked.
    pub(super) fn fewest(&self) -> usize {
        let now = self.size.load(Ordering::Relaxed);
        self.fewest.swap(now, Ordering::Relaxed).min(now)
    }

    /// How many wait now.
    pub(super) fn len(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// Takes the worker out that has waited longest: it is owed a message.
    pub(super) fn take_out(&self) -> Option<Sender<Handed<T>>> {
        if self.size.load(Ordering::Relaxed) == 0 {
            self.note(0);
            return None;
        }
        let mut waiting = self.waiting.lock();
        let front = waiting.pop_front();
        self.size.store(waiting.len(), Ordering::Relaxed);
        self.note(waiting.len());
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

    /// So many are left. Under load this is the same again and again, and costs a look.
    fn note(&self, left: usize) {
        if left < self.fewest.load(Ordering::Relaxed) {
            self.fewest.store(left, Ordering::Relaxed);
        }
    }
}
