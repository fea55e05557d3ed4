//! A gateway under test, a provider whose every answer the test gives, and the sums that must hold whenever it is at rest.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use serde_json::{Value, json};
use sluicegate::config::Config;
use sluicegate::gateway::{CallOptions, Gateway, ShutdownReport};
use sluicegate::model::{Answer, Operation, Priority};
use sluicegate::sync::{CancelReason, CancelToken, Threads};
use sluicegate::time::Deadline;
use sluicegate::transport::{Body, Incoming, MemoryTransport, Transport, TransportError, TransportErrorKind};
use sluicegate::{Code, Result};

use crate::canary;

/// No test waits longer for what must come.
pub(crate) const FUSE: Duration = Duration::from_secs(10);

/// How much longer than promised a time may be on a machine that others use, too.
pub(crate) const SLACK: u32 = 5;

/// The key that must show up nowhere but upstream.
pub(crate) use crate::canary::PROVIDER as CANARY;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Polls until `holds`.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let fuse = Deadline::after(FUSE);
    while !holds() {
        assert!(!fuse.passed(), "it never came to pass: {what}");
        std::thread::park_timeout(ms(1));
    }
}

/// A provider that is reached through memory, `change` merged over what is usual in these tests: what fails is seen at
/// once, since nothing is tried again or given a rest, and nothing arrives that the test has not sent.
pub(crate) fn provider(change: Value) -> Value {
    let mut usual = json!({
        "kind": "openai",
        "keys": [{ "name": "canary", "value": CANARY }],
        "network_config": { "base_url": "http://127.0.0.1:1", "max_retries": 0 },
        "concurrency_and_buffer_size": { "concurrency": 1, "buffer_size": 4 },
        "queue": { "wait_timeout": "10s" },
        "health": { "on_start": false, "interval": 0 },
        "breaker": { "enabled": false },
    });
    merge(&mut usual, change);
    usual
}

/// The simulated provider, `change` merged over what is usual in these tests.
pub(crate) fn sim(change: Value) -> Value {
    let mut usual = json!({
        "kind": "sim",
        "network_config": { "max_retries": 0 },
        "concurrency_and_buffer_size": { "concurrency": 4, "buffer_size": 64 },
        "queue": { "wait_timeout": "10s" },
    });
    merge(&mut usual, change);
    usual
}

/// Workers, places and policy in short.
pub(crate) fn sized(concurrency: usize, buffer_size: usize, policy: &str) -> Value {
    provider(json!({
        "concurrency_and_buffer_size": { "concurrency": concurrency, "buffer_size": buffer_size },
        "queue": { "policy": policy },
    }))
}

/// Puts `change` over `into`, object by object.
pub(crate) fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

/// A body of a chat request.
pub(crate) fn chat(model: &str, stream: bool) -> String {
    json!({ "model": model, "stream": stream, "messages": [{ "role": "user", "content": "one two" }] }).to_string()
}

/// A complete answer as an OpenAI-compatible provider gives it.
pub(crate) fn reply(text: &str) -> String {
    json!({
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 2 },
    })
    .to_string()
}

/// One event of a stream.
pub(crate) fn word(text: &str) -> String {
    let delta = json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] });
    format!("data: {delta}\n\n")
}

/// The event that says why a stream finished.
pub(crate) const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

/// The event that counts the tokens.
pub(crate) const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";

/// The end of a stream.
pub(crate) const DONE: &str = "data: [DONE]\n\n";

/// What a request that arrived at the gate is answered with.
enum Play {
    Respond(u16, Vec<(String, String)>, Vec<u8>),
    Stream(Vec<(String, String)>, Receiver<Piece>),
    Fail(TransportErrorKind),
    Panic,
}

/// A piece of a stream: bytes, an error, or a panic of whoever reads it.
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    Fail(TransportErrorKind),
    Panic,
}

/// A request that a worker holds at the gate.
pub(crate) struct Arrived {
    pub(crate) body: Vec<u8>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    /// Closes when the worker stops waiting here, by an answer or not.
    pub(crate) over: Receiver<Infallible>,
    play: Sender<Play>,
}

impl Arrived {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(crate) fn respond(self, status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let _ = self.play.send(Play::Respond(status, headers, body.into()));
    }

    pub(crate) fn answer(self) {
        self.respond(200, &[("content-type", "application/json")], reply("well"));
    }

    pub(crate) fn fail(self, kind: TransportErrorKind) {
        let _ = self.play.send(Play::Fail(kind));
    }

