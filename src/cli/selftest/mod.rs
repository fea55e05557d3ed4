//! `selftest`: the claims of the concurrency page that are built, each tried on a gateway of this process.
//!
//! A claim is a sentence that a user can read on the page and a check that can fail: it builds what the claim is about,
//! does to it what the claim speaks of, and compares what was measured. Nothing leaves this process, but for the simulated
//! provider's loopback sockets. What is not built yet is not listed. Read `rig` for what the claims are tried on; the other
//! files are named for what their claims are about.

mod endings;
mod faults;
mod figures;
mod locks;
mod memory;
mod objects;
mod optimization;
mod planes;
mod queueing;
mod ranges;
mod rates;
mod resting;
mod rig;
mod scaling;
mod shedding;
mod starting;
mod threads;
mod waits;
mod watch;
mod workers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde::Serialize;

use super::args::Selftest;
use super::output::{Failure, result};
use crate::sync::threads::panic_text;
use crate::time::now;
use rig::{Miss, Verdict};

/// A claim, and how it is tried.
type Claim = (&'static str, fn() -> Verdict);

/// Every claim, in the order of the page.
const CLAIMS: &[Claim] = &[
    ("provider isolation: one that hangs with a full queue leaves another's answers alone", workers::isolation),
    ("worker pre-spawning: the pool is ready before its first job", workers::spawned_before_the_first_job),
    ("startup: channels, connections and workers are each timed", starting::phases),
    ("startup: as many workers as min_concurrency says, or all where nothing scales", starting::fewest_first),
    ("worker counts: configured and actual are told apart where threads run short", starting::short_of_threads),
    ("ready state: ready once every pool is up, and no longer when it drains", planes::probes),
    ("job dispatch: jobs are spread evenly over the workers, idle ones and saturated ones", workers::spread),
    ("load balancing: a job goes to whichever worker is idle", workers::availability),
    ("worker lifecycle: listening, API call, listening again, with the request's id", workers::lifecycle),
    ("a worker is busy until its stream ends", workers::busy_until_the_stream_ends),
    ("per-worker figures: jobs and busy time add up", rates::per_worker),
    ("worker counts: active = busy + idle at every look, under load", rates::rows_add_up),
    ("resource pools: connections to the provider are used again", workers::connections_are_reused),
    ("overflow: excess jobs are queued, and all are served", queueing::overflow_is_queued),
    ("queue depth: what waits is told, and the deepest that it was", waits::depth),
    ("backpressure, block: waits for a place, and is served", queueing::block),
    ("backpressure, error: refused exactly past concurrency + buffer", queueing::error),
    ("backpressure, drop: dropped exactly past concurrency + buffer", queueing::drop),
    ("backpressure, drop_oldest: each newcomer sheds the one that has waited longest", shedding::drop_oldest),
    ("backpressure: a refusal says when to come again, by the measured drain rate", shedding::come_again),
    ("backpressure: a place comes back at once when its waiter leaves", shedding::places_come_back),
    ("backpressure: past max_buffered_bytes a request is refused, and never queued", shedding::byte_budget),
    (
        "metrics: accepted, blocked, rejected, dropped and completed are counted under each policy",
        queueing::counted_by_policy,
    ),
    ("lanes: batch keeps its share while both wait, and gets what is left", shedding::batch_share),
    ("queue wait limit: ends at wait_timeout, and says in which phase", queueing::wait_limit),
    ("an unknown policy, or a size out of bounds, is a configuration error", queueing::refused_by_configuration),
    ("job queue buffer: 100 to 1000; outside a warning, beyond 1 to 1,000,000 an error", ranges::buffer_size),
    ("worker pool size: 10 to 100; outside a warning, beyond the thread limit an error", ranges::concurrency),
    ("result buffer: 50 to 500; outside a warning, beyond 1 to 65,536 an error", ranges::result_buffer),
    ("queue wait limits: 1 to 10 s; outside a warning, beyond 10 min an error", ranges::wait_timeout),
    ("processing time-outs: 30 to 300 s; outside a warning, beyond 10 ms to 24 h an error", ranges::request_timeout),
    ("shutdown time-outs: 5 to 30 s; outside a warning, beyond 1 h an error", ranges::shutdown_timeout),
    ("processing time-out: an attempt ends at its limit, and so does its upstream request", endings::processing),
    ("time-outs at work: no answer, no first event and silence are counted by kind", waits::timeouts_by_kind),
    ("context cancellation: reaches the upstream within 100 ms", endings::cancellation),
    ("result channel: buffered, and a reader that stops holds the provider up", endings::result_buffer),
    ("graceful shutdown: current and waiting jobs are completed, new ones refused", endings::graceful),
    ("shutdown time-out: what is left is cut or answered at the deadline", endings::cut_at_the_deadline),
    ("quit and done channels: every worker ends and is joined", endings::quit),
    ("panic isolation: a worker's panic costs one request, and the worker is replaced", faults::worker_panics),
    ("panic logging: told with the worker, the request, and what was said", faults::panics_are_told),
    ("panic isolation: a thread's panic is caught, counted and told to its owner", faults::thread_panics),
    ("panic recovery: the gateway's own threads go on, counted and alerted", threads::services_restart),
    ("circuit breaker: what fails is given a rest, tried by one probe, and comes back", resting::breaks_and_comes_back),
    (
        "initial health checks: a provider that does not answer starts unhealthy, and its pool is up",
        resting::checked_at_the_start,
    ),
    ("thread limit: past it a spawn is refused, and the place comes back", faults::thread_limit),
    ("thread limit: derived from the system's, and a refusal says which one", threads::derived_limit),
    ("thread limit: connections leave threads to workers, and both to whoever looks after them", threads::kept_free),
    ("thread limit: being near it is alerted, until there is room again", watch::near_the_limit),
    ("thread tracking: each has a name and a number, and its end is recorded", faults::tracking),
    ("thread lifetimes: measured for each, with percentiles by role", threads::lifetimes),
    ("thread states: running, waiting for a channel or a lock, I/O; jobs are counted by role", threads::states),
    ("thread completion: the last 256 that ended are remembered", threads::ended_ring),
    ("idle time-outs: a connection's thread that is not needed ends", planes::idle_thread_ends),
    ("health checks: the watchdog comes round at its interval", watch::comes_round),
    ("health checks: a thread past its deadline is counted and alerted, until it goes on", watch::stuck),
    ("blocked operations: who is held up is counted, and for how long", watch::held_up_is_blocked),
    ("blocked operations: idle threads are not counted", watch::idle_is_not_blocked),
    ("leak prevention: after every outcome threads, places and channels are back", threads::nothing_leaks),
    ("resource leak prevention: room is acquired under a time-out, and given back", shedding::room_under_a_time_limit),
    ("object pools: channels, jobs, responses and buffers, each on the way of a request", objects::each_kind),
    (
        "object pools: 85 % hits or more of channels, 80 % of jobs, 70 % of responses and buffers, steady",
        memory::hit_ratios,
    ),
    ("object pools: acquisitions, hits, misses and returns are counted, and add up", objects::counted),
    ("object pools: one use in 64 is timed, its acquisition, its reset and its return", objects::timed_one_in_64),
    ("object pools: each object has a number, and the times of its life", objects::numbered_and_timed),
    ("object pools: an object marked for one use is discarded", objects::used_once),
    ("object pools: memory in use, idle and used again is told", objects::memory),
    ("object pools: no object is with two threads at a time", objects::never_shared),
    ("object pools: an object is reset before its next use, or discarded and counted", memory::reset),
    ("object pools: idle objects are bounded, and swept by age", memory::bounded),
    ("object pools: a starved pool raises its alert, and clears it once the load is steady", memory::starved),
    ("channel pool: a late result is discarded and counted, and never reaches another request", memory::late_results),
    ("scaling: a burst that finds nobody idle has workers started at once", scaling::grows_on_demand),
    ("scaling: never more workers than concurrency says", scaling::never_more_than_the_most),
    ("scaling: a busy pool grows by up_factor before anybody waits", scaling::grows_before_anybody_waits),
    ("scaling: min_interval holds growth ahead back, and nobody who needs a worker now", scaling::interval),
    (
        "scaling: shrinking begins within 2 s + min_interval after the load ended, a quarter at a time",
        scaling::shrinks_when_the_load_ends,
    ),
    ("scaling: where threads run out growth is held, and says so", scaling::held_by_the_thread_limit),
    ("scaling: every evaluation has its reason", scaling::gives_its_reasons),
    ("provider optimization: the formula's golden rows", optimization::golden_rows),
    ("provider optimization: time-out twice the latency, retries by the error rate", optimization::timeout_and_retries),
    ("provider optimization: what is no rate and no share is refused", optimization::refused),
    (
        "provider optimization: rate, latency and error rate are observed, and what follows shown",
        optimization::observed,
    ),
    ("provider optimization: concurrency auto sizes the pool by it", optimization::auto),
    ("lock order: a violation is caught and counted", locks::order),
    ("lock registry: each order of two locks is observed once, with both its sites", locks::registry),
    ("lock time-out: a lock not had in time names its holder", locks::timeout),
    ("lock time-out: by default default_timeout, and never more than max_timeout", locks::default_and_most),
    ("multi-lock: sorted whatever order is asked for; if one is not had, none is kept", locks::several),
    ("channel lock: taken in a select without waiting, and given back whatever happens", locks::in_a_select),
    ("channel lock: a cancel ends the wait, and the token comes back", locks::cancelled),
    ("deadlock detection: a lock that is held for long is alerted", locks::held_for_long),
    ("deadlock: found, ended at the cost of one wait, learned, and refused the third time", locks::deadlock),
    ("throughput: requests and jobs a second, over the last minute", rates::throughput),
    ("queue wait: each job's is timed, with percentiles", waits::wait_times),
    ("response time: each job's is timed, with percentiles", waits::service_times),
    ("error rate: the share of jobs that failed, over the last minute", rates::error_rate),
    ("errors: counted by what went wrong", rates::errors_by_kind),
    ("metrics: every submission and every request ends exactly once", figures::balance),
    ("performance correlation: service times by queue wait, and how far the two go together", shedding::correlation),
    ("metrics: counters are settled when an answer arrives", figures::settled),
    ("JSON export: GET /stats has every key of the interface", planes::every_key),
];

/// How one claim came out.
#[derive(Debug, Serialize)]
struct Row {
    claim: &'static str,
    ok: bool,
    measured: String,
    ms: u128,
}

#[derive(Debug, Serialize)]
struct Report {
    claims: Vec<Row>,
    failed: usize,
}

pub(super) fn run(command: &Selftest) -> Result<(), Failure> {
    let _quiet = Quiet::begin();
    let mut claims = Vec::with_capacity(CLAIMS.len());
    for claim in CLAIMS {
        let row = check(*claim);
        if !command.json {
            result(&line(&row))?;
        }
        claims.push(row);
    }
    let (tried, failed) = (claims.len(), claims.iter().filter(|row| !row.ok).count());
    if command.json {
        let text = serde_json::to_string_pretty(&Report { claims, failed })
            .map_err(|error| Failure::Job(error.to_string()))?;
        result(&format!("{text}\n"))?;
    } else {
        result(&format!("\n{} of {tried} claims hold\n", tried - failed))?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Job(format!("{failed} of {tried} claims do not hold"))),
    }
}

