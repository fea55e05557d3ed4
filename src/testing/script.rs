//! A provider that answers by a script, and remembers what it was asked.
//!
//! **Lock order.** What is left of the script and what was asked is a leaf; rules are the test's own code and run outside it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Canned;
use crate::secret::REDACTED;
use crate::sync::locks::{Leaf, classes};
use crate::transport::{ConnectionStats, Control, Incoming, Outgoing, Transport, TransportError};

/// Headers whose values are no secrets, whatever they are.
const PLAIN: [&str; 3] = ["accept", "accept-encoding", "content-type"];

/// A provider that answers by a script. Clones are one script, so that a test keeps one to look at.
///
/// A request that a rule fits is answered by the first such rule, each time; any other takes the next of the answers in
/// order, which is that of their arrival: for callers at once, write rules. One that there is no answer for fails with a
/// message that says so and names the request. Looks whether the provider is there (`GET …/models`) are answered by themselves;
/// no rule sees them, and they are remembered nowhere.
///
/// Retries pause as long as the provider's settings say, by default up to half a second and more. A test that is to be quick
/// gives the provider settings of its own beside the transport, under the same name:
/// `ProviderSetup::openai_compatible("p", "http://unused.invalid").max_retries(0)`.
///
/// ```
/// use std::sync::Arc;
/// use sluicegate::testing::{Canned, Script};
/// use sluicegate::{ChatRequest, Gateway};
///
/// let script = Script::new()
///     .then(Canned::text("first"))
///     .whenever(|request| request.model() == "small", Canned::error(503, "overloaded"));
/// let gateway = Gateway::builder().transport("p", Arc::new(script.clone())).build()?;
///
/// let request = ChatRequest::new("p/large", "Hello").with("temperature", 0.5);
/// assert_eq!(gateway.chat(&request)?.text(), "first");
/// let error = gateway.ask("p/large", "And now?").expect_err("the script has run dry");
/// assert!(error.message().contains("no answer left"));
/// assert_eq!(script.requests()[0].body["temperature"], 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Script(Arc<Leaf<State>>);

#[derive(Default)]
struct State {
    answers: VecDeque<Canned>,
    rules: Vec<Arc<Rule>>,
    seen: Vec<Seen>,
}

struct Rule {
    fits: Box<dyn Fn(&Seen) -> bool + Send + Sync>,
    answer: Canned,
}

/// A request that a scripted provider was sent: each attempt is one.
///
/// ```
/// use std::sync::Arc;
/// use sluicegate::testing::{Canned, Script};
/// use sluicegate::{ChatRequest, Gateway};
///
/// let script = Script::new().then(Canned::text("fine"));
/// let gateway = Gateway::builder().transport("p", Arc::new(script.clone())).build()?;
/// gateway.chat(&ChatRequest::new("p/large", "How are you?").with_max_tokens(50))?;
///
/// let seen = &script.requests()[0];
/// assert_eq!((seen.method, seen.path.as_str(), seen.model()), ("POST", "/v1/chat/completions", "large"));
/// assert_eq!(seen.body["max_tokens"], 50);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Seen {
    /// The method, in capitals.
    pub method: &'static str,
    /// Path and query, as `/v1/chat/completions`.
    pub path: String,
    /// Names in lower case, and values; that of any header that may hold a secret is left out.
    pub headers: Vec<(String, String)>,
    /// The body; `null` if it was no JSON.
    pub body: Value,
}

impl Seen {
    /// The model that was asked for, by the provider's own name.
    #[must_use]
    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    fn of(request: &Outgoing<'_>) -> Self {
        let header = |(name, value): &(&str, &str)| {
            let name = name.to_ascii_lowercase();
            let value = if PLAIN.contains(&&*name) { *value } else { REDACTED };
            (name, value.to_owned())
        };
        Self {
            method: request.method,
            path: request.path.to_owned(),
            headers: request.headers.iter().map(header).collect(),
            body: serde_json::from_slice(request.body).unwrap_or(Value::Null),
        }
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// A script without an answer yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Leaf::new(&classes::SCRIPT, State::default())))
    }

    /// The next request is answered so, once; also while the gateway runs.
    pub fn then(self, answer: Canned) -> Self {
        self.0.lock().answers.push_back(answer);
        self
    }

    /// Each request that `fits` is answered so, and takes none of the answers in order.
    pub fn whenever(self, fits: impl Fn(&Seen) -> bool + Send + Sync + 'static, answer: Canned) -> Self {
        let rule = Arc::new(Rule { fits: Box::new(fits), answer });
        self.0.lock().rules.push(rule);
        self
    }

    /// The requests that came, in their order.
    #[must_use]
    pub fn requests(&self) -> Vec<Seen> {
        self.0.lock().seen.clone()
    }

    /// How many of the answers in order have not been given.
    #[must_use]
    pub fn left(&self) -> usize {
        self.0.lock().answers.len()
    }
}

impl Transport for Script {
    fn send(&self, request: &Outgoing<'_>, control: &Control<'_>) -> Result<Incoming, TransportError> {
        if let Some(reason) = control.cancel.reason() {
            return Err(TransportError::cancelled(reason));
        }
        let seen = Seen::of(request);
        if seen.method == "GET" && seen.path.ends_with("/models") {
            return Canned::json(200, json!({ "object": "list", "data": [] })).play("", false, control);
        }
        let rules = self.0.lock().rules.clone();
        let ruled = rules.iter().find(|rule| (rule.fits)(&seen)).map(|rule| rule.answer.clone());
        let (answer, number) = {
            let mut state = self.0.lock();
            let answer = ruled.or_else(|| state.answers.pop_front());
            state.seen.push(seen.clone());
            (answer, state.seen.len())
        };
        let answer = answer.unwrap_or_else(|| {
            let Seen { method, path, .. } = &seen;
            // A 400 is tried nowhere else: the test hears of this and of nothing that came of it.
            Canned::error(
                400,
                &format!("the script has no answer left for request {number}, {method} {path} for {:?}", seen.model()),
            )
        });
        answer.play(seen.model(), seen.body["stream"] == true, control)
    }

    fn connections(&self) -> ConnectionStats {
        ConnectionStats::default()
    }

    fn close_idle(&self) {}

    fn retire(&self) {}
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (left, requests) = (self.left(), self.0.lock().seen.len());
        f.debug_struct("Script").field("left", &left).field("requests", &requests).finish_non_exhaustive()
    }
}
