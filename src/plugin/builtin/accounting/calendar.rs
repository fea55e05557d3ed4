//! Budgets' periods in UTC: which one a moment lies in, and when the next begins. Pure.

use crate::calendar::{Utc, since_epoch};
use crate::config::plugins::Period;

const DAY_MS: u64 = 86_400_000;

/// One of the periods that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Counts them; later ones have greater numbers.
    pub(super) number: u64,
    /// When the next begins, in milliseconds since 1970; never if there is none.
    pub(super) ends_ms: Option<u64>,
}

/// The period in which a moment lies, in milliseconds since 1970.
pub(super) fn span(period: Period, at_ms: u64) -> Span {
    let each = |ms: u64| {
        let number = at_ms / ms;
        Span { number, ends_ms: number.checked_add(1).and_then(|next| next.checked_mul(ms)) }
    };
    match period {
        Period::Total => Span { number: 0, ends_ms: None },
        Period::Day => each(DAY_MS),
        Period::Every(time) => each(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)),
        Period::Month => {
            let Utc { year, month, .. } = Utc::at(at_ms / 1000);
            let next = if month == 12 { first_of(year + 1, 1) } else { first_of(year, month + 1) };
            Span { number: year * 12 + month - 1, ends_ms: next.checked_mul(DAY_MS) }
        }
    }
}

/// A moment for a person: `2026-12-01T00:00:00Z`.
pub(super) fn shown(at_ms: u64) -> String {
    let Utc { year, month, day, hour, minute, second } = Utc::at(at_ms / 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// How many days after the first of January 1970 a month begins.
fn first_of(year: u64, month: u64) -> u64 {
    // No time in milliseconds comes near what these can hold.
    (since_epoch((year as i64, month as i64, 1), (0, 0, 0)) / 86_400) as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn days_are_what_the_calendar_says() {
        // By `date -u -d @SECONDS`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_078_012_800, "2004-02-29T00:00:00Z"),
            (1_796_083_199, "2026-11-30T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(shown(seconds * 1000), text);
        }
    }

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let ends = |text: &str, at_s: u64| {
            let span = span(Period::Month, at_s * 1000);
            assert_eq!(span.ends_ms.map(shown).as_deref(), Some(text));
            span.number
        };
        let november = ends("2026-12-01T00:00:00Z", 1_796_083_199);
        let december = ends("2027-01-01T00:00:00Z", 1_796_083_200);
        assert_eq!((november + 1, december), (december, 2026 * 12 + 11));
        ends("2024-03-01T00:00:00Z", 1_709_164_800);
    }

    proptest! {
        /// The next period begins where one ends, and not a millisecond before; months are 28 to 31 days long.
        #[test]
        fn periods_follow_each_other(at in 0..200 * 365 * DAY_MS, every in 1..10_000_000u64) {
            for period in [Period::Day, Period::Month, Period::Every(Duration::from_millis(every))] {
                let now = span(period, at);
                let ends = now.ends_ms.expect("it ends");
                prop_assert!(ends > at);
                prop_assert_eq!(span(period, ends - 1), now);
                prop_assert_eq!(span(period, ends).number, now.number + 1);
                if period == Period::Month {
                    let next = span(period, ends).ends_ms.expect("it ends");
                    prop_assert!((28..=31).contains(&((next - ends) / DAY_MS)));
                }
            }
            prop_assert_eq!(span(Period::Total, at), Span { number: 0, ends_ms: None });
        }
    }
}
