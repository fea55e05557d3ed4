//! Which of a provider's headers a client may see.

use std::time::Duration;

use crate::error::Error;

/// Names that pass, in lower case.
const PASSED: [&str; 5] = ["content-type", "retry-after", "retry-after-ms", "openai-processing-ms", "openai-version"];

/// What names begin with that pass.
const PASSED_PREFIX: &str = "x-ratelimit-";

/// The longest `Retry-After` of a provider that is passed on.
const LONGEST_RETRY: Duration = Duration::from_secs(24 * 3600);

/// The headers that a client may see.
pub(super) fn for_client(headers: Vec<(String, String)>) -> Vec<(String, String)> {
    headers.into_iter().filter(|(name, _)| PASSED.contains(&name.as_str()) || name.starts_with(PASSED_PREFIX)).collect()
}

/// The error with the provider's own word on when to come again, if it gave one in seconds or milliseconds.
pub(super) fn with_upstream_retry(error: Error, headers: &[(String, String)]) -> Error {
    let number = |wanted: &str| {
        headers.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| value.trim().parse::<f64>().ok())
    };
    let seconds = number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number("retry-after"));
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(after) => error.with_retry_after(after.min(LONGEST_RETRY)),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn cookies_and_servers_stay_behind_and_limits_pass() {
        let all = ["content-type", "set-cookie", "server", "x-ratelimit-remaining-requests", "openai-organization"];
        let headers = all.map(|name| (name.to_owned(), "v".to_owned())).to_vec();
        let passed: Vec<_> = for_client(headers).into_iter().map(|(name, _)| name).collect();
        assert_eq!(passed, ["content-type", "x-ratelimit-remaining-requests"]);
    }

    #[test]
    fn milliseconds_go_before_seconds_and_nonsense_is_nothing() {
        let after = |pairs: &[(&str, &str)]| {
            let headers: Vec<_> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            with_upstream_retry(Error::new(Code::UpstreamError, "x"), &headers).retry_after()
        };
        assert_eq!(after(&[("retry-after", "2"), ("retry-after-ms", "1500")]), Some(Duration::from_millis(1500)));
        assert_eq!(after(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
        assert_eq!(after(&[("retry-after", "-2")]), None);
        assert_eq!(after(&[("retry-after", "soon")]), None);
    }
}
