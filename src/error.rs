//! The one error type of the gateway: what happened, who caused it, and whether trying again can help.
//!
//! A code stands for exactly one row of the interface's table, with its HTTP status. Origin and retry hint are two axes
//! of their own: a caller decides by them, never by reading the message.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The bounds of `Retry-After`, in seconds.
const RETRY_AFTER_SECS: (u64, u64) = (1, 60);

/// A result of the gateway.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What happened.
///
/// ```
/// use sluicegate::Code;
/// use sluicegate::error::Origin;
///
/// assert_eq!(Code::QueueFull.as_str(), "queue_full");
/// assert_eq!((Code::QueueFull.status(), Code::QueueFull.origin()), (429, Origin::Gateway));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// The body or a header is none: bad JSON, a field that is missing or of no use. [`Error::param`] names it.
    InvalidRequest,
    /// A client of the front end sent no key, or a wrong one.
    Unauthorized,
    /// The gateway key may not use this model.
    Forbidden,
    /// No provider, model or alias of this name; the message lists near ones.
    ModelNotFound,
    /// The front end has no such route.
    NotFound,
    /// The front end's route takes another method.
    MethodNotAllowed,
    /// This provider has no such route or feature.
    Unsupported,
    /// A client's body is longer than `server.max_body_bytes`.
    BodyTooLarge,
    /// A client's head is longer than `server.max_header_bytes`.
    HeaderTooLarge,
    /// A client took too long to send its request.
    RequestTimeout,
    /// A limit of the gateway's own is reached: requests, bytes, threads or memory.
    Overloaded,
    /// No place at the provider, under the policy `error`.
    QueueFull,
    /// No place at the provider under the policy `drop`, or its place was taken under `drop_oldest`.
    RequestDropped,
    /// No worker took it within `wait_timeout`, or before the request's own limit; [`Error::phase`] says which wait it was in.
    QueueTimeout,
    /// A key, a permit or a buffer was not to be had in time.
    ResourceTimeout,
    /// A configured rate limit is reached, or every key rests.
    RateLimited,
    /// The provider, or its model, has failed so often that it is left alone for now; or it is paused.
    CircuitOpen,
    /// The gateway takes nothing new any more.
    ShuttingDown,
    /// The provider could not be reached: DNS, connecting, TLS, or a connection that broke without an answer.
    UpstreamConnectError,
    /// No whole answer in time: the provider's limit or the request's own.
    UpstreamTimeout,
    /// No first event of a stream in time: the provider's limit or the request's own.
    FirstTokenTimeout,
    /// The provider's answer is not what its protocol says.
    UpstreamBadResponse,
    /// The stream broke off before its end.
    StreamCut,
    /// The stream was silent for too long.
    StreamIdleTimeout,
    /// The stream took longer than `stream_max_duration`, or than the request's own limit.
    StreamTooLong,
    /// The provider refuses every key.
    CredentialsExhausted,
    /// The provider's own error, which [`Error::upstream_answer`] has in its words; [`Error::status`] is its status.
    UpstreamError,
    /// A defect: a worker or a plugin panicked.
    Internal,
    /// The caller left: a client's connection, a cancelled token, a stream that was dropped.
    ClientClosed,
    /// The caller did not read its stream for too long.
    ClientTooSlow,
}

/// Who caused an error.
///
/// ```
/// use sluicegate::Gateway;
/// use sluicegate::error::Origin;
///
/// let gateway = Gateway::from_env()?;
/// let whose = |model: &str| gateway.ask(model, "Hello").err().map(|error| error.origin());
/// assert_eq!(whose("nobody/model"), Some(Origin::Client));
/// assert_eq!(whose("sim/fail-400"), Some(Origin::Provider));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The request itself, or the client's leaving.
    Client,
    /// The gateway's own limits, queues and defects.
    Gateway,
    /// The provider, or the way to it.
    Provider,
}

