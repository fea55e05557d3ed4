//! How fast what is full drains, and from that when to come again. Pure: times and counts are handed in.
//!
//! Whoever looks after it looks at each of his ticks, so no request pays for it: a pool's supervisor, and the watchdog for
//! the gateway as a whole. Only the time in which somebody waited, or was refused, counts: what an idle house lets through
//! says nothing of what it could.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is looked back on.
const WINDOW: Duration = Duration::from_secs(10);

/// Looks closer together than this are one: some are brought on by events.
const APART: Duration = Duration::from_millis(400);

/// After how long without a single place coming free the pool counts as stuck, rather than as not measured yet.
const STUCK: Duration = Duration::from_secs(5);

/// What `Retry-After` says at least, and as long as nothing is known.
const SOONEST: Duration = Duration::from_secs(1);

/// What it says at most.
const LATEST: Duration = Duration::from_secs(60);

/// What came free between two looks, one of which saw jobs wait.
#[derive(Debug)]
struct Span {
    until: Instant,
    length: Duration,
    freed: u64,
}

/// What was seen at a look.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    freed: u64,
    waiting: bool,
}

/// Looks back over the last ten seconds.
#[derive(Debug, Default)]
pub struct Drain {
    last: Option<Look>,
    spans: VecDeque<Span>,
}

impl Drain {
    /// Takes note of how many places have come free so far and how many want one; how many a second come free while
    /// somebody does, if that is known.
    pub fn look(&mut self, now: Instant, freed: u64, waiting: u64) -> Option<f64> {
        let look = Look { at: now, freed, waiting: waiting > 0 };
        match self.last {
            Some(last) if now.saturating_duration_since(last.at) < APART => {}
            Some(last) => {
                let length = now.saturating_duration_since(last.at);
                if last.waiting || look.waiting {
                    self.spans.push_back(Span { until: now, length, freed: freed.saturating_sub(last.freed) });
                }
                self.last = Some(look);
            }
            None => self.last = Some(look),
        }
        self.spans.retain(|span| now.saturating_duration_since(span.until) < WINDOW);
        self.rate()
    }

    fn rate(&self) -> Option<f64> {
        let length: Duration = self.spans.iter().map(|span| span.length).sum();
        let freed: u64 = self.spans.iter().map(|span| span.freed).sum();
        (freed > 0 || length >= STUCK).then(|| freed as f64 / length.as_secs_f64())
    }
}

/// When a place may be had: those that want one, at least one, over the places that come free a second; 1 to 60 s.
#[must_use]
pub fn retry_after(waiting: u64, per_second: Option<f64>) -> Duration {
    let Some(rate) = per_second else { return SOONEST };
    let seconds = waiting.max(1) as f64 / rate;
    // Nothing comes free: infinite, which is no duration.
    Duration::try_from_secs_f64(seconds).unwrap_or(LATEST).clamp(SOONEST, LATEST)
}

/// The last rate measured, for those who refuse.
#[derive(Debug)]
pub struct DrainRate(AtomicU64);

impl DrainRate {
    /// Sets it; `None` if it is not known.
    pub fn set(&self, per_second: Option<f64>) {
        self.0.store(per_second.unwrap_or(f64::NAN).to_bits(), Ordering::Relaxed);
    }

    /// Places that come free a second, if that is known.
    #[must_use]
    pub fn get(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load(Ordering::Relaxed))).filter(|rate| !rate.is_nan())
    }
}

impl Default for DrainRate {
    fn default() -> Self {
        Self(AtomicU64::new(f64::NAN.to_bits()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::now;

    /// Looks each half second at a pool whose counts `at` gives; what is known at the end.
    fn watch(ticks: u64, at: impl Fn(u64) -> (u64, u64)) -> Option<f64> {
        let (start, mut drain, mut known) = (now(), Drain::default(), None);
        for tick in 0..ticks {
            let (freed, waiting) = at(tick);
            known = drain.look(start + Duration::from_millis(500 * tick), freed, waiting);
        }
        known
    }

    #[test]
    fn the_rate_is_what_comes_free_while_jobs_wait() {
        assert_eq!(watch(1, |_| (0, 5)), None, "one look is no span");
        assert_eq!(watch(3, |tick| (4 * tick, 5)), Some(8.0));
        assert_eq!(watch(200, |tick| (tick, 1)), Some(2.0));
        // Slow for long, then fast: after ten seconds only the last ten count.
        assert_eq!(watch(60, |tick| (tick.min(30) + 10 * tick.saturating_sub(30), 1)), Some(20.0));
    }

    #[test]
    fn an_idle_pool_says_nothing_and_a_stuck_one_that_it_is_stuck() {
        assert_eq!(watch(100, |tick| (tick, 0)), None);
        assert_eq!(watch(10, |_| (7, 3)), None, "for 4.5 s nothing came free: it may be slow");
        assert_eq!(watch(12, |_| (7, 3)), Some(0.0));
        let (start, mut drain) = (now(), Drain::default());
        for (seconds, freed, waiting) in [(0, 0, 1), (1, 10, 1), (2, 20, 0)] {
            drain.look(start + Duration::from_secs(seconds), freed, waiting);
        }
        assert_eq!(drain.look(start + Duration::from_secs(30), 20, 0), None, "too long ago");
    }

    #[test]
    fn looks_that_events_bring_on_are_one() {
        let (start, mut drain) = (now(), Drain::default());
        drain.look(start, 0, 1);
        for ms in 1..100 {
            assert_eq!(drain.look(start + Duration::from_millis(ms), ms, 1), None);
        }
        assert_eq!(drain.look(start + Duration::from_secs(1), 100, 1), Some(100.0));
    }

    #[test]
    fn the_time_to_come_again_is_waiting_over_rate_within_its_bounds() {
        let seconds = Duration::from_secs;
        for (waiting, rate, wanted) in [
            (500, None, seconds(1)),
            (500, Some(100.0), seconds(5)),
            (3, Some(2.0), Duration::from_millis(1500)),
            (0, Some(0.25), seconds(4)),
            (1, Some(1000.0), seconds(1)),
            (500, Some(1.0), seconds(60)),
            (1, Some(0.0), seconds(60)),
            (u64::MAX, Some(f64::MIN_POSITIVE), seconds(60)),
        ] {
            assert_eq!(retry_after(waiting, rate), wanted, "{waiting} waiting, {rate:?} a second");
        }
    }

    #[test]
    fn a_rate_is_unknown_until_it_is_set() {
        let rate = DrainRate::default();
        assert_eq!(rate.get(), None);
        rate.set(Some(0.0));
        assert_eq!(rate.get(), Some(0.0));
        rate.set(None);
        assert_eq!(rate.get(), None);
    }
}
