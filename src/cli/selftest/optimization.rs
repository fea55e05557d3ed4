//! Claims about the provider-optimization formula, and about what follows it.

use std::time::Duration;

use crossbeam_channel::never;
use serde_json::json;

use super::rig::{Miss, Verdict, echo, ensure, figures, instant, one, pool, until_figures};
use crate::config::Optimization;
use crate::provider::{Plan, PlanError, RetryStrategy};
use crate::transport::{MemoryTransport, Outgoing};

fn plan(rate: f64, latency: f64, error_rate: f64) -> Result<Plan, PlanError> {
    Plan::of(&Optimization {
        rate_limit: Some(rate),
        avg_latency: Some(Duration::from_secs_f64(latency)),
        error_rate: Some(error_rate),
    })
}

pub(super) fn golden_rows() -> Verdict {
    for (rate, latency, error_rate, workers) in
        [(100.0, 0.5, 0.05, 53), (0.2, 1.0, 0.0, 1), (10.0, 2.0, 0.0, 20), (10.0, 2.0, 1.0, 40)]
    {
        let found = plan(rate, latency, error_rate)?;
        ensure((found.workers, found.buffer) == (Some(workers), Some(workers * 3)), || format!("{found:?}"))?;
    }
    Ok("100/s of 500 ms, 5 % failing: 53 workers, 159 places; 0.2/s of 1 s: 1 and 3; all failing: twice as many"
        .to_owned())
}

pub(super) fn timeout_and_retries() -> Verdict {
    let mut words = Vec::new();
    let mut before: Option<RetryStrategy> = None;
    for (latency, error_rate, timeout) in [(0.1, 0.0, 1.0), (2.0, 0.05, 4.0), (3.0, 0.5, 6.0)] {
        let found = plan(10.0, latency, error_rate)?;
        let retries = found.retries.ok_or_else(|| Miss::new("no retries are proposed"))?;
        ensure(found.timeout == Some(Duration::from_secs_f64(timeout)), || format!("{found:?}"))?;
        let more = before.is_none_or(|before| {
            retries.max_retries > before.max_retries && retries.retry_backoff_initial > before.retry_backoff_initial
        });
        ensure(more, || format!("{before:?}, then {retries:?}"))?;
        let RetryStrategy { max_retries, retry_backoff_initial, .. } = retries;
        words.push(format!(
            "{latency} s, {:.0} % failing: {timeout} s, {max_retries} retries from {retry_backoff_initial} ms",
            error_rate * 100.0
        ));
        before = Some(retries);
    }
    Ok(words.join("; "))
}

pub(super) fn refused() -> Verdict {
    let wrong = [(f64::NAN, 0.0), (-1.0, 0.0), (f64::INFINITY, 0.0), (1.0, f64::NAN), (1.0, 1.5), (1.0, -0.1)];
    let mut words = Vec::new();
    for (rate, error_rate) in wrong {
        let error = plan(rate, 1.0, error_rate).err();
        let error = error.ok_or_else(|| Miss::new(format!("rate {rate}, error rate {error_rate}: taken")))?;
        words.push(error.to_string());
    }
    Ok(format!("{} refused, such as: {}", words.len(), words.first().map_or("", String::as_str)))
}

pub(super) fn observed() -> Verdict {
    const CALLS: usize = 12;
    const TAKES: Duration = Duration::from_millis(5);
    let limits = [("x-ratelimit-limit-requests", "100"), ("x-ratelimit-reset-requests", "1s")];
    let transport = MemoryTransport::new(move |request: &Outgoing<'_>, _| {
        let _ = never::<()>().recv_timeout(TAKES);
        let mut answer = echo(request);
        answer.headers.extend(limits.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Ok(answer)
    });
    let gateway = one(pool(2, 4, "block"), std::sync::Arc::new(transport))?;
    let before = figures(&gateway)?.optimization;
    ensure(before.rate_limit.is_none() && before.optimal_workers.is_none(), || format!("{before:?}"))?;
    for _ in 0..CALLS {
        gateway.ask("p/x", "x")?;
    }
    until_figures(&gateway, "the figures are there", |figures| figures.optimization.optimal_workers.is_some())?;
    let found = figures(&gateway)?.optimization;
    ensure((found.rate_limit, found.error_rate) == (Some(100.0), Some(0.0)), || format!("{found:?}"))?;
    let latency = found.avg_latency.ok_or_else(|| Miss::new("no latency is known"))?;
    ensure(latency >= TAKES.as_secs_f64() * 1000.0, || format!("{found:?}"))?;
    let workers = (100.0 * latency / 1000.0).ceil() as u64;
    let optimal = (found.optimal_workers, found.optimal_buffer);
    ensure(optimal == (Some(workers), Some(workers * 3)), || format!("{found:?}"))?;
    Ok(format!(
        "{CALLS} calls: 100 requests a second by its headers, {latency:.1} ms, 0 % failing: {workers} workers, {} places",
        workers * 3
    ))
}

pub(super) fn auto() -> Verdict {
    let mut settings = pool(1, 1, "block");
    settings["concurrency_and_buffer_size"] = json!({ "concurrency": "auto" });
    settings["optimization"] = json!({ "rate_limit": 100, "avg_latency": "500ms", "error_rate": 0.05 });
    let gateway = one(settings, instant())?;
    until_figures(&gateway, "it is sized", |figures| (figures.workers.max, figures.queue.capacity) == (53, 159))?;
    gateway.ask("p/x", "x")?;
    Ok("\"auto\" at 100/s of 500 ms, 5 % failing: at most 53 workers and 159 places".to_owned())
}
