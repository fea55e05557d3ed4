//! How fast a target of a `latency` alias answers: a moving average that grows old, and who looks again when it has.
//!
//! **Protocol.** Plain atomics: whoever made an attempt notes how it ended, whoever plans reads. Two who note at once may
//! lose one of the two, which an average can bear. A value that was never had or has grown old is *wanted*: one request at
//! a time is sent there to have it again, the others go by what they know. A failure is no time at all and would look like
//! the best of all, so it takes the value away, and the target is tried again by one request a little later.
//!
//! **Invariants.** I4: a meter belongs to a line of the configuration, never to a name that a request brings.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::{Stamp, micros_of};

/// What the newest time counts for in the average: an eighth, as in TCP's estimate of a round trip (RFC 6298, section 2).
const NEWEST: u64 = 8;

/// A value older than this is had again.
const FRESH: Duration = Duration::from_secs(60);

/// How long the one who was sent to have a value is waited for until another is.
const PATIENCE: Duration = Duration::from_secs(5);

/// The times of one target, for whole answers and for streams up to their first event: the two cannot be compared.
#[derive(Debug, Default)]
pub struct Meter([Track; 2]);

/// One average. The stamps are in microseconds; 0 is never.
#[derive(Debug, Default)]
struct Track {
    micros: AtomicU64,
    noted: AtomicU64,
    tried: AtomicU64,
}

/// What a meter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// So many microseconds.
    Known(u64),
    /// It is to be had, by [`Meter::claim`].
    Wanted,
    /// Somebody has gone to have it, or just failed to; this was the last, if there was one.
    Awaited(Option<u64>),
}

impl Meter {
    /// An attempt took so long, in the queue and with the provider.
    pub fn note(&self, streamed: bool, took: Duration, now: Stamp) {
        let track = self.track(streamed);
        let (newest, old) = (micros_of(took).max(1), track.micros.load(Ordering::Relaxed));
        let average = if old == 0 { newest } else { (old * (NEWEST - 1) + newest) / NEWEST };
        track.micros.store(average.max(1), Ordering::Relaxed);
        track.noted.store(now.micros(), Ordering::Relaxed);
    }

    /// An attempt failed in a way that is the target's.
    pub fn failed(&self, streamed: bool, now: Stamp) {
        let track = self.track(streamed);
        track.micros.store(0, Ordering::Relaxed);
        track.noted.store(0, Ordering::Relaxed);
        track.tried.store(now.micros(), Ordering::Relaxed);
    }

    pub(super) fn read(&self, streamed: bool, now: Stamp) -> Reading {
        let track = self.track(streamed);
        let last = Some(track.micros.load(Ordering::Relaxed)).filter(|micros| *micros > 0);
        match last {
            Some(micros) if within(track.noted.load(Ordering::Relaxed), FRESH, now) => Reading::Known(micros),
            _ if within(track.tried.load(Ordering::Relaxed), PATIENCE, now) => Reading::Awaited(last),
            _ => Reading::Wanted,
        }
    }

    /// Whether the caller is the one to have the value again; of several who ask at once it is one.
    pub(super) fn claim(&self, streamed: bool, now: Stamp) -> bool {
        let tried = &self.track(streamed).tried;
        let last = tried.load(Ordering::Relaxed);
        !within(last, PATIENCE, now)
            && tried.compare_exchange(last, now.micros(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn track(&self, streamed: bool) -> &Track {
        &self.0[usize::from(streamed)]
    }
}

/// Whether `stamp` is not further back than `span`.
fn within(stamp: u64, span: Duration, now: Stamp) -> bool {
    stamp > 0 && now.micros().saturating_sub(stamp) <= micros_of(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::now;

    const MS: Duration = Duration::from_millis(1);

    /// Stamps at so long after a beginning.
    fn clock() -> impl Fn(Duration) -> Stamp {
        let start = now();
        move |after| Stamp::at(start + Duration::from_secs(1) + after)
    }

    #[test]
    fn the_average_follows_the_times_and_keeps_streams_apart() {
        let (meter, at) = (Meter::default(), clock());
        meter.note(false, 80 * MS, at(MS));
        assert_eq!(meter.read(false, at(MS)), Reading::Known(80_000));
        meter.note(false, 160 * MS, at(MS));
        assert_eq!(meter.read(false, at(MS)), Reading::Known(90_000));
        assert_eq!(meter.read(true, at(MS)), Reading::Wanted);
        for _ in 0..100 {
            meter.note(false, MS, at(MS));
        }
        assert!(matches!(meter.read(false, at(MS)), Reading::Known(1000..1100)));
        meter.note(true, Duration::ZERO, at(MS));
        assert_eq!(meter.read(true, at(MS)), Reading::Known(1), "no time is a time all the same");
    }

    #[test]
    fn an_old_value_is_had_again_by_one_at_a_time() {
        let (meter, at) = (Meter::default(), clock());
        assert_eq!(meter.read(false, at(MS)), Reading::Wanted);
        assert!(meter.claim(false, at(MS)) && !meter.claim(false, at(2 * MS)));
        assert_eq!(meter.read(false, at(2 * MS)), Reading::Awaited(None));
        meter.note(false, 5 * MS, at(3 * MS));
        assert_eq!(meter.read(false, at(FRESH)), Reading::Known(5000));
        let old = FRESH + 10 * MS;
        assert_eq!(meter.read(false, at(old)), Reading::Wanted);
        assert!(meter.claim(false, at(old)));
        assert_eq!(meter.read(false, at(old)), Reading::Awaited(Some(5000)));
        assert_eq!(meter.read(false, at(old + PATIENCE + MS)), Reading::Wanted, "the one who went did not come back");
    }

    #[test]
    fn a_failure_takes_the_value_away_and_is_looked_at_again_later() {
        let (meter, at) = (Meter::default(), clock());
        meter.note(false, MS, at(MS));
        meter.failed(false, at(2 * MS));
        assert_eq!(meter.read(false, at(3 * MS)), Reading::Awaited(None));
        assert!(!meter.claim(false, at(3 * MS)));
        assert_eq!(meter.read(false, at(PATIENCE + 3 * MS)), Reading::Wanted);
    }
}
