//! What goes with a request beside its body: chosen by whoever sends it, call by call.

use std::time::{Duration, Instant};

use crate::config::{Scope, StreamRecovery};
use crate::error::Result;
use crate::ids::{RequestId, Trace};
use crate::model::{BodyFields, Call, Operation, Priority, Tags};
use crate::recycle::Buffer;
use crate::sync::CancelToken;
use crate::time::Deadline;
use crate::wire::openai;

/// What goes with a request beside its body. Everything is left out at first: an interactive request, bounded by its
/// stages' limits alone.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::{CallOptions, Gateway};
///
/// let gateway = Gateway::from_env()?;
/// let options = CallOptions::new().deadline(Duration::from_secs(20)).fallbacks(["sim/echo"]).tag("job", "nightly");
/// assert_eq!(gateway.with(&options).ask("sim/fail-500", "Hello")?, "Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CallOptions {
    pub(crate) request_id: Option<RequestId>,
    pub(crate) priority: Priority,
    pub(crate) deadline: Option<Duration>,
    pub(crate) until: Option<Deadline>,
    pub(crate) stream_recovery: Option<StreamRecovery>,
    pub(crate) fallbacks: Vec<String>,
    pub(crate) trace: Option<Trace>,
    pub(crate) tags: Tags,
    pub(crate) cancel: Option<CancelToken>,
}

