//! A provider's part of `/stats`, in its whole shape: `null` where the part is not built, never a made-up number.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::breaker::BreakerStats;
use super::face::WorkerRow;
use super::health::HealthStats;
use super::plan::{Plan, RetryStrategy};
use super::pool::{Pool, PoolPhase, StartupTimes, count_workers};
use super::scaler::Change;
#[cfg(feature = "front")]
use super::series::{Identity, Row};
use crate::config::Optimization;
use crate::metrics::{Dist, PairedStats, Tally};
#[cfg(feature = "front")]
use crate::metrics::{Spread, TIMES_US};
use crate::time::{micros_of, now};
use crate::transport::ConnectionStats;

/// What `/stats` says of one provider.
///
/// ```
/// let gateway = sluicegate::Gateway::from_env()?;
/// gateway.ask("sim/echo", "Hello")?;
/// let sim = &gateway.stats().providers["sim"];
/// println!("{}: {} of {} workers busy, {} wait", sim.phase, sim.workers.busy, sim.workers.active, sim.queue.depth);
/// assert_eq!((sim.queue.submitted_total, sim.jobs.succeeded_total, sim.jobs.retries_total), (1, 1, 0));
/// assert_eq!(sim.breaker.state.to_string(), "closed");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ProviderStats {
    /// Where its pool stands in its life.
    pub phase: PoolPhase,
    /// How long each step of its start took.
    pub startup_us: StartupTimes,
    /// Its workers.
    pub workers: WorkerStats,
    /// Its places, and what became of attempts that asked for one.
    pub queue: QueueStats,
    /// What became of attempts that a worker took.
    pub jobs: JobStats,
    /// Its circuit breaker.
    pub breaker: BreakerStats,
    /// Whether it is there.
    pub health: HealthStats,
    /// Its keys, in the order of the configuration.
    pub keys: Vec<KeyStats>,
    /// Why it has as many workers as it has.
    pub scaling: ScalingStats,
    /// How many it should have by the formula.
    pub optimization: OptimizationStats,
    /// Its connections.
    pub connections: ConnectionStats,
    /// Each worker there is.
    pub per_worker: Vec<WorkerRow>,
    /// What `/metrics` has beside all this.
    #[cfg(feature = "front")]
    #[serde(skip)]
    pub(crate) measured: Measured,
}

/// What is shown of a provider in histograms alone, taken together with the rest.
#[cfg(feature = "front")]
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) identity: Identity,
    pub(crate) rows: Vec<Row>,
    /// In microseconds, by [`TIMES_US`].
    pub(crate) wait: Spread,
    pub(crate) service: Spread,
    pub(crate) first_token: Spread,
}

/// `workers` in `/stats`: `configured` is wanted now, `active = busy + idle` always.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Wanted now.
    pub configured: u64,
    /// The fewest.
    pub min: u64,
    /// The most.
    pub max: u64,
    /// There are.
    pub active: u64,
    /// At work.
    pub busy: u64,
    /// Waiting for work.
    pub idle: u64,
    /// Ever started.
    pub spawned_total: u64,
    /// Ended because there was too little to do.
    pub retired_total: u64,
    /// Ended by a panic.
    pub panics_total: u64,
}

/// `queue` in `/stats`.
///
/// `depth` is how many jobs have a place and no worker is at yet, `high_water` the most there ever were, and `capacity` is
/// `buffer_size`. A job on its way to an idle worker that is just being woken is in `depth`, and so is one that waits for a
/// worker whose last job is answered, its place given on, and who only tidies up: so `depth` is at most `capacity` and the
/// workers of either sort, and `depth` with the jobs that workers have taken never more than `concurrency + buffer_size`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct QueueStats {
    /// What becomes of one that finds no place: `block`, `error`, `drop` or `drop_oldest`.
    pub policy: &'static str,
    /// Attempts that wait for a worker.
    pub depth: u64,
    /// Places to wait: `buffer_size`.
    pub capacity: u64,
    /// The most that ever waited.
    pub high_water: u64,
    /// Places taken now, by jobs that run and jobs that wait; of `concurrency + buffer_size`.
    pub places_taken: u64,
    /// Attempts that came here. Each ends as dropped, rejected, timed out, abandoned or completed.
    pub submitted_total: u64,
    /// Those that got a place.
    pub accepted_total: u64,
    /// Those that a worker took, whatever came of it.
    pub completed_total: u64,
    /// Those that had to wait for a place.
    pub blocked_total: u64,
    /// Shed, by `drop` or `drop_oldest`.
    pub dropped_total: u64,
    /// Refused, by `error`.
    pub rejected_total: u64,
    /// `wait_timeout` passed: the next two together.
    pub timed_out_total: u64,
    /// … before there was a place.
    pub timed_out_space_total: u64,
    /// … before a worker took it.
    pub timed_out_worker_total: u64,
    /// The caller left, the request's deadline passed, or the gateway drained, before a worker took it.
    pub abandoned_total: u64,
    /// How long those waited that a worker took, in microseconds.
    pub wait_us: Dist,
    /// Filled in by whoever keeps samples over time.
    pub throughput_per_s: Option<f64>,
}

