//! The last things that an operator would want to have seen: panics, phases, alerts. Bounded, in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;

use crate::sync::locks::{Leaf, classes};
use crate::time::unix_ms;

/// How many are kept.
pub const KEPT: usize = 512;

/// One event.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What kind: `panic`, `phase`, …
    pub kind: &'static str,
    /// Whom it concerns: a provider's or a thread's name.
    pub subject: String,
    /// What happened, in words.
    pub message: String,
}

/// The last events of one gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events(Arc<Leaf<VecDeque<Event>>>);

impl Events {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Leaf::new(&classes::EVENTS, VecDeque::new())))
    }

    /// Keeps one more, and lets the oldest go when there are [`KEPT`].
    pub fn push(&self, kind: &'static str, subject: &str, message: impl Into<String>) {
        let event = Event { at_ms: unix_ms(), kind, subject: subject.to_owned(), message: message.into() };
        let mut events = self.0.lock();
        let oldest = if events.len() == KEPT { events.pop_front() } else { None };
        events.push_back(event);
        drop(events);
        drop(oldest);
    }

    /// All that are kept, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Event> {
        self.0.lock().iter().cloned().collect()
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_the_log_is_full() {
        let events = Events::new();
        (0..=KEPT).for_each(|n| events.push("test", "x", n.to_string()));
        let list = events.list();
        assert_eq!((list.len(), list[0].message.as_str()), (KEPT, "1"));
    }
}
