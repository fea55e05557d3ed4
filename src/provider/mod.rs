//! One provider: its pool of workers, its queue, and a single attempt at its upstream.
//!
//! A [`Provider`] is a value of its own: nothing in it is shared with another provider but the object pools, the budget of
//! bytes and the table of threads, so one that hangs or is full leaves the others as they are (I7). It never retries, never routes,
//! and never talks to a client except through the sink that it is handed. Read `job` for who may take what, `ticket` for the
//! waiter's side, `worker` and `attempt` for the other, `source`, `relay` and `rescue` for streams, `pool` for the whole, and
//! for how many workers there are `scaler` (when), `staffing` (how), `roster` (who) and `supervisor` (whose thread).

mod attempt;
mod breaker;
mod budget;
mod classify;
mod credential;
mod ending;
mod face;
mod figures;
mod gate;
mod headers;
mod health;
mod job;
mod keys;
mod limits;
mod listing;
mod paths;
mod plan;
mod pool;
mod relay;
mod rescue;
mod roster;
mod scaler;
#[cfg(feature = "front")]
mod series;
#[cfg(not(feature = "front"))]
#[path = "without_series.rs"]
mod series;
mod shedding;
mod snapshot;
mod source;
mod staffing;
mod stock;
mod supervisor;
mod ticket;
mod vitals;
mod whole;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use attempt::AttemptSettings;
pub use breaker::{BreakerMode, BreakerState, BreakerStats, CircuitStats};
pub(crate) use classify::{Blame, Next, Verdict, judge};
pub use credential::Credential;
#[cfg(feature = "bedrock")]
pub use credential::Signer;
pub use ending::PoolEnd;
pub use face::{WorkerRow, WorkerState};
pub(crate) use gate::KeyReady;
pub(crate) use health::CHECK_TIMEOUT;
pub use health::{Checks, HealthState, HealthStats};
pub use job::{Job, Progress, Reached, ReplyChannel};
pub use keys::KeySettings;
pub use limits::HeldBack;
pub(crate) use listing::{Coming, LIST_TIMEOUT};
pub use paths::Paths;
pub use plan::{Plan, PlanError, RetryStrategy};
pub(crate) use pool::cancelled;
pub use pool::{PoolPhase, PoolSettings, StartupTimes};
pub use scaler::{Change, Direction, Reason};
pub(crate) use series::Asking;
pub use series::Identity;
#[cfg(feature = "front")]
pub(crate) use series::{Row, TIMES_US, TOKENS};
#[cfg(feature = "front")]
pub(crate) use snapshot::Times;
pub use snapshot::{
    JobStats, KeyStats, LastScaling, OptimizationStats, ProviderStats, QueueStats, ScalingStats, WorkerStats,
};
pub use stock::{Pools, Stock};
pub use vitals::{PoolVitals, RunningJob};

use crate::config::Retries;
use crate::error::Error;
use crate::events::Events;
use crate::model::{Call, Operation, Sink, Timing};
use crate::queue::ByteBudget;
use crate::sync::threads::SpawnError;
use crate::sync::{Threads, threads};
use crate::time::{Deadline, now};
use crate::transport::{ConnectionCounts, Transport};
use crate::wire::crossing::Crossing;
use attempt::Attempt;
use budget::RetryBudget;
use ending::Halted;
use pool::{Pool, Refused, since};
use rescue::Heartbeat;
use ticket::Waited;

/// The most times that a request tries one target with another key. It is no retry, and is not paid for like one: each finds out
/// that a key rests, which no later request asks again while it does.
pub(crate) const MOST_ROTATIONS: u32 = 8;

/// A provider that takes attempts.
#[derive(Debug)]
pub struct Provider {
    pool: Pool,
    budget: Arc<RetryBudget>,
}

/// How an attempt ended for the one who waited.
#[derive(Debug)]
pub struct Outcome {
    /// The answer, word that the stream has begun, or the error.
    pub result: Result<Reached, Error>,
    /// Where the time went.
    pub timing: Timing,
    /// The sink, if the attempt did not use it.
    pub sink: Option<Box<dyn Sink>>,
}

/// A provider that has been told to end; its threads are still to be joined.
#[derive(Debug)]
#[must_use = "its threads are to be joined"]
pub struct Halt(Halted);

impl Halt {
    /// Joins the threads that have ended, and waits for none; whether all have.
    pub fn reap(&mut self) -> bool {
        self.0.reap()
    }

    /// Cuts what still runs, and answers what still waits.
    pub fn cut(&mut self) {
        self.0.cut();
    }

    /// Joins the provider's threads until `deadline`.
    pub fn join(self, deadline: Deadline) -> PoolEnd {
        self.0.join(deadline)
    }
}

