//! Claims about how things end: time-outs, cancelling, shutdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::scope;
use std::time::Duration;

use serde_json::json;

use super::rig::{
    FUSE, Gate, Hearing, Miss, NAME, Verdict, ensure, figures, fixed, instant, join, one, pool, refused, sim_count,
    simulated, thrice, timed, until, until_figures,
};
use crate::error::Code;
use crate::gateway::{CallOptions, Gateway, Phase};
use crate::model::Operation;
use crate::sync::{CancelToken, Role};
use crate::transport::{Body, Incoming, MemoryTransport};
use crate::wire::openai::ChatRequest;

pub(super) fn processing() -> Verdict {
    thrice(attempt_limit)
}

fn attempt_limit() -> Verdict {
    const LIMIT: Duration = Duration::from_millis(200);
    let mut settings = pool(1, 1, "block");
    settings["network_config"] = json!({ "default_request_timeout_in_seconds": "200ms" });
    let gateway = simulated(settings)?;
    gateway.ask("p/echo", "warm")?;
    let (took, outcome) = timed(|| gateway.ask("p/hang", "x"));
    ensure(refused(&outcome) == Some(Code::UpstreamTimeout), || format!("{outcome:?}"))?;
    ensure(took >= LIMIT && took < LIMIT * 5, || format!("it ended after {took:?}"))?;
    until("the provider sees its client leave", || sim_count(&gateway, "aborted_by_peer") == 1)?;
    gateway.ask("p/echo", "after")?;
    Ok(format!("limit {LIMIT:?}: ended after {took:.0?}, its connection was closed, the worker goes on"))
}

pub(super) fn cancellation() -> Verdict {
    const LIMIT: Duration = Duration::from_millis(100);
    let gateway = simulated(pool(2, 2, "block"))?;
    gateway.ask("p/echo", "warm")?;
    let (mut waiting, mut streaming) = (Duration::MAX, Duration::MAX);
    // A machine that is busy with something else may steal one measurement; not three.
    for _ in 0..3 {
        waiting = waiting.min(cancel_a_call(&gateway)?);
        streaming = streaming.min(drop_a_stream(&gateway)?);
        if waiting.max(streaming) <= LIMIT {
            return Ok(format!(
                "the provider saw a waiting call cancelled after {waiting:.1?}, a dropped stream after {streaming:.1?}"
            ));
        }
    }
    Err(Miss::new(format!("waiting {waiting:?}, streaming {streaming:?}")))
}

/// How long until the provider sees that a call was cancelled, and the worker is free.
fn cancel_a_call(gateway: &Gateway) -> Result<Duration, Miss> {
    let token = CancelToken::new();
    let options = CallOptions::new().cancel(token.clone());
    let body = ChatRequest::new("p/hang", "x").to_body(false);
    scope(|scope| {
        let caller = scope.spawn(|| gateway.with(&options).raw(Operation::ChatCompletions, body));
        let arrived = until("the request arrives", || sim_count(gateway, "in_flight") == 1);
        let (took, freed) = timed(|| {
            token.cancel();
            until_free(gateway)
        });
        let outcome = join(caller)?;
        arrived.and(freed)?;
        ensure(refused(&outcome) == Some(Code::ClientClosed), || format!("{outcome:?}"))?;
        Ok(took)
    })
}

/// How long until the provider sees that a stream was dropped in its middle, and the worker is free.
fn drop_a_stream(gateway: &Gateway) -> Result<Duration, Miss> {
    let mut stream = gateway.chat_stream(&ChatRequest::new("p/lorem-1000+gap-20ms", "x"))?;
    stream.next().ok_or_else(|| Miss::new("no first event"))??;
    let (took, freed) = timed(|| {
        drop(stream);
        until_free(gateway)
    });
    freed.map(|()| took)
}

fn until_free(gateway: &Gateway) -> Result<(), Miss> {
    until("the provider and the worker are free", || {
        sim_count(gateway, "in_flight") == 0 && figures(gateway).is_ok_and(|figures| figures.workers.busy == 0)
    })
}

