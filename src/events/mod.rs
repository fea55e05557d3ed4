//! The last things that an operator would want to have seen, and what is wrong right now. Bounded, in memory.
//!
//! An event has happened; an alert lasts until it is cleared, and its coming and going are events.

mod alerts;
mod locks;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use crate::sync::locks::{Leaf, classes};
use crate::time::unix_ms;
use alerts::Standing;

pub use alerts::Alert;
#[doc(hidden)]
pub use alerts::MOST_ALERTS;
#[doc(hidden)]
pub use locks::LockWatch;

/// How many are kept.
#[doc(hidden)]
pub const KEPT: usize = 512;

/// One event.
///
/// ```
/// use sluicegate::{Gateway, ProviderSetup};
///
/// let gateway = Gateway::builder().provider(ProviderSetup::sim("sim")).build()?;
/// gateway.reload(Gateway::builder().provider(ProviderSetup::sim("other")).into_config()?)?;
/// let events = gateway.events().list();
/// for event in &events {
///     println!("{} {} ({}): {}", event.at_ms, event.kind, event.subject, event.message);
/// }
/// assert!(events.iter().any(|event| event.kind == "reload"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
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

/// The last events and the standing alerts of one gateway. Cheap to clone.
///
/// ```
/// let gateway = sluicegate::Gateway::from_env()?;
/// let events = gateway.events();
/// assert!(events.list().iter().any(|event| (event.kind, &*event.message) == ("phase", "running")));
///
/// assert!(events.alerts().is_empty(), "nothing is wrong");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    log: Leaf<Log>,
    standing: Leaf<Standing>,
}

#[derive(Debug, Default)]
struct Log {
    kept: VecDeque<Event>,
    /// How many there were of each kind.
    totals: BTreeMap<&'static str, u64>,
}

impl Events {
    /// None yet.
    #[must_use]
    #[doc(hidden)]
    pub fn new() -> Self {
        let log = Leaf::new(&classes::EVENTS, Log::default());
        Self(Arc::new(Inner { log, standing: Leaf::new(&classes::ALERTS, Standing::default()) }))
    }

    /// Keeps one more, and lets the oldest go when there are [`KEPT`].
    #[doc(hidden)]
    pub fn push(&self, kind: &'static str, subject: &str, message: impl Into<String>) {
        let event = Event { at_ms: unix_ms(), kind, subject: subject.to_owned(), message: message.into() };
        let mut log = self.0.log.lock();
        *log.totals.entry(kind).or_default() += 1;
        let oldest = if log.kept.len() == KEPT { log.kept.pop_front() } else { None };
        log.kept.push_back(event);
        drop(log);
        drop(oldest);
    }

    /// All that are kept, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Event> {
        self.0.log.lock().kept.iter().cloned().collect()
    }

    /// How many there have been of each kind, those that are kept no more among them.
    pub(crate) fn totals(&self) -> BTreeMap<&'static str, u64> {
        self.0.log.lock().totals.clone()
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
        assert_eq!(events.totals(), BTreeMap::from([("test", KEPT as u64 + 1)]));
    }
}
