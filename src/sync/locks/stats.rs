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
#[expect(missing_docs, reason = "the interface's section 5 explains each")]
#[non_exhaustive]
pub struct LockStats {
    pub registered: usize,
    pub contended_total: u64,
    pub timed_out_total: u64,
    pub order_violations_total: u64,
    pub deadlocks_detected_total: u64,
    pub deadlocks_resolved_total: u64,
    pub waiting: u64,
    pub held_longest_us: u64,
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
