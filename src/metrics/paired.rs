//! Two numbers that come in pairs, a wait and a service time: how the second is spread for each range of the first, and how
//! far the two go together.
//!
//! Pearson's r is made of co-moments that are brought up to date with each pair, so that nothing is lost when times are
//! large and differ little. Source: B. P. Welford, Technometrics 4 (1962); for joining two stripes T. F. Chan, G. H. Golub,
//! R. J. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances" (1979).

use std::fmt;

use parking_lot::Mutex;
use serde::Serialize;

use super::histogram::{STRIPES, Tally, stripe};

/// The upper bounds of the ranges of the wait, in microseconds; past the last one lies a range without end.
const BOUNDS: [u64; 6] = [100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];

/// How many ranges there are.
const BUCKETS: usize = BOUNDS.len() + 1;

/// Pairs of a wait and a service time, in microseconds.
///
/// The locks are plain ones, as a histogram's: held for an array increment and ten operations on numbers. A range takes its
/// memory (26 KiB a stripe) when a first wait falls into it.
#[derive(Default)]
pub struct Paired {
    stripes: [Mutex<Share>; STRIPES],
}

/// One stripe's share.
#[derive(Default)]
struct Share {
    moments: Moments,
    services: [Tally; BUCKETS],
}

/// `jobs.correlation` in `/stats`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PairedStats {
    /// Pearson's coefficient of wait and service time, from -1 to 1; `None` below two pairs, or while one of the two never
    /// changed.
    pub r: Option<f64>,
    /// The ranges of the wait, shortest first.
    pub buckets: Vec<Bucket>,
}

/// The jobs whose wait fell into one range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Bucket {
    /// The longest wait of the range, in microseconds; `None` for the last one, which has no end.
    pub wait_us_le: Option<u64>,
    /// How many there were.
    pub count: u64,
    /// The median of their service times, in microseconds; `None` where there were none.
    pub service_p50_us: Option<u64>,
    /// The 99th percentile.
    pub service_p99_us: Option<u64>,
}

impl Paired {
    /// Counts one pair.
    pub fn record(&self, wait_us: u64, service_us: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < wait_us);
        let mut share = self.stripes[stripe()].lock();
        share.moments.record(wait_us as f64, service_us as f64);
        share.services[bucket].record(service_us);
    }

    /// All service times.
    pub(crate) fn services(&self) -> Tally {
        let mut all = Tally::default();
        self.stripes.iter().for_each(|share| share.lock().services.iter().for_each(|tally| all.merge(tally)));
        all
    }

    /// What there is to say of both.
    #[must_use]
    pub fn stats(&self) -> PairedStats {
        let mut moments = Moments::default();
        let mut services: [Tally; BUCKETS] = Default::default();
        for share in &self.stripes {
            let share = share.lock();
            moments = moments.join(&share.moments);
            services.iter_mut().zip(&share.services).for_each(|(all, tally)| all.merge(tally));
        }
        let bounds = BOUNDS.iter().copied().map(Some).chain([None]);
        let buckets = bounds.zip(&services).map(|(wait_us_le, tally)| {
            let dist = tally.dist();
            Bucket {
                wait_us_le,
                count: dist.map_or(0, |dist| dist.count),
                service_p50_us: dist.map(|dist| dist.p50),
                service_p99_us: dist.map(|dist| dist.p99),
            }
        });
        PairedStats { r: moments.r(), buckets: buckets.collect() }
    }
}

impl fmt::Debug for Paired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Paired").field(&self.stats()).finish()
    }
}

/// Means and sums of squared deviations, and of their products.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    mean: [f64; 2],
    squares: [f64; 2],
    products: f64,
}

impl Moments {
    fn record(&mut self, x: f64, y: f64) {
        self.count += 1.0;
        let before = [x - self.mean[0], y - self.mean[1]];
        self.mean[0] += before[0] / self.count;
        self.mean[1] += before[1] / self.count;
        let after = [x - self.mean[0], y - self.mean[1]];
        self.squares[0] += before[0] * after[0];
        self.squares[1] += before[1] * after[1];
        self.products += before[0] * after[1];
    }

    fn join(self, other: &Self) -> Self {
        let count = self.count + other.count;
        if count == 0.0 {
            return self;
        }
        let apart = [other.mean[0] - self.mean[0], other.mean[1] - self.mean[1]];
        let weight = self.count * other.count / count;
        let mean = |axis: usize| self.mean[axis] + apart[axis] * other.count / count;
        let squares = |axis: usize| self.squares[axis] + other.squares[axis] + apart[axis] * apart[axis] * weight;
        Self {
            count,
            mean: [mean(0), mean(1)],
            squares: [squares(0), squares(1)],
            products: self.products + other.products + apart[0] * apart[1] * weight,
        }
    }

