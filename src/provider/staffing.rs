//! How many workers a pool has and why: what the scaler decides is carried out, counted, and told.
//!
//! **Protocol.** The supervisor alone raises and lowers what is wanted, so that a burst of submitters, each of whom has only
//! rung the lanes' bell, comes to one decision instead of one each, and no two of them count the same waiting job. At each
//! wake it counts what stands for itself; at each look it also samples the load and evaluates.
//!
//! **Crew.** What the decisions are made from and carried out on is a [`Crew`]: the roster of a pool and its lanes, or, in the
//! simulation, a model of both in virtual time, which takes every step that is taken here.
//!
//! **Starting.** A hired worker counts as starting until it has taken its first job, and each is good for one job that
//! stands. It stops to count only *after* it has taken its job, and rings the bell then if another one stands, since that
//! one may have been counted as its own meanwhile.
//!
//! **Invariants.** I2: who starts is a guard. I4: never more workers, the leaving included, than there may be.
//!
//! **Lock order.** The scaler's lock is held while one decision is made and carried out, as on the concurrency page, by the
//! supervisor and once by the pool's start beside it. Threads are started and told to end under it, which makes it a
//! [`ChannelLock`]; it ranks outside the roster. What the statistics read lies beside it, in atomics and leaves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::face::Tally;
use super::figures::Figures;
use super::plan::{BUFFER_FACTOR, Plan};
use super::pool::PoolSettings;
use super::roster::{Census, Whom};
use super::scaler::{Change, Crowd, Decision, Direction, Hold, Limits, Load, Reason, Scaler};
use super::snapshot::{LastScaling, OptimizationStats, ScalingStats};
use crate::config::{Optimization, Sizing};
use crate::events::Events;
use crate::metrics::{CountGuard, Gauge};
use crate::queue::Permits;
use crate::sync::locks::{ChannelLock, Leaf, classes};
use crate::sync::threads::SpawnError;
use crate::time::micros_of;

/// How long the scaler's lock is waited for: it is held while a burst's workers are started.
const SCALING_WAIT: Duration = Duration::from_secs(1);

/// What mean latency and error rate are over, how often they are sampled, and from how many jobs on they say something.
const OBSERVED: Duration = Duration::from_secs(60);
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const LEAST_JOBS: u64 = 10;

/// How often `"auto"` is re-evaluated, and by what part its figure must differ to be followed.
const SIZE_EVERY: Duration = Duration::from_secs(10);
const SIZE_STEP: usize = 10;

/// Whom a pool's strength is decided for: who is there, what stands, and the hands that hire and retire.
pub(super) trait Crew {
    /// Who is there; `None` if that cannot be told now. What was to be decided by it waits for the next look then.
    fn census(&self) -> Option<Census>;

    /// How many workers are missing of those that are wanted; none as far as cannot be told.
    fn missing(&self) -> usize;

    /// What all workers have done since the pool's start, and how many are at it; `None` if that cannot be told now: a sum
    /// without some of them would be less than the last one.
    fn tally(&self, now: Instant) -> Option<Tally>;

    /// Jobs that stand in the lanes.
    fn standing(&self) -> usize;

    /// The fewest workers that were idle at a time since this was last asked.
    fn fewest_idle(&self) -> usize;

    /// Starts one worker.
    fn enlist(&self) -> Result<(), SpawnError>;

    /// Tells at most `most` workers to end; how many it told.
    fn retire(&self, most: usize, whom: Whom) -> usize;

    /// Whether the bell of a job that finds nobody idle is to be heard from now on; it rings if one has come just before.
    fn listen(&self, armed: bool);
}

/// A pool's strength.
pub(crate) struct Staffing {
    name: Arc<str>,
    events: Events,
    figures: Arc<Figures>,
    permits: Permits,
    enabled: bool,
    given: Optimization,
    sizing: Sizing,
    wanted: AtomicUsize,
    min: AtomicUsize,
    max: AtomicUsize,
    buffer: AtomicUsize,
    starting: Arc<Gauge>,
    last: Leaf<Option<(Change, Instant)>>,
    known: Leaf<Optimization>,
    kept: Leaf<Tally>,
    control: ChannelLock<Control>,
}