fn check((claim, check): Claim) -> Row {
    let start = now();
    let outcome = catch_unwind(AssertUnwindSafe(check))
        .unwrap_or_else(|panic| Err(Miss::new(format!("the check panicked: {}", panic_text(&*panic)))));
    let took: Duration = now().saturating_duration_since(start);
    let (ok, measured) = match outcome {
        Ok(measured) => (true, measured),
        Err(miss) => (false, miss.into_text()),
    };
    Row { claim, ok, measured, ms: took.as_millis() }
}

fn line(row: &Row) -> String {
    format!("{:<4}  {}\n      {} ({} ms)\n", if row.ok { "ok" } else { "MISS" }, row.claim, row.measured, row.ms)
}

/// While it lives, the panics and warnings that the claims provoke on purpose are not shown; setting RUST_LOG shows them.
struct Quiet(Option<log::LevelFilter>);

impl Quiet {
    fn begin() -> Self {
        if std::env::var_os("RUST_LOG").is_some() {
            return Self(None);
        }
        let level = log::max_level();
        log::set_max_level(log::LevelFilter::Off);
        std::panic::set_hook(Box::new(|_| {}));
        Self(Some(level))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(level) = self.0 {
            log::set_max_level(level);
            // The standard one.
            let _ = std::panic::take_hook();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_misses_or_panics_is_a_miss() {
        let missed = check(("a", || Err(Miss::new("3 of 4"))));
        assert_eq!((missed.ok, missed.measured.as_str()), (false, "3 of 4"));
        let panicked = check(("b", || panic!("of its own accord")));
        assert!(!panicked.ok && panicked.measured.contains("of its own accord"), "{panicked:?}");
        assert!(check(("c", || Ok(String::new()))).ok);
    }

    #[test]
    fn no_claim_is_listed_twice() {
        let names: std::collections::BTreeSet<_> = CLAIMS.iter().map(|(claim, _)| claim).collect();
        assert_eq!(names.len(), CLAIMS.len());
    }
}
