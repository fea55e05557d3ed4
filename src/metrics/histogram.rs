//! A histogram cheap enough to stand on every provider: hdrhistogram at two digits, made on first use.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

#[cfg(feature = "front")]
use super::buckets::Spread;

/// Locks per histogram. Threads spread over them by their number, so that two recording at once seldom meet.
pub(super) const STRIPES: usize = 2;

/// The largest value told apart: an hour in microseconds. Larger ones count as this.
const MAX: u64 = 3_600_000_000;

/// Significant digits: two keep a percentile within 1 % at 26 KiB; three would take 184 KiB.
const DIGITS: u8 = 2;

static NEXT_STRIPE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static STRIPE: usize = (NEXT_STRIPE.fetch_add(1, Ordering::Relaxed) % STRIPES as u64) as usize;
}

/// A cumulative distribution of whole numbers, usually microseconds.
///
/// The locks are plain ones below the ranked registry: held for one array increment, with nothing called under them.
#[derive(Default)]
pub struct Histogram {
    stripes: [Mutex<Tally>; STRIPES],
}

/// The stripe of the calling thread.
pub(super) fn stripe() -> usize {
    STRIPE.try_with(|stripe| *stripe).unwrap_or(0)
}

/// Digits of one that is made for the difference between two: 184 KiB.
#[cfg(feature = "cli")]
const PRECISE: u8 = 3;

/// One thread's share of a distribution, or all of them at one moment; takes its memory when a first value comes.
#[derive(Clone, Default)]
pub(crate) struct Tally(Option<Box<Counted>>);

#[derive(Clone)]
struct Counted {
    counts: hdrhistogram::Histogram<u64>,
    sum: u128,
    max: u64,
}

impl Counted {
    /// `None` only if hdrhistogram refuses the constants above, which the tests below rule out.
    fn new(digits: u8) -> Option<Box<Self>> {
        let counts = hdrhistogram::Histogram::new_with_bounds(1, MAX, digits).ok();
        counts.map(|counts| Box::new(Self { counts, sum: 0, max: 0 }))
    }
}

impl Tally {
    /// One whose percentiles are within 0.1 %.
    #[cfg(feature = "cli")]
    pub(crate) fn precise() -> Self {
        Self(Counted::new(PRECISE))
    }

    pub(crate) fn record(&mut self, value: u64) {
        if self.0.is_none() {
            self.0 = Counted::new(DIGITS);
        }
        if let Some(counted) = self.0.as_mut() {
            counted.counts.saturating_record(value.clamp(1, MAX));
            counted.sum += u128::from(value);
            counted.max = counted.max.max(value);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (_, None) => {}
            (mine @ None, theirs) => mine.clone_from(theirs),
            (Some(mine), Some(theirs)) => {
                mine.sum += theirs.sum;
                mine.max = mine.max.max(theirs.max);
                // Both have the same bounds, so adding cannot fail.
                mine.counts.add(&theirs.counts).unwrap_or(());
            }
        }
    }

    /// `None` where nothing was counted.
    pub(crate) fn dist(&self) -> Option<Dist> {
        let Counted { counts, sum, max } = self.0.as_deref().filter(|counted| !counted.counts.is_empty())?;
        let at = |quantile| counts.value_at_quantile(quantile).min(*max);
        Some(Dist {
            count: counts.len(),
            mean: u64::try_from(sum / u128::from(counts.len())).unwrap_or(u64::MAX),
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            p999: at(0.999),
            max: *max,
        })
    }

    /// What was counted since `before`, a look at the same distribution: its median and its 99th percentile; `None` where
    /// nothing was. One that holds less than `before` has begun anew, and all of it counts.
    #[cfg(feature = "front")]
    pub(crate) fn since(&self, before: &Self) -> Option<Percentiles> {
        let now = &self.0.as_deref()?.counts;
        let mut counts = now.clone();
        if let Some(before) = before.0.as_deref()
            && counts.subtract(&before.counts).is_err()
        {
            counts.clone_from(now);
        }
        let percentiles = Percentiles { p50: counts.value_at_quantile(0.50), p99: counts.value_at_quantile(0.99) };
        (!counts.is_empty()).then_some(percentiles)
    }
}

/// How the values of one stretch of time are spread.
#[cfg(feature = "front")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Percentiles {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

#[cfg(feature = "front")]
impl Tally {
    /// How many values lie in each range. A value within 1 % above a bound may count as not above it: that is how finely they
    /// are kept.
    pub(crate) fn spread(&self, bounds: &[u64]) -> Spread {
        let mut spread = Spread { counts: vec![0; bounds.len() + 1], sum: 0 };
        let Some(Counted { counts, sum, .. }) = self.0.as_deref() else { return spread };
        for slot in counts.iter_recorded() {
            let least = counts.lowest_equivalent(slot.value_iterated_to());
            spread.counts[bounds.partition_point(|bound| *bound < least)] += slot.count_at_value();
        }
        spread.sum = u64::try_from(*sum).unwrap_or(u64::MAX);
        spread
    }
}

