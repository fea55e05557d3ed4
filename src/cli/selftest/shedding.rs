//! Claims about overload: who is shed, what refusals say, how lanes share, and room that is acquired under a time-out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::scope;
use std::time::Duration;

use crossbeam_channel::bounded;
use serde_json::json;

use super::rig::{
    FUSE, Gate, Hearing, Miss, Verdict, configured, echo, ensure, figures, join, one, pool, refused, rooted, timed,
    until, until_figures,
};
use crate::error::Code;
use crate::gateway::CallOptions;
use crate::model::{Operation, Priority};
use crate::sync::CancelToken;
use crate::time::micros_of;
use crate::transport::{Body, Control, Incoming, MemoryTransport, Outgoing, Transport};
use crate::wire::openai::ChatRequest;

pub(super) fn drop_oldest() -> Verdict {
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(pool(1, 3, "drop_oldest"), transport)?;
    scope(|scope| {
        let mut gate = gate;
        let running = scope.spawn(|| gateway.ask("p/x", "running"));
        gate.arrived(1)?;
        let mut waiting = std::collections::VecDeque::new();
        for depth in 1..=3 {
            waiting.push_back(scope.spawn(|| gateway.ask("p/x", "waits")));
            until_figures(&gateway, "it waits", |figures| figures.queue.depth == depth)?;
        }
        for newcomers in 1..=3 {
            waiting.push_back(scope.spawn(|| gateway.ask("p/x", "newcomer")));
            // The one at the front ends: nobody else may.
            let oldest = waiting.pop_front().ok_or_else(|| Miss::new("nobody waits"))?;
            let outcome = join(oldest)?;
            ensure(refused(&outcome) == Some(Code::RequestDropped), || format!("the oldest came to {outcome:?}"))?;
            until_figures(&gateway, "the newcomer has its place", |figures| {
                let queue = &figures.queue;
                (queue.depth, queue.places_taken, queue.dropped_total) == (3, 4, newcomers)
            })?;
        }
        gate.open();
        for caller in waiting.into_iter().chain([running]) {
            join(caller)??;
        }
        Ok("1 running, 3 waiting; each of 3 newcomers shed the one that had waited longest, and was served".to_owned())
    })
}

pub(super) fn come_again() -> Verdict {
    const EACH: Duration = Duration::from_millis(200);
    let (_never, silence) = bounded::<()>(0);
    let transport = MemoryTransport::new(move |request: &Outgoing<'_>, _| {
        // Nothing is ever sent: this is how long the provider takes.
        let _ = silence.recv_timeout(EACH);
        Ok(echo(request))
    });
    let gateway = one(pool(1, 9, "error"), Arc::new(transport))?;
    let (over, said_ms) = (AtomicBool::new(false), AtomicU64::new(0));
    scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // Ten have a place; the others are refused, and come again all too soon.
                    let Err(error) = gateway.ask("p/x", "x") else { continue };
                    let said = error.retry_after().unwrap_or_default();
                    said_ms.fetch_max(micros_of(said) / 1000, Ordering::Relaxed);
                    std::thread::park_timeout(Duration::from_millis(20));
                }
            });
        }
        let measured = until("a refusal says more than a second", || said_ms.load(Ordering::Relaxed) > 1000);
        over.store(true, Ordering::Relaxed);
        // Those who still wait would be waited for here.
        let _ = gateway.shutdown(Duration::ZERO);
        measured?;
        let said = Duration::from_millis(said_ms.load(Ordering::Relaxed));
        // Nine wait and five a second are served: 1.8 s, on a machine that is not slow.
        ensure(said < Duration::from_secs(18), || format!("it says {said:?}"))?;
        Ok(format!("9 wait, one served each {EACH:?}: come again after {said:.1?}"))
    })
}

pub(super) fn places_come_back() -> Verdict {
    const ROUNDS: u64 = 50;
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(pool(1, 3, "error"), transport)?;
    scope(|scope| {
        let mut gate = gate;
        let running = scope.spawn(|| gateway.ask("p/x", "x"));
        gate.arrived(1)?;
        for round in 0..ROUNDS {
            let token = CancelToken::new();
            let leaving: Vec<_> = (0..3)
                .map(|_| {
                    let options = CallOptions::new().cancel(token.clone());
                    let (gateway, body) = (&gateway, ChatRequest::new("p/x", "x").to_body(false));
                    scope.spawn(move || gateway.with(&options).raw(Operation::ChatCompletions, body))
                })
                .collect();
            until_figures(&gateway, "three wait", |figures| figures.queue.depth == 3)?;
            token.cancel();
            for caller in leaving {
                let outcome = join(caller)?;
                ensure(refused(&outcome) == Some(Code::ClientClosed), || format!("round {round}: {outcome:?}"))?;
            }
            let queue = figures(&gateway)?.queue;
            ensure((queue.depth, queue.places_taken) == (0, 1), || format!("round {round}: {queue:?}"))?;
        }
        gate.open();
        join(running)??;
        Ok(format!(
            "{} left a queue of 3 whose worker was busy all the while, and not one was refused a place",
            3 * ROUNDS
        ))
    })
}