/// What belongs to whoever holds the scaler's lock.
struct Control {
    scaler: Scaler,
    least: usize,
    samples: VecDeque<Sample>,
    sized: Option<Instant>,
    /// Growth on demand that is counted and not yet told: it goes on until the next look.
    untold: Option<Change>,
    /// No more threads were to be had at the last try, which was told.
    refused: bool,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    jobs: u64,
    served: Duration,
    ended: u64,
    failed: u64,
}

impl Staffing {
    pub(crate) fn new(settings: &PoolSettings, figures: Arc<Figures>, permits: Permits, events: Events) -> Self {
        let enabled = settings.scaling.enabled;
        let max = settings.concurrency;
        let limits = Limits { min: if enabled { settings.min_concurrency.min(max) } else { max }, max };
        let control = Control {
            scaler: Scaler::new(settings.scaling.clone(), limits),
            least: settings.min_concurrency,
            samples: VecDeque::new(),
            sized: None,
            untold: None,
            refused: false,
        };
        Self {
            name: Arc::clone(&settings.name),
            events,
            figures,
            permits,
            enabled,
            given: settings.optimization,
            sizing: settings.sizing,
            wanted: AtomicUsize::new(limits.min),
            min: AtomicUsize::new(limits.min),
            max: AtomicUsize::new(max),
            buffer: AtomicUsize::new(settings.buffer_size),
            starting: Arc::default(),
            last: Leaf::new(&classes::STAFFING, None),
            known: Leaf::new(&classes::STAFFING, settings.optimization),
            kept: Leaf::new(&classes::STAFFING, Tally::default()),
            control: ChannelLock::new(&classes::SCALING, settings.locks, control),
        }
    }