impl Code {
    /// Every code, in the order of the interface's table.
    pub const ALL: [Self; 30] = [
        Self::InvalidRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::ModelNotFound,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Unsupported,
        Self::BodyTooLarge,
        Self::HeaderTooLarge,
        Self::RequestTimeout,
        Self::Overloaded,
        Self::QueueFull,
        Self::RequestDropped,
        Self::QueueTimeout,
        Self::ResourceTimeout,
        Self::RateLimited,
        Self::CircuitOpen,
        Self::ShuttingDown,
        Self::UpstreamConnectError,
        Self::UpstreamTimeout,
        Self::FirstTokenTimeout,
        Self::UpstreamBadResponse,
        Self::StreamCut,
        Self::StreamIdleTimeout,
        Self::StreamTooLong,
        Self::CredentialsExhausted,
        Self::UpstreamError,
        Self::Internal,
        Self::ClientClosed,
        Self::ClientTooSlow,
    ];

    /// Name, HTTP status and origin: the interface's table.
    const fn row(self) -> (&'static str, u16, Origin) {
        use Origin::{Client, Gateway, Provider};
        match self {
            Self::InvalidRequest => ("invalid_request", 400, Client),
            Self::Unauthorized => ("unauthorized", 401, Client),
            Self::Forbidden => ("forbidden", 403, Client),
            Self::ModelNotFound => ("model_not_found", 404, Client),
            Self::NotFound => ("not_found", 404, Client),
            Self::MethodNotAllowed => ("method_not_allowed", 405, Client),
            Self::Unsupported => ("unsupported", 400, Client),
            Self::BodyTooLarge => ("body_too_large", 413, Client),
            Self::HeaderTooLarge => ("header_too_large", 431, Client),
            Self::RequestTimeout => ("request_timeout", 408, Client),
            Self::Overloaded => ("overloaded", 503, Gateway),
            Self::QueueFull => ("queue_full", 429, Gateway),
            Self::RequestDropped => ("request_dropped", 503, Gateway),
            Self::QueueTimeout => ("queue_timeout", 504, Gateway),
            Self::ResourceTimeout => ("resource_timeout", 503, Gateway),
            Self::RateLimited => ("rate_limited", 429, Gateway),
            Self::CircuitOpen => ("circuit_open", 503, Gateway),
            Self::ShuttingDown => ("shutting_down", 503, Gateway),
            Self::UpstreamConnectError => ("upstream_connect_error", 502, Provider),
            Self::UpstreamTimeout => ("upstream_timeout", 504, Provider),
            Self::FirstTokenTimeout => ("first_token_timeout", 504, Provider),
            Self::UpstreamBadResponse => ("upstream_bad_response", 502, Provider),
            Self::StreamCut => ("stream_cut", 502, Provider),
            Self::StreamIdleTimeout => ("stream_idle_timeout", 504, Provider),
            Self::StreamTooLong => ("stream_too_long", 504, Gateway),
            Self::CredentialsExhausted => ("credentials_exhausted", 502, Provider),
            Self::UpstreamError => ("upstream_error", 502, Provider),
            Self::Internal => ("internal", 500, Gateway),
            Self::ClientClosed => ("client_closed", 499, Client),
            Self::ClientTooSlow => ("client_too_slow", 499, Client),
        }
    }

    /// The code as it stands in answers, logs and counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status that goes with it; an upstream's own error carries its own instead.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().1
    }

    /// Who caused it.
    #[must_use]
    pub const fn origin(self) -> Origin {
        self.row().2
    }

    /// Whether the answer says when to come again.
    #[must_use]
    pub const fn has_retry_after(self) -> bool {
        matches!(
            self,
            Self::Overloaded
                | Self::QueueFull
                | Self::RequestDropped
                | Self::QueueTimeout
                | Self::ResourceTimeout
                | Self::RateLimited
                | Self::CircuitOpen
                | Self::ShuttingDown
        )
    }

    /// OpenAI's `error.type` for the gateway's own errors.
    #[must_use]
    pub const fn openai_type(self) -> &'static str {
        match self.status() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether trying again can help.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::Gateway;
