//! Claims about a pool and its workers.

use std::sync::Arc;
use std::thread::scope;
use std::time::Duration;

use super::rig::{
    FUSE, Gate, Hearing, Miss, NAME, Verdict, configured, echo, ensure, figures, fixed, instant, join, load, median,
    one, pool, refused, rooted, simulated, taking, timed, until_figures,
};
use crate::error::Code;
use crate::gateway::Gateway;
use crate::provider::{PoolPhase, ProviderStats, WorkerState};
use crate::transport::{Control, MemoryTransport, Outgoing};
use crate::wire::openai::ChatRequest;

/// The median of this many calls one after the other.
fn pace(gateway: &Gateway, model: &str, calls: usize) -> Result<Duration, Miss> {
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let (took, answer) = timed(|| gateway.ask(model, "x"));
        answer?;
        times.push(took);
    }
    Ok(median(times))
}

pub(super) fn isolation() -> Verdict {
    const CALLS: usize = 200;
    let (gate, hanging) = Gate::new(Hearing::Good);
    let settings = rooted(vec![("hanging", pool(2, 2, "error")), ("well", pool(2, 2, "error"))]);
    let gateway = configured(&settings, vec![("hanging", hanging), ("well", instant())])?;
    scope(|scope| {
        // Moved in, so that an early return opens it and nobody is left standing there.
        let mut gate = gate;
        let quiet = pace(&gateway, "well/x", CALLS)?;
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(|| gateway.ask("hanging/x", "x"))).collect();
        gate.arrived(2)?;
        super::rig::until("the queue is full", || {
            gateway.stats().providers.get("hanging").is_some_and(|figures| figures.queue.depth == 2)
        })?;
        let full = refused(&gateway.ask("hanging/x", "x"));
        ensure(full == Some(Code::QueueFull), || format!("the hanging provider is not full: {full:?}"))?;
        let beside = pace(&gateway, "well/x", CALLS)?;
        gate.open();
        for caller in callers {
            join(caller)??;
        }
        // A wait behind the hanging provider would last as long as that does: seconds.
        ensure(beside < FUSE / 50, || format!("median {quiet:?} quiet, {beside:?} beside the hanging one"))?;
        Ok(format!("{CALLS} of {CALLS} answered beside it; median {quiet:.0?} quiet, {beside:.0?} beside it"))
    })
}

pub(super) fn spawned_before_the_first_job() -> Verdict {
    const WORKERS: u64 = 32;
    let gateway = one(fixed(32), instant())?;
    let figures = figures(&gateway)?;
    let listening = figures.per_worker.iter().filter(|row| row.state == WorkerState::Listening).count() as u64;
    let workers = &figures.workers;
    let counts = (workers.spawned_total, workers.configured, workers.active, workers.idle, listening);
    ensure(counts == (WORKERS, WORKERS, WORKERS, WORKERS, WORKERS), || format!("{workers:?}, {listening} listening"))?;
    ensure(gateway.is_ready() && figures.phase == PoolPhase::Ready, || format!("phase {:?}", figures.phase))?;
    ensure(figures.queue.submitted_total == 0, || "jobs were submitted before".to_owned())?;
    let spawn = figures.startup_us.spawn.ok_or_else(|| Miss::new("the start was not timed"))?;
    Ok(format!("{WORKERS} workers listening {spawn} µs after the start, no job yet"))
}

pub(super) fn spread() -> Verdict {
    const WORKERS: u64 = 4;
    let jobs_of = |gateway: &Gateway, jobs: u64| {
        let counts = |figures: &ProviderStats| figures.per_worker.iter().map(|row| row.jobs_total).collect::<Vec<_>>();
        until_figures(gateway, "the last job is counted", |figures| counts(figures).iter().sum::<u64>() == jobs)?;
        Ok::<_, Miss>(counts(&figures(gateway)?))
    };
    // One at a time: whoever has been idle for longest is next.
    let gateway = one(fixed(4), instant())?;
    load(&gateway, 1, 1000)?;
    let idle = jobs_of(&gateway, 1000)?;
    ensure(idle.iter().all(|jobs| jobs.abs_diff(1000 / WORKERS) <= 25), || format!("one at a time: {idle:?}"))?;
    // Each is as fast as the others; a machine that others use may keep one from its processor for a while.
    let gateway = one(fixed(4), taking(Duration::from_millis(1)))?;
    load(&gateway, 8, 50)?;
    let saturated = jobs_of(&gateway, 400)?;
    ensure(saturated.iter().all(|jobs| jobs.abs_diff(400 / WORKERS) <= 50), || format!("saturated: {saturated:?}"))?;
    Ok(format!("1000 jobs one at a time over {WORKERS} workers: {idle:?}; 400 of 8 callers at once: {saturated:?}"))
}

