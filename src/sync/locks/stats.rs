//! The locks' part of `/stats`: figures of this process, since locks know of no gateway.

use serde::Serialize;

use super::class::classes;
use super::patterns::{self, Pattern};
use super::{detector, held, order};

/// The locks' part of `/stats`.
///
/// `held_longest_us` is the longest that a lock was seen to be held by somebody who waited for it, up to the last look that
/// found the same holder: never more than the truth, and nothing of a hold that nobody waited for, or for a leaf less than a
/// millisecond. It costs no clock where nobody waits.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LockStats {
    /// Classes of locks.
    pub registered: usize,
    /// How often one had to be waited for.
    pub contended_total: u64,
    /// How often one was not had in time.
    pub timed_out_total: u64,
    /// How often locks were taken in another order than theirs; a debug build panics instead.
    pub order_violations_total: u64,
    /// Circles of threads that wait for each other.
    pub deadlocks_detected_total: u64,
    /// Those that were broken up.
    pub deadlocks_resolved_total: u64,
    /// Threads that wait for one now.
    pub waiting: u64,
    /// The longest that one was held while somebody waited, in microseconds.
    pub held_longest_us: u64,
    /// Pairs of locks whose order led to a deadlock; one seen twice is refused from then on.
    pub patterns: Vec<Pattern>,
}

/// The figures of all locks of this process.
#[must_use]
pub fn stats() -> LockStats {
    let (deadlocks_detected_total, deadlocks_resolved_total) = detector::deadlocks();
    LockStats {
        registered: classes::ALL.len(),
        contended_total: classes::ALL.iter().map(|class| class.contended.get()).sum(),
        timed_out_total: classes::ALL.iter().map(|class| class.timed_out.get()).sum(),
        order_violations_total: order::violations(),
        deadlocks_detected_total,
        deadlocks_resolved_total,
        waiting: detector::waiting(),
        held_longest_us: held::longest_us(),
        patterns: patterns::list(),
    }
}