/// use sluicegate::error::Retry;
///
/// let gateway = Gateway::from_env()?;
/// let error = gateway.ask("sim/fail-429-after-20s", "Hello").expect_err("it is told to wait for longer than a call does");
/// let pause = match error.retry() {
///     Retry::No => None,
///     Retry::After(time) => Some(time),
///     Retry::Now => Some(Duration::ZERO),
/// };
/// assert_eq!(pause, Some(Duration::from_secs(20)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request fails again.
    No,
    /// It may succeed, not before the given time.
    After(Duration),
    /// It may succeed, later or elsewhere; nothing says how long to wait. The gateway has tried again itself as far as it may.
    Now,
}

/// One attempt at one target, as listed in an error.
///
/// ```
/// use sluicegate::{CallOptions, Gateway, ProviderSetup};
///
/// let gateway = Gateway::builder().provider(ProviderSetup::sim("sim").max_retries(0)).build()?;
/// let calls = gateway.with(CallOptions::new().fallbacks(["sim/fail-500"]));
/// let error = calls.ask("sim/fail-503", "Hello").expect_err("both fail");
/// let tried: Vec<_> = error.attempts().iter().map(|tried| (tried.model.as_str(), tried.status)).collect();
/// assert_eq!(tried, [("fail-503", Some(503)), ("fail-500", Some(500))]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Attempt {
    /// The provider's name.
    pub provider: String,
    /// The model as sent there.
    pub model: String,
    /// A code of [`Code`], or `ok`.
    pub outcome: &'static str,
    /// The upstream's HTTP status, if it gave one.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

