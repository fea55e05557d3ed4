//! Exact, first-come-first-served admission: a counted permit, waited for under a deadline and a cancel token.
//!
//! **Protocol.** A permit that comes free is handed to the longest waiter as a message on that waiter's own channel, so it
//! never passes through "free" while somebody waits, and nobody overtakes. If the waiter has gone meanwhile, sending fails
//! and the permit goes to the next; if it goes with the permit already in its channel, the channel drops it, which
//! releases it again. Either way exactly one owner has it at any moment.
//!
//! How many are taken, whether somebody waits and whether the door is closed stand in one atomic word. While nobody waits a
//! take and a release are one compare-and-swap each, a third of what a lock around them cost. A waiter sets its flag, under
//! the lock, before it looks whether a place is free after all: a release that came before is seen by that look, and one that
//! comes after sees the flag, and with it set nobody changes the word but under the lock.
//!
//! **Invariants.** I2: a permit is a guard. I5: `take` ends at its deadline.
//!
//! **Lock order.** The list of waiters is a leaf; sending happens outside it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Sender, TrySendError, bounded, select};

use crate::sync::locks::{Leaf, classes};
use crate::sync::{CancelReason, CancelToken, State, threads};
use crate::time::Deadline;

/// The bits of the word that count the permits taken: more than any configuration allows.
const TAKEN: u64 = (1 << 24) - 1;

/// Somebody waits.
const AWAITED: u64 = 1 << 24;

/// Nobody comes in any more.
const CLOSED: u64 = 1 << 25;

/// One place more that came free; the bits from here on count them.
const FREED: u64 = 1 << FREED_AT;
const FREED_AT: u32 = 26;

/// Hands out at most `capacity` permits at a time. Cheap to clone.
#[derive(Clone)]
pub struct Permits(Arc<Inner>);

struct Inner {
    word: AtomicU64,
    capacity: AtomicUsize,
    line: Leaf<Line>,
}

/// Who waits, by ticket. `AWAITED` is set exactly while somebody does, but for the moments in which the lock is held.
struct Line {
    next_ticket: u64,
    waiting: BTreeMap<u64, Sender<Permit>>,
}

/// Why no permit was had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeError {
    /// The deadline passed.
    TimedOut,
    /// The token was cancelled.
    Cancelled(CancelReason),
    /// [`Permits::close`] was called.
    Closed,
}

