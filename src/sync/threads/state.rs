//! What a thread is doing and until when, as it says itself: written by the thread, read by whoever watches it.
//!
//! **Protocol.** A thread's work comes in pieces: a request, a round of a service. [`round`] begins one and says how long it
//! may take; [`due`] says it of a wait inside it that has a limit of its own, for whose time the outer clock stands still;
//! [`rest`] marks the wait for the next piece. A thread past what it said is stuck. Guards undo each of them, by a panic
//! too, and so nest.
//!
//! **Cost.** An entry is written by its own thread alone, so nothing here is a read-modify-write. The clock is the coarse
//! one: with the fine one and two swaps, a state entered and left took 68 ns, several times a request; now it is a fifth of
//! that (37 beside 175 ns in the same minute on a crowded machine).

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::panics::Panics;
use super::role::Role;
use super::stats::ThreadRow;
use crate::ids::ThreadId;
use crate::time::{Stamp, micros_of, now};

/// What a thread is given beyond what it said it would take: for the end of what ended at its deadline, and for a processor
/// that is not to be had at once.
pub const GRACE: Duration = Duration::from_secs(2);

/// What a service's round takes at most, as far as it says nothing else: all of it is computing.
pub const ROUND: Duration = Duration::from_secs(10);

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum State {
    /// Made, not running yet.
    Created,
    /// Computing.
    Running,
    /// Waiting on a channel.
    WaitingChannel,
    /// Waiting for a lock.
    WaitingLock,
    /// Reading, writing or waiting for a socket.
    Io,
    /// Over.
    Finished,
}

impl fmt::Display for State {
    /// The word that `/threads` has for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl State {
    const ALL: [Self; 6] =
        [Self::Created, Self::Running, Self::WaitingChannel, Self::WaitingLock, Self::Io, Self::Finished];
}

/// A state, and whether the thread rests in it: waits for its next piece of work. Packed into the low bits of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Doing(u64);

impl Doing {
    const BITS: u32 = 4;
    const RESTS: u64 = 1 << 3;

    fn new(state: State, rests: bool) -> Self {
        Self(state as u64 | if rests { Self::RESTS } else { 0 })
    }

    fn state(self) -> State {
        State::ALL.get((self.0 & !Self::RESTS) as usize).copied().unwrap_or(State::Running)
    }

    fn rests(self) -> bool {
        self.0 & Self::RESTS != 0
    }
}

/// A thread as the table knows it.
pub(super) struct Entry {
    pub(super) id: ThreadId,
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    pub(super) born: Instant,
    pub(super) panics: Arc<Panics>,
    /// What it does in the low bits, and since when, as a stamp in microseconds, above them: one word, so that whoever reads
    /// never sees the time of another state.
    at: AtomicU64,
    /// Until when the present piece of work should be over, as a stamp in microseconds; 0 for no limit.
    due_us: AtomicU64,
    jobs: AtomicU64,
}

impl Entry {
    pub(super) fn new(id: ThreadId, name: &str, role: Role, panics: Arc<Panics>) -> Self {
        let entry = Self {
            id,
            name: name.into(),
            role,
            born: now(),
            panics,
            at: AtomicU64::new(0),
            due_us: AtomicU64::new(0),
            jobs: AtomicU64::new(0),
        };
        entry.enter(Doing::new(State::Created, false));
        entry
    }

    /// The row of `/threads`, at a moment by the stamps' clock.
    pub(super) fn row(&self, now_us: u64) -> ThreadRow {
        let at = self.at.load(Ordering::Relaxed);
        let doing = Doing(at & ((1 << Doing::BITS) - 1));
        let overdue = self.overdue(now_us);
        ThreadRow {
            id: self.id,
            name: Arc::clone(&self.name),
            role: self.role,
            state: doing.state(),
            state_ms: now_us.saturating_sub(at >> Doing::BITS) / 1000,
            stuck: overdue.is_some(),
            rests: doing.rests(),
            overdue,
        }
    }

    /// How long the thread is past what it said, if it is.
    pub(super) fn overdue(&self, now_us: u64) -> Option<Duration> {
        let due_us = self.due_us.load(Ordering::Relaxed);
        (due_us != 0 && due_us < now_us).then(|| Duration::from_micros(now_us - due_us))
    }

    /// Jobs that this thread has begun.
    pub(super) fn jobs(&self) -> u64 {
        self.jobs.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.enter(Doing::new(State::Running, false));
    }

    /// The thread's end; `false` if it never ran.
    pub(super) fn finish(&self) -> bool {
        self.enter(Doing::new(State::Finished, false)).state() != State::Created
    }

    fn enter(&self, doing: Doing) -> Doing {
        self.enter_at(Stamp::now().micros(), doing)
    }

    fn enter_at(&self, now_us: u64, doing: Doing) -> Doing {
        let before = self.at.load(Ordering::Relaxed);
        self.at.store(now_us << Doing::BITS | doing.0, Ordering::Relaxed);
        Doing(before & ((1 << Doing::BITS) - 1))
    }

    /// Sets a limit. Gives what was left of the one before, if there was one.
    fn limit(&self, now_us: u64, within: Duration) -> Left {
        let due_us = self.due_us.load(Ordering::Relaxed);
        let next = if within == Duration::MAX { 0 } else { now_us.saturating_add(micros_of(within + GRACE)) };
        self.due_us.store(next, Ordering::Relaxed);
        Left(if due_us == 0 { 0 } else { due_us.saturating_sub(now_us).max(1) })
    }

    /// Lets a limit go on that stood still.
    fn unlimit(&self, now_us: u64, left: Left) {
        self.due_us.store(if left.0 == 0 { 0 } else { now_us.saturating_add(left.0) }, Ordering::Relaxed);
    }
}

