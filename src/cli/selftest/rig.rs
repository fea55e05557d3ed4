//! What the claims are tried on: gateways of one or two small pools, and providers in memory that do as they are told.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::thread::{ScopedJoinHandle, scope};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, tick};
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::error::{Code, Error};
use crate::gateway::Gateway;
use crate::provider::ProviderStats;
use crate::time::{Deadline, now};
use crate::transport::{
    Body, Control, Incoming, MemoryTransport, Outgoing, Transport, TransportError, TransportErrorKind,
};

/// How long a check waits for what must come.
pub(super) const FUSE: Duration = Duration::from_secs(5);

/// The name of the provider in a gateway of one.
pub(super) const NAME: &str = "p";

/// What a check came to: what it measured, or what it found instead of what is claimed.
pub(super) type Verdict = Result<String, Miss>;

/// A claim that does not hold.
#[derive(Debug)]
pub(super) struct Miss(String);

impl Miss {
    pub(super) fn new(found: impl Into<String>) -> Self {
        Self(found.into())
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// Whatever a check trips over makes its claim a miss.
impl<E: std::error::Error> From<E> for Miss {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// A miss with what was found, unless it holds.
pub(super) fn ensure(holds: bool, found: impl FnOnce() -> String) -> Result<(), Miss> {
    if holds { Ok(()) } else { Err(Miss(found())) }
}

/// Looks again and again until it holds, at most for the fuse.
pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Miss> {
    let (fuse, ticks) = (Deadline::after(FUSE), tick(Duration::from_millis(1)));
    while !holds() {
        ensure(!fuse.passed(), || format!("not within {FUSE:?}: {what}"))?;
        let _ = ticks.recv();
    }
    Ok(())
}

/// Tries a check that bounds how long something takes: a machine that is busy with something else may spoil one measurement,
/// but not three.
pub(super) fn thrice(check: impl Fn() -> Verdict) -> Verdict {
    check().or_else(|_| check()).or_else(|_| check())
}

/// Waits until so much time has passed since `start`: for what is measured over a time, never for somebody else.
pub(super) fn pass(start: Instant, time: Duration) -> Result<(), Miss> {
    until("time passes", || now().saturating_duration_since(start) >= time)
}

/// An experiment that several claims are read off: the first of them runs it, the others find what it measured, or why it
/// measured nothing.
pub(super) struct Shared<T>(OnceLock<Result<T, String>>);

impl<T> Shared<T> {
    pub(super) const fn new() -> Self {
        Self(OnceLock::new())
    }

    pub(super) fn of(&self, run: impl FnOnce() -> Result<T, Miss>) -> Result<&T, Miss> {
        self.0.get_or_init(|| run().map_err(Miss::into_text)).as_ref().map_err(Miss::new)
    }
}

/// What a caller's thread came back with.
pub(super) fn join<T>(caller: ScopedJoinHandle<'_, T>) -> Result<T, Miss> {
    caller.join().map_err(|_| Miss::new("a caller panicked"))
}

/// The configuration of one pool of the simulated kind.
pub(super) fn pool(concurrency: usize, buffer_size: usize, policy: &str) -> Value {
    json!({
        "kind": "sim",
        "concurrency_and_buffer_size": { "concurrency": concurrency, "buffer_size": buffer_size },
        "queue": { "policy": policy },
        // What fails is seen at once, and each time.
        "network_config": { "max_retries": 0 },
        "breaker": { "enabled": false },
    })
}

/// The configuration of a pool that neither grows nor shrinks.
pub(super) fn fixed(workers: usize) -> Value {
    let mut settings = pool(workers, 100, "block");
    settings["concurrency_and_buffer_size"]["min_concurrency"] = json!(workers);
    settings
}

/// A configuration of these providers.
pub(super) fn rooted(providers: Vec<(&str, Value)>) -> Value {
    json!({ "providers": providers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>() })
}

/// A gateway of a configuration; a provider without a transport goes to the simulated provider's socket.
pub(super) fn configured(settings: &Value, transports: Vec<(&str, Arc<dyn Transport>)>) -> Result<Gateway, Miss> {
    let config = Config::from_json(&settings.to_string(), &|_| None)?;
    let builder = transports.into_iter().fold(Gateway::builder(), |builder, (name, to)| builder.transport(name, to));
    Ok(builder.config(config).build()?)
}

/// A gateway of one provider in memory.
pub(super) fn one(settings: Value, transport: Arc<dyn Transport>) -> Result<Gateway, Miss> {
    configured(&rooted(vec![(NAME, settings)]), vec![(NAME, transport)])
}

/// A gateway of one provider behind a socket.
pub(super) fn simulated(settings: Value) -> Result<Gateway, Miss> {
    configured(&rooted(vec![(NAME, settings)]), Vec::new())
}

/// The figures of the provider [`NAME`].
pub(super) fn figures(gateway: &Gateway) -> Result<ProviderStats, Miss> {
    gateway.stats().providers.remove(NAME).ok_or_else(|| Miss::new("the provider has no statistics"))
}

/// Waits until the provider's figures are as they should be.
pub(super) fn until_figures(
    gateway: &Gateway,
    what: &str,
    mut holds: impl FnMut(&ProviderStats) -> bool,
) -> Result<(), Miss> {
    until(what, || figures(gateway).is_ok_and(|figures| holds(&figures)))
}

/// The code of a call that must fail.
pub(super) fn refused<T>(outcome: &Result<T, Error>) -> Option<Code> {
    outcome.as_ref().err().map(Error::code)
}

/// A number that the simulated provider counted.
pub(super) fn sim_count(gateway: &Gateway, field: &str) -> u64 {
    gateway.sim_stats().and_then(|stats| stats.get(field)?.as_u64()).unwrap_or(0)
}

/// The middle one.
pub(super) fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// How long `work` takes, and what it gives.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = now();
    let value = work();
    (now().saturating_duration_since(start), value)
}

/// An answer that repeats the request's last message.
pub(super) fn echo(request: &Outgoing<'_>) -> Incoming {
    let asked: Value = serde_json::from_slice(request.body).unwrap_or_default();
    let said = asked.pointer("/messages/0/content").cloned().unwrap_or_default();
    let choice = json!({ "index": 0, "message": { "role": "assistant", "content": said }, "finish_reason": "stop" });
    let body = json!({ "id": "c", "object": "chat.completion", "choices": [choice] }).to_string();
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Incoming { status: 200, headers, body: Body::from_bytes(body) }
}

/// A provider that answers at once.
pub(super) fn instant() -> Arc<dyn Transport> {
    Arc::new(MemoryTransport::new(|request, _| Ok(echo(request))))
}

/// A provider that takes `time` for each answer.
pub(super) fn taking(time: Duration) -> Arc<dyn Transport> {
    Arc::new(MemoryTransport::new(move |request: &Outgoing<'_>, _| {
        let _ = never::<()>().recv_timeout(time);
        Ok(echo(request))
    }))
}

/// Has `callers` ask `calls` times each.
pub(super) fn load(gateway: &Gateway, callers: u64, calls: u64) -> Result<(), Miss> {
    scope(|scope| {
        let callers: Vec<_> = (0..callers)
            .map(|_| scope.spawn(|| (0..calls).try_for_each(|_| gateway.ask(&format!("{NAME}/x"), "x").map(drop))))
            .collect();
        callers.into_iter().try_for_each(|caller| Ok(join(caller)??))
    })
}

/// Whether a provider behind a gate hears of a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    Good,
    Deaf,
}

