//! A provider's idle connections: the last that came back is the first to be used again.
//!
//! Last in, first out keeps few connections warm at low load and lets the others grow old together, oldest first, so that
//! one look at the front finds what has been idle for too long. A thousand workers at ten requests a second use one or two
//! connections, not a thousand in turn with a TLS handshake each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::metrics::{CountGuard, Counter, Gauge};
use crate::sync::Leaf;
use crate::sync::locks::classes;

/// What `/stats` says of a provider's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Connected now, idle ones included.
    pub open: u64,
    /// Connected and waiting for a request.
    pub idle: u64,
    /// Connections ever made.
    pub opened_total: u64,
    /// Requests that went over a connection used before.
    pub reused_total: u64,
    /// Idle connections that turned out to be closed by the provider.
    pub stale_total: u64,
}

/// What is counted of a provider's connections: of all those that it has one after the other, and both while one replaces
/// the other.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    pub(super) open: Arc<Gauge>,
    idle: Arc<Gauge>,
    pub(super) opened: Counter,
    pub(super) reused: Counter,
    pub(super) stale: Counter,
}

impl ConnectionCounts {
    /// The figures now.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        ConnectionStats {
            open: self.open.get(),
            idle: self.idle.get(),
            opened_total: self.opened.get(),
            reused_total: self.reused.get(),
            stale_total: self.stale.get(),
        }
    }
}

/// The idle connections of one provider.
pub(super) struct Stack<T> {
    state: Leaf<State<T>>,
    timeout: Duration,
    gauge: Arc<Gauge>,
}

struct State<T> {
    /// Oldest in front.
    idle: VecDeque<Idle<T>>,
    /// The most that are kept.
    max: usize,
}

struct Idle<T> {
    value: T,
    since: Instant,
    _count: CountGuard,
}

// Closing a connection is a system call, so nothing is dropped under the lock.
impl<T> Stack<T> {
    pub(super) fn new(max: usize, timeout: Duration, figures: &ConnectionCounts) -> Self {
        let state = State { idle: VecDeque::new(), max };
        Self { state: Leaf::new(&classes::CONNECTIONS, state), timeout, gauge: Arc::clone(&figures.idle) }
    }

    /// The one that came back last, and when; none if even that has been idle for too long.
    pub(super) fn pop(&self, now: Instant) -> Option<(T, Instant)> {
        let last = self.state.lock().idle.pop_back()?;
        if now.saturating_duration_since(last.since) < self.timeout {
            return Some((last.value, last.since));
        }
        // All the others are older still.
        self.close_older(last.since);
        None
    }

    /// Keeps `value` for the next request; above the limit the oldest goes.
    pub(super) fn push(&self, value: T, now: Instant) {
        let entry = Idle { value, since: now, _count: self.gauge.enter() };
        let mut state = self.state.lock();
        state.idle.push_back(entry);
        let surplus = if state.idle.len() > state.max { state.idle.pop_front() } else { None };
        drop(state);
        drop(surplus);
    }

    /// Closes those that have been idle for too long at `now`.
    pub(super) fn sweep(&self, now: Instant) {
        if let Some(limit) = now.checked_sub(self.timeout) {
            self.close_older(limit);
        }
    }

    /// Closes those that came back at `limit` or before.
    pub(super) fn close_older(&self, limit: Instant) {
        let mut state = self.state.lock();
        let old = state.idle.partition_point(|entry| entry.since <= limit);
        let kept = state.idle.split_off(old);
        let closing = std::mem::replace(&mut state.idle, kept);
        drop(state);
        drop(closing);
    }

    /// Closes all and keeps none from now on.
    pub(super) fn retire(&self) {
        let mut state = self.state.lock();
        state.max = 0;
        let closing = std::mem::take(&mut state.idle);
        drop(state);
        drop(closing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::now;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn stack(max: usize) -> (Stack<u32>, ConnectionCounts, Instant) {
        let figures = ConnectionCounts::default();
        (Stack::new(max, TIMEOUT, &figures), figures, now())
    }

    #[test]
    fn the_last_in_is_the_first_out_and_the_oldest_goes_above_the_limit() {
        let (stack, figures, start) = stack(2);
        for value in 1..=3 {
            stack.push(value, start);
        }
        assert_eq!(figures.stats().idle, 2);
        assert_eq!(
            [stack.pop(start), stack.pop(start), stack.pop(start)].map(|p| p.map(|(v, _)| v)),
            [Some(3), Some(2), None]
        );
        assert_eq!(figures.stats().idle, 0);
    }

    #[test]
    fn what_was_idle_for_too_long_is_closed_by_a_sweep_and_by_a_pop() {
        let (stack, figures, start) = stack(9);
        stack.push(1, start);
        stack.push(2, start + Duration::from_secs(10));
        stack.sweep(start + TIMEOUT);
        assert_eq!(figures.stats().idle, 1, "the older one is closed");
        stack.push(3, start + Duration::from_secs(11));
        assert_eq!(stack.pop(start + Duration::from_secs(60)), None);
        assert_eq!(figures.stats().idle, 0, "with the last one all older ones are closed");
    }

    #[test]
    fn a_retired_stack_keeps_nothing() {
        let (stack, figures, start) = stack(9);
        stack.push(1, start);
        stack.retire();
        stack.push(2, start);
        assert_eq!((stack.pop(start), figures.stats().idle), (None, 0));
    }
}