/// `jobs` in `/stats`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct JobStats {
    /// Answered.
    pub succeeded_total: u64,
    /// Ended with an error.
    pub failed_total: u64,
    /// Not answered in time.
    pub timed_out_total: u64,
    /// Ended by the caller's leaving.
    pub cancelled_total: u64,
    /// Further tries here.
    pub retries_total: u64,
    /// Requests that went on to another target from here.
    pub fallbacks_total: u64,
    /// Answers that came when nobody waited any more.
    pub results_discarded_total: u64,
    /// Events of streams that were no JSON.
    pub garbage_events_total: u64,
    /// Filled in by whoever keeps samples over time.
    pub error_rate: Option<f64>,
    /// How long the provider took, in microseconds.
    pub service_us: Dist,
    /// How long a stream's first event took, in microseconds.
    pub first_token_us: Dist,
    /// Tokens of requests, as far as the provider counts them.
    pub tokens_in_total: u64,
    /// Tokens of answers.
    pub tokens_out_total: u64,
    /// Whether those that wait longer take longer.
    pub correlation: PairedStats,
}

/// One of `keys` in `/stats`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct KeyStats {
    /// Its name, or its place.
    pub name: String,
    /// Its share.
    pub weight: f64,
    /// `dead` if the provider refuses it, `cooling` if it rests for some model, else `ready`.
    pub state: &'static str,
    /// The models that it rests for, and for how long still.
    pub models: BTreeMap<String, u64>,
    /// How often it was sent.
    pub used_total: u64,
    /// How often the provider answered it with 401, 403 or 429.
    pub failed_total: u64,
}

/// `scaling` in `/stats`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ScalingStats {
    /// Whether the number of workers follows the load.
    pub enabled: bool,
    /// How often it was looked at.
    pub evaluations_total: u64,
    /// How often workers were added.
    pub up_total: u64,
    /// How often some were let go.
    pub down_total: u64,
    /// Workers added.
    pub workers_added_total: u64,
    /// Workers let go.
    pub workers_removed_total: u64,
    /// How often nothing was changed, by reason.
    pub held_total: BTreeMap<&'static str, u64>,
    /// The last change.
    pub last: Option<LastScaling>,
}

/// `last` of `scaling` in `/stats`: the last change of the number of workers.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct LastScaling {
    /// What was changed, and why.
    #[serde(flatten)]
    pub change: Change,
    /// How long ago.
    pub ms_ago: u64,
}

/// `optimization` in `/stats`, and what the command `plan` prints: `null` where the figures needed are not known.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OptimizationStats {
    /// Requests a second that the provider takes.
    pub rate_limit: Option<f64>,
    /// How long an answer takes on average, in milliseconds.
    pub avg_latency: Option<f64>,
    /// The share of jobs that fail.
    pub error_rate: Option<f64>,
    /// Workers by the formula.
    pub optimal_workers: Option<u64>,
    /// Places to wait by the formula.
    pub optimal_buffer: Option<u64>,
    /// The limit of an attempt by the formula, in milliseconds.
    pub timeout_config: Option<f64>,
    /// How to try again, under the names of the keys in `network_config`.
    pub retry_strategy: Option<RetryStrategy>,
}