impl Provider {
    /// Starts the workers of a provider that is reached through `transport`; `resources` is how long that took to make. One that
    /// takes the place of `before`, which has its name, goes on counting where that one stands, and a pause holds on.
    ///
    /// # Errors
    /// If not even one worker could be started.
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own, handed over once by the builder")]
    pub fn start(
        before: Option<&Self>,
        pool: PoolSettings,
        attempt: AttemptSettings,
        transport: Arc<dyn Transport>,
        threads: &Threads,
        events: Events,
        stock: Stock,
        bytes: ByteBudget,
        resources: Duration,
    ) -> Result<Self, SpawnError> {
        let attempt = Attempt { settings: attempt, transport, bytes };
        let pool = Pool::start(pool, attempt, threads, events, stock, resources, before.map(|before| &before.pool))?;
        let budget = before.map_or_else(|| Arc::new(RetryBudget::new(now())), |before| Arc::clone(&before.budget));
        Ok(Self { pool, budget })
    }

    /// The provider's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.pool.shared().settings.name
    }

    /// Where the pool stands in its life.
    #[must_use]
    pub fn phase(&self) -> PoolPhase {
        self.pool.shared().phase()
    }

    /// How much it has to do: its jobs, those that wait among them, for each worker that it may have. Two loads.
    #[must_use]
    pub fn busy(&self) -> f64 {
        let (_, most) = self.pool.roster.staffing.limits();
        self.pool.shared().permits.taken() as f64 / most.max(1) as f64
    }

    /// Whether an attempt at `model` now would be let into the queue, as far as is known without asking for leave.
    #[must_use]
    pub fn takes(&self, model: &str) -> bool {
        let shared = self.pool.shared();
        shared.phase() == PoolPhase::Ready && !shared.gate.is_paused() && !shared.gate.breaker.is_open(Some(model))
    }

    /// Makes one attempt on the calling thread's behalf, and waits for it. With a `sink`, a stream is relayed into it; one that
    /// is held until its end is delivered into it before this returns. A sink that comes back may have begun: comments may
    /// have been sent.
    pub fn attempt(
        &self,
        call: &Arc<Call>,
        model: &Arc<str>,
        progress: &Progress,
        sink: Option<Box<dyn Sink>>,
    ) -> Outcome {
        let shared = self.pool.shared();
        // What is waited for leave, for a place and a worker, and then for the worker's answer.
        let (limit, patience) = (shared.attempt.longest(call), shared.settings.wait_timeout);
        let _due = threads::due(patience.saturating_mul(2).saturating_add(limit));
        let asked = now();
        let settings = &shared.attempt.settings;
        let crossing = Crossing::of(&call.operation, settings.dialects);
        let crossing = match crossing.and_then(|crossing| settings.paths.check(&call.operation).map(|()| crossing)) {
            Ok(crossing) => crossing,
            Err(error) => {
                return Outcome { result: Err(error.with_provider(self.name())), timing: Timing::default(), sink };
            }
        };
        let leave_by = Deadline::from(asked, patience);
        let leave_by = call.deadline.map_or(leave_by, |deadline| deadline.earlier(leave_by));
        let pass = match shared.gate.enter(call, model, leave_by) {
            Ok(pass) => pass,
            Err(error) => {
                let timing = Timing { queue: since(asked), ..Timing::default() };
                return Outcome { result: Err(error.with_provider(self.name())), timing, sink };
            }
        };
        let waited = pass.waited();
        // The sink of a stream that is held stays with the waiter: no other thread ever has it.
        let (given, mut kept) = if shared.attempt.holds(call) { (None, sink) } else { (sink, None) };
        let has_sink = given.is_some();
        let ticket = match self.pool.submit(call, crossing, model, pass, progress, given) {
            Ok(ticket) => ticket,
            Err(Refused { error, sink, mut timing }) => {
                timing.queue += waited;
                return Outcome { result: Err(error), timing, sink: sink.or(kept) };
            }
        };
        let beats = shared.attempt.settings.early_keepalive && crossing.has_comments();
        let heartbeat = kept.as_deref_mut().filter(|_| beats).map(|sink| Heartbeat {
            sink,
            call,
            provider: self.name(),
            model,
            progress,
        });
        let Waited { result, mut timing, sink } = ticket.wait(call, has_sink, heartbeat);
        timing.queue += waited;
        match (result, kept) {
            (Ok(Reached::Answer(answer, bytes)), Some(sink)) => {
                rescue::deliver(sink, call, progress, answer, bytes);
                Outcome { result: Ok(Reached::Streaming), timing, sink: None }
            }
            (result, kept) => Outcome { result, timing, sink: sink.or(kept) },
        }
    }

    /// What a request for `model` is measured by that leads here first.
    pub(crate) fn asking(&self, operation: &Operation, model: &Arc<str>) -> Asking {
        Asking::new(&self.pool.shared().figures, operation, model)
    }

    /// When a failed attempt here is made again.
    #[must_use]
    pub fn retries(&self) -> &Retries {
        &self.pool.shared().attempt.settings.retries
    }

    /// Takes one retry from the provider's budget; `false` if it has none left.
    pub(crate) fn may_retry(&self, now: Instant) -> bool {
        let shared = self.pool.shared();
        let retries = shared.figures.retries.get();
        self.budget.take(now, shared.figures.entered.get().saturating_sub(retries))
    }

    /// When `model` can be asked with a key again, after a failure of `call` that was a key's.
    pub(crate) fn key_ready(&self, call: &Call, blame: Blame, model: &str, now: Instant) -> KeyReady {
        self.pool.shared().gate.key_ready(call, blame, model, now)
    }

    /// What `call` is told if it ends by `error`.
    pub(crate) fn told(&self, call: &Call, error: Error, model: &str, now: Instant) -> Error {
        self.pool.shared().gate.told(call, error, model, now)
    }

    /// Counts a retry.
    pub(crate) fn note_retry(&self) {
        self.pool.shared().figures.retries.inc();
    }

    /// Counts that a request left for another target.
    pub(crate) fn note_fallback(&self) {
        self.pool.shared().figures.fallbacks.inc();
    }

    /// Waits until the check of the start has ended, if there is one, at most until `until`; the pool is ready then.
    pub fn checked(&self, until: Deadline) {
        self.pool.checked(until);
    }

    /// Whether a request sent there now has a chance: the pool takes jobs, and neither its health nor its breaker says that
    /// the provider is not there.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let shared = self.pool.shared();
        let gate = &shared.gate;
        let lets_in = !gate.is_paused() && !gate.breaker.is_open(None);
        shared.phase() == PoolPhase::Ready && shared.health.is_good() && lets_in
    }

    /// Has a worker ask for the provider's own list of its models, until `until` at most.
    ///
    /// # Errors
    /// If nothing new is let in.
    pub(crate) fn list_models(&self, until: Deadline) -> Result<Coming, Error> {
        listing::begin(self.pool.shared(), until)
    }

    /// Opens or closes the breaker by hand, or leaves it to what is counted.
    pub fn set_breaker(&self, mode: BreakerMode) {
        self.pool.shared().gate.breaker.set_mode(mode);
    }

    /// Says that nothing new comes; what is under way goes on.
    pub fn drain(&self) {
        self.pool.drain();
    }

    /// Takes over once more what `before` knows that outlives it, just before it takes its place.
    pub fn follow(&self, before: &Self) {
        self.pool.shared().gate.breaker.follow(&before.pool.shared().gate.breaker);
    }

    /// Says that it has taken the place of another.
    pub fn took_over(&self) {
        let shared = self.pool.shared();
        shared.health.speak(true);
        shared.gate.breaker.stand();
    }

    /// Says that another has taken its place, or none: what is under way goes on, and nothing more is told of it.
    pub fn replaced(&self) {
        self.drain();
        self.pool.shared().gate.fall_silent();
        health::fall_silent(self.pool.shared());
    }

    /// Ends providers but for their threads: cuts what still runs, answers what still waits.
    pub fn halt_all(providers: &[Arc<Self>]) -> Vec<Halt> {
        let pools: Vec<_> = providers.iter().map(|provider| &provider.pool).collect();
        let halted = Pool::halt_all(&pools);
        pools.iter().for_each(|pool| pool.shared().attempt.transport.retire());
        halted.into_iter().map(Halt).collect()
    }

    /// Lets nothing new in from now on, or does again. What is under way goes on.
    pub fn set_paused(&self, paused: bool) {
        self.pool.shared().gate.set_paused(paused);
    }

    /// Whether nothing new is let in.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pool.shared().gate.is_paused()
    }

    /// Ends a provider that nobody can reach any more: idle workers at once, busy ones with what they are at.
    pub fn release(&self) -> Halt {
        let halted = self.pool.release();
        self.pool.shared().attempt.transport.retire();
        Halt(halted)
    }

    /// Longer than a request has anything to do with this provider, by its limits: all tries, those with another key among
    /// them, each with its waits, its pause and a whole stream.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let (pool, attempt) = (&self.pool.shared().settings, &self.pool.shared().attempt.settings);
        let retries = attempt.retries;
        let waits = pool.wait_timeout.saturating_mul(2).saturating_add(retries.backoff.max.max(retries.patience));
        let attempt = attempt.request_timeout.saturating_add(attempt.stream_max_duration);
        waits.saturating_add(attempt).saturating_mul(retries.most.saturating_add(1 + MOST_ROTATIONS))
    }

    /// What is counted of the provider's connections, for one that takes its place.
    #[must_use]
    pub fn connection_counts(&self) -> Option<Arc<ConnectionCounts>> {
        self.pool.shared().attempt.transport.counts()
    }

    /// What a watchdog should see.
    #[must_use]
    pub fn vitals(&self, now: Instant) -> PoolVitals {
        vitals::take(&self.pool, now)
    }

    /// The provider's part of `/stats`.
    #[must_use]
    pub fn stats(&self) -> ProviderStats {
        snapshot::take(&self.pool)
    }

    /// How long its jobs took so far.
    #[cfg(feature = "front")]
    pub(crate) fn times(&self) -> Times {
        snapshot::times(&self.pool)
    }
}
