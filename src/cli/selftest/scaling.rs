//! Claims about how many workers there are, and about the provider-optimization formula.

use std::thread::scope;
use std::time::Duration;

use serde_json::{Value, json};

use super::rig::{Gate, Hearing, Miss, Verdict, ensure, figures, instant, join, one, pool, timed, until_figures};
use crate::config::Optimization;
use crate::provider::{Direction, Plan, Reason};
use crate::time::now;

/// A pool of `fewest` to `most` workers whose number may change every 20 ms.
fn adaptive(fewest: usize, most: usize) -> Value {
    let mut settings = pool(most, 100, "block");
    settings["concurrency_and_buffer_size"]["min_concurrency"] = json!(fewest);
    // Growth ahead of demand is left out, so that what is counted is what was asked for.
    settings["scaling"] = json!({ "min_interval": "20ms", "up_threshold": 1.0 });
    settings
}

pub(super) fn grows_on_demand() -> Verdict {
    const CALLERS: usize = 54;
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(adaptive(10, 64), transport)?;
    scope(|scope| {
        let mut gate = gate;
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))).collect();
        gate.arrived(CALLERS)?;
        until_figures(&gateway, "as many workers as callers", |figures| {
            figures.scaling.last.is_some_and(|last| last.change.to == CALLERS)
        })?;
        let seen = figures(&gateway)?;
        gate.open();
        callers.into_iter().try_for_each(|caller| Ok::<_, Miss>(join(caller)?.map(drop)?))?;
        let last = seen.scaling.last.map(|last| (last.change.direction, last.change.reason));
        ensure(last == Some((Direction::Up, Reason::Demand)), || format!("{:?}", seen.scaling))?;
        let waited = figures(&gateway)?.queue.wait_us;
        let decisions = seen.scaling.up_total;
        Ok(format!("10 -> {CALLERS} workers in {decisions} decisions; nobody waited longer than {} µs", waited.max))
    })
}

pub(super) fn shrinks_when_the_load_ends() -> Verdict {
    const CALLERS: usize = 12;
    let limit = Duration::from_secs(2) + Duration::from_millis(20);
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(adaptive(2, 16), transport)?;
    scope(|scope| {
        let mut gate = gate;
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))).collect();
        gate.arrived(CALLERS)?;
        gate.open();
        callers.into_iter().try_for_each(|caller| Ok::<_, Miss>(join(caller)?.map(drop)?))
    })?;
    let (began, outcome) = timed(|| until_figures(&gateway, "it shrinks", |figures| figures.scaling.down_total > 0));
    outcome?;
    until_figures(&gateway, "the fewest are left", |figures| figures.workers.active == 2)?;
    ensure(began < limit * 5, || format!("it began after {began:?}"))?;
    let scaling = figures(&gateway)?.scaling;
    let events = gateway.events().list().into_iter().filter(|event| event.kind == "scaling").count();
    ensure(events > 1, || format!("{events} events of {scaling:?}"))?;
    Ok(format!(
        "begun {began:.1?} after the load ended; {} workers removed, {events} events",
        scaling.workers_removed_total
    ))
}

pub(super) fn gives_its_reasons() -> Verdict {
    let gateway = one(adaptive(2, 4), instant())?;
    let start = now();
    until_figures(&gateway, "it has looked", |figures| figures.scaling.evaluations_total >= 5)?;
    let scaling = figures(&gateway)?.scaling;
    let held: Vec<_> = scaling.held_total.iter().filter(|(_, count)| **count > 0).collect();
    let sum: u64 = scaling.held_total.values().sum();
    ensure(sum + scaling.up_total + scaling.down_total >= scaling.evaluations_total, || format!("{scaling:?}"))?;
    let took = now().saturating_duration_since(start);
    Ok(format!("{} evaluations in {took:.1?}, each with its reason: {held:?}", scaling.evaluations_total))
}

pub(super) fn golden_rows() -> Verdict {
    let plan = |rate, latency, error_rate| {
        Plan::of(&Optimization {
            rate_limit: Some(rate),
            avg_latency: Some(Duration::from_secs_f64(latency)),
            error_rate: Some(error_rate),
        })
    };
    for (rate, latency, error_rate, workers) in [(100.0, 0.5, 0.05, 53), (0.2, 1.0, 0.0, 1), (10.0, 2.0, 1.0, 40)] {
        let found = plan(rate, latency, error_rate)?;
        ensure((found.workers, found.buffer) == (Some(workers), Some(workers * 3)), || format!("{found:?}"))?;
    }
    ensure(plan(f64::NAN, 1.0, 0.0).is_err() && plan(-1.0, 1.0, 0.0).is_err(), || "NaN or -1 was taken".to_owned())?;
    Ok("100/s of 500 ms, 5 % failing: 53 workers, 159 places; 0.2/s of 1 s: 1 and 3; NaN and -1 refused".to_owned())
}
