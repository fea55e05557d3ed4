//! Both planes of a gateway and the statistics between them, started together.

use std::sync::Arc;

use super::output::Failure;
use crate::admin::Admin;
use crate::front::Front;
use crate::gateway::{Gateway, Snapshot};
use crate::stats::Stats;
use crate::time::Deadline;

/// What a gateway is reached through.
#[derive(Debug)]
pub(super) struct Planes {
    pub(super) front: Arc<Front>,
    pub(super) stats: Arc<Stats>,
    pub(super) admin: Admin,
}

impl Planes {
    /// Listens where the gateway's configuration says.
    pub(super) fn start(gateway: &Gateway) -> Result<Self, Failure> {
        let server = &gateway.config().server;
        let front = Arc::new(Front::start(gateway, server.listen)?);
        // Weak: whoever ends the planes needs the only handle.
        let weak = Arc::downgrade(&front);
        let connections = Box::new(move |snapshot: &mut Snapshot| {
            snapshot.connections = weak.upgrade().map(|front| front.stats());
        });
        let stats = Arc::new(Stats::start(gateway, connections)?);
        let admin = Admin::start(gateway, server.admin, Arc::clone(&stats))?;
        Ok(Self { front, stats, admin })
    }

    /// Closes both, after the gateway was shut down; names the threads that did not end by then.
    pub(super) fn close(self, until: Deadline) -> Vec<String> {
        let Self { front, stats, admin } = self;
        let mut stragglers = sole(front, until).map_or_else(Vec::new, |front| front.shutdown(until));
        stragglers.extend(admin.shutdown(until));
        if let Some(stats) = sole(stats, until) {
            stats.stop(until);
        }
        stragglers
    }
}

/// The value behind the last handle. A thread that has just made another one of a weak one lets go of it at once.
pub(super) fn sole<T>(mut shared: Arc<T>, deadline: Deadline) -> Option<T> {
    loop {
        match Arc::try_unwrap(shared) {
            Ok(value) => return Some(value),
            Err(back) if deadline.passed() => {
                drop(back);
                return None;
            }
            Err(back) => shared = back,
        }
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_handle_that_is_held_for_a_moment_is_waited_for_and_one_that_is_kept_is_not() {
        let shared = Arc::new(7);
        let other = Arc::clone(&shared);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::park_timeout(Duration::from_millis(5));
                drop(other);
            });
            assert_eq!(sole(shared, Deadline::after(Duration::from_secs(5))), Some(7));
        });
        let shared = Arc::new(7);
        let _kept = Arc::clone(&shared);
        assert_eq!(sole(shared, Deadline::after(Duration::from_millis(5))), None);
    }
}