impl OptimizationStats {
    /// What is known, and the plan made of it.
    #[must_use]
    pub(crate) fn of(known: &Optimization, plan: &Plan) -> Self {
        let millis = |time: Duration| micros_of(time) as f64 / 1000.0;
        Self {
            rate_limit: known.rate_limit,
            avg_latency: known.avg_latency.map(millis),
            error_rate: known.error_rate,
            optimal_workers: plan.workers.map(|workers| workers as u64),
            optimal_buffer: plan.buffer.map(|places| places as u64),
            timeout_config: plan.timeout.map(millis),
            retry_strategy: plan.retries,
        }
    }
}

/// How long jobs have waited and how long they were served, all of them so far.
#[cfg(feature = "front")]
pub(crate) struct Times {
    pub(crate) waits: Tally,
    pub(crate) services: Tally,
}

/// Looks at the times of a pool's jobs.
#[cfg(feature = "front")]
pub(super) fn times(pool: &Pool) -> Times {
    let figures = &pool.shared().figures;
    Times { waits: figures.wait_us.all(), services: figures.service.services() }
}

/// Reads everything a pool shows. Counters are read before the outcomes they lead to, so a sum read in the middle of load
/// is short rather than over.
pub(super) fn take(pool: &Pool) -> ProviderStats {
    let shared = pool.shared();
    let figures = &shared.figures;
    let faces = pool.faces();
    let now = now();
    let (busy, idle) = count_workers(&faces);
    let staffing = &pool.roster.staffing;
    let (min, max) = staffing.limits();
    // Each read once, so that what is said of it in two ways agrees.
    let (wait, service, first_token) =
        (figures.wait_us.all(), figures.service.services(), figures.first_token_us.all());
    let dist = |tally: &Tally| tally.dist().unwrap_or_default();
    ProviderStats {
        phase: shared.phase(),
        startup_us: pool.startup(),
        workers: WorkerStats {
            configured: staffing.wanted() as u64,
            min: min as u64,
            max: max as u64,
            active: busy + idle,
            busy,
            idle,
            spawned_total: figures.spawned.get(),
            retired_total: figures.retired.get(),
            panics_total: figures.panics.get(),
        },
        queue: QueueStats {
            policy: shared.settings.policy.as_str(),
            depth: figures.waiting.get(),
            capacity: staffing.buffer() as u64,
            high_water: figures.waiting.peak(),
            places_taken: shared.permits.taken() as u64,
            submitted_total: figures.submitted.get(),
            accepted_total: figures.accepted.get(),
            completed_total: figures.completed.get(),
            blocked_total: figures.blocked.get(),
            dropped_total: figures.dropped.get(),
            rejected_total: figures.rejected.get(),
            timed_out_total: figures.timed_out_space.get() + figures.timed_out_worker.get(),
            timed_out_space_total: figures.timed_out_space.get(),
            timed_out_worker_total: figures.timed_out_worker.get(),
            abandoned_total: figures.abandoned.get(),
            wait_us: dist(&wait),
            throughput_per_s: None,
        },
        jobs: JobStats {
            succeeded_total: figures.succeeded.get(),
            failed_total: figures.failed.get(),
            timed_out_total: figures.timed_out.get(),
            cancelled_total: figures.cancelled.get(),
            retries_total: figures.retries.get(),
            fallbacks_total: figures.fallbacks.get(),
            results_discarded_total: figures.results_discarded.get(),
            garbage_events_total: figures.garbage_events.get(),
            error_rate: None,
            service_us: dist(&service),
            first_token_us: dist(&first_token),
            tokens_in_total: figures.tokens_in.get(),
            tokens_out_total: figures.tokens_out.get(),
            correlation: figures.service.stats(),
        },
        breaker: shared.gate.breaker.stats(now),
        health: shared.health.stats(now),
        keys: shared.gate.keys.stats(now),
        scaling: staffing.scaling_stats(now),
        optimization: staffing.optimization_stats(),
        connections: shared.attempt.transport.connections(),
        per_worker: faces.iter().map(|face| face.row(now)).collect(),
        #[cfg(feature = "front")]
        measured: Measured {
            identity: shared.attempt.settings.identity.clone(),
            rows: figures.series.rows(),
            wait: wait.spread(&TIMES_US),
            service: service.spread(&TIMES_US),
            first_token: first_token.spread(&TIMES_US),
        },
    }
}
