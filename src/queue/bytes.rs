//! One budget of bytes for all that a gateway holds whole: bodies of requests, and answers that are not streamed.
//!
//! **Protocol.** What fits is taken by one compare-and-swap. Who may wait for room stands in a queue, by need; whoever gives
//! bytes back wakes those at its front whose needs fit into what is free then, and they try again. A waiter enters the queue
//! *and then* looks once more, a giver gives *and then* looks at the queue; both are sequentially consistent, so one of the
//! two sees the other. One that was woken and finds the bytes gone stands where it stood; one that gives up wakes the next.
//!
//! **Invariants.** I2: bytes held are a guard. I4: never more than the limit. I5: a wait ends at its deadline.
//!
//! **Lock order.** The queue is a leaf; the words to wake are sent outside it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use crossbeam_channel::{Sender, bounded, select};

use super::TakeError;
use crate::sync::locks::{Leaf, classes};
use crate::sync::{CancelReason, CancelToken, State, threads};
use crate::time::Deadline;

/// So many bytes may be held at a time. Cheap to clone; all clones are one budget.
#[derive(Clone)]
pub struct ByteBudget(Arc<Inner>);

struct Inner {
    limit: u64,
    held: AtomicU64,
    /// How many stand in the queue, so that whoever gives bytes back takes the lock only for them.
    waiting: AtomicU64,
    queue: Leaf<Queue>,
}

#[derive(Default)]
struct Queue {
    next: u64,
    waiters: BTreeMap<u64, Waiter>,
}

struct Waiter {
    need: u64,
    /// Of capacity 1: a second word says nothing that the first does not.
    wake: Sender<()>,
}

impl ByteBudget {
    /// `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let queue = Leaf::new(&classes::BYTES, Queue::default());
        Self(Arc::new(Inner { limit, held: AtomicU64::new(0), waiting: AtomicU64::new(0), queue }))
    }

    /// How many are held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.0.held.load(SeqCst)
    }

    /// The most that may be held.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// `bytes` of them, if they are free.
    #[must_use]
    pub fn try_take(&self, bytes: u64) -> Option<Bytes> {
        self.try_take_below(bytes, self.0.limit)
    }

    /// `bytes` of them, if no more than `most` are held then: for those who leave the rest to others. What alone is more
    /// than `most` is to be had while nothing is held.
    #[must_use]
    pub fn try_take_below(&self, bytes: u64, most: u64) -> Option<Bytes> {
        let most = most.max(bytes).min(self.0.limit);
        let fits = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= most);
        self.0.held.fetch_update(SeqCst, SeqCst, fits).ok()?;
        Some(Bytes { of: self.clone(), bytes })
    }

    /// `bytes` of them, waited for.
    ///
    /// # Errors
    /// If they do not come free until `deadline`, or `cancel` is cancelled.
    pub fn take(&self, bytes: u64, deadline: Deadline, cancel: &CancelToken) -> Result<Bytes, TakeError> {
        if let Some(had) = self.try_take(bytes) {
            return Ok(had);
        }
        let (wake, woken) = bounded(1);
        let place = Place::enter(self, bytes, wake);
        let _waiting = threads::enter(State::WaitingChannel);
        loop {
            if let Some(had) = self.try_take(bytes) {
                drop(place);
                return Ok(had);
            }
            select! {
                recv(woken) -> _ => {}
                recv(cancel.channel()) -> _ => {
                    return Err(TakeError::Cancelled(cancel.reason().unwrap_or(CancelReason::Caller)));
                }
                default(deadline.remaining()) => return Err(TakeError::TimedOut),
            }
        }
    }

    /// Wakes those of the queue's front whose needs fit into what is free.
    fn wake(&self) {
        if self.0.waiting.load(SeqCst) == 0 {
            return;
        }
        let mut free = self.0.limit.saturating_sub(self.held());
        let queue = self.0.queue.lock();
        let mut woken = Vec::new();
        for waiter in queue.waiters.values() {
            if let Some(rest) = free.checked_sub(waiter.need) {
                free = rest;
                woken.push(waiter.wake.clone());
            }
        }
        drop(queue);
        for wake in woken {
            // A word that stands there already is as good, and one who has gone needs none.
            let _ = wake.try_send(());
        }
    }
}

impl fmt::Debug for ByteBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteBudget").field("limit", &self.0.limit).field("held", &self.held()).finish()
    }
}

/// A place in the queue; one who leaves it passes on the word that it may have been sent.
struct Place<'a> {
    budget: &'a ByteBudget,
    ticket: u64,
}

impl<'a> Place<'a> {
    fn enter(budget: &'a ByteBudget, need: u64, wake: Sender<()>) -> Self {
        let mut queue = budget.0.queue.lock();
        let ticket = queue.next;
        queue.next += 1;
        queue.waiters.insert(ticket, Waiter { need, wake });
        drop(queue);
        budget.0.waiting.fetch_add(1, SeqCst);
        Self { budget, ticket }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let left = self.budget.0.queue.lock().waiters.remove(&self.ticket);
        drop(left);
        self.budget.0.waiting.fetch_sub(1, SeqCst);
        self.budget.wake();
    }
}