pub(super) fn availability() -> Verdict {
    const ROUNDS: usize = 50;
    let (gate, transport) = Gate::new(Hearing::Good);
    let held = Arc::new(MemoryTransport::new(move |request: &Outgoing<'_>, control: &Control<'_>| {
        let quick = request.body.windows(5).any(|bytes| bytes == b"quick");
        if quick { Ok(echo(request)) } else { transport.send(request, control) }
    }));
    let gateway = one(pool(4, 10, "block"), held)?;
    scope(|scope| {
        let mut gate = gate;
        let callers: Vec<_> = (0..3).map(|_| scope.spawn(|| gateway.ask("p/x", "held"))).collect();
        gate.arrived(3)?;
        let mut times = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let (took, answer) = timed(|| gateway.ask("p/x", "quick"));
            answer?;
            times.push(took);
        }
        gate.open();
        callers.into_iter().try_for_each(|caller| Ok::<_, Miss>(join(caller)?.map(drop)?))?;
        Ok(format!("3 of 4 workers held: {ROUNDS} jobs served by the fourth, median {:.0?}", median(times)))
    })
}

pub(super) fn lifecycle() -> Verdict {
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(pool(1, 1, "block"), transport)?;
    let seen = |gateway: &Gateway| {
        let row = figures(gateway)?.per_worker.into_iter().next().ok_or_else(|| Miss::new("no worker"))?;
        Ok::<_, Miss>((row.state, row.jobs_total, row.request_id))
    };
    scope(|scope| {
        let mut gate = gate;
        let before = seen(&gateway)?;
        let caller = scope.spawn(|| gateway.ask("p/x", "x"));
        gate.arrived(1)?;
        let during = seen(&gateway)?;
        gate.open();
        join(caller)??;
        until_figures(&gateway, "the worker listens again", |figures| {
            figures.per_worker.iter().all(|row| row.state == WorkerState::Listening && row.jobs_total == 1)
        })?;
        let after = seen(&gateway)?;
        ensure(before == (WorkerState::Listening, 0, None), || format!("before: {before:?}"))?;
        ensure(during.0 == WorkerState::ApiCall && during.2.is_some(), || format!("during: {during:?}"))?;
        ensure(after.2.is_none(), || format!("after: {after:?}"))?;
        Ok(format!("{:?}, {:?} with {}, {:?}", before.0, during.0, during.2.unwrap_or_default(), after.0))
    })
}

pub(super) fn busy_until_the_stream_ends() -> Verdict {
    let gateway = simulated(pool(1, 1, "error"))?;
    let mut stream = gateway.chat_stream(&ChatRequest::new(format!("{NAME}/lorem-20+gap-5ms"), "x"))?;
    stream.next().ok_or_else(|| Miss::new("no first event"))??;
    let workers = figures(&gateway)?.workers;
    ensure((workers.busy, workers.idle) == (1, 0), || format!("in the middle of the stream: {workers:?}"))?;
    let mut events = 1;
    for chunk in stream {
        chunk?;
        events += 1;
    }
    until_figures(&gateway, "the worker is idle", |figures| figures.workers.idle == 1)?;
    Ok(format!("1 of 1 workers busy after the first of {events} events, idle after the last"))
}

pub(super) fn connections_are_reused() -> Verdict {
    const CALLS: u64 = 50;
    let gateway = simulated(pool(4, 100, "block"))?;
    pace(&gateway, "p/echo", CALLS as usize)?;
    let connections = figures(&gateway)?.connections;
    let counts = (connections.opened_total, connections.reused_total);
    ensure(counts == (1, CALLS - 1), || format!("{connections:?}"))?;
    Ok(format!("{CALLS} calls one after the other: {} connection opened, {} times used again", counts.0, counts.1))
}
