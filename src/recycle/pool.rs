//! The idle set of a pool, last in first out, and its counts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::lease::{Lease, Stub, Tag};
use super::watch::{PoolStats, Times, Window};
use super::{Limits, Recycle};
use crate::metrics::Histogram;
use crate::sync::locks::{Leaf, classes};
use crate::time::{Stamp, now};

/// One acquisition in this many is timed: reading the exact clock twice costs as much as the acquisition itself.
const SAMPLE_EVERY: u64 = 64;

/// A bounded set of idle objects of one type. Cheap to clone.
pub struct Pool<T: Recycle>(Arc<Home<T>>);

/// Where the objects of a pool come from and go back to.
pub(super) struct Home<T> {
    state: Leaf<State<T>>,
    limits: Limits,
    /// Raised by every acquisition, without a read-modify-write: threads that meet here lose a turn, which shifts the next
    /// sample and nothing else.
    turn: AtomicU64,
    times: Times,
    window: Window,
}

struct State<T> {
    idle: Vec<Idle<T>>,
    tally: Tally,
}

struct Idle<T> {
    object: T,
    tag: Tag,
    bytes: u64,
}

/// What a pool counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) acquired: u64,
    pub(super) hits: u64,
    pub(super) created: u64,
    pub(super) returned: u64,
    pub(super) discarded: u64,
    pub(super) sweeps: u64,
    pub(super) evicted: u64,
    pub(super) idle: u64,
    pub(super) bytes_held: u64,
    pub(super) bytes_reused: u64,
}

impl Tally {
    /// The number of the object that is made next.
    fn create(&mut self) -> u64 {
        self.created += 1;
        self.created
    }
}

impl<T: Recycle> Pool<T> {
    /// A pool within `limits`, the first objects made.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let initial = limits.initial.min(limits.max_idle);
        let (mut idle, mut tally, made) = (Vec::with_capacity(initial), Tally::default(), Stamp::now());
        for _ in 0..initial {
            let object = T::make();
            let bytes = object.bytes();
            tally.bytes_held += bytes;
            idle.push(Idle { object, tag: Tag::new(tally.create(), made), bytes });
        }
        Self(Arc::new(Home {
            state: Leaf::new(&classes::RECYCLE, State { idle, tally }),
            limits,
            turn: AtomicU64::new(0),
            times: Times::default(),
            window: Window::new(now()),
        }))
    }

    /// An object, idle or new.
    #[must_use]
    pub fn acquire(&self) -> Lease<T> {
        let home = &self.0;
        let turn = home.turn.load(Ordering::Relaxed);
        home.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        let start = turn.is_multiple_of(SAMPLE_EVERY).then(now);
        let stamp = Stamp::now();
        let found = {
            let mut state = home.state.lock();
            let State { idle, tally } = &mut *state;
            tally.acquired += 1;
            match idle.pop() {
                Some(Idle { object, tag, bytes }) => {
                    tally.hits += 1;
                    tally.bytes_held -= bytes;
                    tally.bytes_reused += bytes;
                    (Some(object), Tag { acquired: stamp, ..tag })
                }
                None => (None, Tag::new(tally.create(), stamp)),
            }
        };
        // From here on the object is counted: should its factory panic, the stub takes it off again.
        let stub = Stub { home: Some(Arc::clone(home)), tag: found.1, sampled: start.is_some() };
        let object = found.0.unwrap_or_else(T::make);
        record(&home.times.acquire_ns, start);
        Lease::new(object, stub)
    }

    /// What is to be done about once a second: throws away what has stood idle for too long, takes a sample of the counts,
    /// and judges the ratio of hits. What is wrong with it, in words; `None` if nothing is.
    pub fn tend(&self, now: Instant) -> Option<String> {
        let home = &self.0;
        let swept = Stamp::at(now);
        let (tally, evicted) = {
            let mut state = home.state.lock();
            let State { idle, tally } = &mut *state;
            // The stack's bottom is the oldest: last in, first out.
            let old = idle.partition_point(|entry| swept.since(entry.tag.returned) >= home.limits.idle_max_age);
            let evicted: Vec<_> = idle.drain(..old).collect();
            tally.sweeps += 1;
            tally.evicted += evicted.len() as u64;
            tally.bytes_held -= evicted.iter().map(|entry| entry.bytes).sum::<u64>();
            (*tally, evicted)
        };
        drop(evicted);
        home.window.judge(now, &tally, home.limits.alert_below)
    }

    /// The pool's part of `/stats`.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let tally = {
            let state = self.0.state.lock();
            Tally { idle: state.idle.len() as u64, ..state.tally }
        };
        PoolStats::new(&tally, &self.0.times, &self.0.window, now())
    }
}

impl<T> Home<T> {
    /// One object more is gone.
    pub(super) fn discarded(&self) {
        self.state.lock().tally.discarded += 1;
    }
}

impl<T: Recycle> Home<T> {
    /// Takes an object back, or discards it.
    pub(super) fn put(mut object: T, mut stub: Stub<T>) {
        let start = stub.sampled.then(now);
        let clean = stub.tag.reusable && object.reset();
        let bytes = object.bytes();
        let tag = Tag { returned: Stamp::now(), ..stub.tag };
        // Until here the stub counts the object, should its reset panic.
        let Some(home) = stub.home.take() else { return };
        record(&home.times.reset_ns, start);
        let refused = {
            let mut state = home.state.lock();
            let State { idle, tally } = &mut *state;
            let fits = tally.bytes_held.saturating_add(bytes) <= T::MOST_HELD;
            if clean && fits && idle.len() < home.limits.max_idle {
                tally.returned += 1;
                tally.bytes_held += bytes;
                idle.push(Idle { object, tag, bytes });
                None
            } else {
                tally.discarded += 1;
                Some(object)
            }
        };
        drop(refused);
        record(&home.times.return_ns, start);
    }
}

fn record(histogram: &Histogram, since: Option<Instant>) {
    if let Some(since) = since {
        histogram.record(u64::try_from(now().saturating_duration_since(since).as_nanos()).unwrap_or(u64::MAX));
    }
}

impl<T: Recycle> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Recycle> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
