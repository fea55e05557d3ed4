//! What the admin plane says: each route a function from the gateway to a page.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::dashboard;
use crate::gateway::{Gateway, ReloadError, StartError};
use crate::provider::BreakerMode;
use crate::stats::{Format, Stats};
use crate::time::Deadline;
use crate::wire::percent::percent_decode;

/// How long a fresh snapshot is waited for; after it the last one is given.
const FRESH_WAIT: Duration = Duration::from_secs(2);

/// Pages that are read.
const READ: [&str; 12] = [
    "/",
    "/help",
    "/stats",
    "/metrics",
    "/history",
    "/config",
    "/threads",
    "/events",
    "/livez",
    "/readyz",
    "/health",
    "/sim/stats",
];

/// An answer.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
    /// The methods that would be right, where the method is wrong.
    pub(super) allow: Option<&'static str>,
}

impl Page {
    fn json(status: u16, value: &Value) -> Self {
        Self { status, ..Self::written(value.to_string().into_bytes()) }
    }

    /// JSON that is written already.
    fn written(body: Vec<u8>) -> Self {
        Self { status: 200, content_type: "application/json", body, allow: None }
    }

    fn text(status: u16, text: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: text.as_bytes().to_vec(), allow: None }
    }

    /// An error in the admin plane's shape.
    pub(super) fn error(status: u16, message: &str) -> Self {
        Self::json(status, &json!({ "error": { "message": message } }))
    }

    fn wrong_method(method: &str, path: &str, allow: &'static str) -> Self {
        let page = Self::error(405, &format!("{method} is not allowed on {path}; it takes {allow}"));
        Self { allow: Some(allow), ..page }
    }

    fn nowhere(path: &str) -> Self {
        Self::error(404, &format!("there is no page {path}; the pages are listed at /help"))
    }
}

/// The pages of one gateway.
#[derive(Debug)]
pub(super) struct Pages {
    gateway: Gateway,
    stats: Arc<Stats>,
}

impl Pages {
    pub(super) fn new(gateway: Gateway, stats: Arc<Stats>) -> Self {
        Self { gateway, stats }
    }

    /// Answers one request, in the form that `accept` asks for where there are several.
    pub(super) fn answer(&self, method: &str, url: &str, accept: &str) -> Page {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        match (method, path) {
            ("GET" | "HEAD", _) => self.get(method, path, query, accept),
            ("POST", "/drain") => {
                self.gateway.drain();
                Page::json(202, &json!({ "phase": self.gateway.phase() }))
            }
            ("POST", "/reload") => self.reload(),
            _ if order_of(path).is_some() => match (method, order_of(path)) {
                ("POST", Some((provider, order))) => self.give(provider, order),
                _ => Page::wrong_method(method, path, "POST"),
            },
            _ if READ.contains(&path) => Page::wrong_method(method, path, "GET, HEAD"),
            _ => Page::nowhere(path),
        }
    }

    fn get(&self, method: &str, path: &str, query: &str, accept: &str) -> Page {
        match path {
            "/stats" => {
                let json = match parameter(query, "fresh") {
                    Some("1" | "true") => self.stats.fresh(Deadline::after(FRESH_WAIT)),
                    _ => self.stats.latest(),
                };
                Page::written(json.to_vec())
            }
            "/metrics" => {
                let format = Format::of(accept);
                let body = self.stats.metrics(format);
                Page { status: 200, content_type: format.content_type(), body, allow: None }
            }
            "/history" => match since(query) {
                Ok(since) => Page::written(self.stats.history(since)),
                Err(page) => page,
            },
            "/config" => Page::json(200, &self.gateway.config().effective_json()),
            "/threads" => Page::json(200, &json!({ "threads": self.gateway.threads().list() })),
            "/events" => self.events(query),
            "/livez" => Page::text(200, "ok\n"),
            "/readyz" if self.gateway.is_ready() => Page::text(200, "ready\n"),
            "/readyz" => Page::text(503, "not ready\n"),
            "/health" => self.health(),
            "/sim/stats" => match self.gateway.sim_stats() {
                Some(stats) => Page::json(200, &stats),
                None => Page::error(404, "the simulated provider was not used yet"),
            },
            "/" => self.dashboard(),
            "/help" => Page::text(200, dashboard::ROUTES),
            "/drain" | "/reload" => Page::wrong_method(method, path, "POST"),
            _ if order_of(path).is_some() => Page::wrong_method(method, path, "POST"),
            _ => Page::nowhere(path),
        }
    }