    pub(crate) fn panic(self) {
        let _ = self.play.send(Play::Panic);
    }

    /// Begins a stream, whose pieces are sent through what this gives; dropping it is the clean end of the bytes.
    pub(crate) fn stream(self) -> Sender<Piece> {
        self.pieces(&[("content-type", "text/event-stream")])
    }

    /// The same under other headers.
    pub(crate) fn pieces(self, headers: &[(&str, &str)]) -> Sender<Piece> {
        let (feed, pieces) = bounded(0);
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let _ = self.play.send(Play::Stream(headers, pieces));
        feed
    }

    /// The value of a header, which must have come once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} came twice");
        value
    }

    /// Waits until the worker has left the gate.
    pub(crate) fn wait_over(&self) {
        assert!(self.over.recv_timeout(FUSE).is_err_and(|error| error.is_disconnected()), "still at the gate");
    }
}

/// Sends text as a piece of a stream.
pub(crate) fn feed(pieces: &Sender<Piece>, text: &str) {
    pieces.send_timeout(Piece::Bytes(text.into()), FUSE).map_err(drop).expect("a worker reads");
}

/// Waits until nobody reads a stream any more.
pub(crate) fn wait_left(pieces: &Sender<Piece>) {
    eventually("the provider is left", || {
        pieces.try_send(Piece::Bytes(Vec::new())).is_err_and(|error| error.is_disconnected())
    });
}

/// A provider at which every request waits until the test says how it is answered.
pub(crate) struct Gate {
    transport: Arc<dyn Transport>,
    arrivals: Receiver<Arrived>,
    deaf: Arc<OnceLock<Receiver<()>>>,
}

impl Gate {
    /// Has requests hear of neither a cancel nor their deadline, nor come to the gate, until the other end closes.
    pub(crate) fn be_deaf(&self, until: &Receiver<()>) {
        self.deaf.set(until.clone()).expect("once");
    }

    pub(crate) fn new() -> Self {
        let (arrive, arrivals) = bounded::<Arrived>(4096);
        let deaf = Arc::<OnceLock<Receiver<()>>>::default();
        let hears = Arc::clone(&deaf);
        let transport = MemoryTransport::new(move |request, control| {
            if let Some(until) = hears.get() {
                let _ = until.recv_timeout(FUSE);
                return Err(TransportError::new(TransportErrorKind::NoAnswer, "the test let it go"));
            }
            let (play, played) = bounded(1);
            let (_held, over) = bounded::<Infallible>(0);
            let headers = request.headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            let (method, path) = (request.method, request.path.to_owned());
            let arrived = Arrived { body: request.body.to_vec(), headers, method, path, over, play };
            arrive.try_send(arrived).map_err(drop).expect("the test takes arrivals");
            select! {
                recv(played) -> play => match play {
                    Ok(Play::Respond(status, headers, body)) => {
                        Ok(Incoming { status, headers, body: Body::from_bytes(body) })
                    }
                    Ok(Play::Stream(headers, pieces)) => {
                        let pieces = Pieces { pieces, cancel: control.cancel.clone() };
                        Ok(Incoming { status: 200, headers, body: Body::from_pieces(pieces) })
                    }
                    Ok(Play::Fail(kind)) => Err(TransportError::new(kind, "as the test says")),
                    Ok(Play::Panic) => panic!("as the test says"),
                    Err(_) => Err(TransportError::new(TransportErrorKind::NoAnswer, "the test let it go")),
                },
                recv(control.cancel.channel()) -> _ => Err(cancelled(control.cancel)),
                default(control.deadline.remaining()) => Err(TransportError::new(TransportErrorKind::Timeout, "late")),
            }
        });
        Self { transport: Arc::new(transport), arrivals, deaf }
    }

    /// One at which nobody waits: `transport` answers by itself.
    pub(crate) fn open(transport: MemoryTransport) -> Self {
        Self { transport: Arc::new(transport), arrivals: crossbeam_channel::never(), deaf: Arc::default() }
    }

    /// The next request that a worker brings.
    pub(crate) fn next(&self) -> Arrived {
        self.arrivals.recv_timeout(FUSE).expect("a worker brings a request")
    }

    /// Whether a worker has brought another request.
    pub(crate) fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }
}

fn cancelled(token: &CancelToken) -> TransportError {
    let reason = token.reason().unwrap_or(CancelReason::Caller);
    TransportError::new(TransportErrorKind::Cancelled(reason), "cancelled")
}

