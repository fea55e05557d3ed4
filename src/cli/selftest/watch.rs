//! Claims about what the watchdog sees: threads past their deadline, limits that are near, and who is held up.

use std::sync::Arc;
use std::thread::scope;
use std::time::Duration;

use crossbeam_channel::bounded;
use serde_json::json;

use super::rig::{
    FUSE, Miss, NAME, Shared, Verdict, configured, ensure, instant, join, one, pool, rooted, timed, until,
};
use crate::events::Alert;
use crate::gateway::{Blocked, CallOptions, Gateway};
use crate::model::Operation;
use crate::sync::{CancelToken, Role, State};
use crate::time::Deadline;
use crate::transport::{MemoryTransport, TransportError, TransportErrorKind};
use crate::wire::openai::ChatRequest;

/// How often threads are looked at here.
const INTERVAL: Duration = Duration::from_millis(20);

/// The most threads here.
const LIMIT: u64 = 64;

/// A gateway with a worker that does not come back, a request that waits, and hardly a thread left, until all is well again.
struct Watch {
    rounds: u64,
    took: Duration,
    stuck: Alert,
    near: Alert,
    /// While a request waited for its provider.
    blocked: Blocked,
}

static WATCH: Shared<Watch> = Shared::new();

fn alert(gateway: &Gateway, kind: &str) -> Option<Alert> {
    gateway.events().alerts().into_iter().find(|alert| alert.kind == kind)
}

/// Waits for an alert and gives it.
fn raised(gateway: &Gateway, kind: &str) -> Result<Alert, Miss> {
    until(&format!("the alert {kind}"), || alert(gateway, kind).is_some())?;
    alert(gateway, kind).ok_or_else(|| Miss::new(format!("the alert {kind} did not stand")))
}

fn rounds(gateway: &Gateway) -> u64 {
    gateway.threads().stats().by_role.get(&Role::Watchdog).map_or(0, |row| row.jobs_total)
}

fn watch() -> Result<Watch, Miss> {
    let (hold, held) = bounded::<()>(0);
    let mut deaf = pool(1, 4, "block");
    deaf["network_config"] = json!({ "default_request_timeout_in_seconds": "20ms", "max_retries": 0 });
    deaf["queue"]["wait_timeout"] = json!("50ms");
    let mut settings = rooted(vec![(NAME, deaf), ("sim", pool(1, 4, "block"))]);
    settings["threads"] = json!({ "health_interval": format!("{}ms", INTERVAL.as_millis()), "max": LIMIT });
    let transport = MemoryTransport::new(move |_, _| {
        // It hears neither of its deadline nor of a cancel.
        let _ = held.recv_timeout(FUSE * 2);
        Err(TransportError::new(TransportErrorKind::NoAnswer, "let go by the self-test"))
    });
    let gateway = configured(&settings, vec![(NAME, Arc::new(transport))])?;
    let before = rounds(&gateway);
    let (took, seen) = timed(|| {
        let refused = gateway.ask("p/x", "hang");
        ensure(refused.is_err(), || format!("the request came to {refused:?}"))?;
        let blocked = held_up(&gateway)?;
        let near = few_threads_left(&gateway)?;
        until("the stuck thread is counted", || gateway.stats().threads.stuck == 1)?;
        let stuck = raised(&gateway, "stuck_thread")?;
        drop(hold);
        until("it is over", || gateway.stats().threads.stuck == 0 && alert(&gateway, "stuck_thread").is_none())?;
        Ok::<_, Miss>((stuck, near, blocked))
    });
    let (stuck, near, blocked) = seen?;
    Ok(Watch { rounds: rounds(&gateway) - before, took, stuck, near, blocked })
}

/// What is told of a request that waits for its provider.
fn held_up(gateway: &Gateway) -> Result<Blocked, Miss> {
    gateway.ask("sim/echo", "warm")?;
    let blocked = || gateway.stats().blocked;
    let token = CancelToken::new();
    let options = CallOptions::new().cancel(token.clone());
    let body = ChatRequest::new("sim/hang", "x").to_body(false);
    let seen = scope(|scope| {
        let caller = scope.spawn(|| gateway.with(&options).raw(Operation::ChatCompletions, body));
        let mut seen = Blocked::default();
        let waits = until("a worker waits for its provider", || {
            seen = blocked();
            seen.io > 0 && seen.oldest_ms >= 20
        });
        token.cancel();
        join(caller)?.err().ok_or_else(|| Miss::new("a cancelled request was answered"))?;
        waits.map(|()| seen)
    })?;
    until("nobody is held up any more", || blocked().io == 0)?;
    Ok(seen)
}

/// What is told while nearly as many threads run as may.
fn few_threads_left(gateway: &Gateway) -> Result<Alert, Miss> {
    let threads = gateway.threads();
    let (hold, held) = bounded::<()>(0);
    let mut running = Vec::new();
    while threads.active() < LIMIT - 2 {
        let held = held.clone();
        // Its end is the channel's closing.
        running.push(threads.spawn(Role::Resolver, "held", move || _ = held.recv_timeout(FUSE * 2))?);
    }
    let near = raised(gateway, "threads_near_limit");
    drop(hold);
    for thread in running {
        thread.join(Deadline::after(FUSE)).map_err(|thread| Miss::new(format!("{} did not end", thread.name())))?;
    }
    until("there is room again", || alert(gateway, "threads_near_limit").is_none())?;
    near
}

pub(super) fn stuck() -> Verdict {
    let Watch { stuck, .. } = WATCH.of(watch)?;
    let named = stuck.message.contains("p-worker-1") && stuck.message.contains("req_");
    ensure(named, || format!("the alert says {:?}", stuck.message))?;
    Ok(format!("1 counted and alerted, cleared once it went on: {:.70}…", stuck.message))
}

pub(super) fn near_the_limit() -> Verdict {
    let Watch { near, .. } = WATCH.of(watch)?;
    ensure(near.message.contains("of 64 threads"), || format!("the alert says {:?}", near.message))?;
    Ok(format!("alerted, and cleared once there was room: {:.60}…", near.message))
}

pub(super) fn comes_round() -> Verdict {
    let Watch { rounds, took, .. } = WATCH.of(watch)?;
    let due = took.as_millis() / INTERVAL.as_millis();
    ensure(u128::from(*rounds) * 5 >= due, || format!("{rounds} rounds in {took:?}"))?;
    Ok(format!("health_interval {INTERVAL:?}: {rounds} rounds in {took:.1?}"))
}

pub(super) fn held_up_is_blocked() -> Verdict {
    let Watch { blocked, .. } = WATCH.of(watch)?;
    ensure(blocked.io > 0 && blocked.oldest_ms >= 20, || format!("{blocked:?}"))?;
    Ok(format!("while a request waited for its provider: {blocked:?}; none before and after"))
}

pub(super) fn idle_is_not_blocked() -> Verdict {
    let gateway = one(pool(8, 4, "block"), instant())?;
    gateway.ask("p/x", "hi")?;
    let blocked = || gateway.stats().blocked;
    until("nobody is held up", || {
        let blocked = blocked();
        blocked.channel + blocked.lock + blocked.io + blocked.oldest_ms == 0
    })?;
    let waiting = gateway.threads().list().iter().filter(|row| row.state == State::WaitingChannel).count();
    ensure(waiting >= 8, || format!("{waiting} threads wait"))?;
    Ok(format!("{waiting} threads wait for work, none is blocked"))
}
