//! Counts of values in ranges with fixed upper bounds: what a histogram of Prometheus is made of.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many bounds the histograms of [`Buckets`] have: the GenAI conventions name so many for each.
pub(crate) const BOUNDS: usize = 14;

/// A distribution by ranges of fixed bounds. No lock: two counters a value, the range's and the sum's.
///
/// Which bounds they are is said with each value, and is the same each time.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    counts: [AtomicU64; BOUNDS + 1],
    sum: AtomicU64,
}

impl Buckets {
    /// Counts one value.
    pub(crate) fn record(&self, bounds: &[u64; BOUNDS], value: u64) {
        self.add(bounds, value, 1);
    }

    /// Counts so many of one value.
    pub(crate) fn add(&self, bounds: &[u64; BOUNDS], value: u64, count: u64) {
        let at = bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(count, Ordering::Relaxed);
        self.sum.fetch_add(value.saturating_mul(count), Ordering::Relaxed);
    }

    /// What was counted so far; `None` where nothing was.
    pub(crate) fn spread(&self) -> Option<Spread> {
        let counts: Vec<_> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let spread = Spread { counts, sum: self.sum.load(Ordering::Relaxed) };
        (spread.count() > 0).then_some(spread)
    }
}

/// The bounds of what [`Histogram`](super::Histogram)s of times come to, in microseconds: waits, services and whole requests.
pub(crate) const TIMES_US: [u64; 17] = [
    100,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    60_000_000,
    300_000_000,
];

/// The same of what the gateway itself takes of a request.
pub(crate) const OVERHEADS_US: [u64; 14] =
    [10, 20, 30, 50, 75, 100, 150, 200, 500, 1_000, 5_000, 10_000, 100_000, 1_000_000];

/// How values are spread over ranges: one count for each bound, of what lies above the one before and not above itself, and
/// one more for what lies above all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) counts: Vec<u64>,
    /// Of all values, in their unit.
    pub(crate) sum: u64,
}

impl Spread {
    /// How many values there were.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENS: [u64; BOUNDS] = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140];

    #[test]
    fn a_value_on_a_bound_belongs_below_it_and_what_is_above_all_counts_too() {
        let buckets = Buckets::default();
        assert_eq!(buckets.spread(), None);
        for value in [0, 10, 11, 140, 141] {
            buckets.record(&TENS, value);
        }
        buckets.add(&TENS, 15, 3);
        let spread = buckets.spread().expect("something was counted");
        assert_eq!((spread.count(), spread.sum), (8, 347));
        assert_eq!((spread.counts[0], spread.counts[1], spread.counts[13], spread.counts[14]), (2, 4, 1, 1));
    }
}