/// Bytes held until this drops.
#[derive(Debug)]
#[must_use = "dropping it gives the bytes back at once"]
pub struct Bytes {
    of: ByteBudget,
    bytes: u64,
}

impl Bytes {
    /// How many they are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.bytes
    }

    /// Gives back what is more than `bytes`.
    pub fn shrink(&mut self, bytes: u64) {
        let spare = self.bytes.saturating_sub(bytes);
        if spare > 0 {
            self.bytes -= spare;
            self.of.0.held.fetch_sub(spare, SeqCst);
            self.of.wake();
        }
    }

    /// Takes on what `more` holds, of the same budget.
    pub fn absorb(&mut self, mut more: Self) {
        debug_assert!(Arc::ptr_eq(&self.of.0, &more.of.0), "bytes of two budgets");
        self.bytes += std::mem::take(&mut more.bytes);
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    const FUSE: Duration = Duration::from_secs(5);

    fn soon(ms: u64) -> Deadline {
        Deadline::after(Duration::from_millis(ms))
    }

    #[test]
    fn bytes_are_admitted_exactly_and_come_back() {
        let budget = ByteBudget::new(100);
        let mut first = budget.try_take(60).expect("room");
        assert!(budget.try_take(41).is_none());
        assert!(budget.try_take(u64::MAX).is_none());
        let second = budget.try_take(40).expect("room");
        first.shrink(50);
        let third = budget.try_take(10).expect("what was too much came back");
        assert!(budget.try_take(1).is_none());
        first.absorb(third);
        assert_eq!((first.count(), budget.held()), (60, 100));
        drop((first, second));
        assert_eq!(budget.held(), 0);
        assert!(budget.try_take(100).is_some());
    }

    #[test]
    fn who_leaves_room_to_others_gets_less_but_never_nothing() {
        let budget = ByteBudget::new(100);
        let first = budget.try_take_below(60, 75).expect("room");
        assert!(budget.try_take_below(16, 75).is_none());
        assert!(budget.try_take_below(90, 75).is_none(), "not beside another");
        drop((budget.try_take_below(15, 75).expect("room"), budget.try_take(40).is_none()));
        drop(first);
        assert!(budget.try_take_below(101, 75).is_none());
        assert_eq!(budget.try_take_below(100, 75).map(|bytes| bytes.count()), Some(100), "alone it may have all");
    }

    #[test]
    fn a_wait_ends_by_room_deadline_or_cancel() {
        let (budget, token) = (ByteBudget::new(10), CancelToken::new());
        let held = budget.try_take(8).expect("room");
        assert_eq!(budget.take(3, soon(2), &token).err(), Some(TakeError::TimedOut));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| budget.take(3, Deadline::after(FUSE), &token));
            drop(held);
            assert_eq!(waiter.join().expect("no panic").expect("it comes").count(), 3);
        });
        let _held = budget.try_take(8).expect("room");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| budget.take(3, Deadline::after(FUSE), &token));
            token.cancel_for(CancelReason::ClientGone);
            let error = waiter.join().expect("no panic").err();
            assert_eq!(error, Some(TakeError::Cancelled(CancelReason::ClientGone)));
        });
        assert!(budget.0.queue.lock().waiters.is_empty() && budget.0.waiting.load(SeqCst) == 0);
    }

    /// One that needs much stands first and does not hold up one that needs little.
    #[test]
    fn who_needs_little_passes_who_needs_much() {
        let (budget, token) = (ByteBudget::new(10), CancelToken::new());
        let (kept, given) = (budget.try_take(4).expect("room"), budget.try_take(6).expect("room"));
        std::thread::scope(|scope| {
            let much = scope.spawn(|| budget.take(9, Deadline::after(FUSE), &token).map(drop));
            let fuse = Deadline::after(FUSE);
            while budget.0.waiting.load(SeqCst) == 0 {
                assert!(!fuse.passed(), "it never queued up");
                std::thread::yield_now();
            }
            let little = scope.spawn(|| budget.take(5, Deadline::after(FUSE), &token).map(drop));
            drop(given);
            assert_eq!(little.join().expect("no panic"), Ok(()));
            drop(kept);
            assert_eq!(much.join().expect("no panic"), Ok(()));
        });
    }

    /// Takers of all sizes that give up at random race with each other: no byte is lost or doubled, nobody sleeps for ever.
    #[test]
    fn no_byte_is_lost_and_no_wake_up_either() {
        let (budget, token) = (ByteBudget::new(100), CancelToken::new());
        let had = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for seed in 0..6u64 {
                let (budget, token, had) = (&budget, &token, &had);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..1500 {
                        let patient = random.bool();
                        let until = if patient { Deadline::after(FUSE) } else { soon(random.u64(..2)) };
                        match budget.take(random.u64(1..=100), until, token) {
                            Ok(mut bytes) => {
                                assert!(budget.held() <= 100);
                                had.fetch_add(1, SeqCst);
                                if random.bool() {
                                    bytes.shrink(random.u64(..50));
                                    std::thread::yield_now();
                                }
                            }
                            Err(error) => assert!(!patient, "{error:?} after five seconds"),
                        }
                    }
                });
            }
        });
        assert_eq!((budget.held(), budget.0.waiting.load(SeqCst)), (0, 0));
        assert!(had.into_inner() > 4500);
    }
}
