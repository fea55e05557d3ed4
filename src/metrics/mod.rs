//! Counters, gauges and histograms: plain numbers that any thread may raise and the stats thread reads.
//!
//! Nothing here knows what is counted. A count of something under way is a [`Gauge`] raised through a [`CountGuard`]
//! (I2), so that a panic or an early return cannot leave it standing. Rates that are limited are in `rate`, tokens that are
//! estimated in `tokens`.

#[cfg(feature = "front")]
mod buckets;
mod drain;
mod histogram;
mod paired;
pub(crate) mod rate;
pub(crate) mod tokens;

#[cfg(feature = "front")]
pub(crate) use buckets::{BOUNDS, Buckets, OVERHEADS_US, Spread, TIMES_US};
pub use drain::{Drain, DrainRate, retry_after};
#[cfg(feature = "front")]
pub(crate) use histogram::Percentiles;
pub(crate) use histogram::Tally;
pub use histogram::{Dist, Histogram};
pub use paired::{Bucket, Paired, PairedStats};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl serde::Serialize for Counter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.get())
    }
}

/// How many of something are under way, and the most there ever were.
#[derive(Debug, Default)]
pub struct Gauge {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Gauge {
    /// Counts one more until the guard drops.
    pub fn enter(self: &Arc<Self>) -> CountGuard {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(now, Ordering::Relaxed);
        CountGuard(Arc::clone(self))
    }

    /// Counts one more until the guard drops, unless `limit` are under way already.
    #[must_use]
    pub fn enter_below(self: &Arc<Self>, limit: u64) -> Option<CountGuard> {
        let taken =
            self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < limit).then_some(n + 1)).ok()?;
        self.peak.fetch_max(taken + 1, Ordering::Relaxed);
        Some(CountGuard(Arc::clone(self)))
    }

    /// How many are under way.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// The most there ever were.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

/// One that is under way; dropping it ends the count.
#[derive(Debug)]
#[must_use = "dropping the guard ends the count at once"]
pub struct CountGuard(Arc<Gauge>);

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_back_at_zero_after_a_panic() {
        let gauge = Arc::new(Gauge::default());
        let held = Arc::clone(&gauge);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _guard = held.enter();
            panic!("in the middle");
        }));
        assert!(panicked.is_err());
        assert_eq!((gauge.get(), gauge.peak()), (0, 1));
    }

    #[test]
    fn a_limited_gauge_refuses_exactly_at_its_limit() {
        let gauge = Arc::new(Gauge::default());
        let guards: Vec<_> = (0..3).map(|_| gauge.enter_below(3).expect("below the limit")).collect();
        assert!(gauge.enter_below(3).is_none());
        drop(guards);
        assert!(gauge.enter_below(3).is_some());
    }
}
