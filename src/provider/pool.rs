//! A provider's pool: admission by its policy, the lanes, and its life from start to end. Its workers stand in `roster`.
//!
//! **Protocol.** [`Pool::submit`] takes a permit as the policy says, puts a job into its lane and gives the caller a
//! [`Ticket`] to wait on. Workers take jobs from the lanes; the supervisor replaces workers that ended, and hires and
//! retires others as `staffing` says.
//!
//! **Invariants.** I1, I2, I5, I7: nothing here is shared with another provider.
//!
//! **Shutdown.** See `ending`. A submitter that pushed into a lane looks at the phase again, so a job that slipped in behind
//! the sweep is taken back by the one who brought it.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use serde::Serialize;

use super::attempt::Attempt;
use super::breaker::Breaker;
use super::face::{Face, WorkerState};
use super::figures::{Entry, Figures, Unserved};
use super::gate::{Gate, Pass};
use super::health::{Checks, Health};
use super::job::{Job, Payload, Progress};
use super::keys::Keys;
use super::limits::Limits;
use super::listing::Listed;
use super::plan::BUFFER_FACTOR;
use super::roster::Roster;
use super::staffing::{Crew, Staffing};
use super::stock::Stock;
use super::ticket::Ticket;
use super::{ending, health, supervisor};
use crate::config::{self, Optimization, Policy, RateLimit, RateLimits, Scaling, Sizing};
use crate::error::{Code, Error};
use crate::events::Events;
use crate::metrics::{Drain, DrainRate, retry_after};
use crate::model::{Call, Sink, Timing};
use crate::queue::{Lanes, Permits, TakeError};
use crate::recycle::Joint;
use crate::sync::locks::{LockTimes, classes};
use crate::sync::threads::SpawnError;
use crate::sync::{CancelReason, Quit, Role, Slot, Thread, Threads};
use crate::time::{Deadline, micros_of, now};
use crate::wire::crossing::Crossing;

/// How long a pool waits at its start for its workers to report ready.
pub(super) const READY_WAIT: Duration = Duration::from_secs(2);

/// The life of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
#[non_exhaustive]
pub enum PoolPhase {
    /// Made.
    Init,
    /// Its workers are being started.
    Spawning,
    /// Its provider is being checked.
    Checking,
    /// It takes jobs.
    Ready,
    /// It takes the rest of what is under way, nothing new.
    Draining,
    /// It takes nothing.
    Stopped,
}

impl fmt::Display for PoolPhase {
    /// The word that `/stats` has for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl PoolPhase {
    const ALL: [Self; 6] = [Self::Init, Self::Spawning, Self::Checking, Self::Ready, Self::Draining, Self::Stopped];
}

/// How a pool is sized and how it behaves when it is full.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// The provider's name: it stands in thread names and errors.
    pub name: Arc<str>,
    /// The most workers; with [`Sizing::Auto`] until something is known of the provider.
    pub concurrency: usize,
    /// The fewest workers, which is what it starts with.
    pub min_concurrency: usize,
    /// Places beyond the workers.
    pub buffer_size: usize,
    /// Who says how many workers there may be.
    pub sizing: Sizing,
    /// When workers are added and removed.
    pub scaling: Scaling,
    /// What is known of the provider beforehand.
    pub optimization: Optimization,
    /// What happens when no place is free.
    pub policy: Policy,
    /// How long a job waits for a place and a worker together.
    pub wait_timeout: Duration,
    /// The share of takes that look at the batch lane first.
    pub batch_share: f64,
    /// What its provider may be asked for in a minute.
    pub rate_limit: RateLimits,
    /// The same for each of its keys.
    pub key_limits: Vec<RateLimit>,
    /// How long the pool's own locks are waited for.
    pub locks: LockTimes,
    /// When the provider is given a rest.
    pub breaker: config::Breaker,
    /// How it is known whether it is there.
    pub checks: Checks,
}

impl PoolSettings {
    /// A pool that is always `workers` wide, with `buffer_size` places beyond them; whoever finds it full waits for up to
    /// five seconds. All else is as where a configuration says nothing.
    #[must_use]
    pub fn fixed(name: &str, workers: usize, buffer_size: usize) -> Self {
        Self {
            name: name.into(),
            concurrency: workers,
            min_concurrency: workers,
            buffer_size,
            sizing: Sizing::Given,
            scaling: Scaling::default(),
            optimization: Optimization::default(),
            policy: Policy::Block,
            wait_timeout: Duration::from_secs(5),
            batch_share: 0.125,
            rate_limit: RateLimits::default(),
            key_limits: Vec::new(),
            locks: LockTimes::DEFAULT,
            breaker: config::Breaker::default(),
            checks: Checks::NEVER,
        }
    }
}

