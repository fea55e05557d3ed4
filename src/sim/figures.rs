//! What the simulated provider remembers: its counts, each name's past, and the last request.
//!
//! **Invariants.** I2: what is in flight is counted by guards. I4: names, arrival times and the last request's bytes are
//! bounded. **Lock order.** The table is a leaf.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::words::Past;
use crate::http::Head;
use crate::metrics::{CountGuard, Counter, Gauge};
use crate::sync::Leaf;
use crate::sync::locks::classes;
use crate::time::{micros_of, now};

/// The most names remembered; further ones share one entry, [`OTHERS`].
const MAX_NAMES: usize = 1024;
const MAX_NAME: usize = 256;
const OTHERS: &str = "(others)";

/// How many arrival times of a name are kept.
const MAX_TIMES: usize = 256;

/// How much of the last request's body, and of its head, is kept.
const MAX_KEPT: usize = 64 * 1024;

/// Headers of which only a digest is shown.
const SECRET: [&str; 5] = ["authorization", "x-api-key", "api-key", "cookie", "proxy-authorization"];

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A whole answer below 400 was given.
    Answered,
    /// An error, or part of an answer, was given.
    Failed,
    /// The peer left before its answer was whole.
    PeerLeft,
}

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct Figures {
    started: Instant,
    requests: Counter,
    in_flight: Arc<Gauge>,
    aborted_by_peer: Counter,
    table: Leaf<Table>,
}

#[derive(Debug, Default)]
struct Table {
    names: HashMap<String, Name>,
    last: Last,
}

#[derive(Debug)]
struct Name {
    calls: u64,
    answered: u64,
    failed: u64,
    left: u64,
    first: Instant,
    /// The last arrivals.
    times: VecDeque<Instant>,
    total_us: u64,
    max_us: u64,
}

impl Name {
    fn new(now: Instant) -> Self {
        let times = VecDeque::with_capacity(4);
        Self { calls: 0, answered: 0, failed: 0, left: 0, first: now, times, total_us: 0, max_us: 0 }
    }
}

/// The last request, in buffers that are used again.
#[derive(Debug, Default)]
struct Last {
    /// The request line, then each header as `name: value`, one a line.
    head: Vec<u8>,
    body: Vec<u8>,
    body_bytes: usize,
}

/// One request under way.
#[derive(Debug)]
pub(super) struct Running<'a> {
    figures: &'a Figures,
    name: Option<&'a str>,
    arrived: Instant,
    /// Stays `Failed` if a panic takes the request.
    end: End,
    _in_flight: CountGuard,
}

impl Figures {
    pub(super) fn new(now: Instant) -> Self {
        let table = Leaf::new(&classes::SIM, Table::default());
        Self {
            started: now,
            requests: Counter::new(),
            in_flight: Arc::default(),
            aborted_by_peer: Counter::new(),
            table,
        }
    }

    /// Counts a request and keeps what it sent.
    pub(super) fn arrive(&self, head: &Head, body: &[u8], arrived: Instant) -> Running<'_> {
        self.requests.inc();
        let in_flight = self.in_flight.enter();
        self.table.lock().last.keep(head, body);
        Running { figures: self, name: None, arrived, end: End::Failed, _in_flight: in_flight }
    }

    /// The figures as `GET /sim/stats` shows them; `connections` are those accepted so far and those open.
    pub(super) fn stats(&self, connections: (u64, u64)) -> Value {
        let since = |at: Instant| micros_of(at.saturating_duration_since(self.started)) / 1000;
        let table = self.table.lock();
        let models: serde_json::Map<String, Value> = table
            .names
            .iter()
            .map(|(name, figures)| {
                let ended = figures.answered + figures.failed + figures.left;
                let mean = figures.total_us.checked_div(ended);
                let row = json!({
                    "requests": figures.calls, "answered": figures.answered, "failed": figures.failed,
                    "aborted_by_peer": figures.left, "in_flight": figures.calls.saturating_sub(ended),
                    "first_ms": since(figures.first),
                    "times_ms": figures.times.iter().map(|at| since(*at)).collect::<Vec<_>>(),
                    "service_us": {"mean": mean, "max": mean.map(|_| figures.max_us)},
                });
                (name.clone(), row)
            })
            .collect();
        drop(table);
        json!({
            "requests": self.requests.get(), "in_flight": self.in_flight.get(), "peak": self.in_flight.peak(),
            "aborted_by_peer": self.aborted_by_peer.get(),
            "connections": connections.0, "connections_open": connections.1, "models": models,
        })
    }

    /// The last request as `GET /sim/last` shows it: keys as digests; `null` before the first.
    pub(super) fn last(&self) -> Value {
        let (head, body, body_bytes) = {
            let table = self.table.lock();
            (table.last.head.clone(), table.last.body.clone(), table.last.body_bytes)
        };
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.lines();
        let Some((method, path)) = lines.next().and_then(|line| line.split_once(' ')) else { return Value::Null };
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name, if SECRET.contains(&name) { digest(value) } else { value.to_owned() }))
            .collect();
        let text = String::from_utf8_lossy(&body);
        json!({
            "method": method, "path": path, "headers": headers, "body": text, "body_bytes": body_bytes,
            "truncated": body.len() < body_bytes, "utf8": std::str::from_utf8(&body).is_ok(),
        })
    }

    /// The bytes of the last request's body, as far as they are kept.
    pub(super) fn last_body(&self) -> Vec<u8> {
        self.table.lock().last.body.clone()
    }
}