/// A provider that lets requests in and answers none of them until it is opened.
#[derive(Debug)]
pub(super) struct Gate {
    arrivals: Receiver<()>,
    closed: Option<Sender<Infallible>>,
}

impl Gate {
    pub(super) fn new(hearing: Hearing) -> (Self, Arc<dyn Transport>) {
        let (arrive, arrivals) = bounded(1024);
        let (closed, opened) = bounded::<Infallible>(0);
        let deaf = never();
        let transport = MemoryTransport::new(move |request: &Outgoing<'_>, control: &Control<'_>| {
            // More than a thousand arrivals that nobody looks at are as good as none.
            let _ = arrive.try_send(());
            let cancelled = if hearing == Hearing::Good { control.cancel.channel() } else { &deaf };
            select! {
                recv(opened) -> _ => Ok(echo(request)),
                recv(cancelled) -> _ => {
                    let reason = control.cancel.reason().unwrap_or(crate::sync::CancelReason::Caller);
                    Err(TransportError::new(TransportErrorKind::Cancelled(reason), "cancelled at the gate"))
                }
                default(control.deadline.remaining()) => {
                    Err(TransportError::new(TransportErrorKind::Timeout, "the gate stayed shut"))
                }
            }
        });
        (Self { arrivals, closed: Some(closed) }, Arc::new(transport))
    }

    /// Waits until `count` more requests stand at the gate.
    pub(super) fn arrived(&self, count: usize) -> Result<(), Miss> {
        for _ in 0..count {
            self.arrivals.recv_timeout(FUSE)?;
        }
        Ok(())
    }

    /// Answers everything from now on.
    pub(super) fn open(&mut self) {
        self.closed = None;
    }
}