impl CallOptions {
    /// Options that ask for nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            request_id: None,
            priority: Priority::Interactive,
            deadline: None,
            until: None,
            stream_recovery: None,
            fallbacks: Vec::new(),
            trace: None,
            tags: Tags::none(),
            cancel: None,
        }
    }

    /// Names the request in logs, errors and events, instead of an id made for it. Where the options go with several
    /// requests, all of them bear it.
    #[must_use]
    pub fn request_id(mut self, id: RequestId) -> Self {
        self.request_id = Some(id);
        self
    }

    /// Which lane it waits in; [`Priority::Interactive`] by default.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Bounds each request whole, a stream whole too, so long after it was sent; by default only its stages are bounded.
    ///
    /// A request that it ends fails with the code of the stage that it was in: [`QueueTimeout`](crate::Code::QueueTimeout)
    /// before a worker took it, [`UpstreamTimeout`](crate::Code::UpstreamTimeout) while its answer was waited for,
    /// [`FirstTokenTimeout`](crate::Code::FirstTokenTimeout) before a stream's first event and
    /// [`StreamTooLong`](crate::Code::StreamTooLong) after it.
    #[must_use]
    pub fn deadline(mut self, after: Duration) -> Self {
        self.deadline = Some(after);
        self
    }

    /// Bounds whatever these options go with by one moment, as [`deadline`](Self::deadline) does each request by itself: for a
    /// batch, or a turn of several requests. What is sent after it fails at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sluicegate::{CallOptions, Gateway};
    ///
    /// let gateway = Gateway::from_env()?;
    /// let options = CallOptions::new().until(Duration::from_millis(300));
    /// let slow = (0..100).map(|_| ("sim/echo+slow-100ms", "Hello"));
    /// let answered = gateway.with(options).map_unordered(slow, 4).filter(|(_, reply)| reply.is_ok()).count();
    /// assert!(answered < 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn until(mut self, moment: impl Into<Deadline>) -> Self {
        self.until = Some(moment.into());
        self
    }

    /// Models that are tried in this order if the one that is asked for fails, where the request itself names none. They
    /// come before those that an alias has.
    #[must_use]
    pub fn fallbacks<I>(mut self, models: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.fallbacks = models.into_iter().map(Into::into).collect();
        self
    }

    /// Makes it a part of a trace: each attempt at a provider is sent on with a `traceparent` of it, with a step's id of its
    /// own, and with its `tracestate`. By default nothing of a trace is sent.
    #[must_use]
    pub fn trace(mut self, trace: Trace) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Puts a note on the request for whoever looks at it on the way, such as plugins; it never goes upstream. A second one
    /// under the same key takes the place of the first.
    ///
    /// What makes no good tag fails the request, with an error that names it; see [`Tags`].
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.set(key.into(), value.into());
        self
    }

    /// Cancels the request when `token` is cancelled. A token may go with any number of requests,
    /// one after the other or at once: cancelling it ends them all, and whatever it goes with afterwards, for it stays
    /// cancelled. The end of a request does not cancel it. By default each request has one of its own.
    #[must_use]
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = Some(token);
        self
    }

    /// Whether a stream is held until its end was seen, so that one that fails before is tried again unseen; by default the
    /// provider's configuration says so.
    #[must_use]
    pub fn stream_recovery(mut self, recovery: StreamRecovery) -> Self {
        self.stream_recovery = Some(recovery);
        self
    }

    /// When a request that arrived then ends, if it is bounded.
    pub(crate) fn bounds(&self, arrived: Instant) -> Option<Deadline> {
        let own = self.deadline.map(|after| Deadline::from(arrived, after));
        own.into_iter().chain(self.until).min_by_key(|deadline| deadline.instant())
    }

    /// The chat call for `body`, whose fields were parsed already: with no header lines of a client's, and free to name any
    /// model. Another operation is put in by whoever asks for it.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`](crate::Code::InvalidRequest) for a tag or a fallback that is none.
    #[doc(hidden)]
    pub fn call(&self, body: impl Into<Buffer>, mut fields: BodyFields, arrived: Instant) -> Result<Call> {
        self.tags.check()?;
        if fields.fallbacks.is_empty() && !self.fallbacks.is_empty() {
            fields.fallbacks = openai::fallbacks(&self.fallbacks)?;
        }
        Ok(Call {
            request_id: self.request_id.clone().unwrap_or_else(RequestId::fresh),
            operation: Operation::ChatCompletions,
            prefix: None,
            body: body.into(),
            fields,
            headers: Vec::new(),
            scope: Scope::default(),
            key: None,
            priority: self.priority,
            arrived,
            deadline: self.bounds(arrived),
            stream_recovery: self.stream_recovery,
            trace: self.trace.as_ref().map(Trace::for_another),
            tags: self.tags.clone(),
            // One of its own: what becomes of this request must not reach the others that the caller's goes with.
            cancel: self.cancel.as_ref().map_or_else(CancelToken::new, CancelToken::follower),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::time::now;
    use crate::wire::openai::parse_chat;

    const PLAIN: &str = r#"{"model":"a/b","messages":[]}"#;
    const WITH_FALLBACK: &str = r#"{"model":"a/b","messages":[],"fallbacks":["c/d"]}"#;

    fn call(options: &CallOptions, body: &str) -> Result<Call> {
        options.call(body.as_bytes().to_vec(), parse_chat(body.as_bytes()).expect("good"), now())
    }

    #[test]
    fn fallbacks_serve_where_the_body_names_none_and_are_judged_like_its_own() {
        let options = CallOptions::new().fallbacks(["e/f", "g"]);
        assert_eq!(call(&options, PLAIN).expect("good").fields.fallbacks, ["e/f", "g"]);
        assert_eq!(call(&options, WITH_FALLBACK).expect("good").fields.fallbacks, ["c/d"]);
        let many = CallOptions::new().fallbacks((0..65).map(|n| n.to_string()));
        for (wrong, says) in [(CallOptions::new().fallbacks(["e/f", ""]), "fallbacks[1]"), (many, "at most 64")] {
            let error = call(&wrong, PLAIN).expect_err("it is refused");
            assert_eq!((error.code(), error.param()), (Code::InvalidRequest, Some("fallbacks")));
            assert!(error.message().contains(says), "{error}");
        }
    }

    #[test]
    fn a_deadline_runs_from_the_requests_arrival() {
        let options = CallOptions::new().deadline(Duration::from_secs(3));
        let call = call(&options, PLAIN).expect("good");
        let left = call.deadline.expect("it has one").remaining_at(call.arrived);
        assert_eq!(left, Duration::from_secs(3));
    }

    #[test]
    fn a_wrong_tag_fails_the_request_and_is_named() {
        let error = call(&CallOptions::new().tag("good", "yes").tag("b d", "no"), PLAIN).expect_err("it is refused");
        assert_eq!((error.code(), error.param()), (Code::InvalidRequest, Some("tags")));
        assert!(error.message().contains("\"b d\""), "{error}");
        let call = call(&CallOptions::new().tag("k", "v"), PLAIN).expect("good");
        assert_eq!(call.tags.get("k"), Some("v"));
    }
}
