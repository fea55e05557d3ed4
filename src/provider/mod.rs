//! One provider: its pool of workers, its queue, and a single attempt at its upstream.
//!
//! A [`Provider`] is a value of its own: nothing in it is shared with another provider but the object pools, the budget of
//! bytes and the table of threads, so one that hangs or is full leaves the others as they are (I7). It never retries, never routes,
//! and never talks to a client except through the sink that it is handed. Read `job` for who may take what, `ticket` for the
//! waiter's side, `worker` and `attempt` for the other, `source`, `relay` and `rescue` for streams, `pool` for the whole, and
//! for how many workers there are `scaler` (when), `staffing` (how), `roster` (who) and `supervisor` (whose thread).

mod attempt;
mod budget;
mod classify;
mod ending;
mod face;
mod figures;
mod gate;
mod headers;
mod job;
mod plan;
mod pool;
mod relay;
mod rescue;
mod roster;
mod scaler;
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

pub use attempt::{AttemptSettings, Paths};
pub(crate) use classify::{Blame, Next, judge};
pub use ending::PoolEnd;
pub use face::{WorkerRow, WorkerState};
pub(crate) use gate::KeyReady;
pub use job::{Job, Progress, Reached, ReplyChannel};
pub use plan::{Plan, PlanError, RetryStrategy};
pub(crate) use pool::cancelled;
pub use pool::{PoolPhase, PoolSettings, StartupTimes};
pub use scaler::{Change, Direction, Reason};
pub use snapshot::{
    BreakerStats, HealthStats, JobStats, KeyStats, LastScaling, OptimizationStats, ProviderStats, QueueStats,
    ScalingStats, WorkerStats,
};
pub use stock::{Pools, Stock};
pub use vitals::{PoolVitals, RunningJob};

use crate::config::Retries;
use crate::error::Error;
use crate::events::Events;
use crate::model::{Call, Sink, Timing};
use crate::queue::ByteBudget;
use crate::sync::threads::SpawnError;
use crate::sync::{Threads, threads};
use crate::time::{Deadline, now};
use crate::transport::Transport;
use attempt::Attempt;
use budget::RetryBudget;
use ending::Halted;
use pool::{Pool, Refused, since};
use rescue::Heartbeat;
use ticket::Waited;

/// A provider that takes attempts.
#[derive(Debug)]
pub struct Provider {
    pool: Pool,
    budget: RetryBudget,
    key_name: Option<String>,
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
    /// Joins the provider's threads until `deadline`.
    pub fn join(self, deadline: Deadline) -> PoolEnd {
        self.0.join(deadline)
    }
}

impl Provider {
    /// Starts the workers of a provider that is reached through `transport`; `resources` is how long that took to make.
    ///
    /// # Errors
    /// If not even one worker could be started.
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own, handed over once by the builder")]
    pub fn start(
        pool: PoolSettings,
        attempt: AttemptSettings,
        key_name: Option<String>,
        transport: Arc<dyn Transport>,
        threads: &Threads,
        events: Events,
        stock: Stock,
        bytes: ByteBudget,
        resources: Duration,
    ) -> Result<Self, SpawnError> {
        let attempt = Attempt { settings: attempt, transport, bytes };
        let pool = Pool::start(pool, attempt, threads, events, stock, resources)?;
        Ok(Self { pool, budget: RetryBudget::new(now()), key_name })
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
        let leave_by = Deadline::from(asked, patience);
        let leave_by = call.deadline.map_or(leave_by, |deadline| deadline.earlier(leave_by));
        let pass = match shared.gate.enter(call, model, leave_by) {
            Ok(pass) => pass,
            Err(error) => {
                let timing = Timing { queue: since(asked), ..Timing::default() };
                return Outcome { result: Err(error.with_provider(self.name())), timing, sink };
            }
        };
        // The sink of a stream that is held stays with the waiter: no other thread ever has it.
        let (given, mut kept) = if shared.attempt.holds(call) { (None, sink) } else { (sink, None) };
        let has_sink = given.is_some();
        let ticket = match self.pool.submit(call, model, pass, progress, given) {
            Ok(ticket) => ticket,
            Err(Refused { error, sink, timing }) => {
                return Outcome { result: Err(error), timing, sink: sink.or(kept) };
            }
        };
        let heartbeat = kept.as_deref_mut().filter(|_| shared.attempt.settings.early_keepalive).map(|sink| Heartbeat {
            sink,
            call,
            provider: self.name(),
            model,
            progress,
        });
        let Waited { result, timing, sink } = ticket.wait(call, has_sink, heartbeat);
        match (result, kept) {
            (Ok(Reached::Answer(answer, bytes)), Some(sink)) => {
                rescue::deliver(sink, call, progress, answer, bytes);
                Outcome { result: Ok(Reached::Streaming), timing, sink: None }
            }
            (result, kept) => Outcome { result, timing, sink: sink.or(kept) },
        }
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
        self.budget.take(now, shared.gate.entered.get().saturating_sub(retries))
    }

    /// When `model` can be asked with a key again, after a failure that was a key's.
    pub(crate) fn key_ready(&self, blame: Blame, model: &str, now: Instant) -> KeyReady {
        self.pool.shared().gate.key_ready(blame, model, now)
    }

    /// Counts a retry.
    pub(crate) fn note_retry(&self) {
        self.pool.shared().figures.retries.inc();
    }

    /// Counts that a request left for another target.
    pub(crate) fn note_fallback(&self) {
        self.pool.shared().figures.fallbacks.inc();
    }

    /// Says that nothing new comes; what is under way goes on.
    pub fn drain(&self) {
        self.pool.drain();
    }

    /// Ends providers but for their threads: cuts what still runs, answers what still waits.
    pub fn halt_all(providers: &[Arc<Self>]) -> Vec<Halt> {
        let pools: Vec<_> = providers.iter().map(|provider| &provider.pool).collect();
        let halted = Pool::halt_all(&pools);
        pools.iter().for_each(|pool| pool.shared().attempt.transport.retire());
        halted.into_iter().map(Halt).collect()
    }

    /// What a watchdog should see.
    #[must_use]
    pub fn vitals(&self, now: Instant) -> PoolVitals {
        vitals::take(&self.pool, now)
    }

    /// The provider's part of `/stats`.
    #[must_use]
    pub fn stats(&self) -> ProviderStats {
        snapshot::take(&self.pool, self.key_name.as_deref())
    }
}