pub(super) fn batch_share() -> Verdict {
    const EACH: usize = 24;
    let (gate, behind) = Gate::new(Hearing::Good);
    let (order, taken) = bounded(4 * EACH);
    let transport: Arc<dyn Transport> =
        Arc::new(MemoryTransport::new(move |request: &Outgoing<'_>, control: &Control<'_>| {
            // There is room for all that are sent.
            let _ = order.try_send(request.body.windows(7).any(|text| text == b"\"batch\""));
            behind.send(request, control)
        }));
    let mut settings = pool(1, 4 * EACH, "error");
    settings["queue"]["batch_share"] = json!(0.25);
    let gateway = one(settings, transport)?;
    scope(|scope| {
        let mut gate = gate;
        let ask = |text: &'static str, priority| {
            let options = CallOptions::new().priority(priority);
            let (gateway, body) = (&gateway, ChatRequest::new("p/x", text).to_body(false));
            scope.spawn(move || gateway.with(&options).raw(Operation::ChatCompletions, body))
        };
        let mut callers = vec![ask("first", Priority::Interactive)];
        gate.arrived(1)?;
        for _ in 0..EACH {
            callers.push(ask("batch", Priority::Batch));
            callers.push(ask("interactive", Priority::Interactive));
        }
        until_figures(&gateway, "all wait", |figures| figures.queue.depth == 2 * EACH as u64)?;
        gate.open();
        for caller in callers {
            join(caller)??;
        }
        let order: Vec<bool> = taken.try_iter().skip(1).collect();
        let first = order.iter().take(EACH).filter(|is_batch| **is_batch).count();
        let last = order.iter().rev().take(EACH / 2).filter(|is_batch| **is_batch).count();
        ensure(first == EACH / 4, || format!("{first} of the first {EACH} were batch: {order:?}"))?;
        ensure(last == EACH / 2, || format!("batch did not get what was left: {order:?}"))?;
        Ok(format!("{first} of the first {EACH} while both waited, and all of the last {}", EACH / 2))
    })
}

pub(super) fn byte_budget() -> Verdict {
    let (gate, behind) = Gate::new(Hearing::Good);
    let short = MemoryTransport::new(move |request: &Outgoing<'_>, control: &Control<'_>| {
        behind.send(request, control)?;
        Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_bytes("{\"choices\":[]}") })
    });
    let mut settings = rooted(vec![("p", pool(2, 4, "block"))]);
    settings["server"] = json!({ "max_buffered_bytes": 1 << 20, "max_body_bytes": 1 << 20 });
    let gateway = configured(&settings, vec![("p", Arc::new(short))])?;
    let held = || gateway.stats().requests.buffered_bytes;
    let ask = |bytes: usize| {
        let body = ChatRequest::new("p/x", "x".repeat(bytes)).to_body(false);
        gateway.raw(Operation::ChatCompletions, body)
    };
    scope(|scope| {
        let mut gate = gate;
        let running = scope.spawn(|| ask(900_000));
        gate.arrived(1)?;
        let bytes = held();
        let error = ask(200_000).err().ok_or_else(|| Miss::new("1.1 MB were taken into 1 MiB"))?;
        ensure(error.code() == Code::Overloaded && error.retry_after().is_some(), || format!("{error:?}"))?;
        let submitted = figures(&gateway)?.queue.submitted_total;
        ensure(bytes > 900_000 && submitted == 1, || format!("{bytes} bytes held, {submitted} submitted"))?;
        gate.open();
        join(running)??;
        until("all bytes are back", || held() == 0)?;
        Ok(format!("{bytes} bytes of 1 MiB held: 200 kB more are {}, and not queued; 0 held later", error.code()))
    })
}

pub(super) fn room_under_a_time_limit() -> Verdict {
    let transport = MemoryTransport::new(|request: &Outgoing<'_>, _: &Control<'_>| {
        let long = request.body.windows(6).any(|text| text == b"\"long\"");
        if !long {
            return Ok(echo(request));
        }
        let padding = " ".repeat(2 << 20);
        Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_bytes(format!("{{}}{padding}")) })
    });
    let mut settings = rooted(vec![("p", pool(1, 4, "block"))]);
    settings["server"] = json!({ "max_buffered_bytes": 1 << 20, "max_body_bytes": 1 << 20 });
    let gateway = configured(&settings, vec![("p", Arc::new(transport))])?;
    let (took, outcome) = timed(|| gateway.ask("p/x", "long"));
    ensure(refused(&outcome) == Some(Code::ResourceTimeout), || format!("2 MiB of answer came to {outcome:?}"))?;
    ensure(took < FUSE, || format!("it took {took:?}"))?;
    ensure(gateway.ask("p/x", "short")? == "short", || "the next answer is another one".to_owned())?;
    until("all bytes are back", || gateway.stats().requests.buffered_bytes == 0)?;
    Ok(format!("2 MiB of answer, 1 MiB of room: resource_timeout after {took:.1?}, the worker serves on, 0 bytes held"))
}

pub(super) fn correlation() -> Verdict {
    const JOBS: u64 = 40;
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(pool(1, JOBS as usize, "block"), transport)?;
    scope(|scope| {
        let mut gate = gate;
        let callers: Vec<_> = (0..JOBS).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))).collect();
        gate.arrived(1)?;
        until_figures(&gateway, "the others wait", |figures| figures.queue.depth == JOBS - 1)?;
        gate.open();
        for caller in callers {
            join(caller)??;
        }
        let figures = figures(&gateway)?;
        let correlation = &figures.jobs.correlation;
        let counted: u64 = correlation.buckets.iter().map(|bucket| bucket.count).sum();
        ensure(counted == JOBS && figures.jobs.service_us.count == JOBS, || format!("{correlation:?}"))?;
        let r = correlation.r.ok_or_else(|| Miss::new(format!("r is unknown: {correlation:?}")))?;
        // The first one waited for nobody and was held at the gate; those who waited were served at once.
        ensure((-1.0..0.0).contains(&r), || format!("r is {r}, though who waited long was served fast"))?;
        let hit = correlation.buckets.iter().filter(|bucket| bucket.count > 0).count();
        Ok(format!("{counted} jobs in {hit} ranges of wait, r = {r:.2}"))
    })
}