/// Microseconds left of a limit that stands still; 0 for none.
#[derive(Clone, Copy)]
struct Left(u64);

thread_local! {
    static CURRENT: RefCell<Option<Arc<Entry>>> = const { RefCell::new(None) };
}

/// Says which entry the current thread writes its states to.
pub(super) fn adopt(entry: &Arc<Entry>) {
    CURRENT.with(|current| *current.borrow_mut() = Some(Arc::clone(entry)));
}

/// The current thread's entry, if it is one of ours.
pub(super) fn with_current<R>(look: impl FnOnce(&Entry) -> R) -> Option<R> {
    CURRENT.try_with(|current| current.borrow().as_deref().map(look)).ok().flatten()
}

/// Marks the current thread as being in `state` until the guard drops. On a thread of the caller's own it does nothing.
pub fn enter(state: State) -> StateGuard {
    StateGuard(with_current(|entry| entry.enter(Doing::new(state, false))), PhantomData)
}

/// Marks the current thread as resting until the guard drops: it waits in `state` for its next piece of work, and comes
/// round within `longest` even if there is none. [`Duration::MAX`] is for a thread that waits until it is needed.
pub fn rest(state: State, longest: Duration) -> Rest {
    let before = with_current(|entry| {
        let now_us = Stamp::now().micros();
        (entry.enter_at(now_us, Doing::new(state, true)), entry.limit(now_us, longest))
    });
    Rest(before, PhantomData)
}

/// Says that what the current thread begins now is over `within` that time, unless the guard drops before; past it, and
/// past [`GRACE`], the thread is stuck. A limit that stood already goes on where it was when the guard drops.
/// [`Duration::MAX`] lifts it.
pub fn due(within: Duration) -> Due {
    Due(with_current(|entry| entry.limit(Stamp::now().micros(), within)), PhantomData)
}

/// Begins a piece of work that is over `within` that time: [`due`], and where a test may ask for a panic.
pub fn round(within: Duration) -> Due {
    #[cfg(debug_assertions)]
    super::panics::strike();
    due(within)
}

/// Counts one job begun by the current thread, for its role's `jobs_total`.
pub fn count_job() {
    with_current(|entry| entry.jobs.store(entry.jobs() + 1, Ordering::Relaxed));
}

/// Gives the current thread its former state back when dropped. Stays on its thread.
#[must_use = "dropping the guard ends the state at once"]
pub struct StateGuard(Option<Doing>, PhantomData<*const ()>);

impl Drop for StateGuard {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            with_current(|entry| entry.enter(before));
        }
    }
}

/// Ends a rest when dropped. Stays on its thread.
#[must_use = "dropping the guard ends the rest at once"]
pub struct Rest(Option<(Doing, Left)>, PhantomData<*const ()>);

impl Drop for Rest {
    fn drop(&mut self) {
        if let Some((before, left)) = self.0 {
            with_current(|entry| {
                let now_us = Stamp::now().micros();
                entry.enter_at(now_us, before);
                entry.unlimit(now_us, left);
            });
        }
    }
}

/// Lifts a limit when dropped. Stays on its thread.
#[must_use = "dropping the guard lifts the limit at once"]
pub struct Due(Option<Left>, PhantomData<*const ()>);

impl Drop for Due {
    fn drop(&mut self) {
        if let Some(left) = self.0 {
            with_current(|entry| entry.unlimit(Stamp::now().micros(), left));
        }
    }
}

macro_rules! named {
    ($($guard:ident),*) => {
        $(impl fmt::Debug for $guard {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($guard))
            }
        })*
    };
}

named!(StateGuard, Rest, Due);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn entry() -> Entry {
        Entry::new(ThreadId(1), "one", Role::Worker, Arc::new(Panics::new()))
    }

    #[test]
    fn a_thread_past_what_it_said_is_stuck_and_one_without_a_limit_never() {
        let entry = entry();
        assert_eq!(entry.overdue(u64::MAX), None);
        let none = entry.limit(SECOND, Duration::from_secs(5));
        let grace = micros_of(GRACE);
        assert_eq!(entry.overdue(6 * SECOND + grace), None);
        assert_eq!(entry.overdue(7 * SECOND + grace), Some(Duration::from_secs(1)));
        entry.unlimit(8 * SECOND, none);
        assert_eq!(entry.overdue(u64::MAX), None);
        entry.limit(SECOND, Duration::MAX);
        assert_eq!(entry.overdue(u64::MAX), None);
    }

    #[test]
    fn an_outer_limit_stands_still_while_an_inner_one_runs() {
        let (entry, grace) = (entry(), micros_of(GRACE));
        entry.limit(0, Duration::from_secs(10));
        let left = entry.limit(4 * SECOND, Duration::from_secs(100));
        assert_eq!(entry.overdue(50 * SECOND), None);
        entry.unlimit(90 * SECOND, left);
        assert_eq!(entry.overdue(96 * SECOND + grace), None, "six of its ten seconds were left");
        assert!(entry.overdue(97 * SECOND + grace).is_some());
        let overdue = entry.limit(200 * SECOND, Duration::from_secs(1));
        entry.unlimit(201 * SECOND, overdue);
        assert!(entry.overdue(202 * SECOND).is_some(), "what was late already is late again");
    }

    #[test]
    fn a_state_is_read_with_its_own_time() {
        let entry = entry();
        for state in State::ALL {
            for rests in [false, true] {
                entry.enter_at(7 * SECOND, Doing::new(state, rests));
                let row = entry.row(9 * SECOND);
                assert_eq!((row.state, row.state_ms, row.rests), (state, 2000, rests));
            }
        }
    }
}