struct Pieces {
    pieces: Receiver<Piece>,
    cancel: CancelToken,
}

impl Iterator for Pieces {
    type Item = std::result::Result<Vec<u8>, TransportError>;

    fn next(&mut self) -> Option<Self::Item> {
        select! {
            recv(self.pieces) -> piece => match piece {
                Ok(Piece::Bytes(bytes)) => Some(Ok(bytes)),
                Ok(Piece::Fail(kind)) => Some(Err(TransportError::new(kind, "as the test says"))),
                Ok(Piece::Panic) => panic!("as the test says"),
                Err(_) => None,
            },
            recv(self.cancel.channel()) -> _ => Some(Err(cancelled(&self.cancel))),
            default(FUSE) => Some(Err(TransportError::new(TransportErrorKind::Timeout, "the test is stuck"))),
        }
    }
}

/// A gateway; when it is dropped, everything must add up and end.
pub(crate) struct House {
    gateway: Option<Gateway>,
    threads: Threads,
}

impl House {
    /// A gateway of `providers`, the named ones of them reached through gates.
    pub(crate) fn new(providers: Value, gates: &[(&str, &Gate)]) -> Self {
        Self::with(json!({ "providers": providers }), gates)
    }

    /// One provider, `p`, that answers by itself.
    pub(crate) fn answered(settings: Value, transport: MemoryTransport) -> Self {
        Self::new(json!({ "p": settings }), &[("p", &Gate::open(transport))])
    }

    /// A gateway of a whole configuration.
    pub(crate) fn with(config: Value, gates: &[(&str, &Gate)]) -> Self {
        canary::watch();
        let config = Config::from_json(&config.to_string(), &|_: &str| None).unwrap_or_else(|error| panic!("{error}"));
        let builder = Gateway::builder().config(config);
        let builder = gates.iter().fold(builder, |b, (name, gate)| b.transport(name, Arc::clone(&gate.transport)));
        let gateway = builder.build().expect("it starts");
        Self { threads: gateway.threads().clone(), gateway: Some(gateway) }
    }

    /// One provider, `p`, behind a gate.
    pub(crate) fn gated(settings: Value) -> (Self, Gate) {
        let gate = Gate::new();
        (Self::new(json!({ "p": settings }), &[("p", &gate)]), gate)
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("it runs")
    }

    /// Takes the gateway away: what it leaves must end all the same.
    pub(crate) fn take(&mut self) -> Gateway {
        self.gateway.take().expect("it runs")
    }

    pub(crate) fn stats(&self) -> Value {
        serde_json::to_value(self.gateway().stats()).expect("JSON")
    }

    /// One number of provider `p`.
    pub(crate) fn p(&self, path: &str) -> u64 {
        number(&self.stats(), &format!("/providers/p/{path}"))
    }

    /// Asks `p/m` and waits for the answer.
    pub(crate) fn ask(&self) -> Result<Answer> {
        self.ask_with(&CallOptions::default())
    }

    pub(crate) fn ask_with(&self, options: &CallOptions) -> Result<Answer> {
        self.gateway().with(options).raw(Operation::ChatCompletions, chat("p/m", false).into_bytes())
    }

    /// Waits until so many wait in the queue of `p`.
    pub(crate) fn queued(&self, count: u64) {
        eventually(&format!("{count} wait in the queue"), || self.p("queue/depth") == count);
    }

    /// Waits until nothing is under way, and checks every sum of the interface's section 5.
    pub(crate) fn at_rest(&self) -> Value {
        let fuse = Deadline::after(FUSE);
        loop {
            let stats = self.stats();
            match unrest(&stats) {
                None => return stats,
                Some(what) => assert!(!fuse.passed(), "never at rest: {what}\n{stats:#}"),
            }
            std::thread::park_timeout(ms(1));
        }
    }

    pub(crate) fn shutdown(&self, patience: Duration) -> ShutdownReport {
        self.gateway().shutdown(patience)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if self.gateway.is_some() {
            self.at_rest();
            let report = self.shutdown(FUSE);
            assert!(report.stragglers.is_empty(), "{report:?}");
            self.at_rest();
        }
        self.gateway = None;
        eventually("every thread has ended", || self.threads.active() == 0);
    }
}