impl Histogram {
    /// Counts one `value`.
    pub fn record(&self, value: u64) {
        self.stripes[stripe()].lock().record(value);
    }

    /// Counts one duration, in microseconds.
    pub fn record_micros(&self, duration: std::time::Duration) {
        self.record(crate::time::micros_of(duration));
    }

    /// The distribution so far; `None` where nothing was counted yet.
    #[must_use]
    pub fn dist(&self) -> Option<Dist> {
        self.all().dist()
    }

    /// Everything that was counted so far.
    pub(crate) fn all(&self) -> Tally {
        let mut all = Tally::default();
        self.stripes.iter().for_each(|stripe| all.merge(&stripe.lock()));
        all
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Histogram").field(&self.dist()).finish()
    }
}

impl Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.dist().unwrap_or_default().serialize(serializer)
    }
}

/// A distribution as `/stats` shows it: cumulative, in the unit of its key.
///
/// ```
/// let gateway = sluicegate::Gateway::from_env()?;
/// gateway.ask("sim/slow-20ms", "Hello")?;
/// let took = gateway.stats().requests.total_us;
/// println!("half within {} µs, 99 of 100 within {} µs, none over {} µs", took.p50, took.p99, took.max);
/// assert!(took.count == 1 && took.max >= 20_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dist {
    /// Values counted.
    pub count: u64,
    /// Their mean, rounded down.
    pub mean: u64,
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The 99.9th percentile.
    pub p999: u64,
    /// The largest, exactly.
    pub max: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_stay_within_one_percent() {
        let histogram = Histogram::default();
        (1..=10_000).for_each(|value| histogram.record(value));
        let dist = histogram.dist().expect("something was recorded");
        assert_eq!((dist.count, dist.mean, dist.max), (10_000, 5000, 10_000));
        for (got, want) in [(dist.p50, 5000.0), (dist.p90, 9000.0), (dist.p99, 9900.0)] {
            assert!((got as f64 / want - 1.0).abs() <= 0.01, "{got} is not within 1 % of {want}");
        }
    }

    #[cfg(feature = "front")]
    #[test]
    fn a_spread_has_each_value_once_within_one_percent_of_its_bound() {
        let bounds = [10, 1000, 100_000];
        assert_eq!(Tally::default().spread(&bounds), Spread { counts: vec![0; 4], sum: 0 });
        let histogram = Histogram::default();
        for value in [0, 10, 11, 990, 1000, 1020, 99_000, 100_000, 102_000, 9_000_000_000] {
            histogram.record(value);
        }
        let spread = histogram.all().spread(&bounds);
        assert_eq!((spread.counts, spread.sum), (vec![2, 3, 3, 2], 9_000_304_031));
    }

    #[test]
    #[cfg(feature = "cli")]
    fn precise_percentiles_stay_within_a_tenth_of_a_percent() {
        let mut tally = Tally::precise();
        (1..=100_000).for_each(|value| tally.record(value));
        let dist = tally.dist().expect("something was recorded");
        for (got, want) in [(dist.p50, 50_000.0), (dist.p99, 99_000.0), (dist.p999, 99_900.0)] {
            assert!((got as f64 / want - 1.0).abs() <= 0.001, "{got} is not within 0.1 % of {want}");
        }
    }

    #[test]
    fn threads_meet_in_one_distribution() {
        let histogram = Histogram::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|value| histogram.record(value)));
            }
        });
        assert_eq!(histogram.dist().expect("recorded").count, 2000);
    }

    #[cfg(feature = "front")]
    #[test]
    fn what_came_between_two_looks_is_told_apart_from_all_before() {
        let histogram = Histogram::default();
        let empty = histogram.all();
        assert_eq!(empty.since(&empty), None);
        (0..1000).for_each(|_| histogram.record(7));
        let first = histogram.all();
        assert_eq!(first.since(&empty), Some(Percentiles { p50: 7, p99: 7 }));
        assert_eq!(first.since(&first), None);
        (0..10).for_each(|_| histogram.record(90));
        let second = histogram.all();
        assert_eq!(second.since(&first), Some(Percentiles { p50: 90, p99: 90 }));
        assert_eq!(second.dist().expect("recorded").p50, 7, "of which the whole says nothing");
        assert_eq!(first.since(&second), Some(Percentiles { p50: 7, p99: 7 }), "it has begun anew");
    }

    #[test]
    fn an_empty_one_is_unknown_and_a_zero_counts() {
        let histogram = Histogram::default();
        assert_eq!(histogram.dist(), None);
        histogram.record(0);
        assert_eq!(histogram.dist().expect("recorded").max, 0);
    }
}