/// How long each step of the start took, in microseconds; `null` for a step that is not built or not done.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct StartupTimes {
    /// Starting the first workers.
    pub spawn: Option<u64>,
    /// Making the queue.
    pub channels: Option<u64>,
    /// Setting up connections.
    pub resources: Option<u64>,
    /// Looking whether the provider is there.
    pub check: Option<u64>,
}

/// What the workers share. It knows nothing of the roster, so a worker keeps no pool alive.
pub(crate) struct Shared {
    pub(crate) settings: PoolSettings,
    pub(crate) lanes: Lanes<Joint<Job>>,
    pub(crate) permits: Permits,
    pub(crate) figures: Arc<Figures>,
    pub(crate) attempt: Attempt,
    pub(crate) gate: Arc<Gate>,
    pub(crate) health: Arc<Health>,
    pub(super) listed: Listed,
    pub(crate) threads: Threads,
    pub(crate) events: Events,
    pub(super) drain_rate: DrainRate,
    pub(crate) stock: Stock,
    phase: AtomicU8,
}

impl Shared {
    pub(crate) fn phase(&self) -> PoolPhase {
        let raw = self.phase.load(Ordering::SeqCst);
        PoolPhase::ALL.get(usize::from(raw)).copied().unwrap_or(PoolPhase::Stopped)
    }

    pub(super) fn set_phase(&self, phase: PoolPhase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
    }

    /// Takes note of how fast places come free.
    pub(super) fn measure(&self, drain: &mut Drain) {
        self.drain_rate.set(drain.look(now(), self.permits.freed(), self.figures.waiting.get()));
    }

    /// When one who finds the house full should come again.
    pub(super) fn come_again(&self) -> Duration {
        retry_after(self.figures.waiting.get(), self.drain_rate.get())
    }

    /// The error of one whose time to wait is over; `phase` is what it waited for, `space` or `worker`.
    pub(super) fn queue_timeout(&self, phase: &'static str) -> Error {
        let what =
            if phase == "space" { "no place in the queue came free in time" } else { "no worker came free in time" };
        Error::new(Code::QueueTimeout, what).with_phase(phase).with_retry_after(self.come_again())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// An attempt that got no place.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: Error,
    /// The sink, unused.
    pub(crate) sink: Option<Box<dyn Sink>>,
    /// How long it waited.
    pub(crate) timing: Timing,
}

/// A provider's workers and their queue.
pub(crate) struct Pool {
    pub(super) roster: Arc<Roster>,
    startup: StartupTimes,
    /// Its quit signal stands before its handle, so that a drop of both gives the signal first.
    pub(super) supervisor: Slot<(Quit, Thread)>,
    /// Closes with the end of the check that the start waits for.
    first_check: Slot<Receiver<()>>,
}

impl Pool {
    /// Starts a pool: workers first, and returns once they have reported ready. One that takes the place of `before` goes on
    /// counting where that one stands.
    ///
    /// # Errors
    /// If not even one worker could be started.
    pub(crate) fn start(
        settings: PoolSettings,
        attempt: Attempt,
        threads: &Threads,
        events: Events,
        stock: Stock,
        resources: Duration,
        before: Option<&Self>,
    ) -> Result<Self, SpawnError> {
        let begun = now();
        let before = before.map(Self::shared);
        let (places, deepest, most) = places_of(&settings);
        let permits = Permits::new(places);
        let figures = Arc::new(Figures::following(before.map(|before| &*before.figures)));
        figures.series.know(&attempt.settings.identity);
        let gate = {
            let before = before.map(|before| &*before.gate);
            let name = &settings.name;
            let breaker_before = before.map(|before| &before.breaker);
            let breaker = Breaker::new(name, &settings.breaker, events.clone(), begun, breaker_before);
            let keys = Keys::new(name, &attempt.settings.keys, events.clone(), before.map(|before| &*before.keys));
            let limits = Limits::new(&settings.rate_limit, &settings.key_limits, places, begun);
            Arc::new(Gate::new(breaker, keys, limits, Arc::clone(&figures), before))
        };
        let staffing = Staffing::new(&settings, Arc::clone(&figures), permits.clone(), events.clone());
        let shared = Arc::new(Shared {
            lanes: Lanes::new(deepest, settings.batch_share),
            permits,
            gate,
            figures,
            attempt,
            health: Arc::new(Health::new(settings.checks, begun, before.map(|before| &*before.health))),
            listed: Listed::default(),
            threads: threads.clone(),
            events,
            drain_rate: DrainRate::default(),
            stock,
            phase: AtomicU8::new(PoolPhase::Init as u8),
            settings,
        });
        // Two events a worker and some to spare: an event lost for lack of room is made up for at the next tick.
        let (exits, exit_events) = bounded(most.saturating_mul(4).max(64));
        let roster = Arc::new(Roster::new(Arc::clone(&shared), staffing, exits));
        let channels = micros_of(now().saturating_duration_since(begun));

        // Before the workers: they may take every thread that is left, and without it none of them would be replaced.
        let supervisor_quit = Quit::new();
        let supervisor = {
            let weak: Weak<Roster> = Arc::downgrade(&roster);
            let watch = supervisor_quit.watch();
            let name = format!("{}-supervisor", shared.settings.name);
            let bell = shared.lanes.bell().channel().clone();
            threads.service(Role::Supervisor, &name, move || supervisor::run(&weak, &exit_events, &bell, &watch))?
        };

        shared.set_phase(PoolPhase::Spawning);
        let spawning = now();
        let wanted = roster.staffing.wanted();
        let (ready, is_ready) = bounded(wanted);
        let mut refused = None;
        for _ in 0..wanted {
            if let Err(error) = roster.hire(Some(ready.clone())) {
                refused = Some(error);
                break;
            }
        }
        drop(ready);
        if let Some(error) = refused {
            if roster.missing() == wanted {
                return Err(error);
            }
            log::warn!("{}: {} workers are missing: {error}", shared.settings.name, roster.missing());
        }
        let until = Deadline::from(spawning, READY_WAIT);
        let missing = roster.missing();
        for _ in missing..wanted {
            if is_ready.recv_deadline(until.instant()).is_err() {
                log::warn!("{}: not every worker reported ready within {READY_WAIT:?}", shared.settings.name);
                break;
            }
        }
        let spawn = micros_of(now().saturating_duration_since(spawning));

        let first_check = match shared.settings.checks {
            Checks::Made(checks) if checks.on_start => {
                shared.set_phase(PoolPhase::Checking);
                Slot::new(&classes::LIFECYCLE, health::begin(&shared, now()))
            }
            _ => {
                shared.set_phase(PoolPhase::Ready);
                Slot::empty(&classes::LIFECYCLE)
            }
        };
        // From here on a job that finds nobody idle is heard of.
        roster.tend(now(), true);
        let startup = StartupTimes {
            spawn: Some(spawn),
            channels: Some(channels),
            resources: Some(micros_of(resources)),
            check: None,
        };
        let supervisor = Slot::new(&classes::LIFECYCLE, (supervisor_quit, supervisor));
        Ok(Self { roster, startup, supervisor, first_check })
    }

