//! Dates: seconds since the Unix epoch as a calendar shows them, and back.
//!
//! Pure arithmetic in UTC and the Gregorian calendar; the clock is read elsewhere.

/// The months, as HTTP calls them.
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment in UTC, as a calendar and a clock show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    /// From 1970.
    pub year: u64,
    /// From 1.
    pub month: u64,
    /// From 1.
    pub day: u64,
    /// From 0, as the next two.
    pub hour: u64,
    /// Of the hour.
    pub minute: u64,
    /// Of the minute.
    pub second: u64,
}

impl Utc {
    /// The moment so many seconds after the Unix epoch.
    ///
    /// The arithmetic is Howard Hinnant's (`civil_from_days`, "chrono-Compatible Low-Level Date Algorithms",
    /// <https://howardhinnant.github.io/date_algorithms.html>): years that begin in March, so that a leap day is the last of
    /// its year.
    #[must_use]
    pub fn at(unix_seconds: u64) -> Self {
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

/// A moment in UTC with milliseconds, as RFC 3339 writes it: `2026-11-22T12:45:01.123Z`.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp([u8; 24]);

impl Timestamp {
    /// The moment so many milliseconds after the Unix epoch; each line of a log has one, so that no formatter is asked.
    #[must_use]
    pub fn at(unix_ms: u64) -> Self {
        let Utc { year, month, day, hour, minute, second } = Utc::at(unix_ms / 1000);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let parts = [
            (0, 4, year),
            (5, 2, month),
            (8, 2, day),
            (11, 2, hour),
            (14, 2, minute),
            (17, 2, second),
            (20, 3, unix_ms % 1000),
        ];
        for (start, width, mut number) in parts {
            for digit in text[start..start + width].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Digits and what stands between them.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The seconds from the Unix epoch to a moment of the Gregorian calendar, in UTC: year, month and day, hour, minute and second.
#[must_use]
pub fn since_epoch((year, month, day): (i64, i64, i64), (hour, minute, second): (i64, i64, i64)) -> i64 {
    // Days since 1970-01-01, by years that begin in March, so that a leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    (days + (month * 153 + 2) / 5 + day - 1 - 719_468) * 86_400 + hour * 3600 + minute * 60 + second
}

/// A number of a date, at most so large.
fn date_number(text: &str, most: i64) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse::<i64>().ok().filter(|number| digits && *number <= most)
}

/// The seconds since the Unix epoch of a date like `1994-11-06T08:49:37Z` (RFC 3339, section 5.6), in UTC alone, and whether
/// parts of a second follow them.
#[must_use]
pub fn rfc3339(text: &str) -> Option<(i64, bool)> {
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

/// The seconds since the Unix epoch of a date like `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that is still sent
/// (RFC 9110, section 5.6.7).
#[must_use]
pub fn http_date(text: &str) -> Option<i64> {
    let fields: Vec<&str> = text.split_once(", ")?.1.split([' ', ':']).collect();
    let &[day, month, year, hour, minute, second, "GMT"] = fields.as_slice() else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let date = (date_number(year, 9999)?, month, date_number(day, 31)?);
    Some(since_epoch(date, (date_number(hour, 23)?, date_number(minute, 59)?, date_number(second, 60)?)))
}

/// Appends a moment as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
pub fn write_http_date(unix_seconds: u64, out: &mut Vec<u8>) {
    const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    let Utc { year, month, day, hour, minute, second } = Utc::at(unix_seconds);
    let two = |number: u64| [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8];
    out.extend_from_slice(DAYS[(unix_seconds / 86_400 % 7) as usize]);
    out.extend_from_slice(b", ");
    out.extend_from_slice(&two(day));
    out.push(b' ');
    out.extend_from_slice(MONTHS[(month as usize - 1) % 12].as_bytes());
    out.push(b' ');
    out.extend_from_slice(&two(year / 100));
    out.extend_from_slice(&two(year));
    for (before, number) in [(b' ', hour), (b':', minute), (b':', second)] {
        out.push(before);
        out.extend_from_slice(&two(number));
    }
    out.extend_from_slice(b" GMT");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_calendar_shows_is_the_moment_that_it_was_asked_for() {
        // Every day of 400 years, after which the calendar repeats, each at another time of the day.
        for day in 0..146_097u64 {
            let seconds = day * 86_400 + day * 7919 % 86_400;
            let Utc { year, month, day, hour, minute, second } = Utc::at(seconds);
            let [date, time] = [[year, month, day], [hour, minute, second]].map(|three| three.map(|n| n as i64));
            assert_eq!(since_epoch(date.into(), time.into()), seconds as i64);
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
            assert_eq!(rfc3339(&format!("{text}Z")), Some((seconds as i64, false)), "{text}");
            let mut written = Vec::new();
            write_http_date(seconds, &mut written);
            assert_eq!(http_date(std::str::from_utf8(&written).expect("text")), Some(seconds as i64), "{text}");
            assert_eq!(rfc3339(&format!("{text}.250Z")), Some((seconds as i64, true)), "{text}");
        }
        let mut written = Vec::new();
        write_http_date(784_111_777, &mut written);
        assert_eq!(written, b"Sun, 06 Nov 1994 08:49:37 GMT", "the RFC's own example");
        for wrong in [
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01",
        ] {
            assert_eq!(rfc3339(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_date_is_read_in_its_one_form() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Tue, 29 Feb 2000 12:00:00 GMT", Some(951_825_600)),
            ("Fri, 01 Mar 2024 00:00:00 GMT", Some(1_709_251_200)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 24:00:00 GMT", None),
            ("Sun, +6 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Non 1994 08:49:37 GMT", None),
            ("", None),
        ] {
            assert_eq!(http_date(text), seconds, "{text}");
        }
    }

    #[test]
    fn times_are_written_as_rfc_3339_says() {
        for (ms, wanted) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_001, "2024-02-29T23:59:59.001Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Timestamp::at(ms).as_str(), wanted);
        }
    }
}
