//! Claims about what waits and what is served: depth, times, and the kinds of time-out.

use std::thread::scope;
use std::time::Duration;

use serde_json::{Value, json};

use super::rig::{
    Gate, Hearing, Miss, Shared, Verdict, configured, ensure, figures, join, one, pass, pool, refused, rooted, timed,
    until_figures,
};
use crate::error::Code;
use crate::metrics::Dist;
use crate::provider::QueueStats;
use crate::time::{micros_of, now};
use crate::wire::openai::ChatRequest;

/// One worker held for a while, and three jobs that wait for it.
struct Line {
    /// While they waited.
    during: QueueStats,
    after: QueueStats,
    service: Dist,
    /// How long the line was there, and the whole experiment.
    held: Duration,
    took: Duration,
}

static LINE: Shared<Line> = Shared::new();

const WAITING: u64 = 3;

fn line() -> Result<Line, Miss> {
    const HELD: Duration = Duration::from_millis(60);
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(pool(1, 10, "block"), transport)?;
    let (took, outcome) = timed(|| {
        scope(|scope| {
            let mut gate = gate;
            let mut callers = vec![scope.spawn(|| gateway.ask("p/x", "x"))];
            gate.arrived(1)?;
            callers.extend((0..WAITING).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))));
            until_figures(&gateway, "three wait", |figures| figures.queue.depth == WAITING)?;
            let all_wait = now();
            pass(all_wait, HELD)?;
            let during = figures(&gateway)?.queue;
            let held = now().saturating_duration_since(all_wait);
            gate.open();
            for caller in callers {
                join(caller)??;
            }
            Ok::<_, Miss>((during, held))
        })
    });
    let (during, held) = outcome?;
    // A worker tidies up after it has answered.
    until_figures(&gateway, "all is over", |figures| figures.workers.busy == 0 && figures.queue.places_taken == 0)?;
    let figures = figures(&gateway)?;
    Ok(Line { during, after: figures.queue, service: figures.jobs.service_us, held, took })
}

pub(super) fn depth() -> Verdict {
    let Line { during, after, .. } = LINE.of(line)?;
    let seen = (during.depth, during.places_taken, after.depth, after.places_taken, after.high_water);
    ensure(seen == (WAITING, WAITING + 1, 0, 0, WAITING), || format!("{during:?}, then {after:?}"))?;
    Ok(format!("{} waited beside 1 running; afterwards 0, and the deepest was {}", during.depth, after.high_water))
}

pub(super) fn wait_times() -> Verdict {
    let Line { after, held, took, .. } = LINE.of(line)?;
    within("waits", &after.wait_us, *held, *took)?;
    // Three of four waited for all that time.
    let mean = micros_of(*held) * WAITING / (WAITING + 1);
    ensure(after.wait_us.mean >= mean, || format!("{:?}, held for {held:?}", after.wait_us))?;
    Ok(format!("held for {held:.0?}: {}", words(&after.wait_us)))
}

pub(super) fn service_times() -> Verdict {
    let Line { service, held, took, .. } = LINE.of(line)?;
    within("services", service, *held, *took)?;
    Ok(format!("one was held for {held:.0?}: {}", words(service)))
}

/// Four were timed, and the longest lasted at least `held` and no longer than everything together.
fn within(what: &str, dist: &Dist, held: Duration, took: Duration) -> Result<(), Miss> {
    let sane = dist.count == WAITING + 1 && (micros_of(held)..=micros_of(took)).contains(&dist.max);
    ensure(sane && dist.p50 <= dist.p99, || format!("{what}: {dist:?}, of {held:?} in {took:?}"))
}

fn words(dist: &Dist) -> String {
    let Dist { count, mean, p50, p99, max, .. } = dist;
    format!("{count} timed, mean {mean} µs, median {p50}, p99 {p99}, longest {max}")
}

pub(super) fn timeouts_by_kind() -> Verdict {
    let with = |limits: Value| {
        let mut settings = pool(2, 4, "block");
        settings["network_config"] = limits;
        settings
    };
    // A provider for silence has time for its first event.
    let hasty = with(json!({ "default_request_timeout_in_seconds": "60ms", "first_token_timeout": "60ms" }));
    let gateway = configured(
        &rooted(vec![("hasty", hasty), ("talks", with(json!({ "stream_idle_timeout_in_seconds": "60ms" })))]),
        Vec::new(),
    )?;
    let whole = refused(&gateway.ask("hasty/hang", "x"));
    let first = refused(&gateway.chat_stream(&ChatRequest::new("hasty/ttft-5s", "x")));
    let mut stream = gateway.chat_stream(&ChatRequest::new("talks/lorem-9+stall-2", "x"))?;
    let silent = stream.find_map(|chunk| refused(&chunk));
    let kinds = [whole, first, silent];
    let expected = [Code::UpstreamTimeout, Code::FirstTokenTimeout, Code::StreamIdleTimeout].map(Some);
    ensure(kinds == expected, || format!("{kinds:?}"))?;
    let stats = gateway.stats();
    let counted: Vec<_> = expected.iter().flatten().map(|code| stats.errors.get(code.as_str()).copied()).collect();
    ensure(counted == [Some(1); 3], || format!("{:?}", stats.errors))?;
    let late: u64 = stats.providers.values().map(|figures| figures.jobs.timed_out_total).sum();
    ensure(late == 3, || format!("{late} jobs timed out"))?;
    Ok(format!("no answer, no first event, silence: one each of {:?}; {late} jobs timed out", stats.errors.keys()))
}
