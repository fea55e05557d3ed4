//! What is told of a pool: its part of `/stats`, the ratio of hits over the last minute, and when that is too low.
//!
//! **Alert.** A miss is nobody's fault while every object is in use: so is each of the first that come after a quiet night,
//! and each by which a load grows. Only those misses count against a pool that an object would have met which it has lost
//! in the same minute, because it came back and found no room, did not come back, or stood idle for too long.
//!
//! Pure but for its lock: `now` is handed in. Nobody pays for a ratio but whoever tends the pool, about once a second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::pool::Tally;
use crate::metrics::{Dist, Histogram};
use crate::sync::locks::{Leaf, classes};

/// What the ratio of hits is over.
const WINDOW: Duration = Duration::from_secs(60);

/// Samples closer together than this are left out, so that their number is bounded however often a pool is tended.
const APART: Duration = Duration::from_millis(500);

/// The fewest acquisitions in the window by which a pool is judged: a gateway's first requests all miss where nothing was
/// made beforehand, and that is no alert.
pub const FEWEST: u64 = 50;

/// How far above its bound a ratio must rise before its alert is over, so that one at the bound does not flicker.
const RECOVERED: f64 = 0.02;

/// The times of one acquisition in 64.
#[derive(Default)]
pub(super) struct Times {
    pub(super) acquire_ns: Histogram,
    pub(super) reset_ns: Histogram,
    pub(super) return_ns: Histogram,
}

/// The samples of the last minute, oldest first; never empty.
pub(super) struct Window(Leaf<Samples>);

struct Samples {
    past: VecDeque<Sample>,
    low: bool,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    acquired: u64,
    hits: u64,
    lost: u64,
}

impl Sample {
    fn of(tally: &Tally, at: Instant) -> Self {
        Self { at, acquired: tally.acquired, hits: tally.hits, lost: tally.discarded + tally.evicted }
    }

    /// What has come since `base`, at the time of this one.
    fn since(self, base: Self) -> Self {
        Self {
            at: self.at,
            acquired: self.acquired.saturating_sub(base.acquired),
            hits: self.hits.saturating_sub(base.hits),
            lost: self.lost.saturating_sub(base.lost),
        }
    }
}

impl Samples {
    /// What has come since the oldest sample within the window, or since the last one if all are older.
    fn recent(&self, now: Instant, tally: &Tally) -> Sample {
        let inside = |sample: &&Sample| now.saturating_duration_since(sample.at) <= WINDOW;
        let (present, base) = (Sample::of(tally, now), self.past.iter().find(inside).or(self.past.back()));
        base.map_or(present, |base| present.since(*base))
    }
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        let past = VecDeque::from([Sample::of(&Tally::default(), now)]);
        Self(Leaf::new(&classes::STATS, Samples { past, low: false }))
    }

    /// Takes a sample and says what is wrong with the ratio of hits.
    pub(super) fn judge(&self, now: Instant, tally: &Tally, alert_below: f64) -> Option<String> {
        let (Sample { acquired, hits, lost, .. }, low) = {
            let mut samples = self.0.lock();
            if samples.past.back().is_none_or(|last| now.saturating_duration_since(last.at) >= APART) {
                samples.past.push_back(Sample::of(tally, now));
            }
            let old = samples.past.partition_point(|sample| now.saturating_duration_since(sample.at) > WINDOW);
            samples.past.drain(..old);
            let recent = samples.recent(now, tally);
            let bound = if samples.low { (alert_below + RECOVERED).min(1.0) } else { alert_below };
            let avoidable = (recent.acquired - recent.hits).min(recent.lost);
            let good = (recent.acquired - avoidable) as f64;
            samples.low = recent.acquired >= FEWEST && good < bound * recent.acquired as f64;
            (recent, samples.low)
        };
        low.then(|| {
            format!(
                "{hits} of {acquired} acquisitions in the last minute were hits, fewer than alert_below {alert_below}, and \
                 {lost} objects were lost; look at max_idle, idle_max_age, and discarded_total for objects not given back"
            )
        })
    }

    fn ratio(&self, now: Instant, tally: &Tally) -> (Option<f64>, bool) {
        let samples = self.0.lock();
        let Sample { acquired, hits, .. } = samples.recent(now, tally);
        (ratio(hits, acquired), samples.low)
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A pool's part of `/stats`. Times are in nanoseconds, one acquisition in 64 sampled.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PoolStats {
    /// Objects asked for: `hits_total` and `misses_total` together.
    pub acquired_total: u64,
    /// Those that were there.
    pub hits_total: u64,
    /// Those that had to be made.
    pub misses_total: u64,
    /// Objects made, beforehand as well.
    pub created_total: u64,
    /// Objects given back.
    pub returned_total: u64,
    /// Objects lost to it: grown too large, too many to be kept, let go of by a panic, or kept by who had it.
    pub discarded_total: u64,
    /// How often it was looked for idle ones that are too old.
    pub sweeps_total: u64,
    /// Idle ones thrown away for their age.
    pub evicted_total: u64,
    /// Over the last 60 s, or since the pool was made; `null` without an acquisition.
    pub hit_ratio: Option<f64>,
    /// Objects that wait for use.
    pub idle: u64,
    /// Objects there are, in use or not.
    pub live: u64,
    /// The share of live objects that are in use; `null` without one.
    pub utilisation: Option<f64>,
    /// How long getting one took.
    pub acquire_ns: Dist,
    /// How long cleaning one took.
    pub reset_ns: Dist,
    /// How long giving one back took.
    pub return_ns: Dist,
    /// Memory that idle objects hold.
    pub bytes_held: u64,
    /// Memory that was used again instead of being asked for.
    pub bytes_reused_total: u64,
    /// Whether the ratio of hits is below its bound, over at least [`FEWEST`] acquisitions, by objects that were lost.
    pub alert: bool,
}

impl PoolStats {
    pub(super) fn new(tally: &Tally, times: &Times, window: &Window, now: Instant) -> Self {
        let live = tally.created - tally.discarded - tally.evicted;
        let (hit_ratio, alert) = window.ratio(now, tally);
        Self {
            acquired_total: tally.acquired,
            hits_total: tally.hits,
            misses_total: tally.acquired - tally.hits,
            created_total: tally.created,
            returned_total: tally.returned,
            discarded_total: tally.discarded,
            sweeps_total: tally.sweeps,
            evicted_total: tally.evicted,
            hit_ratio,
            idle: tally.idle,
            live,
            utilisation: ratio(live - tally.idle, live),
            acquire_ns: times.acquire_ns.dist().unwrap_or_default(),
            reset_ns: times.reset_ns.dist().unwrap_or_default(),
            return_ns: times.return_ns.dist().unwrap_or_default(),
            bytes_held: tally.bytes_held,
            bytes_reused_total: tally.bytes_reused,
            alert,
        }
    }
}
