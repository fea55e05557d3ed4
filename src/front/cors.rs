//! What browsers are told of other origins' pages, by the Fetch standard's CORS protocol.
//!
//! A page of an origin in `server.cors_origins` may send what any client may, and read the answer; no cookies go with it,
//! for there are none here. Its key is asked for all the same, but not of the preflight, to which a browser adds none.
//! Without configured origins nothing of this is said.

use std::borrow::Cow;

use crate::config::Origin;
use crate::http::{Head, Response};
use crate::wire::passing;

/// How long a browser may remember a preflight's answer, in seconds: as long as any browser does without being told to
/// forget sooner.
const MAX_AGE: &str = "7200";

/// The methods that routes take.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// What clients may send beside what passes upstream. A browser takes `*` for the rest, such as the headers in which SDKs
/// tell of themselves, and for everything but `authorization`.
const SENT: [&str; 9] = [
    "authorization",
    "x-api-key",
    "api-key",
    "content-type",
    "x-request-id",
    "x-sluicegate-timeout",
    "x-sluicegate-priority",
    "x-sluicegate-stream-recovery",
    "*",
];

/// What pages may read. Families have no name: `*` stands for them, and the rest is for browsers that do not know it.
const READ: &str = "x-request-id, x-sluicegate-provider, x-sluicegate-model, x-sluicegate-attempts, \
                    x-sluicegate-fallbacks, x-sluicegate-queue-us, x-sluicegate-upstream-us, x-sluicegate-overhead-us, \
                    x-sluicegate-dropped, retry-after, retry-after-ms, request-id, *";

/// Header lines of an answer.
pub(super) type Lines = Vec<(Cow<'static, str>, String)>;

/// Whose pages may read answers.
#[derive(Debug)]
pub(super) struct Cors<'a> {
    origins: &'a [Origin],
    any: bool,
}

impl<'a> Cors<'a> {
    pub(super) fn new(origins: &'a [Origin]) -> Self {
        Self { origins, any: origins.contains(&Origin::Any) }
    }

    /// The answer to a browser's question whether a page may send what it wants to; `None` if this is none, or the page's
    /// origin may not, and the request is one like any other.
    pub(super) fn preflight(&self, head: &Head) -> Option<Response> {
        if head.method() != "OPTIONS" || head.header("access-control-request-method").is_none() {
            return None;
        }
        let origin = self.admitted(head)?;
        let mut sent = SENT.to_vec();
        sent.splice(SENT.len() - 1..SENT.len() - 1, passing::UPSTREAM);
        let mut response = Response::new(204);
        self.allow(origin, &mut response.headers);
        Some(
            response
                .header("access-control-allow-methods", METHODS)
                .header("access-control-allow-headers", sent.join(", "))
                .header("access-control-max-age", MAX_AGE),
        )
    }

    /// What any answer to this request says beside the rest; takes no memory without configured origins.
    pub(super) fn lines(&self, head: &Head) -> Lines {
        let mut lines = Vec::new();
        match self.admitted(head) {
            Some(origin) => {
                self.allow(origin, &mut lines);
                lines.push(("access-control-expose-headers".into(), READ.to_owned()));
            }
            // A cache must not give another page the answer without the line that that one needs.
            None if !self.origins.is_empty() && !self.any => lines.push(("vary".into(), "origin".to_owned())),
            None => {}
        }
        lines
    }

    /// The answer with those lines.
    pub(super) fn dress(&self, head: &Head, mut response: Response) -> Response {
        response.headers.extend(self.lines(head));
        response
    }

    fn allow(&self, origin: &str, lines: &mut Lines) {
        let allowed = if self.any { "*" } else { origin };
        lines.push(("access-control-allow-origin".into(), allowed.to_owned()));
        if !self.any {
            lines.push(("vary".into(), "origin".to_owned()));
        }
    }

    /// The origin of a request's page, if it is one of the configured.
    pub(super) fn admitted<'h>(&self, head: &'h Head) -> Option<&'h str> {
        if self.origins.is_empty() {
            return None;
        }
        let origin = head.header("origin")?;
        let is_this = |own: &Origin| matches!(own, Origin::Exact(own) if own == origin);
        (self.any || self.origins.iter().any(is_this)).then_some(origin)
    }
}