    /// The page for browsers, which is told whether it has to ask for a key.
    fn dashboard(&self) -> Page {
        let is_locked = self.gateway.with_config(|config| config.server.admin_key.is_some());
        let body = dashboard::page(is_locked).into_owned().into_bytes();
        Page { status: 200, content_type: "text/html; charset=utf-8", body, allow: None }
    }

    /// Reads the configuration again; waits until it is in force, or says why it is not.
    fn reload(&self) -> Page {
        let error = match self.gateway.reread() {
            Ok(changes) => return Page::json(200, &json!({ "reloaded": true, "changes": changes })),
            Err(error) => error,
        };
        let problems = match &error {
            ReloadError::Config(wrong) => {
                let each = wrong.problems.iter().map(|one| json!({ "path": one.path, "message": one.message }));
                each.collect()
            }
            _ => Vec::new(),
        };
        let status = match &error {
            ReloadError::Config(_) | ReloadError::Start(StartError::Config(_) | StartError::Transport { .. }) => 400,
            ReloadError::NoSource | ReloadError::Busy(_) | ReloadError::NotRunning(_) => 409,
            _ => 503,
        };
        let body = json!({ "error": { "message": error.to_string(), "problems": problems }, "reloaded": false });
        Page::json(status, &body)
    }

    /// Gives a provider an operator's order.
    fn give(&self, provider: &str, order: Order) -> Page {
        let (name, _) = percent_decode(provider);
        let provider = &*String::from_utf8_lossy(&name);
        let (found, done) = match order {
            Order::Pause => (self.gateway.pause(provider), json!({ "provider": provider, "paused": true })),
            Order::Resume => (self.gateway.resume(provider), json!({ "provider": provider, "paused": false })),
            Order::Breaker(mode) => {
                (self.gateway.set_breaker(provider, mode), json!({ "provider": provider, "breaker": mode }))
            }
        };
        if found {
            return Page::json(200, &done);
        }
        let shown: String = provider.chars().take(64).collect();
        let known = self.gateway.provider_names().join(", ");
        Page::error(404, &format!("there is no provider {shown:?}; there are: {known}"))
    }

    /// A short summary, as the data plane gives it.
    fn health(&self) -> Page {
        Page::json(if self.gateway.is_ready() { 200 } else { 503 }, &self.gateway.health())
    }

    /// The events after `since`, in milliseconds since the Unix epoch.
    fn events(&self, query: &str) -> Page {
        let since = match since(query) {
            Ok(since) => since,
            Err(page) => return page,
        };
        let events: Vec<_> = self.gateway.events().list().into_iter().filter(|event| event.at_ms > since).collect();
        Page::json(200, &json!({ "events": events }))
    }
}

/// Whether a page waits for what takes seconds, so that it must keep no other waiting.
pub(super) fn is_slow(method: &str, path: &str) -> bool {
    method == "POST" && path == "/reload"
}

/// What an operator can tell a provider.
#[derive(Clone, Copy)]
enum Order {
    /// To take nothing new.
    Pause,
    /// To take what comes again.
    Resume,
    /// To open or close its circuit breaker, or to leave it to what is counted.
    Breaker(BreakerMode),
}

/// The provider that a path names, and what it is told.
fn order_of(path: &str) -> Option<(&str, Order)> {
    let rest = path.strip_prefix("/providers/")?;
    [
        ("/pause", Order::Pause),
        ("/resume", Order::Resume),
        ("/breaker/open", Order::Breaker(BreakerMode::Open)),
        ("/breaker/close", Order::Breaker(BreakerMode::Closed)),
        ("/breaker/auto", Order::Breaker(BreakerMode::Auto)),
    ]
    .into_iter()
    .find_map(|(what, order)| Some((rest.strip_suffix(what)?, order)))
}

/// The moment after which something is asked for, in milliseconds since the Unix epoch.
fn since(query: &str) -> Result<u64, Page> {
    let wrong = |_| Page::error(400, "since must be milliseconds since the Unix epoch, as in ?since=0");
    parameter(query, "since").map_or(Ok(0), |since| since.parse().map_err(wrong))
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}