    /// How many workers are wanted now.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted.load(Ordering::SeqCst)
    }

    /// The fewest and the most that there may be.
    pub(crate) fn limits(&self) -> (usize, usize) {
        (self.min.load(Ordering::Relaxed), self.max.load(Ordering::Relaxed))
    }

    /// How many jobs may wait.
    pub(crate) fn buffer(&self) -> usize {
        self.buffer.load(Ordering::Relaxed)
    }

    /// One more worker that has not taken its first job.
    pub(crate) fn starting(&self) -> CountGuard {
        self.starting.enter()
    }

    /// Keeps what a worker that has ended has done.
    pub(crate) fn keep(&self, tally: Tally) {
        let mut kept = self.kept.lock();
        *kept = *kept + tally;
    }

    pub(crate) fn kept(&self) -> Tally {
        *self.kept.lock()
    }

    fn hold(&self, hold: Hold) {
        self.figures.held[hold as usize].inc();
    }

    pub(crate) fn scaling_stats(&self, now: Instant) -> ScalingStats {
        let last = *self.last.lock();
        ScalingStats {
            enabled: self.enabled,
            evaluations_total: self.figures.evaluations.get(),
            up_total: self.figures.ups.get(),
            down_total: self.figures.downs.get(),
            workers_added_total: self.figures.workers_added.get(),
            workers_removed_total: self.figures.workers_removed.get(),
            held_total: Hold::ALL
                .iter()
                .map(|hold| (hold.as_str(), self.figures.held[*hold as usize].get()))
                .collect::<BTreeMap<_, _>>(),
            last: last.map(|(change, at)| LastScaling {
                change,
                ms_ago: micros_of(now.saturating_duration_since(at)) / 1000,
            }),
        }
    }

    pub(crate) fn optimization_stats(&self) -> OptimizationStats {
        let known = *self.known.lock();
        // What was given was checked when it was read, and what was observed is in its bounds by how it was counted.
        OptimizationStats::of(&known, &Plan::of(&known).unwrap_or_default())
    }

    /// Looks after `crew`'s strength, which is manned and has nobody on it that has ended: evaluates if it is time for a look,
    /// grows for what stands, and hires whoever is missing.
    pub(super) fn tend(&self, crew: &impl Crew, now: Instant, is_look: bool) {
        let mut control = match self.control.lock(SCALING_WAIT) {
            Ok(control) => control,
            Err(error) => return log::error!("{}: nobody could look after its workers this time: {error}", self.name),
        };
        // Also after a refusal: whoever has just ended left a thread, and the bell is not armed again before the next look.
        let mut may_hire = true;
        if is_look {
            self.look(crew, &mut control, now, &mut may_hire);
        }
        self.fill(crew, &mut control, &mut may_hire);
        self.meet_demand(crew, &mut control, now, &mut may_hire);
        if is_look {
            // A look that nobody was refused in ends the refusal, also where it had nobody to hire: the next one is told.
            control.refused &= !may_hire;
            self.tell(&mut control);
        }
        let is_room = |census: Census| self.wanted() + census.leaving < self.limits().1;
        let room = crew.census().is_some_and(is_room);
        drop(control);
        crew.listen(self.enabled && may_hire && room);
    }

    /// Samples the load, sizes the pool if that is wanted, and evaluates.
    fn look(&self, crew: &impl Crew, control: &mut Control, now: Instant, may_hire: &mut bool) {
        let Some((census, tally)) = crew.census().zip(crew.tally(now)) else { return };
        let known = control.observe(now, &tally, &self.figures, &self.given);
        *self.known.lock() = known;
        self.size(control, now, &known);
        if !self.enabled && self.sizing == Sizing::Given {
            return;
        }
        let busy_at_most = census.present.saturating_sub(crew.fewest_idle());
        let load = Load {
            workers: self.wanted(),
            leaving: census.leaving,
            busy: tally.busy,
            peak: busy_at_most.max(tally.busy),
            waiting: crew.standing(),
            capacity: self.buffer(),
            jobs: tally.jobs,
            served: tally.served,
            running: tally.running,
        };
        self.figures.evaluations.inc();
        match control.scaler.evaluate(now, &load) {
            Decision::Hold(hold) => self.hold(hold),
            Decision::Change(change) => self.carry_out(crew, control, now, change, may_hire),
        }
    }

    /// Grows if jobs stand that no starting worker is on its way to.
    fn meet_demand(&self, crew: &impl Crew, control: &mut Control, now: Instant, may_hire: &mut bool) {
        if !self.enabled || !*may_hire {
            return;
        }
        let Some(census) = crew.census() else { return };
        let workers = self.wanted();
        let crowd = Crowd {
            workers,
            starting: self.starting.get() as usize + workers.saturating_sub(census.present),
            leaving: census.leaving,
            standing: crew.standing(),
        };
        if let Some(change) = control.scaler.demand(&crowd) {
            self.carry_out(crew, control, now, change, may_hire);
        }
    }

    /// Adds or removes workers as decided, and records what came of it.
    fn carry_out(&self, crew: &impl Crew, control: &mut Control, now: Instant, decided: Change, may_hire: &mut bool) {
        match decided.direction {
            Direction::Up => {
                self.wanted.store(decided.to, Ordering::SeqCst);
                self.fill(crew, control, may_hire);
            }
            Direction::Down => {
                // A limit holds whether anybody is idle or not.
                let whom = if decided.reason == Reason::Limits { Whom::Any } else { Whom::Idle };
                let told = crew.retire(decided.from.saturating_sub(decided.to), whom);
                self.wanted.store(decided.from - told, Ordering::SeqCst);
            }
        }
        let to = self.wanted();
        match decided.direction {
            // It was counted when a thread was refused. There may be even fewer: whoever ended meanwhile was not replaced.
            Direction::Up if to <= decided.from => {}
            Direction::Down if to == decided.from => self.hold(Hold::NobodyIdle),
            _ => self.record(control, now, Change { to, ..decided }),
        }
    }

    /// Hires who is missing. Where no more threads are to be had, no more are wanted than there are, but the least: whoever
    /// needs more asks again at the next look.
    fn fill(&self, crew: &impl Crew, control: &mut Control, may_hire: &mut bool) {
        if !*may_hire {
            return;
        }
        for _ in 0..crew.missing() {
            if let Err(error) = crew.enlist() {
                *may_hire = false;
                self.refused(crew, control, &error.to_string());
                return;
            }
            control.refused = false;
        }
    }

    fn refused(&self, crew: &impl Crew, control: &mut Control, error: &str) {
        self.hold(Hold::ThreadLimit);
        let Some(Census { present, .. }) = crew.census() else { return };
        let (min, _) = self.limits();
        self.wanted.store(self.wanted().min(present.max(min)), Ordering::SeqCst);
        if !std::mem::replace(&mut control.refused, true) {
            let name = &self.name;
            log::warn!("{name}: it stays at {present} workers for now: {error}");
            self.events.push("scaling", name, format!("held at {present} workers, thread_limit: {error}"));
        }
    }

    /// Counts a change. Growth on demand that follows growth on demand before the next look is one decision that goes on.
    fn record(&self, control: &mut Control, now: Instant, change: Change) {
        control.scaler.changed(now);
        match change.direction {
            Direction::Up => self.figures.workers_added.add((change.to - change.from) as u64),
            Direction::Down => self.figures.workers_removed.add((change.from - change.to) as u64),
        }
        let goes_on = control.untold.filter(|untold| change.reason == Reason::Demand && untold.to == change.from);
        let change = Change { from: goes_on.map_or(change.from, |untold| untold.from), ..change };
        if goes_on.is_none() {
            self.tell(control);
            match change.direction {
                Direction::Up => self.figures.ups.inc(),
                Direction::Down => self.figures.downs.inc(),
            }
        }
        *self.last.lock() = Some((change, now));
        control.untold = Some(change);
        if change.reason != Reason::Demand {
            self.tell(control);
        }
    }

    /// Tells of what was counted and not told, in the log and among the events.
    fn tell(&self, control: &mut Control) {
        let Some(Change { from, to, reason, .. }) = control.untold.take() else { return };
        let name = &self.name;
        log::info!("{name}: {from} -> {to} workers ({})", reason.as_str());
        self.events.push("scaling", name, format!("{from} -> {to} workers ({})", reason.as_str()));
    }

    /// Follows the provider-optimization formula where the configuration says `"auto"`.
    fn size(&self, control: &mut Control, now: Instant, known: &Optimization) {
        let Sizing::Auto { most, buffer } = self.sizing else { return };
        if control.sized.is_some_and(|sized| now.saturating_duration_since(sized) < SIZE_EVERY) {
            return;
        }
        let Some(plan) = Plan::of(known).ok().filter(|plan| plan.workers.is_some()) else { return };
        let is_known = control.sized.replace(now).is_some();
        let max = plan.workers.unwrap_or(1).clamp(control.least.min(most), most);
        let (_, before) = self.limits();
        if max == before || is_known && max.abs_diff(before) <= before / SIZE_STEP {
            return;
        }
        let min = if self.enabled { control.least.min(max) } else { max };
        let places = if buffer { max * BUFFER_FACTOR } else { self.buffer() };
        self.min.store(min, Ordering::Relaxed);
        self.max.store(max, Ordering::Relaxed);
        self.buffer.store(places, Ordering::Relaxed);
        self.permits.set_capacity(max + places);
        control.scaler.set_limits(Limits { min, max });
        let name = &self.name;
        let text = format!("sized to at most {max} workers and {places} places, from {before} workers");
        log::info!("{name}: {text}");
        self.events.push("scaling", name, text);
    }
}