/// The number at `path`.
pub(crate) fn number(stats: &Value, path: &str) -> u64 {
    stats.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number at {path}: {stats:#}"))
}

/// What is under way, or does not add up; `None` at rest.
pub(crate) fn unrest(stats: &Value) -> Option<String> {
    let sum = |prefix: &str, names: &[&str]| -> u64 {
        names.iter().map(|name| number(stats, &format!("{prefix}/{name}_total"))).sum()
    };
    let mut equal = vec![
        ("requests.in_flight".to_owned(), number(stats, "/requests/in_flight"), 0),
        ("requests.buffered_bytes".to_owned(), number(stats, "/requests/buffered_bytes"), 0),
        (
            "received = succeeded + failed + cancelled".to_owned(),
            sum("/requests", &["received"]),
            sum("/requests", &["succeeded", "failed", "cancelled"]),
        ),
        (
            "errors = failed + cancelled".to_owned(),
            stats["errors"].as_object().expect("an object").values().filter_map(Value::as_u64).sum(),
            sum("/requests", &["failed", "cancelled"]),
        ),
        ("locks.waiting".to_owned(), number(stats, "/locks/waiting"), 0),
        ("locks.order_violations".to_owned(), sum("/locks", &["order_violations"]), 0),
    ];
    for name in ["reply_channel", "job", "response", "buffer"] {
        let pool = format!("/pools/{name}");
        equal.extend([
            (
                format!("{name}: objects out"),
                number(stats, &format!("{pool}/live")),
                number(stats, &format!("{pool}/idle")),
            ),
            (
                format!("{name}: acquired = returned + discarded"),
                sum(&pool, &["acquired"]),
                sum(&pool, &["returned", "discarded"]),
            ),
            (format!("{name}: acquired = hits + misses"), sum(&pool, &["acquired"]), sum(&pool, &["hits", "misses"])),
            (
                format!("{name}: created = live + discarded + evicted"),
                sum(&pool, &["created"]),
                number(stats, &format!("{pool}/live")) + sum(&pool, &["discarded", "evicted"]),
            ),
        ]);
    }
    for (name, provider) in stats["providers"].as_object().expect("an object") {
        let (queue, jobs) = (format!("/providers/{name}/queue"), format!("/providers/{name}/jobs"));
        let workers = |what: &str| number(stats, &format!("/providers/{name}/workers/{what}"));
        equal.extend([
            (format!("{name}: depth"), number(stats, &format!("{queue}/depth")), 0),
            (format!("{name}: places taken"), number(stats, &format!("{queue}/places_taken")), 0),
            (
                format!("{name}: submitted = completed + dropped + rejected + timed_out + abandoned"),
                sum(&queue, &["submitted"]),
                sum(&queue, &["completed", "dropped", "rejected", "timed_out", "abandoned"]),
            ),
            (
                format!("{name}: timed_out = space + worker"),
                sum(&queue, &["timed_out"]),
                sum(&queue, &["timed_out_space", "timed_out_worker"]),
            ),
            (
                format!("{name}: completed = succeeded + failed + timed_out + cancelled"),
                sum(&queue, &["completed"]),
                sum(&jobs, &["succeeded", "failed", "timed_out", "cancelled"]),
            ),
            (format!("{name}: busy"), workers("busy"), 0),
            (format!("{name}: active = busy + idle"), workers("active"), workers("busy") + workers("idle")),
            (format!("{name}: workers left = spawned - retired"), workers("active"), {
                workers("spawned_total") - workers("retired_total")
            }),
        ]);
        if provider["phase"] == "ready" {
            equal.push((format!("{name}: every worker is there"), workers("active"), workers("configured")));
        }
    }
    let wrong: Vec<_> = equal.into_iter().filter(|(_, one, other)| one != other).collect();
    (!wrong.is_empty()).then(|| format!("{wrong:?}"))
}

/// Options with a token of their own, and the token.
pub(crate) fn cancellable() -> (CallOptions, CancelToken) {
    let token = CancelToken::new();
    (CallOptions::new().cancel(token.clone()), token)
}

/// Options with a deadline so far ahead.
pub(crate) fn within(limit: Duration) -> CallOptions {
    CallOptions::new().deadline(limit)
}

/// Options of batch priority.
pub(crate) fn batch() -> CallOptions {
    CallOptions::new().priority(Priority::Batch)
}

/// The code of a failure.
pub(crate) fn code<T: std::fmt::Debug>(result: &Result<T>) -> Code {
    result.as_ref().expect_err("it must fail").code()
}
