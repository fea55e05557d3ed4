//! Claims about rates, errors by kind, and the figures of workers.

use std::sync::Arc;
use std::thread::scope;
use std::time::Duration;

use serde_json::json;

use super::rig::{
    Gate, Hearing, Miss, NAME, Shared, Verdict, echo, ensure, figures, fixed, join, load, one, pass, pool, refused,
    taking, until, until_figures,
};
use crate::error::Code;
use crate::provider::WorkerStats;
use crate::time::now;
use crate::transport::{Body, Incoming, MemoryTransport, Outgoing};

/// What was answered since the first sample, and what the gateway makes of it.
struct Rates {
    requests: f64,
    jobs: f64,
    error_rate: f64,
    /// What each rate lies between, by the clock of whoever asked.
    bounds: (f64, f64),
}

static RATES: Shared<Rates> = Shared::new();

const GOOD: u64 = 60;
const BAD: u64 = 20;

fn rates() -> Result<Rates, Miss> {
    let transport = MemoryTransport::new(|request: &Outgoing<'_>, _| {
        let fails = request.body.windows(5).any(|text| text == b"\"bad\"");
        if !fails {
            return Ok(echo(request));
        }
        Ok(Incoming { status: 500, headers: Vec::new(), body: Body::from_bytes("{}") })
    });
    let gateway = one(pool(2, 4, "block"), Arc::new(transport))?;
    ensure(gateway.stats().requests.throughput_per_s.is_none(), || "a rate was known before".to_owned())?;
    let before = now();
    // What the statistics' thread does once a second where one runs.
    gateway.sample();
    let after = now();
    for number in 0..GOOD + BAD {
        let outcome = gateway.ask("p/x", if number < GOOD { "good" } else { "bad" });
        ensure(outcome.is_ok() == (number < GOOD), || format!("{outcome:?}"))?;
    }
    pass(after, Duration::from_millis(150))?;
    let least = now().saturating_duration_since(after);
    let (requests, figures) = (gateway.stats().requests, figures(&gateway)?);
    let most = now().saturating_duration_since(before);
    let unknown = || Miss::new("a rate is unknown");
    let all = (GOOD + BAD) as f64;
    Ok(Rates {
        requests: requests.throughput_per_s.ok_or_else(unknown)?,
        jobs: figures.queue.throughput_per_s.ok_or_else(unknown)?,
        error_rate: figures.jobs.error_rate.ok_or_else(unknown)?,
        bounds: (all / most.as_secs_f64(), all / least.as_secs_f64()),
    })
}

pub(super) fn throughput() -> Verdict {
    let Rates { requests, jobs, bounds: (low, high), .. } = RATES.of(rates)?;
    for rate in [requests, jobs] {
        ensure((*low..=*high).contains(rate), || format!("{rate} a second, which is not from {low} to {high}"))?;
    }
    Ok(format!("{requests:.0} requests and {jobs:.0} jobs of {NAME} a second, by the clock {low:.0} to {high:.0}"))
}

pub(super) fn error_rate() -> Verdict {
    let Rates { error_rate, .. } = RATES.of(rates)?;
    let share = BAD as f64 / (GOOD + BAD) as f64;
    ensure((error_rate - share).abs() < 1e-9, || format!("{error_rate}, not {share}"))?;
    Ok(format!("{BAD} of {} failed: {:.0} %", GOOD + BAD, error_rate * 100.0))
}

pub(super) fn errors_by_kind() -> Verdict {
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(pool(1, 1, "error"), transport)?;
    scope(|scope| {
        let mut gate = gate;
        let running = scope.spawn(|| gateway.ask("p/x", "x"));
        gate.arrived(1)?;
        let waiting = scope.spawn(|| gateway.ask("p/x", "x"));
        until_figures(&gateway, "one waits", |figures| figures.queue.depth == 1)?;
        let full = [refused(&gateway.ask("p/x", "x")), refused(&gateway.ask("p/x", "x"))];
        ensure(full == [Some(Code::QueueFull); 2], || format!("{full:?}"))?;
        let unknown = refused(&gateway.ask("nobody/x", "x"));
        ensure(unknown == Some(Code::ModelNotFound), || format!("{unknown:?}"))?;
        gate.open();
        [running, waiting].into_iter().try_for_each(|caller| Ok::<_, Miss>(join(caller)?.map(drop)?))
    })?;
    let stats = gateway.stats();
    let expected = json!({ "queue_full": 2, "model_not_found": 1 });
    ensure(json!(stats.errors) == expected, || format!("{:?}", stats.errors))?;
    let counts = (stats.requests.received_total, stats.requests.succeeded_total, stats.requests.failed_total);
    ensure(counts == (5, 2, 3), || format!("{:?}", stats.requests))?;
    Ok(format!("5 received, 2 succeeded, 3 failed: {:?}", stats.errors))
}

pub(super) fn rows_add_up() -> Verdict {
    let mut settings = pool(16, 100, "block");
    settings["concurrency_and_buffer_size"]["min_concurrency"] = json!(2);
    let gateway = one(settings, taking(Duration::from_millis(1)))?;
    let (mut looks, mut wrong) = (0u64, None);
    scope(|scope| {
        let running = scope.spawn(|| load(&gateway, 12, 60));
        until("the load is over", || {
            let workers = figures(&gateway).map(|figures| figures.workers);
            let adds_up =
                |workers: &WorkerStats| workers.active == workers.busy + workers.idle && workers.active <= workers.max;
            wrong = wrong.take().or(workers.ok().filter(|workers| !adds_up(workers)));
            looks += 1;
            running.is_finished()
        })?;
        join(running)?
    })?;
    ensure(wrong.is_none(), || format!("{wrong:?}"))?;
    let workers = figures(&gateway)?.workers;
    ensure(workers.spawned_total > 2, || format!("{workers:?}"))?;
    Ok(format!("{looks} looks while workers came: active = busy + idle at each; {} in the end", workers.active))
}

pub(super) fn per_worker() -> Verdict {
    const WORKERS: usize = 4;
    const TAKES: Duration = Duration::from_millis(2);
    let gateway = one(fixed(WORKERS), taking(TAKES))?;
    let begun = now();
    load(&gateway, 8, 10)?;
    until_figures(&gateway, "the last job is counted", |figures| figures.workers.busy == 0)?;
    let took = now().saturating_duration_since(begun).as_millis();
    let rows = figures(&gateway)?.per_worker;
    let jobs: u64 = rows.iter().map(|row| row.jobs_total).sum();
    let busy: u64 = rows.iter().map(|row| row.busy_ms).sum();
    // Each worker's time is whole milliseconds, rounded down.
    let bounds = 80 * TAKES.as_millis() - WORKERS as u128..=took * WORKERS as u128;
    ensure(rows.len() == WORKERS && jobs == 80 && bounds.contains(&u128::from(busy)), || {
        format!("{bounds:?}: {rows:?}")
    })?;
    ensure(rows.iter().all(|row| row.current_ms.is_none() && row.request_id.is_none()), || format!("{rows:?}"))?;
    Ok(format!("{WORKERS} workers: {jobs} jobs, {busy} ms busy in {took} ms"))
}