impl Control {
    /// What is known of the provider: what was given, else what was seen in the last minute.
    fn observe(&mut self, now: Instant, tally: &Tally, figures: &Figures, given: &Optimization) -> Optimization {
        let failed = figures.failed.get() + figures.timed_out.get();
        let ended = failed + figures.succeeded.get() + figures.cancelled.get();
        let sample = Sample { at: now, jobs: tally.jobs, served: tally.served, ended, failed };
        while self.samples.front().is_some_and(|first| now.saturating_duration_since(first.at) > OBSERVED) {
            self.samples.pop_front();
        }
        if self.samples.back().is_none_or(|last| now.saturating_duration_since(last.at) >= SAMPLE_EVERY) {
            self.samples.push_back(sample);
        }
        let first = self.samples.front().copied().unwrap_or(sample);
        let (jobs, ended) = (sample.jobs - first.jobs, sample.ended.saturating_sub(first.ended));
        let latency = (jobs >= LEAST_JOBS).then(|| (sample.served - first.served).div_f64(jobs as f64));
        let error_rate = (ended >= LEAST_JOBS).then(|| (sample.failed - first.failed) as f64 / ended as f64);
        Optimization {
            rate_limit: given.rate_limit.or_else(|| figures.rate_limit.get()),
            avg_latency: given.avg_latency.or(latency),
            error_rate: given.error_rate.or(error_rate),
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
