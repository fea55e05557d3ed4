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

/// A moment in UTC, as a calendar and a clock show it.
#[cfg(any(feature = "bedrock", feature = "plugins"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Utc {
    pub(crate) year: u64,
    /// From 1.
    pub(crate) month: u64,
    /// From 1.
    pub(crate) day: u64,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
}

#[cfg(any(feature = "bedrock", feature = "plugins"))]
impl Utc {
    /// The moment so many seconds after the Unix epoch.
    ///
    /// The arithmetic is Howard Hinnant's (`civil_from_days`, "chrono-Compatible Low-Level Date Algorithms",
    /// <https://howardhinnant.github.io/date_algorithms.html>): years that begin in March, so that a leap day is the last of
    /// its year.
    pub(crate) fn at(unix_seconds: u64) -> Self {
        // Eras of 400 years, from the first of March of the year 0.
        let days = unix_seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let of_day = unix_seconds % 86_400;
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }
}

/// The seconds from the Unix epoch to a moment of the Gregorian calendar, in UTC: year, month and day, hour, minute and second.
pub(crate) fn since_epoch((year, month, day): (i64, i64, i64), (hour, minute, second): (i64, i64, i64)) -> i64 {
    // Days since 1970-01-01, by years that begin in March, so that a leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    (days + (month * 153 + 2) / 5 + day - 1 - 719_468) * 86_400 + hour * 3600 + minute * 60 + second
}

/// A number of a date, at most so large.
pub(crate) fn date_number(text: &str, most: i64) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse::<i64>().ok().filter(|number| digits && *number <= most)
}

/// The seconds since the Unix epoch of a date like `1994-11-06T08:49:37Z` (RFC 3339, section 5.6), in UTC alone, and whether
/// parts of a second follow them.
pub(crate) fn rfc3339(text: &str) -> Option<(i64, bool)> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, part) = time.split_once('.').map_or((time, ""), |(time, part)| (time, part));
    let date: Vec<&str> = date.split('-').collect();
    let time: Vec<&str> = time.split(':').collect();
    let (&[year, month, day], &[hour, minute, second]) = (date.as_slice(), time.as_slice()) else { return None };
    let from_one = |text, most| date_number(text, most).filter(|number| *number > 0);
    let date = (date_number(year, 9999)?, from_one(month, 12)?, from_one(day, 31)?);
    let time = (date_number(hour, 23)?, date_number(minute, 59)?, date_number(second, 60)?);
    Some((since_epoch(date, time), part.bytes().any(|b| b != b'0')))
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
