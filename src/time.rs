//! Deadlines, back-off and durations as text; the one place where the clock is read.
//!
//! Pure parts of the gateway get `now` handed in. Whoever needs the clock itself calls [`now`], so a test that looks
//! for `Instant::now` elsewhere (a clippy rule does) finds every hidden dependency on time.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The longest time that a deadline may lie ahead: a year. Keeps `Instant` arithmetic from overflowing.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the home of Instant::now")]
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since the Unix epoch, for events and logs; 0 if the system clock stands before it.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros_of) / 1000
}

/// A duration as whole microseconds, saturating.
#[must_use]
pub fn micros_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A moment as the kernel's last tick left it: up to 4 ms behind (10 ms on a slow-ticking kernel), in eight bytes, and read
/// at a third of the price of [`now`]. For what is shown to people and compared with seconds, never for a deadline's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

impl Stamp {
    /// Now, less at most one tick of the kernel's clock.
    #[must_use]
    pub fn now() -> Self {
        Self(clock_ns(ClockId::MonotonicCoarse) / 1000)
    }

    /// The stamp of `instant`; that of the first one ever asked for if it lies before.
    #[must_use]
    pub fn at(instant: Instant) -> Self {
        // The same moment by the standard library's clock and in stamps.
        static ONCE: OnceLock<(Instant, u64)> = OnceLock::new();
        let (then, ns) = ONCE.get_or_init(|| (now(), clock_ns(ClockId::Monotonic)));
        let since = u64::try_from(instant.saturating_duration_since(*then).as_nanos()).unwrap_or(u64::MAX);
        Self(ns.saturating_add(since) / 1000)
    }

    /// How long after `earlier` this was; zero if it was before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The stamp in microseconds, for who keeps it in an atomic.
    #[must_use]
    pub fn micros(self) -> u64 {
        self.0
    }
}

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Both are never negative.
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// The moment at which a wait ends. Every wait in the gateway has one (I5).
///
/// ```
/// use std::time::Duration;
/// use sluicegate::Deadline;
///
/// // A whole batch has a minute, and each of its requests five seconds of what is left.
/// let batch = Deadline::after(Duration::from_secs(60));
/// let request = batch.earlier(Deadline::after(Duration::from_secs(5)));
/// assert!(!request.passed() && request.remaining() <= Duration::from_secs(5));
///
/// // Pure code is handed the time.
/// let late = request.instant() + Duration::from_millis(1);
/// assert_eq!(request.remaining_at(late), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl From<Duration> for Deadline {
    /// So long after now.
    fn from(patience: Duration) -> Self {
        Self::after(patience)
    }
}

impl Deadline {
    /// A deadline at `instant`.
    #[must_use]
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// A deadline `after` from now, at most a year ahead.
    #[must_use]
    pub fn after(after: Duration) -> Self {
        Self::from(now(), after)
    }

    /// A deadline `after` from `start`, at most a year ahead.
    #[must_use]
    pub fn from(start: Instant, after: Duration) -> Self {
        Self(start + after.min(FAR))
    }

    /// The moment itself.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }

    /// What is left at `now`; zero once passed.
    #[must_use]
    pub fn remaining_at(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// What is left; zero once passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.remaining_at(now())
    }

    /// Whether it has passed.
    #[must_use]
    pub fn passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// The earlier of the two.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }
}

/// Full-jitter exponential back-off: a uniform draw from zero to `min(max, initial · 2^attempt)`.
///
/// Source: "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::config::Backoff;
///
/// let backoff = Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(5) };
/// let longest: Vec<_> = (0..5).map(|attempt| backoff.delay(attempt, 1.0).as_millis()).collect();
/// assert_eq!(longest, [500, 1000, 2000, 4000, 5000]);
/// assert_eq!(backoff.delay(3, 0.25), Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The ceiling of the first wait.
    pub initial: Duration,
    /// The ceiling of every wait.
    pub max: Duration,
}

impl Backoff {
    /// The wait before retry number `attempt` (0 is the first), for a draw of `jitter` in `0.0..=1.0`.
    #[must_use]
    pub fn delay(&self, attempt: u32, jitter: f64) -> Duration {
        let ceiling = self.initial.saturating_mul(2u32.saturating_pow(attempt.min(20))).min(self.max);
        ceiling.mul_f64(jitter.clamp(0.0, 1.0))
    }
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationError(String);

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no duration; write a number with a unit, as in 250ms, 5s, 2m or 1h", self.0)
    }
}

impl std::error::Error for DurationError {}

/// Reads `250us`, `250ms`, `5s`, `1.5s`, `2m` or `1h`.
///
/// # Errors
/// If the text has no unit, an unknown unit, a negative or an unreadable number, or is longer than a year.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let wrong = || DurationError(text.chars().take(40).collect());
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = trimmed.split_at(split);
    let seconds_each = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let digits_only = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let value: f64 = if digits_only { number.parse().map_err(|_| wrong())? } else { return Err(wrong()) };
    let duration = Duration::try_from_secs_f64(value * seconds_each).map_err(|_| wrong())?;
    if duration > FAR { Err(wrong()) } else { Ok(duration) }
}

/// Writes a duration the way [`parse_duration`] reads it, in the largest unit that keeps it whole.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let us = micros_of(duration);
    match us {
        0 => "0s".to_owned(),
        _ if us.is_multiple_of(3_600_000_000) => format!("{}h", us / 3_600_000_000),
        _ if us.is_multiple_of(60_000_000) => format!("{}m", us / 60_000_000),
        _ if us.is_multiple_of(1_000_000) => format!("{}s", us / 1_000_000),
        _ if us.is_multiple_of(1000) => format!("{}ms", us / 1000),
        _ => format!("{us}us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_what_they_write() {
        for text in ["250us", "250ms", "5s", "2m", "1h", "90s"] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(parse_duration(&format_duration(duration)).unwrap(), duration, "{text}");
        }
        assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1500));
    }

    #[test]
    fn stamps_follow_the_clock_and_never_run_ahead_of_it() {
        let first = Stamp::now();
        let start = now();
        // The kernel's tick is 10 ms at most; the loop ends as soon as one has passed.
        while Stamp::now() == first {
            assert!(now().saturating_duration_since(start) < Duration::from_secs(5), "the coarse clock stands still");
        }
        let (stamp, exact) = (Stamp::now(), Stamp::at(now()));
        assert!(stamp > first && stamp <= exact, "{first:?} {stamp:?} {exact:?}");
        assert!(exact.since(stamp) < Duration::from_secs(1));
        assert_eq!(first.since(stamp), Duration::ZERO);
    }

    #[test]
    fn a_text_without_unit_or_with_a_sign_is_refused() {
        for text in ["", "5", "-5s", "+5s", "5 parsecs", "s", "1e3s", "..s", "99999999999h"] {
            assert!(parse_duration(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn backoff_doubles_up_to_its_ceiling() {
        let backoff = Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(5) };
        let ceilings: Vec<_> = (0..6).map(|n| backoff.delay(n, 1.0).as_millis()).collect();
        assert_eq!(ceilings, [500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(backoff.delay(40, 0.0), Duration::ZERO);
    }
}
