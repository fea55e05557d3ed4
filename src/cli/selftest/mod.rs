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
mod queueing;
mod rig;
mod scaling;
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
    ("job dispatch: jobs are spread evenly over the workers, within 10 %", workers::spread),
    ("load balancing: a job goes to whichever worker is idle", workers::availability),
    ("worker lifecycle: listening, API call, listening again, with the request's id", workers::lifecycle),
    ("a worker is busy until its stream ends", workers::busy_until_the_stream_ends),
    ("resource pools: connections to the provider are used again", workers::connections_are_reused),
    ("overflow: excess jobs are queued, and all are served", queueing::overflow_is_queued),
    ("backpressure, block: waits for a place, and is served", queueing::block),
    ("backpressure, error: refused exactly past concurrency + buffer", queueing::error),
    ("backpressure, drop: dropped exactly past concurrency + buffer", queueing::drop),
    ("queue wait limit: ends at wait_timeout, and says in which phase", queueing::wait_limit),
    ("an unknown policy, or a size out of bounds, is a configuration error", queueing::refused_by_configuration),
    ("processing time-out: an attempt ends at its limit, and so does its upstream request", endings::processing),
    ("context cancellation: reaches the upstream within 100 ms", endings::cancellation),
    ("result channel: buffered, and a reader that stops holds the provider up", endings::result_buffer),
    ("graceful shutdown: current and waiting jobs are completed, new ones refused", endings::graceful),
    ("shutdown time-out: what is left is cut or answered at the deadline", endings::cut_at_the_deadline),
    ("quit and done channels: every worker ends and is joined", endings::quit),
    ("panic isolation: a worker's panic costs one request, and the worker is replaced", faults::worker_panics),
    ("panic isolation: a thread's panic is caught, counted and told to its owner", faults::thread_panics),
    ("thread limit: past it a spawn is refused, and the place comes back", faults::thread_limit),
    ("thread tracking: each has a name and a number, and its end is recorded", faults::tracking),
    ("channel pool: 85 % hits or more in steady state", memory::hit_ratio),
    ("channel pool: a late result is discarded and counted, and never reaches another request", memory::late_results),
    ("scaling: a burst that finds nobody idle has workers started at once", scaling::grows_on_demand),
    ("scaling: shrinking begins within 2 s + min_interval after the load ended", scaling::shrinks_when_the_load_ends),
    ("scaling: every evaluation has its reason", scaling::gives_its_reasons),
    ("provider optimization: the formula's golden rows", scaling::golden_rows),
    ("lock order: a violation is caught and counted", locks::order),
    ("lock time-out: a lock not had in time names its holder", locks::timeout),
    ("metrics: every submission and every request ends exactly once", figures::balance),
    ("metrics: counters are settled when an answer arrives", figures::settled),
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