    fn r(&self) -> Option<f64> {
        let known = self.count >= 2.0 && self.squares.iter().all(|squares| *squares > 0.0);
        known.then(|| (self.products / (self.squares[0].sqrt() * self.squares[1].sqrt())).clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in two passes.
    fn naive(pairs: &[(u64, u64)]) -> f64 {
        let n = pairs.len() as f64;
        let mean = |of: fn(&(u64, u64)) -> u64| pairs.iter().map(|pair| of(pair) as f64).sum::<f64>() / n;
        let (x, y) = (mean(|pair| pair.0), mean(|pair| pair.1));
        let sum =
            |of: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|(a, b)| of(*a as f64 - x, *b as f64 - y)).sum::<f64>();
        sum(&|a, b| a * b) / (sum(&|a, _| a * a).sqrt() * sum(&|_, b| b * b).sqrt())
    }

    fn of(pairs: &[(u64, u64)]) -> Paired {
        let paired = Paired::default();
        pairs.iter().for_each(|(wait, service)| paired.record(*wait, *service));
        paired
    }

    #[test]
    fn r_is_that_of_the_definition_however_large_the_times_are() {
        let mut random = fastrand::Rng::with_seed(7);
        for (offset, spread, pull) in [(0, 1_000_000, 1), (3_000_000_000_000, 50, 2), (1_000_000_000, 3, 0)] {
            let pairs: Vec<_> = (0..5000)
                .map(|_| {
                    let wait = random.u64(..spread);
                    (offset + wait, offset + pull * wait + random.u64(..spread))
                })
                .collect();
            let (got, want) = (of(&pairs).stats().r.expect("it is known"), naive(&pairs));
            assert!((got - want).abs() < 1e-6, "{got}, by the definition {want}");
        }
    }

    #[test]
    fn what_goes_together_wholly_is_one_and_against_each_other_minus_one() {
        let line: Vec<_> = (0..100).map(|n| (n * 10, 5 + n * 3)).collect();
        let falling: Vec<_> = (0..100).map(|n| (n * 10, 1000 - n)).collect();
        for (pairs, wanted) in [(line, 1.0), (falling, -1.0)] {
            let r = of(&pairs).stats().r.expect("it is known");
            assert!((r - wanted).abs() < 1e-12, "{r}");
        }
    }

    #[test]
    fn r_is_unknown_below_two_pairs_and_while_one_side_never_changes() {
        for pairs in [&[][..], &[(1, 2)], &[(5, 1), (5, 9), (5, 4)], &[(1, 7), (2, 7)]] {
            assert_eq!(of(pairs).stats().r, None, "{pairs:?}");
        }
    }

    #[test]
    fn each_wait_falls_into_its_range_and_their_services_make_the_whole() {
        let paired = of(&[(0, 10), (100, 20), (101, 30), (1000, 30), (10_000_001, 40)]);
        let stats = paired.stats();
        let counts: Vec<_> = stats.buckets.iter().map(|bucket| (bucket.wait_us_le, bucket.count)).collect();
        let bounds = [Some(100), Some(1000), Some(10_000), Some(100_000), Some(1_000_000), Some(10_000_000), None];
        assert_eq!(counts, bounds.into_iter().zip([2, 2, 0, 0, 0, 0, 1]).collect::<Vec<_>>());
        let second = &stats.buckets[1];
        assert_eq!((second.service_p50_us, second.service_p99_us), (Some(30), Some(30)));
        assert_eq!((stats.buckets[2].service_p50_us, stats.buckets[2].service_p99_us), (None, None));
        let all = paired.services().dist().expect("something was counted");
        assert_eq!((all.count, all.max, all.mean), (5, 40, 26));
        assert_eq!(Paired::default().services().dist(), None);
    }

    #[test]
    fn threads_meet_in_one_correlation() {
        let paired = Paired::default();
        std::thread::scope(|scope| {
            for part in 0..4u64 {
                let paired = &paired;
                scope.spawn(move || (0..500).for_each(|n| paired.record(part * 500 + n, part * 500 + n)));
            }
        });
        let stats = paired.stats();
        assert_eq!(stats.buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 2000);
        assert!((stats.r.expect("it is known") - 1.0).abs() < 1e-12);
    }
}
