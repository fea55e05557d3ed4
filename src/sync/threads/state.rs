//! What a thread is doing, as it says itself: written by the thread, read by the statistics.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

use super::role::Role;
use super::stats::ThreadRow;
use crate::ids::ThreadId;
use crate::time::{micros_of, now};

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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

impl State {
    const ALL: [Self; 6] =
        [Self::Created, Self::Running, Self::WaitingChannel, Self::WaitingLock, Self::Io, Self::Finished];

    fn from_raw(raw: u8) -> Self {
        Self::ALL.get(usize::from(raw)).copied().unwrap_or(Self::Running)
    }
}
/// A thread as the table knows it.
pub(super) struct Entry {
    pub(super) id: ThreadId,
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    pub(super) born: Instant,
    state: AtomicU8,
    /// When the state was entered, in microseconds since `born`.
    since_us: AtomicU64,
}

impl Entry {
    pub(super) fn new(id: ThreadId, name: &str, role: Role) -> Self {
        let (state, since_us) = (AtomicU8::new(State::Created as u8), AtomicU64::new(0));
        Self { id, name: name.into(), role, born: now(), state, since_us }
    }

    /// The row of `/threads`.
    pub(super) fn row(&self, now: Instant) -> ThreadRow {
        let age_us = micros_of(now.saturating_duration_since(self.born));
        ThreadRow {
            id: self.id,
            name: Arc::clone(&self.name),
            role: self.role,
            state: State::from_raw(self.state.load(Ordering::Relaxed)),
            state_ms: age_us.saturating_sub(self.since_us.load(Ordering::Relaxed)) / 1000,
        }
    }

    pub(super) fn enter(&self, state: State) -> State {
        self.since_us.store(micros_of(now().saturating_duration_since(self.born)), Ordering::Relaxed);
        State::from_raw(self.state.swap(state as u8, Ordering::Relaxed))
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Entry>>> = const { RefCell::new(None) };
}

/// Says which entry the current thread writes its states to.
pub(super) fn adopt(entry: &Arc<Entry>) {
    CURRENT.with(|current| *current.borrow_mut() = Some(Arc::clone(entry)));
}

/// Marks the current thread as being in `state` until the guard drops. On a thread of the caller's own it does nothing.
pub fn enter(state: State) -> StateGuard {
    StateGuard(swap(state), PhantomData)
}

/// The state that the current thread was in until now, if it is one of ours.
fn swap(state: State) -> Option<State> {
    CURRENT.try_with(|current| current.borrow().as_ref().map(|entry| entry.enter(state))).ok().flatten()
}

/// Gives the current thread its former state back when dropped. Stays on its thread.
#[must_use = "dropping the guard ends the state at once"]
pub struct StateGuard(Option<State>, PhantomData<*const ()>);

impl Drop for StateGuard {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            swap(before);
        }
    }
}

impl fmt::Debug for StateGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateGuard")
    }
}