pub(super) fn result_buffer() -> Verdict {
    const BUFFER: usize = 4;
    const EVENTS: usize = 200;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let transport = MemoryTransport::new(move |_, _| {
        let counted = Arc::clone(&counted);
        let pieces = (0..=EVENTS).map(move |number| {
            counted.fetch_add(1, Ordering::SeqCst);
            let reason = if number == EVENTS { "\"stop\"" } else { "null" };
            let event = format!(
                "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"x\"}},\"finish_reason\":{reason}}}]}}\n\n"
            );
            Ok(event.into_bytes())
        });
        Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_pieces(pieces) })
    });
    let mut settings = pool(1, 1, "block");
    settings["concurrency_and_buffer_size"]["result_buffer"] = json!(BUFFER);
    let gateway = one(settings, Arc::new(transport))?;
    let stream = gateway.chat_stream(&ChatRequest::new("p/x", "x"))?;
    // What a worker can have read: the events in the channel, less the stream's head in it, and the one in its hands.
    let held = sent.load(Ordering::SeqCst);
    until("the worker is held up", || sent.load(Ordering::SeqCst) >= BUFFER)?;
    until("the worker reads no further", still(&sent))?;
    let held = held.max(sent.load(Ordering::SeqCst));
    ensure(held <= BUFFER + 1, || format!("{held} events were read for a reader that took none"))?;
    let got = stream.collect::<Result<Vec<_>, _>>()?.len();
    ensure(got == EVENTS + 1, || format!("{got} of {} events came", EVENTS + 1))?;
    Ok(format!("a channel of {BUFFER}: {held} of {got} events read while the caller took none, then all {got}"))
}

/// Says that a count has not moved for 50 looks in a row.
fn still(count: &AtomicUsize) -> impl FnMut() -> bool + '_ {
    let mut last = (usize::MAX, 0);
    move || {
        let seen = count.load(Ordering::SeqCst);
        last = if seen == last.0 { (seen, last.1 + 1) } else { (seen, 0) };
        last.1 >= 50
    }
}

pub(super) fn graceful() -> Verdict {
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(pool(2, 2, "error"), transport)?;
    scope(|scope| {
        let mut gate = gate;
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))).collect();
        gate.arrived(2)?;
        until_figures(&gateway, "two jobs wait", |figures| figures.queue.depth == 2)?;
        let ending = scope.spawn(|| gateway.shutdown(FUSE));
        until("the gateway drains", || gateway.phase() == Phase::Draining)?;
        let new = refused(&gateway.ask("p/x", "x"));
        ensure(new == Some(Code::ShuttingDown), || format!("a new request came to {new:?}"))?;
        gate.open();
        for caller in callers {
            join(caller)??;
        }
        let report = join(ending)?;
        let counts = (report.finished, report.cut, report.swept, report.stragglers.len());
        ensure(counts == (4, 0, 0, 0), || format!("{report:?}"))?;
        Ok("2 running and 2 waiting finished, 1 new refused with shutting_down, no thread left".to_owned())
    })
}

pub(super) fn cut_at_the_deadline() -> Verdict {
    thrice(cut)
}

fn cut() -> Verdict {
    const PATIENCE: Duration = Duration::from_millis(100);
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(pool(1, 2, "error"), transport)?;
    scope(|scope| {
        let gate = gate;
        let callers: Vec<_> = (0..3).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))).collect();
        gate.arrived(1)?;
        until_figures(&gateway, "two jobs wait", |figures| figures.queue.depth == 2)?;
        let (took, report) = timed(|| gateway.shutdown(PATIENCE));
        for caller in callers {
            let outcome = join(caller)?;
            ensure(refused(&outcome) == Some(Code::ShuttingDown), || format!("{outcome:?}"))?;
        }
        let counts = (report.finished, report.cut, report.swept, report.stragglers.len());
        ensure(counts == (0, 1, 2, 0), || format!("{report:?}"))?;
        ensure(took >= PATIENCE && took < PATIENCE * 5, || format!("it took {took:?}"))?;
        Ok(format!("deadline {PATIENCE:?}: over after {took:.0?}; 1 running cut, 2 waiting answered"))
    })
}

pub(super) fn quit() -> Verdict {
    const WORKERS: u64 = 64;
    let gateway = one(fixed(64), instant())?;
    gateway.ask(&format!("{NAME}/x"), "x")?;
    let (took, report) = timed(|| gateway.shutdown(Duration::ZERO));
    let workers = figures(&gateway)?.workers;
    let left = gateway.threads().list().iter().filter(|row| row.role == Role::Worker).count();
    ensure(report.stragglers.is_empty(), || format!("{report:?}"))?;
    ensure((workers.retired_total, left) == (WORKERS, 0), || format!("{workers:?}, {left} threads left"))?;
    Ok(format!("{WORKERS} idle workers told, ended and joined in {took:.1?}"))
}
