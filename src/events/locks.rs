//! Looks for deadlocks from time to time and tells of them: found ones as events, locks that are held for long as alerts.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Events;
use crate::sync::locks::{Detector, Lasting, Look};

/// The kind of an alert on a lock that is held for long.
const HELD: &str = "lock_held";

/// One gateway's look at the locks of its process. A deadlock between locks of another gateway is told here, too: locks
/// know of no gateway.
#[derive(Debug)]
pub struct LockWatch {
    events: Events,
    detector: Detector,
    /// The locks whose alert stands.
    standing: BTreeSet<&'static str>,
}

impl LockWatch {
    /// A watch that tells `events` of what is found from now on.
    #[must_use]
    pub fn new(events: Events) -> Self {
        Self { events, detector: Detector::new(), standing: BTreeSet::new() }
    }

    /// Ends each deadlock that there is at `now`, and tells of it. To be called each `locks.detect_interval`, from one
    /// thread; a look while nobody waits costs a lock.
    pub fn look(&mut self, now: Instant) {
        let Look { deadlocks, lasting } = self.detector.look(now);
        for deadlock in deadlocks {
            self.events.push("deadlock", &deadlock.edge, deadlock.to_string());
        }
        let held: BTreeSet<_> = lasting.iter().map(|one| one.lock).collect();
        for over in self.standing.difference(&held) {
            self.events.clear(HELD, over);
        }
        lasting.iter().for_each(|one| self.events.raise(HELD, one.lock, words(one)));
        self.standing = held;
    }
}

fn words(lasting: &Lasting) -> String {
    let name = |thread: &Option<String>| thread.clone().unwrap_or_else(|| "a thread without a name".to_owned());
    let Lasting { holder, waiter, site, waited, .. } = lasting;
    format!("held by {}; {} has waited for it at {site} for {waited:?}", name(holder), name(waiter))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::bounded;

    use super::*;
    use crate::sync::locks::{LASTING, Leaf, classes::TEST_LEAF};
    use crate::time::{Deadline, now};

    #[test]
    fn a_lock_held_for_long_raises_an_alert_until_it_is_had() {
        let fuse = Deadline::after(Duration::from_secs(5));
        let events = Events::new();
        let mut watch = LockWatch::new(events.clone());
        let leaf = Leaf::new(&TEST_LEAF, 0);
        let told = |n: usize| events.alerts().iter().filter(|alert| alert.subject == "test.leaf").count() == n;
        std::thread::scope(|scope| {
            let (is_held, held) = bounded::<()>(0);
            let (let_go, until) = bounded::<()>(0);
            let leaf = &leaf;
            scope.spawn(move || {
                let _held = leaf.lock();
                drop(is_held);
                let _ = until.recv_deadline(fuse.instant());
            });
            let _ = held.recv_deadline(fuse.instant());
            scope.spawn(move || drop(leaf.lock()));
            while !told(1) {
                assert!(!fuse.passed(), "no alert");
                // As if whoever waits had waited for long.
                watch.look(now() + LASTING);
            }
            drop(let_go);
        });
        // Other tests' leaves may be waited for, but none for as long as it would take to be told of now.
        while !told(0) {
            assert!(!fuse.passed(), "the alert stands: {:?}", events.alerts());
            watch.look(now());
        }
        let messages: Vec<_> = events.list().into_iter().filter(|event| event.subject == "test.leaf").collect();
        assert_eq!(messages.last().map(|event| event.message.as_str()), Some("over"));
    }
}
