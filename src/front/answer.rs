//! Answers and errors as HTTP responses, in the shape of the route.

use std::time::Duration;

use crate::error::{Attempt, Code, Error, Spent};
use crate::gateway::Gateway;
use crate::http::Response;
use crate::ids::RequestId;
use crate::model::{Answer, Call, Served, StreamKind};
use crate::time::micros_of;
use crate::wire::Dialect;

const JSON: &str = "application/json";

/// The most characters of a model's name that a header shows.
const LONGEST_MODEL: usize = 256;

/// Room for the header lines of our own, so that the list of them is made once.
const OWN_HEADERS: usize = 12;

/// A value as an answer of our own.
pub(super) fn json(value: &serde_json::Value) -> Response {
    Response::new(200).body(value.to_string(), JSON)
}

/// A complete answer: the upstream's bytes, and who gave them.
pub(super) fn whole(shape: Dialect, answer: Answer, call: &Call) -> Response {
    let Answer { status, headers, body, served, .. } = answer;
    let mut response = Response::new(status);
    response.body = body;
    let response = upstream_headers(response, headers);
    served_headers(shape, response, &served, &call.request_id)
}

/// The head of a stream: of events, or of bytes that keep their status and type.
pub(super) fn stream_head(
    shape: Dialect,
    kind: StreamKind,
    headers: Vec<(String, String)>,
    served: &Served,
    id: &RequestId,
) -> Response {
    if let StreamKind::Bytes { status, .. } = kind {
        return served_headers(shape, upstream_headers(Response::new(status), headers), served, id);
    }
    let headers = headers.into_iter().filter(|(name, _)| name != "content-type").collect();
    let response = upstream_headers(Response::new(200), headers)
        .header("content-type", stream_type(shape))
        .header("cache-control", "no-cache")
        .header("x-accel-buffering", "no");
    served_headers(shape, response, served, id)
}

/// What a stream says that it is. Of events the standard has the charset, which old clients ask for; frames are bytes.
fn stream_type(shape: Dialect) -> &'static str {
    if shape.has_comments() { "text/event-stream; charset=utf-8" } else { shape.stream_type() }
}

/// An error, with its own status or the upstream's.
pub(super) fn error(shape: Dialect, error: &Error) -> Response {
    let mut response = called(shape, Response::new(error.status()).body(shape.error_body(error, None), JSON), error);
    if let Some(id) = error.request_id() {
        response = response.header("x-request-id", id.as_str());
    }
    if let Some(provider) = error.provider() {
        response = response.header("x-sluicegate-provider", provider);
    }
    // The error is that of the first target as a rule, and the headers are to name one that there is.
    let told = error.attempts().iter().find(|attempt| Some(&*attempt.provider) == error.provider());
    if let Some(told) = told.or(error.attempts().last()) {
        let target = |attempt: &Attempt| (attempt.provider.clone(), attempt.model.clone());
        let left = error.attempts().windows(2).filter(|pair| target(&pair[0]) != target(&pair[1])).count();
        response = response
            .header("x-sluicegate-model", model_of(&told.model))
            .header("x-sluicegate-attempts", error.attempts().len().to_string())
            .header("x-sluicegate-fallbacks", left.to_string());
    }
    if let Some(Spent { queue, upstream, overhead }) = error.spent() {
        response = timing_headers(response, queue, upstream, overhead);
    }
    if error.code() == Code::Unauthorized {
        // Asked for by RFC 9110, section 11.6.1; where an address fails too often, each further guess pays for a connection.
        response = response.header("www-authenticate", "Bearer");
        response = if error.retry_after().is_some() { response.close() } else { response };
    }
    let response = upstream_headers(response, error.upstream_headers().to_vec());
    let response = match error.request_id() {
        Some(id) => named(shape, response, id),
        None => response,
    };
    with_retry_after(response, error.retry_after())
}

/// A model's name as a header's value: a client chose it, and no client reads heads of any length.
fn model_of(name: &str) -> String {
    name.chars().take(LONGEST_MODEL).collect()
}

/// What the server itself refuses, with a status that may be finer than the code's.
pub(super) fn refusal(shape: Dialect, status: u16, error: &Error, id: &RequestId) -> Response {
    let response = Response::new(status).body(shape.error_body(error, Some(id)), JSON);
    let response = called(shape, response, error).header("x-request-id", id.as_str());
    with_retry_after(named(shape, response, id), error.retry_after())
}

/// Whole seconds, and milliseconds beside them for those who can wait less.
fn with_retry_after(response: Response, after: Option<Duration>) -> Response {
    match after {
        None => response,
        Some(after) => {
            let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            response.header("retry-after", ms.div_ceil(1000).to_string()).header("retry-after-ms", ms.to_string())
        }
    }
}

fn upstream_headers(mut response: Response, headers: Vec<(String, String)>) -> Response {
    response.headers.reserve(headers.len() + OWN_HEADERS);
    response.headers.extend(headers.into_iter().map(|(name, value)| (name.into(), value)));
    response
}

/// The request's name as the shape's clients look for it: the provider's own, if that came with the answer.
fn named(shape: Dialect, response: Response, id: &RequestId) -> Response {
    let missing = |header: &&str| !response.headers.iter().any(|(name, _)| name == header);
    match shape.request_header().filter(missing) {
        Some(header) => response.header(header, id.as_str()),
        None => response,
    }
}

/// What an error is called, in the shapes whose bodies do not say it.
fn called(shape: Dialect, response: Response, error: &Error) -> Response {
    match shape.error_header(error) {
        Some((header, name)) => response.header(header, name),
        None => response,
    }
}

fn served_headers(shape: Dialect, response: Response, served: &Served, id: &RequestId) -> Response {
    let timing = &served.timing;
    let response = named(shape, response, id).header("x-request-id", id.as_str());
    let mut response = response.header("x-sluicegate-provider", &*served.provider);
    // What is forwarded names none that anybody looked at.
    if !served.model.is_empty() {
        response = response.header("x-sluicegate-model", model_of(&served.model));
    }
    let response = response
        .header("x-sluicegate-attempts", served.attempts.to_string())
        .header("x-sluicegate-fallbacks", served.fallbacks.to_string());
    timing_headers(response, timing.queue, timing.upstream, served.overhead)
}

fn timing_headers(response: Response, queue: Duration, upstream: Duration, overhead: Duration) -> Response {
    let micros = |duration: Duration| micros_of(duration).to_string();
    response
        .header("x-sluicegate-queue-us", micros(queue))
        .header("x-sluicegate-upstream-us", micros(upstream))
        .header("x-sluicegate-overhead-us", micros(overhead))
}

/// A short text for a probe.
pub(super) fn text(status: u16, text: &'static str) -> Response {
    Response::new(status).body(text, "text/plain; charset=utf-8")
}

/// A short summary for a person or a script.
pub(super) fn health(gateway: &Gateway) -> Response {
    Response::new(if gateway.is_ready() { 200 } else { 503 }).body(gateway.health().to_string(), JSON)
}
