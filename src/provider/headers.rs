//! What a provider's headers say: when to come again, how many requests it takes, and what of an error's a client may see.

use std::time::Duration;

use crate::calendar::{http_date, rfc3339};
use crate::error::Error;
use crate::secret::Mask;
use crate::time::{parse_duration, unix_ms};
use crate::wire::passing;

/// The longest `Retry-After` of a provider that is passed on.
const LONGEST_RETRY: Duration = Duration::from_secs(24 * 3600);

/// The headers that a client may see, without secrets, with an answer that is handed on unread or another. A value shorter
/// than any secret is not searched, so that this costs most answers a comparison.
pub(super) fn for_client(headers: Vec<(String, String)>, mask: &Mask, unread: bool) -> Vec<(String, String)> {
    passing::downstream(headers, unread).into_iter().map(|(name, value)| (name, mask.apply(value))).collect()
}

/// The content coding of an answer, if it has one.
pub(super) fn coding(headers: &[(String, String)]) -> Option<&str> {
    let found = headers.iter().find(|(name, _)| name == "content-encoding").map(|(_, value)| value.trim());
    found.filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
}

/// The error with what a client may see of the headers that came with it, and with the provider's own word on when to come
/// again, if it gave one: in milliseconds, in seconds, or as a date.
pub(super) fn with_upstream(error: Error, headers: Vec<(String, String)>, mask: &Mask) -> Error {
    let error = retry_at(error, &headers, unix_ms());
    let mut headers = for_client(headers, mask, false);
    // The body is written anew, and when to come again is told of the error.
    headers.retain(|(name, _)| !matches!(name.as_str(), "content-type" | "retry-after" | "retry-after-ms"));
    error.with_upstream_headers(headers)
}

fn retry_at(error: Error, headers: &[(String, String)], now_ms: u64) -> Error {
    let value = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.trim());
    let number = |wanted| value(wanted).and_then(|text| text.parse::<f64>().ok());
    let until = || Some(seconds_until(http_date(value("retry-after")?)?, now_ms));
    let seconds = number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number("retry-after")).or_else(until);
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(after) => error.with_retry_after(after.min(LONGEST_RETRY)),
        None => error,
    }
}

/// The periods that providers state their limits for, in seconds.
const PERIODS: [f64; 4] = [1.0, 60.0, 3600.0, 86_400.0];

/// How far a period that is worked out may lie from one of those: times until a reset are rounded.
const ROUNDED: f64 = 1.25;

/// The requests a second that a provider takes, as its `x-ratelimit-*-requests` headers tell, or Anthropic's
/// `anthropic-ratelimit-requests-*`.
///
/// What `limit` is for is not said, except that Anthropic's are for a minute (page "Rate limits"). With a limit that refills
/// all the time, as OpenAI's and Groq's do, `reset` is how long what was used takes to come back, so that
/// `limit × reset / used` is the period (a minute, a day); where that is no such period, or nothing says what was used,
/// `reset` is taken for the period itself.
pub(super) fn rate_limit(headers: &[(String, String)]) -> Option<f64> {
    let value = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.trim());
    let number = |text: &str| text.parse::<f64>().ok().filter(|limit| *limit > 0.0 && limit.is_finite());
    if let Some(limit) = value("anthropic-ratelimit-requests-limit") {
        return number(limit).map(|limit| limit / 60.0);
    }
    let limit = number(value("x-ratelimit-limit-requests")?)?;
    let reset = time_until(value("x-ratelimit-reset-requests")?).filter(|reset| *reset > 0.0)?;
    let left = value("x-ratelimit-remaining-requests").and_then(|left| left.parse::<f64>().ok());
    let refill = left.map(|left| limit - left).filter(|used| *used > 0.0).map(|used| limit * reset / used);
    let near = |period: f64| PERIODS.into_iter().find(|known| (period / known).max(known / period) <= ROUNDED);
    Some(limit / refill.and_then(near).unwrap_or(reset))
}

/// For how long a provider says at `now_ms` that nothing is left of one of its limits, of requests or of tokens; none if it
/// says no such thing.
pub(super) fn nothing_left(headers: &[(String, String)], now_ms: u64) -> Option<Duration> {
    let is_none = |value: &str| value.trim().parse::<f64>().is_ok_and(|left| left <= 0.0);
    let value = |wanted: String| headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.trim());
    let spent = headers.iter().filter_map(|(name, left)| {
        let seconds = if let Some(what) = name.strip_prefix("x-ratelimit-remaining-") {
            is_none(left).then(|| time_until(value(format!("x-ratelimit-reset-{what}"))?))??
        } else {
            let what = name.strip_prefix("anthropic-ratelimit-")?.strip_suffix("-remaining")?;
            // Parts of a second count as one.
            let whole = |(seconds, more): (i64, bool)| seconds + i64::from(more);
            let reset = || rfc3339(value(format!("anthropic-ratelimit-{what}-reset"))?).map(whole);
            seconds_until(is_none(left).then(reset)??, now_ms)
        };
        Duration::try_from_secs_f64(seconds).ok()
    });
    spent.max()
}

/// How long it is from `now_ms` to a moment in seconds since the Unix epoch. Until one that has passed there is nothing to
/// wait.
fn seconds_until(moment: i64, now_ms: u64) -> f64 {
    (moment as f64 - now_ms as f64 / 1000.0).max(0.0)
}