impl Attempt {
    /// An attempt that took `spent` and ended with `error`, or well.
    #[must_use]
    pub fn of(provider: &str, model: &str, error: Option<&Error>, spent: Duration) -> Self {
        Self {
            provider: provider.to_owned(),
            model: model.to_owned(),
            outcome: error.map_or("ok", |error| error.code().as_str()),
            status: error.and_then(Error::upstream_answer).map(|answer| answer.status),
            ms: u64::try_from(spent.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// An answer of status 400 or more as the provider gave it.
///
/// ```
/// use std::sync::Arc;
/// use sluicegate::Gateway;
/// use sluicegate::serde_json::json;
/// use sluicegate::testing::{Canned, Script};
///
/// let words = json!({ "error": { "message": "8193 tokens are too many", "code": "context_length_exceeded" } });
/// let script = Script::new().then(Canned::json(400, words));
/// let gateway = Gateway::builder().transport("model", Arc::new(script)).build()?;
/// let error = gateway.ask("model/any", "…").expect_err("it is too long");
/// let said = error.upstream_answer().ok_or("the gateway's own error")?;
/// assert_eq!((said.status, said.code.as_deref()), (400, Some("context_length_exceeded")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamAnswer {
    /// Its HTTP status.
    pub status: u16,
    /// `error.message`, or the body's beginning if it was no error object.
    pub message: String,
    /// `error.type`.
    pub kind: Option<String>,
    /// `error.param`.
    pub param: Option<String>,
    /// `error.code`; a number is kept as its digits.
    pub code: Option<String>,
}

/// Where the time of a request that failed went, summed over its attempts.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::Gateway;
///
/// let gateway = Gateway::from_env()?;
/// let error = gateway.ask("sim/fail-400+slow-20ms", "Hello").expect_err("it always fails");
/// let spent = error.spent().ok_or("it never came to an attempt")?;
/// println!("{:?} in the queue, {:?} with the provider", spent.queue, spent.upstream);
/// assert!(spent.upstream >= Duration::from_millis(20));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spent {
    /// Waiting for a place and a worker.
    pub queue: Duration,
    /// With the provider.
    pub upstream: Duration,
    /// In the gateway itself.
    pub overhead: Duration,
}

/// An error with its kind, origin, retry hint, attempts and source. One pointer wide.
///
/// ```
/// use sluicegate::error::{Origin, Retry};
/// use sluicegate::{Code, Gateway};
///
/// let gateway = Gateway::from_env()?;
/// let error = gateway.ask("sim/fail-400", "Hello").expect_err("it always fails");
/// assert_eq!((error.code(), error.origin(), error.retry()), (Code::UpstreamError, Origin::Provider, Retry::No));
///
/// // What the provider said, and what was tried.
/// let said = error.upstream_answer().expect("it is the provider's own");
/// assert_eq!((said.status, error.status()), (400, 400));
/// assert_eq!((error.attempts().len(), error.attempts()[0].outcome), (1, "upstream_error"));
///
/// // A plugin, or a provider of one's own, makes one like this.
/// let own = sluicegate::Error::new(Code::InvalidRequest, "we talk about sluices here").with_param("messages");
/// assert_eq!(own.to_string(), "invalid_request: we talk about sluices here");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    message: Cow<'static, str>,
    param: Option<Cow<'static, str>>,
    phase: Option<&'static str>,
    provider: Option<String>,
    request_id: Option<crate::ids::RequestId>,
    retry_after: Option<Duration>,
    upstream: Option<UpstreamAnswer>,
    upstream_headers: Vec<(String, String)>,
    spent: Option<Spent>,
    attempts: Vec<Attempt>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `code` that says `message`.
    #[must_use]
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code,
            message: message.into(),
            param: None,
            phase: None,
            provider: None,
            request_id: None,
            retry_after: None,
            upstream: None,
            upstream_headers: Vec::new(),
            spent: None,
            attempts: Vec::new(),
            source: None,
        }))
    }

    /// An [`Code::InvalidRequest`] that names the field at fault.
    #[must_use]
    pub fn invalid(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidRequest, message).with_param(field)
    }

    /// An upstream's own error, to be passed on with its status and words.
    #[must_use]
    pub fn upstream(answer: UpstreamAnswer) -> Self {
        let mut error = Self::new(Code::UpstreamError, answer.message.clone());
        error.0.upstream = Some(answer);
        error
    }

    /// Names the field, header or parameter at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.0.param = Some(param.into());
        self
    }

    /// Says in which wait a time ran out: `space` or `worker`.
    #[must_use]
    pub fn with_phase(mut self, phase: &'static str) -> Self {
        self.0.phase = Some(phase);
        self
    }

    /// Names the provider, unless one is named already.
    #[must_use]
    pub fn with_provider(mut self, provider: &str) -> Self {
        self.0.provider.get_or_insert_with(|| provider.to_owned());
        self
    }

    /// Names the request, unless one is named already.
    #[must_use]
    pub fn with_request_id(mut self, id: &crate::ids::RequestId) -> Self {
        self.0.request_id.get_or_insert_with(|| id.clone());
        self
    }

    /// Says when to come again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Keeps what a client may see of the headers that came with the upstream's answer.
    #[must_use]
    pub fn with_upstream_headers(mut self, headers: Vec<(String, String)>) -> Self {
        self.0.upstream_headers = headers;
        self
    }

    /// Says where the request's time went.
    #[must_use]
    pub fn with_spent(mut self, spent: Spent) -> Self {
        self.0.spent = Some(spent);
        self
    }

    /// Lists what was tried.
    #[must_use]
    pub fn with_attempts(mut self, attempts: Vec<Attempt>) -> Self {
        self.0.attempts = attempts;
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// A fresh error that says the same, for another request that fails by the same cause: without what belongs to this one,
    /// which is its id, its attempts and its times, and without the source.
    #[must_use]
    pub fn retold(&self) -> Self {
        let inner = &*self.0;
        Self(Box::new(Inner {
            code: inner.code,
            message: inner.message.clone(),
            param: inner.param.clone(),
            phase: inner.phase,
            provider: inner.provider.clone(),
            request_id: None,
            retry_after: inner.retry_after,
            upstream: inner.upstream.clone(),
            upstream_headers: inner.upstream_headers.clone(),
            spent: None,
            attempts: Vec::new(),
            source: None,
        }))
    }

    /// What happened.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What happened, in words for a person.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The HTTP status: the upstream's own if it gave an error status, else the code's.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.upstream.as_ref().map_or(self.0.code.status(), |answer| answer.status)
    }

    /// Who caused it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.code.origin()
    }

    /// The field, header or parameter at fault.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.0.param.as_deref()
    }

    /// In which wait a time ran out: `space` or `worker`.
    #[must_use]
    pub fn phase(&self) -> Option<&'static str> {
        self.0.phase
    }

    /// The provider concerned.
    #[must_use]
    pub fn provider(&self) -> Option<&str> {
        self.0.provider.as_deref()
    }

    /// The request concerned.
    #[must_use]
    pub fn request_id(&self) -> Option<&crate::ids::RequestId> {
        self.0.request_id.as_ref()
    }

    /// The upstream's own words, if the error is the upstream's.
    #[must_use]
    pub fn upstream_answer(&self) -> Option<&UpstreamAnswer> {
        self.0.upstream.as_ref()
    }

    /// What a client may see of the headers that came with the upstream's answer; its `Retry-After` is in
    /// [`retry_after`](Self::retry_after).
    #[must_use]
    pub fn upstream_headers(&self) -> &[(String, String)] {
        &self.0.upstream_headers
    }

    /// Where the request's time went, if it got as far as the gateway.
    #[must_use]
    pub fn spent(&self) -> Option<Spent> {
        self.0.spent
    }

    /// What was tried.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.0.attempts
    }

    /// When to come again: between 1 and 60 s for the gateway's own errors that say so; whatever an upstream said.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let (least, most) = RETRY_AFTER_SECS;
        match self.0.retry_after {
            Some(after) if self.0.code.has_retry_after() => {
                Some(after.clamp(Duration::from_secs(least), Duration::from_secs(most)))
            }
            None if self.0.code.has_retry_after() => Some(Duration::from_secs(least)),
            given => given,
        }
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        if let Some(after) = self.retry_after() {
            return Retry::After(after);
        }
        // A 502 towards a client, who has no part in it; but the next request meets the same keys.
        if self.0.code == Code::CredentialsExhausted {
            return Retry::No;
        }
        match self.status() {
            408 | 500 | 502 | 503 | 504 | 529 => Retry::Now,
            429 => Retry::After(Duration::from_secs(RETRY_AFTER_SECS.0)),
            _ => Retry::No,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.code)?;
        if let Some(provider) = &self.0.provider {
            write!(f, " ({provider})")?;
        }
        write!(f, ": {}", self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own_and_an_error_status() {
        let names: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!((400..600).contains(&code.status()), "{code}");
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn what_only_another_request_or_another_key_mends_is_not_tried_again() {
        let no = [Code::InvalidRequest, Code::ModelNotFound, Code::ClientClosed, Code::CredentialsExhausted];
        for code in no {
            assert_eq!(Error::new(code, "no").retry(), Retry::No, "{code}");
        }
        for code in [Code::UpstreamConnectError, Code::UpstreamTimeout, Code::StreamCut, Code::Internal] {
            assert_eq!(Error::new(code, "yes").retry(), Retry::Now, "{code}");
        }
        assert_eq!(Error::new(Code::QueueFull, "later").retry(), Retry::After(Duration::from_secs(1)));
    }

    #[test]
    fn retry_after_stays_between_one_and_sixty_seconds() {
        let after = |d| Error::new(Code::QueueFull, "full").with_retry_after(d).retry_after().unwrap();
        assert_eq!(after(Duration::from_millis(3)), Duration::from_secs(1));
        assert_eq!(after(Duration::from_secs(600)), Duration::from_secs(60));
        assert_eq!(Error::new(Code::InvalidRequest, "no").retry_after(), None);
    }
}
