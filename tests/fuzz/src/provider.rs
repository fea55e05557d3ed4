//! Header hygiene: ids and times that a client sends, headers that a provider sends, and the answer's head made of them.

#![allow(dead_code, unreachable_pub, reason = "a part of a module: what uses the rest is not here")]

#[path = "../../../src/provider/headers.rs"]
mod headers;

use std::time::Duration;

use sluicegate::error::{Code, Error};
use sluicegate::ids::{MAX_REQUEST_ID, RequestId};
use sluicegate::secret::Mask;
use sluicegate::time::{format_duration, parse_duration};

use crate::http::{Response, response_head};

/// Names of a provider's headers that have a meaning: a line may choose one by its first byte.
const NAMES: [&str; 8] = [
    "retry-after",
    "retry-after-ms",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "content-type",
    "content-length",
    "connection",
];

/// Checks one input: a byte for the ending, a line for the request id, one for a time, then headers, a line each.
///
/// # Panics
/// If a property does not hold.
pub fn hygiene(bytes: &[u8]) {
    let Some((ending, text)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let mut lines = text.split('\n');
    let id = lines.next().unwrap_or_default();
    let id = check_id(id);
    check_time(lines.next().unwrap_or_default());
    let headers: Vec<_> = lines.take(200).map(header).collect();
    let passed = check_upstream(&headers);

    let mut response = Response::new(u16::from(*ending) * 5).body("body", "text/plain");
    if let Some(id) = &id {
        response = response.header("x-request-id", id.as_str());
    }
    for (name, value) in headers.iter().chain(&passed).take(200) {
        response = response.header(name.clone(), value.clone());
    }
    response_head(&response, *ending, ending & 4 != 0);
}

fn header(line: &str) -> (String, String) {
    match line.chars().next() {
        Some(first @ '0'..='7') => (NAMES[first as usize - '0' as usize].to_owned(), line[1..].to_owned()),
        _ => {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_owned(), value.to_owned())
        }
    }
}

fn check_id(text: &str) -> Option<RequestId> {
    let id = RequestId::from_client(text)?;
    assert_eq!(id.as_str(), text, "an id is echoed as it came, or not at all");
    assert!((1..=MAX_REQUEST_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()));
    Some(id)
}

fn check_time(text: &str) {
    let Ok(time) = parse_duration(text) else { return };
    assert!(time <= Duration::from_secs(366 * 24 * 3600), "{text:?} is longer than a year");
    assert!(!text.contains(['-', '+', 'e', 'E']), "{text:?} is no plain number with a unit");
    let written = format_duration(time);
    let again = parse_duration(&written).expect("what is written can be read");
    assert_eq!(again.as_micros(), time.as_micros(), "{text:?} is written {written}");
}

/// What a client sees of a provider's headers.
fn check_upstream(headers: &[(String, String)]) -> Vec<(String, String)> {
    let lower: Vec<_> = headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    if let Some(rate) = headers::rate_limit(&lower) {
        assert!(rate > 0.0 && !rate.is_nan(), "a rate of {rate}");
    }
    if headers::nothing_left(&lower, 784_111_770_500).is_some() {
        let says = |name: &str| {
            let anthropics = name.strip_prefix("anthropic-ratelimit-").is_some_and(|rest| rest.ends_with("-remaining"));
            anthropics || name.starts_with("x-ratelimit-remaining-")
        };
        assert!(lower.iter().any(|(name, _)| says(name)), "nobody said that nothing is left");
    }
    let error = headers::with_upstream(Error::new(Code::UpstreamError, "x"), lower.clone(), &Mask::default());
    assert!(error.retry_after().is_none_or(|after| after <= Duration::from_secs(24 * 3600)));
    let passed = headers::for_client(lower, &Mask::default(), false);
    for (name, _) in passed.iter().chain(error.upstream_headers()) {
        let framing = ["content-length", "transfer-encoding", "connection", "set-cookie", "server", "location"];
        assert!(!framing.contains(&name.as_str()), "{name} reaches the client");
    }
    passed
}