impl Last {
    fn keep(&mut self, head: &Head, body: &[u8]) {
        self.head.clear();
        let mut line = |parts: [&[u8]; 4]| {
            if self.head.len() < MAX_KEPT {
                parts.iter().for_each(|part| self.head.extend_from_slice(part));
                self.head.push(b'\n');
            }
        };
        let (mark, query) = head.query().map_or((&b""[..], ""), |query| (b"?", query));
        line([format!("{} {}", head.method(), head.path()).as_bytes(), mark, query.as_bytes(), b""]);
        for (name, value) in head.headers() {
            line([name.to_ascii_lowercase().as_bytes(), b": ", value, b""]);
        }
        self.body.clear();
        self.body.extend_from_slice(&body[..body.len().min(MAX_KEPT)]);
        self.body_bytes = body.len();
    }
}

impl<'a> Running<'a> {
    /// Says which name is called, once it is known to be good, and learns of its past.
    pub(super) fn call(&mut self, name: &'a str) -> Past {
        let arrived = self.arrived;
        let mut table = self.figures.table.lock();
        let full = name.len() > MAX_NAME || (table.names.len() >= MAX_NAMES && !table.names.contains_key(name));
        let name = if full { OTHERS } else { name };
        self.name = Some(name);
        if !table.names.contains_key(name) {
            table.names.insert(name.to_owned(), Name::new(arrived));
        }
        let Some(figures) = table.names.get_mut(name) else { return Past { calls: 0, since_first: Duration::ZERO } };
        let past = Past { calls: figures.calls, since_first: arrived.saturating_duration_since(figures.first) };
        figures.calls += 1;
        if figures.times.len() == MAX_TIMES {
            figures.times.pop_front();
        }
        figures.times.push_back(arrived);
        past
    }

    /// Settles the counts: to be called before the answer's last byte is written, so that whoever has read the answer
    /// finds them settled.
    pub(super) fn end(mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.end == End::PeerLeft {
            self.figures.aborted_by_peer.inc();
        }
        let Some(name) = self.name else { return };
        let took = micros_of(now().saturating_duration_since(self.arrived));
        let mut table = self.figures.table.lock();
        let Some(figures) = table.names.get_mut(name) else { return };
        match self.end {
            End::Answered => figures.answered += 1,
            End::Failed => figures.failed += 1,
            End::PeerLeft => figures.left += 1,
        }
        figures.total_us += took;
        figures.max_us = figures.max_us.max(took);
    }
}

/// `Bearer sk-…` as `Bearer sha256:0123abcd`: keys can be told apart, and not be read.
fn digest(value: &str) -> String {
    let (scheme, secret) = value.split_once(' ').map_or(("", value), |(scheme, secret)| (scheme, secret));
    let mut shown = format!("{scheme}{}sha256:", if scheme.is_empty() { "" } else { " " });
    for byte in Sha256::digest(secret.as_bytes()).iter().take(4) {
        // Writing to memory cannot fail.
        let _ = write!(shown, "{byte:02x}");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_as_a_digest_with_its_scheme() {
        assert_eq!(digest("Bearer abc"), "Bearer sha256:ba7816bf");
        assert_eq!(digest("abc"), "sha256:ba7816bf");
    }
}