    /// Waits until the check of the start has ended, if there is one, at most until `until`; the pool is ready then.
    pub(crate) fn checked(&self, until: Deadline) {
        if let Some(over) = self.first_check.take() {
            // Nothing is ever sent: it closes.
            let _ = over.recv_deadline(until.instant());
            self.shared().set_phase(PoolPhase::Ready);
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.roster.shared
    }

    pub(crate) fn startup(&self) -> StartupTimes {
        StartupTimes { check: self.shared().health.first_took().map(micros_of), ..self.startup }
    }

    /// The workers' faces; none while the roster is stuck.
    pub(crate) fn faces(&self) -> Vec<Arc<Face>> {
        self.roster.faces().unwrap_or_default()
    }

    /// Hands one attempt in: takes a place as the policy says and puts the job into its lane.
    ///
    /// # Errors
    /// If there is no place, with the code that goes with the policy; the sink comes back.
    pub(crate) fn submit(
        &self,
        call: &Arc<Call>,
        crossing: Crossing,
        model: &Arc<str>,
        pass: Pass,
        progress: &Progress,
        sink: Option<Box<dyn Sink>>,
    ) -> Result<Ticket, Refused> {
        let shared = self.shared();
        let submitted = now();
        let mut wait_until = Deadline::from(submitted, shared.settings.wait_timeout);
        if let Some(deadline) = call.deadline {
            wait_until = wait_until.earlier(deadline);
        }
        let mut entry = Entry::open(&shared.figures);
        let permit = match self.admit(call, wait_until) {
            Ok(permit) => permit,
            Err((outcome, error)) => {
                entry.settle(outcome);
                let timing = Timing { queue: since(submitted), ..Timing::default() };
                return Err(Refused { error: error.with_provider(&shared.settings.name), sink, timing });
            }
        };
        entry.accepted();
        let replies = shared.stock.replies.acquire();
        let mut progress = progress.clone();
        progress.spent.queue += pass.waited();
        let payload = Payload {
            pass,
            permit,
            entry,
            responder: replies.responder(&shared.figures),
            call: Arc::clone(call),
            crossing,
            model: Arc::clone(model),
            submitted,
            wait_until,
            progress,
        };
        let job = shared.stock.jobs.acquire(|job| job.fill(call.priority, payload, sink));
        let pushed = shared.lanes.push(Joint::clone(&job));
        let ticket = Ticket::new(Arc::clone(&self.roster.shared), job, replies, submitted, wait_until);
        if pushed.is_err() {
            // A defect of the lanes; waiting for a worker that never hears of it would only hide it.
            return ticket.withdraw(|| {
                Error::new(Code::Internal, "a lane had no slot for a job that held a permit")
                    .with_provider(&shared.settings.name)
            });
        }
        if shared.phase() == PoolPhase::Stopped {
            // The sweep may have gone by already; whoever takes the payload answers, and no shell is left in a lane.
            let withdrawn = ticket.withdraw(|| stopping(&shared.settings.name));
            ending::sweep(shared);
            return withdrawn;
        }
        Ok(ticket)
    }

    /// A place, or how and why there is none.
    fn admit(&self, call: &Call, wait_until: Deadline) -> Result<crate::queue::Permit, (Unserved, Error)> {
        let shared = self.shared();
        let full = |code, text: &'static str| Error::new(code, text).with_retry_after(shared.come_again());
        let closed = || (Unserved::Abandoned, stopping(&shared.settings.name));
        match (shared.permits.try_take(), shared.settings.policy) {
            (Ok(permit), _) => Ok(permit),
            (Err(TakeError::Closed), _) => Err(closed()),
            (Err(_), Policy::Error) => {
                let text = "every worker is busy and the queue is full (policy error)";
                Err((Unserved::Rejected, full(Code::QueueFull, text)))
            }
            (Err(_), Policy::Drop) => {
                let text = "every worker is busy and the queue is full; the request was dropped (policy drop)";
                Err((Unserved::Dropped, full(Code::RequestDropped, text)))
            }
            (Err(_), Policy::DropOldest) => shared.shed_oldest().map_err(|error| match error {
                TakeError::Closed => closed(),
                TakeError::Cancelled(_) | TakeError::TimedOut => {
                    let text = "every worker is busy and nothing waits that could be dropped (policy drop_oldest)";
                    (Unserved::Dropped, full(Code::RequestDropped, text))
                }
            }),
            (Err(_), Policy::Block) => {
                shared.figures.blocked.inc();
                shared.permits.take(wait_until, &call.cancel).map_err(|error| match error {
                    TakeError::Closed => closed(),
                    TakeError::Cancelled(reason) => (Unserved::Abandoned, cancelled(reason)),
                    TakeError::TimedOut if call.deadline.is_some_and(Deadline::passed) => {
                        (Unserved::Abandoned, shared.queue_timeout("space"))
                    }
                    TakeError::TimedOut => (Unserved::TimedOutSpace, shared.queue_timeout("space")),
                })
            }
        }
    }

    /// Says that nothing new comes; what is under way goes on.
    pub(crate) fn drain(&self) {
        self.shared().set_phase(PoolPhase::Draining);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("settings", &self.shared().settings).finish_non_exhaustive()
    }
}

pub(crate) fn stopping(provider: &str) -> Error {
    Error::new(Code::ShuttingDown, "the gateway is shutting down").with_provider(provider)
}

/// The error for a request that was cancelled.
pub(crate) fn cancelled(reason: CancelReason) -> Error {
    match reason {
        CancelReason::ClientGone => Error::new(Code::ClientClosed, "the client closed its connection"),
        CancelReason::Caller => Error::new(Code::ClientClosed, "the caller cancelled the request"),
        CancelReason::ClientSlow => Error::new(Code::ClientTooSlow, "the client read too slowly for too long"),
        CancelReason::Deadline => Error::new(Code::UpstreamTimeout, "the request's own time limit passed"),
        CancelReason::Shutdown => Error::new(Code::ShuttingDown, "the gateway is shutting down"),
    }
}

/// The workers' part of `/stats`. `active = busy + idle` holds by construction: both are counted in one pass.
pub(crate) fn count_workers(faces: &[Arc<Face>]) -> (u64, u64) {
    let mut counts = (0, 0);
    for face in faces {
        match face.state() {
            state if state.is_busy() => counts.0 += 1,
            WorkerState::Starting | WorkerState::Listening => counts.1 += 1,
            _ => {}
        }
    }
    counts
}

/// How many jobs may be in the house at first, how many ever, and the most workers ever.
fn places_of(settings: &PoolSettings) -> (usize, usize, usize) {
    let places = settings.concurrency + settings.buffer_size;
    match settings.sizing {
        Sizing::Given => (places, places, settings.concurrency),
        Sizing::Auto { most, buffer } => {
            let room = if buffer { settings.buffer_size.max(most * BUFFER_FACTOR) } else { settings.buffer_size };
            (places, most.max(settings.concurrency) + room, most.max(settings.concurrency))
        }
    }
}

/// How long a pool has left of its wait, for the ticket.
pub(crate) fn since(start: Instant) -> Duration {
    now().saturating_duration_since(start)
}