/// The seconds of a time like `6m0s`, `17ms` or `2m59.56s`; a bare number is of seconds.
fn time_until(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Some(seconds).filter(|seconds| seconds.is_finite());
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let unit = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let next = rest[unit..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |end| unit + end);
        seconds += parse_duration(&rest[..next]).ok()?.as_secs_f64();
        rest = &rest[next..];
    }
    (!text.is_empty()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_rate_limit_is_told_by_what_comes_back_or_by_its_reset() {
        let rate = |pairs: &[(&str, &str)]| {
            let name = |what: &str| format!("x-ratelimit-{what}-requests");
            rate_limit(&pairs.iter().map(|(n, v)| (name(n), (*v).to_owned())).collect::<Vec<_>>())
        };
        let close = |found: Option<f64>, wanted: f64| {
            let found = found.expect("a rate");
            assert!((found / wanted - 1.0).abs() < 0.01, "{found} is not {wanted}");
        };
        // A limit a minute: one used comes back within a sixtieth of it, whatever the limit.
        close(rate(&[("limit", "60"), ("remaining", "59"), ("reset", "1s")]), 1.0);
        close(rate(&[("limit", "10000"), ("remaining", "9999"), ("reset", "6ms")]), 10_000.0 / 60.0);
        // A limit a day.
        close(rate(&[("limit", "14400"), ("remaining", "14370"), ("reset", "2m59.56s")]), 14_400.0 / 86_400.0);
        // A window that ends in half a minute: the best that can be said.
        close(rate(&[("limit", "600"), ("remaining", "599"), ("reset", "30s")]), 20.0);
        close(rate(&[("limit", "100"), ("reset", "1s")]), 100.0);
        close(rate(&[("limit", "100"), ("reset", "50")]), 2.0);
        for nothing in [&[("limit", "100")][..], &[("limit", "0"), ("reset", "1s")], &[("limit", "5"), ("reset", "0s")]]
        {
            assert_eq!(rate(nothing), None, "{nothing:?}");
        }
        assert_eq!(rate(&[("limit", "5"), ("reset", "tomorrow")]), None);
    }

    #[test]
    fn what_is_used_up_is_told_with_the_time_until_it_comes_back() {
        let left = |pairs: &[(&str, &str)]| {
            let headers: Vec<_> = pairs.iter().map(|(n, v)| (format!("x-ratelimit-{n}"), (*v).to_owned())).collect();
            nothing_left(&headers, 0)
        };
        let (requests, tokens) = (("remaining-requests", "0"), ("remaining-tokens", "0"));
        assert_eq!(left(&[requests, ("reset-requests", "1m2s")]), Some(Duration::from_secs(62)));
        assert_eq!(left(&[tokens, ("reset-tokens", "250ms")]), Some(Duration::from_millis(250)));
        let both = [requests, tokens, ("reset-requests", "1s"), ("reset-tokens", "2")];
        assert_eq!(left(&both), Some(Duration::from_secs(2)), "the later of the two");
        assert_eq!(left(&[("remaining-requests", "1"), ("reset-requests", "1s"), ("reset-tokens", "2s")]), None);
        for unknown in
            [&[requests][..], &[requests, ("reset-tokens", "1s")], &[requests, ("reset-requests", "soon")], &[]]
        {
            assert_eq!(left(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn anthropics_limits_are_a_minutes_and_come_back_at_a_date() {
        let headers = |pairs: &[(&str, &str)]| -> Vec<_> {
            pairs.iter().map(|(n, v)| (format!("anthropic-ratelimit-{n}"), (*v).to_owned())).collect()
        };
        let requests =
            [("requests-limit", "50"), ("requests-remaining", "49"), ("requests-reset", "1994-11-06T08:49:38Z")];
        assert_eq!(rate_limit(&headers(&requests)), Some(50.0 / 60.0));
        assert_eq!(rate_limit(&headers(&[("requests-limit", "0")])), None);
        let spent = [
            ("tokens-remaining", "0"),
            ("tokens-reset", "1994-11-06T08:49:37.25Z"),
            ("input-tokens-remaining", "0"),
            ("input-tokens-reset", "1994-11-06T08:49:30Z"),
        ];
        assert_eq!(nothing_left(&headers(&spent), 784_111_770_500), Some(Duration::from_millis(7500)));
        assert_eq!(nothing_left(&headers(&spent[2..]), 784_111_770_500), Some(Duration::ZERO), "it has come back");
        for wrong in ["1994-11-06T08:49:37", "1994-11-06 08:49:37Z", "1994-00-06T08:49:37Z", "soon"] {
            assert_eq!(nothing_left(&headers(&[spent[0], ("tokens-reset", wrong)]), 0), None, "{wrong}");
        }
    }

    #[test]
    fn an_error_keeps_the_limits_that_came_with_it_and_nothing_that_speaks_of_its_body() {
        let headers =
            [("content-type", "text/html"), ("retry-after", "3"), ("x-ratelimit-reset", "9s"), ("server", "x")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let error = with_upstream(Error::new(Code::UpstreamError, "x"), headers, &Mask::default());
        assert_eq!(error.upstream_headers(), [("x-ratelimit-reset".to_owned(), "9s".to_owned())]);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn milliseconds_go_before_seconds_and_nonsense_is_nothing() {
        let after = |pairs: &[(&str, &str)]| {
            let headers: Vec<_> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            retry_at(Error::new(Code::UpstreamError, "x"), &headers, 784_111_770_500).retry_after()
        };
        assert_eq!(after(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]), Some(Duration::from_millis(6500)));
        assert_eq!(after(&[("retry-after", "Sat, 05 Nov 1994 08:49:37 GMT")]), Some(Duration::ZERO));
        assert_eq!(after(&[("retry-after", "Sun, 06 Nov 1994 08:49:37")]), None);
        assert_eq!(after(&[("retry-after", "2"), ("retry-after-ms", "1500")]), Some(Duration::from_millis(1500)));
        assert_eq!(after(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
        assert_eq!(after(&[("retry-after", "-2")]), None);
        assert_eq!(after(&[("retry-after", "soon")]), None);
    }
}