impl Inner {
    /// Takes a place if one is free, unless the word has one of the flags `not`.
    fn enter(&self, not: u64) -> Result<(), TakeError> {
        let mut word = self.word.load(Ordering::SeqCst);
        loop {
            if word & CLOSED != 0 {
                return Err(TakeError::Closed);
            }
            if word & not != 0 || word & TAKEN >= self.capacity.load(Ordering::SeqCst) as u64 {
                return Err(TakeError::TimedOut);
            }
            match self.word.compare_exchange_weak(word, word + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// Gives a place back while nobody waits; `false` if somebody does.
    fn leave(&self) -> bool {
        let mut word = self.word.load(Ordering::SeqCst);
        while word & AWAITED == 0 {
            let next = word.wrapping_add(FREED) - 1;
            match self.word.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Drops the flag if nobody waits any more; to be called under the lock.
    fn settle(&self, line: &Line) {
        if line.waiting.is_empty() {
            self.word.fetch_and(!AWAITED, Ordering::SeqCst);
        }
    }
}

impl Permits {
    /// `capacity` permits.
    ///
    /// # Panics
    /// If there are 16,777,216 or more.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let line = Line { next_ticket: 0, waiting: BTreeMap::new() };
        let (word, line) = (AtomicU64::new(0), Leaf::new(&classes::PERMITS, line));
        let permits = Self(Arc::new(Inner { word, capacity: AtomicUsize::new(0), line }));
        permits.set_capacity(capacity);
        permits
    }

    /// How many there are.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity.load(Ordering::SeqCst)
    }

    /// Changes how many there are. What is new goes to those who wait, longest first; where there are fewer now, permits
    /// that are out stay valid, and none is handed on until their number has come down.
    ///
    /// # Panics
    /// If there are 16,777,216 or more.
    pub fn set_capacity(&self, capacity: usize) {
        assert!((capacity as u64) < TAKEN, "{capacity} permits are more than can be counted");
        let served: Vec<_> = {
            let mut line = self.0.line.lock();
            self.0.capacity.store(capacity, Ordering::SeqCst);
            let served = std::iter::from_fn(|| {
                if line.waiting.is_empty() || self.0.enter(0).is_err() { None } else { line.waiting.pop_first() }
            });
            let served = served.collect();
            self.0.settle(&line);
            served
        };
        for (_, waiter) in served {
            // One whose waiter has gone drops here, and goes to the next.
            let _ = waiter.try_send(Permit(Some(Arc::clone(&self.0))));
        }
    }

    /// How many are taken now.
    #[must_use]
    pub fn taken(&self) -> usize {
        (self.0.word.load(Ordering::SeqCst) & TAKEN) as usize
    }

    /// How often a place has come free so far, whoever got it then; begins anew after 2^38 times.
    #[must_use]
    pub fn freed(&self) -> u64 {
        self.0.word.load(Ordering::SeqCst) >> FREED_AT
    }

    /// A permit, if one is free and nobody waits for it.
    ///
    /// # Errors
    /// [`TakeError::TimedOut`] if there is none, [`TakeError::Closed`] once closed.
    pub fn try_take(&self) -> Result<Permit, TakeError> {
        self.0.enter(AWAITED).map(|()| Permit(Some(Arc::clone(&self.0))))
    }

    /// A permit, waited for in the order of coming.
    ///
    /// # Errors
    /// If none comes until `deadline`, if `cancel` is cancelled, or if the permits are closed.
    pub fn take(&self, deadline: Deadline, cancel: &CancelToken) -> Result<Permit, TakeError> {
        match self.try_take() {
            Err(TakeError::TimedOut) => {}
            had => return had,
        }
        let (ticket, handed) = {
            let mut line = self.0.line.lock();
            self.0.word.fetch_or(AWAITED, Ordering::SeqCst);
            // Whoever waits is entitled to what is free before this one.
            let entered = if line.waiting.is_empty() { self.0.enter(0) } else { Err(TakeError::TimedOut) };
            match entered {
                Err(TakeError::TimedOut) if self.0.word.load(Ordering::SeqCst) & CLOSED == 0 => {}
                done => {
                    self.0.settle(&line);
                    drop(line);
                    return done.map(|()| Permit(Some(Arc::clone(&self.0)))).map_err(|_| TakeError::Closed);
                }
            }
            let (hand, handed) = bounded(1);
            let ticket = line.next_ticket;
            line.next_ticket += 1;
            line.waiting.insert(ticket, hand);
            (ticket, handed)
        };
        let _waiting = threads::enter(State::WaitingChannel);
        let outcome = select! {
            recv(handed) -> permit => permit.map_err(|_| TakeError::Closed),
            recv(cancel.channel()) -> _ => Err(TakeError::Cancelled(cancel.reason().unwrap_or(CancelReason::Caller))),
            default(deadline.remaining()) => Err(TakeError::TimedOut),
        };
        if outcome.is_err() {
            let mut line = self.0.line.lock();
            let left = line.waiting.remove(&ticket);
            self.0.settle(&line);
            drop(line);
            // Dropping the sender closes the channel; that, too, happens outside the lock.
            drop(left);
        }
        outcome
    }

    /// Refuses every later `take` and ends those under way. Permits that are out stay valid.
    pub fn close(&self) {
        let mut line = self.0.line.lock();
        self.0.word.fetch_or(CLOSED, Ordering::SeqCst);
        // Dropping the senders closes the waiters' channels; that happens outside the lock.
        let waiting = std::mem::take(&mut line.waiting);
        self.0.settle(&line);
        drop(line);
        drop(waiting);
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits").field("capacity", &self.capacity()).field("taken", &self.taken()).finish()
    }
}

/// One place in the house; dropping it gives the place to whoever waits longest, or back.
#[must_use = "dropping the permit gives the place back at once"]
pub struct Permit(Option<Arc<Inner>>);

impl Permit {
    /// Gives the place of `inner` to whoever waits longest, or back if nobody does any more.
    #[cold]
    fn hand_on(inner: &Arc<Inner>) {
        let mut line = inner.line.lock();
        loop {
            // More may be out than there are: then nobody comes in for this one.
            let owed = inner.word.load(Ordering::SeqCst) & TAKEN <= inner.capacity.load(Ordering::SeqCst) as u64;
            let Some((_, waiter)) = owed.then(|| line.waiting.pop_first()).flatten() else {
                inner.word.fetch_sub(1, Ordering::SeqCst);
                inner.settle(&line);
                break;
            };
            inner.settle(&line);
            drop(line);
            match waiter.try_send(Permit(Some(Arc::clone(inner)))) {
                Ok(()) => break,
                // The waiter has gone. Its permit is taken apart here, since dropping it would come back to this loop.
                Err(TrySendError::Disconnected(mut permit) | TrySendError::Full(mut permit)) => permit.0 = None,
            }
            line = inner.line.lock();
        }
        inner.word.fetch_add(FREED, Ordering::SeqCst);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take()
            && !inner.leave()
        {
            Self::hand_on(&inner);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const FUSE: Duration = Duration::from_secs(5);

    #[test]
    fn admission_is_exact() {
        let permits = Permits::new(3);
        let held: Vec<_> = (0..3).map(|_| permits.try_take().expect("a free place")).collect();
        assert_eq!(permits.try_take().err(), Some(TakeError::TimedOut));
        drop(held);
        assert_eq!(permits.taken(), 0);
    }

    #[test]
    fn waiters_are_served_in_the_order_of_coming() {
        let permits = Permits::new(1);
        let order = Leaf::new(&classes::TEST_LEAF, Vec::new());
        let first = permits.try_take().expect("free");
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (permits, order) = (&permits, &order);
                scope.spawn(move || {
                    let permit = permits.take(Deadline::after(FUSE), &CancelToken::new()).expect("it comes");
                    order.lock().push(number);
                    drop(permit);
                });
                let seen = Deadline::after(FUSE);
                while permits.0.line.lock().waiting.len() <= number {
                    assert!(!seen.passed(), "the waiter never queued up");
                    std::thread::yield_now();
                }
            }
            drop(first);
        });
        assert_eq!(*order.lock(), [0, 1, 2, 3]);
        assert_eq!(permits.taken(), 0);
    }

    #[test]
    fn a_wait_ends_by_deadline_cancel_or_close() {
        let permits = Permits::new(1);
        let _held = permits.try_take().expect("free");
        let token = CancelToken::new();
        assert_eq!(permits.take(Deadline::after(Duration::from_millis(2)), &token).err(), Some(TakeError::TimedOut));
        assert!(permits.0.line.lock().waiting.is_empty(), "who left is not kept");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| permits.take(Deadline::after(FUSE), &token));
            token.cancel_for(CancelReason::ClientGone);
            let error = waiter.join().expect("no panic").err();
            assert_eq!(error, Some(TakeError::Cancelled(CancelReason::ClientGone)));
        });
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| permits.take(Deadline::after(FUSE), &CancelToken::new()));
            permits.close();
            assert_eq!(waiter.join().expect("no panic").err(), Some(TakeError::Closed));
        });
    }

    #[test]
    fn a_raised_capacity_goes_to_those_who_wait_in_their_order_and_no_further() {
        let permits = Permits::new(1);
        let _held = permits.try_take().expect("free");
        let order = Leaf::new(&classes::TEST_LEAF, Vec::new());
        let (over, is_over) = bounded::<()>(0);
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (permits, order, is_over) = (&permits, &order, is_over.clone());
                scope.spawn(move || {
                    let permit = permits.take(Deadline::after(FUSE), &CancelToken::new()).expect("it comes");
                    order.lock().push(number);
                    let _ = is_over.recv_timeout(FUSE);
                    drop(permit);
                });
                let seen = Deadline::after(FUSE);
                while permits.0.line.lock().waiting.len() <= number {
                    assert!(!seen.passed(), "the waiter never queued up");
                    std::thread::yield_now();
                }
            }
            permits.set_capacity(3);
            assert_eq!(permits.0.line.lock().waiting.len(), 2, "two of four are served");
            assert_eq!((permits.taken(), permits.try_take().err()), (3, Some(TakeError::TimedOut)));
            let seen = Deadline::after(FUSE);
            while order.lock().len() < 2 {
                assert!(!seen.passed(), "who was served never woke");
                std::thread::yield_now();
            }
            let mut served = order.lock().clone();
            served.sort_unstable();
            assert_eq!(served, [0, 1]);
            drop(over);
        });
        assert_eq!(permits.taken(), 1);
    }

    #[test]
    fn after_a_lowered_capacity_nobody_comes_in_until_enough_have_left() {
        let permits = Permits::new(3);
        let mut held: Vec<_> = (0..3).map(|_| permits.try_take().expect("free")).collect();
        permits.set_capacity(1);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| permits.take(Deadline::after(FUSE), &CancelToken::new()).map(drop));
            let seen = Deadline::after(FUSE);
            while permits.0.line.lock().waiting.is_empty() {
                assert!(!seen.passed(), "the waiter never queued up");
                std::thread::yield_now();
            }
            for left in [2, 1] {
                held.pop();
                assert_eq!((permits.taken(), permits.0.line.lock().waiting.len()), (left, 1), "one too many are in");
            }
            held.pop();
            assert_eq!(waiter.join().expect("no panic"), Ok(()));
        });
        assert_eq!(permits.taken(), 0);
    }

    /// Takers that give up at random race with releases: no permit may be lost or doubled.
    #[test]
    fn no_permit_is_lost_or_doubled_when_waiters_give_up() {
        let permits = Permits::new(4);
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for seed in 0..8u64 {
                let (permits, inside, most) = (&permits, &inside, &most);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..if cfg!(miri) { 10 } else { 2000 } {
                        let patience = Duration::from_micros(random.u64(0..60));
                        if let Ok(permit) = permits.take(Deadline::after(patience), &CancelToken::new()) {
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            if random.bool() {
                                std::thread::yield_now();
                            }
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(permit);
                        }
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 4);
        assert_eq!(permits.taken(), 0);
        assert!(permits.0.line.lock().waiting.is_empty());
    }

    /// What a caller may do with permits, by itself.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        TryTake,
        /// With a deadline that has passed: it stands in line and leaves again.
        Take,
        /// Of those held, the one at this place.
        Release(usize),
        Close,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::TryTake),
            3 => Just(Step::Take),
            5 => (0..8usize).prop_map(Step::Release),
            1 => Just(Step::Close),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
        /// Permits against a number: whatever is taken, released and closed in whatever order.
        #[test]
        fn permits_are_as_a_counter(capacity in 0..5usize, steps in proptest::collection::vec(step(), 0..60)) {
            let permits = Permits::new(capacity);
            let (mut held, mut closed) = (Vec::new(), false);
            for step in steps {
                let expected = match () {
                    () if closed => Some(TakeError::Closed),
                    () if held.len() == capacity => Some(TakeError::TimedOut),
                    () => None,
                };
                let taken = match step {
                    Step::TryTake => permits.try_take(),
                    Step::Take => permits.take(Deadline::after(Duration::ZERO), &CancelToken::new()),
                    Step::Release(at) if held.is_empty() || at >= held.len() => continue,
                    Step::Release(at) => {
                        drop(held.swap_remove(at));
                        prop_assert_eq!(permits.taken(), held.len());
                        continue;
                    }
                    Step::Close => {
                        permits.close();
                        closed = true;
                        continue;
                    }
                };
                prop_assert_eq!(taken.as_ref().err().copied(), expected);
                held.extend(taken);
                prop_assert_eq!(permits.taken(), held.len());
                prop_assert!(permits.0.line.lock().waiting.is_empty(), "who left stands in line no more");
            }
            drop(held);
            prop_assert_eq!(permits.taken(), 0);
        }
    }
}
