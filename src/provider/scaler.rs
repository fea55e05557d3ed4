//! When workers are added and removed: the concurrency page's `EvaluateScaling`, pure.
//!
//! It knows no clock, no thread and no channel: `now` and the load are handed in, and what comes out is a decision with its
//! reason, which `staffing` carries out. What was carried out is reported back by [`Scaler::changed`].
//!
//! **Rule.** Up, when the queue is fuller than `up_threshold` or answers take longer than `max_response`, by `up_factor`;
//! down, when both are below their lower bounds, by `down_factor`; neither within `min_interval` of the last change.
//! Departures and additions, each for what the page's rule alone would do to a pool of LLM calls:
//! - **Demand.** A job that finds nobody idle has a worker started at once, whatever the interval ([`Scaler::demand`]): by
//!   the page's rule alone 56 of 500 queued jobs are reason to shrink.
//! - **Response time counts only while work waits**: an answer of ten seconds is no sign of trouble in itself.
//! - **Utilisation** (busy worker time over worker time) above `up_threshold` adds workers before anybody has to wait for
//!   one, and none are removed unless it is below `down_threshold`.
//! - **Peaks.** As many stay as were busy at once in the last minutes, so that a steady load with its ups and downs does not
//!   have workers end and begin all day; once a load has ended, which is a last peak below a third of `down_threshold` of
//!   the workers, only that peak counts, so that shrinking begins within two seconds and an interval.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config::Scaling;

/// What utilisation, response time and the last peak are over. Together with one look of the supervisor's (a quarter of a
/// second) it is the two seconds within which shrinking begins.
pub(super) const WINDOW: Duration = Duration::from_millis(1750);

/// The least history that utilisation is judged by.
const LEAST_HISTORY: Duration = Duration::from_millis(700);

/// How long peaks are remembered while a load goes on. Each peak undone and met again is two changes of direction, so that
/// two minutes keep them to one a minute.
const MEMORY: Duration = Duration::from_secs(120);

/// How finely peaks are remembered.
const BUCKET: Duration = Duration::from_secs(10);

/// The part of `down_threshold` below which the last peak says that a load has ended. A mean would say so now and then of a
/// steady load of a few jobs.
const ENDED: f64 = 1.0 / 3.0;

/// How many workers there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) min: usize,
    pub(crate) max: usize,
}

/// A pool's load at one moment. Times and jobs are sums since the pool's start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// Workers wanted.
    pub(crate) workers: usize,
    /// Workers that were told to end and have not: they count against the most there may be.
    pub(crate) leaving: usize,
    /// Workers busy now, and the most at once since the last look.
    pub(crate) busy: usize,
    pub(crate) peak: usize,
    /// Jobs that wait for a worker, and how many may.
    pub(crate) waiting: usize,
    pub(crate) capacity: usize,
    /// Jobs ended, and the workers' time that they took.
    pub(crate) jobs: u64,
    pub(crate) served: Duration,
    /// The workers' time so far of the jobs under way.
    pub(crate) running: Duration,
}

/// Who is there, when jobs stand in the lanes and nobody is idle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    /// Workers wanted.
    pub(crate) workers: usize,
    /// Those of them that have not taken their first job: each is good for one that stands.
    pub(crate) starting: usize,
    pub(crate) leaving: usize,
    /// Jobs that stand in the lanes.
    pub(crate) standing: usize,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the explanation")]
#[non_exhaustive]
pub enum Direction {
    Up,
    Down,
}

/// Why workers were added or removed.
///
/// ```
/// use sluicegate::stats::Reason;
/// use sluicegate::{ChatRequest, Concurrency, Gateway, ProviderSetup};
///
/// let sim = ProviderSetup::sim("sim").concurrency(Concurrency::between(1, 4));
/// let gateway = Gateway::builder().provider(sim).build()?;
/// // A stream keeps the only worker busy, so that the next request needs another.
/// let stream = gateway.chat_stream(&ChatRequest::new("sim/lorem-100+gap-100ms", "Hello"))?;
/// assert_eq!(gateway.ask("sim/echo", "Hello")?, "Hello");
/// let last = gateway.stats().providers["sim"].scaling.last.ok_or("it has as many as before")?;
/// println!("{} workers in place of {}: {}", last.change.to, last.change.from, last.change.reason.as_str());
/// assert_eq!(last.change.reason, Reason::Demand);
/// # drop(stream);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// A job found nobody idle.
    Demand,
    /// The queue is fuller than `up_threshold`.
    Queue,
    /// Work waits, and answers take longer than `max_response`.
    Response,
    /// The workers are busy for more of their time than `up_threshold`, or for less than `down_threshold`.
    Utilisation,
    /// The load has ended.
    LoadEnded,
    /// The least or the most that there may be was changed.
    Limits,
}

impl Reason {
    /// Its name, as in `/stats`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Demand => "demand",
            Self::Queue => "queue",
            Self::Response => "response",
            Self::Utilisation => "utilisation",
            Self::LoadEnded => "load_ended",
            Self::Limits => "limits",
        }
    }
}

/// Why nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Least and most are the same.
    Fixed,
    /// There is not enough history yet.
    NoHistory,
    /// The load is between the thresholds.
    Steady,
    /// The last change was less than `min_interval` ago.
    Interval,
    AtMax,
    AtMin,
    /// As many were busy at once not long ago.
    RecentPeak,
    /// Work waits, and answers take longer than `target_response`.
    SlowResponse,
    /// No more threads are to be had.
    ThreadLimit,
    /// Nobody who could be removed is idle.
    NobodyIdle,
}

impl Hold {
    pub(crate) const ALL: [Self; 10] = [
        Self::Fixed,
        Self::NoHistory,
        Self::Steady,
        Self::Interval,
        Self::AtMax,
        Self::AtMin,
        Self::RecentPeak,
        Self::SlowResponse,
        Self::ThreadLimit,
        Self::NobodyIdle,
    ];

    /// Its name in `held_total`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::NoHistory => "no_history",
            Self::Steady => "steady",
            Self::Interval => "interval",
            Self::AtMax => "at_max",
            Self::AtMin => "at_min",
            Self::RecentPeak => "recent_peak",
            Self::SlowResponse => "slow_response",
            Self::ThreadLimit => "thread_limit",
            Self::NobodyIdle => "nobody_idle",
        }
    }
}

/// A change of the number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// Which way.
    pub direction: Direction,
    /// From so many workers.
    pub from: usize,
    /// To so many.
    pub to: usize,
    /// Why.
    pub reason: Reason,
}

/// What an evaluation comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Change(Change),
    Hold(Hold),
}

/// Decides for one pool.
#[derive(Debug)]
pub(crate) struct Scaler {
    rule: Scaling,
    limits: Limits,
    changed: Option<Instant>,
    /// The looks of the last [`WINDOW`], oldest first.
    looks: VecDeque<Look>,
    /// The highest peak of each [`BUCKET`] of the last [`MEMORY`], by its beginning.
    peaks: VecDeque<(Instant, usize)>,
}

/// What one look found; times are sums.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    workers: usize,
    busy: Duration,
    offered: Duration,
    jobs: u64,
    served: Duration,
    /// The most busy at once since the look before.
    peak: usize,
}

/// What the looks of the window come to.
#[derive(Clone, Copy, Debug)]
struct Recent {
    /// None without enough history.
    utilisation: Option<f64>,
    response: Option<Duration>,
    peak: usize,
}

impl Scaler {
    pub(crate) fn new(rule: Scaling, limits: Limits) -> Self {
        Self { rule, limits, changed: None, looks: VecDeque::new(), peaks: VecDeque::new() }
    }

    /// There may be fewer or more from now on.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The number of workers was changed now: the interval begins anew.
    pub(crate) fn changed(&mut self, now: Instant) {
        self.changed = Some(now);
    }

    /// How many more workers the jobs that stand are worth; `None` if no more.
    pub(crate) fn demand(&self, crowd: &Crowd) -> Option<Change> {
        let to = demanded(crowd, self.limits.max);
        let change = Change { direction: Direction::Up, from: crowd.workers, to, reason: Reason::Demand };
        (to > crowd.workers).then_some(change)
    }

    /// Looks at the load and decides.
    pub(crate) fn evaluate(&mut self, now: Instant, load: &Load) -> Decision {
        let recent = self.look(now, load);
        match self.wish(load, &recent) {
            // A change of the limits is carried out when it comes.
            Decision::Change(change) if change.reason != Reason::Limits && self.is_too_soon(now) => {
                Decision::Hold(Hold::Interval)
            }
            decision => decision,
        }
    }

    fn is_too_soon(&self, now: Instant) -> bool {
        self.changed.is_some_and(|changed| now.saturating_duration_since(changed) < self.rule.min_interval)
    }

    fn wish(&self, load: &Load, recent: &Recent) -> Decision {
        let Limits { min, max } = self.limits;
        let from = load.workers;
        let change = |direction, to, reason| Decision::Change(Change { direction, from, to, reason });
        if from > max {
            return change(Direction::Down, max, Reason::Limits);
        }
        if from < min {
            return change(Direction::Up, min, Reason::Limits);
        }
        if min == max {
            return Decision::Hold(Hold::Fixed);
        }
        if let Some(reason) = self.reason_to_grow(load, recent) {
            let ceiling = max.saturating_sub(load.leaving);
            let to = scaled(from, self.rule.up_factor).max(from + 1).min(ceiling);
            return if to > from { change(Direction::Up, to, reason) } else { Decision::Hold(Hold::AtMax) };
        }
        let Some(utilisation) = recent.utilisation else { return Decision::Hold(Hold::NoHistory) };
        if queue_use(load) >= self.rule.down_threshold || utilisation >= self.rule.down_threshold {
            return Decision::Hold(Hold::Steady);
        }
        if load.waiting > 0 && recent.response.is_some_and(|response| response >= self.rule.target_response) {
            return Decision::Hold(Hold::SlowResponse);
        }
        if from == min {
            return Decision::Hold(Hold::AtMin);
        }
        let ended = recent.peak as f64 <= from as f64 * self.rule.down_threshold * ENDED;
        let long_ago = self.peaks.iter().map(|(_, peak)| *peak).max().unwrap_or(0);
        let (peak, reason) = if ended { (recent.peak, Reason::LoadEnded) } else { (long_ago, Reason::Utilisation) };
        let to = scaled(from, self.rule.down_factor).min(from - 1).max(min).max(peak);
        if to < from { change(Direction::Down, to, reason) } else { Decision::Hold(Hold::RecentPeak) }
    }

    fn reason_to_grow(&self, load: &Load, recent: &Recent) -> Option<Reason> {
        if queue_use(load) > self.rule.up_threshold {
            return Some(Reason::Queue);
        }
        if load.waiting > 0 && recent.response.is_some_and(|response| response > self.rule.max_response) {
            return Some(Reason::Response);
        }
        let busy = recent.utilisation.is_some_and(|utilisation| utilisation > self.rule.up_threshold);
        busy.then_some(Reason::Utilisation)
    }

    /// Keeps what is to be remembered of the load, and sums the window up.
    fn look(&mut self, now: Instant, load: &Load) -> Recent {
        let busy = load.served + load.running;
        let offered = self.looks.back().map_or(Duration::ZERO, |last| {
            let passed = now.saturating_duration_since(last.at);
            last.offered + passed.mul_f64(last.workers as f64)
        });
        let Load { workers, jobs, served, peak, .. } = *load;
        self.looks.push_back(Look { at: now, workers, busy, offered, jobs, served, peak });
        while self.looks.front().is_some_and(|look| now.saturating_duration_since(look.at) > WINDOW) {
            self.looks.pop_front();
        }
        self.remember(now, peak);
        let Some(first) = self.looks.front() else { return Recent { utilisation: None, response: None, peak } };
        let enough = now.saturating_duration_since(first.at) >= LEAST_HISTORY;
        let share = |part: Duration, whole: Duration| part.as_secs_f64() / whole.as_secs_f64();
        let offered = offered.saturating_sub(first.offered);
        let utilisation = (enough && !offered.is_zero()).then(|| share(busy.saturating_sub(first.busy), offered));
        let ended = u32::try_from(jobs.saturating_sub(first.jobs)).unwrap_or(u32::MAX);
        // Where nothing has ended, what runs says at least how long an answer takes.
        let response = match (ended, u32::try_from(load.busy)) {
            (0, Ok(1..)) => Some(load.running / load.busy as u32),
            (0, _) => None,
            _ => Some(served.saturating_sub(first.served) / ended),
        };
        // The first look's peak lies before the window.
        let peak = self.looks.iter().skip(1).map(|look| look.peak).max().unwrap_or(peak);
        Recent { utilisation, response, peak }
    }

    fn remember(&mut self, now: Instant, peak: usize) {
        match self.peaks.back_mut().filter(|(begun, _)| now.saturating_duration_since(*begun) < BUCKET) {
            Some((_, highest)) => *highest = peak.max(*highest),
            None => self.peaks.push_back((now, peak)),
        }
        while self.peaks.front().is_some_and(|(begun, _)| now.saturating_duration_since(*begun) > MEMORY + BUCKET) {
            self.peaks.pop_front();
        }
    }
}

/// How many workers there should be, that no job stands for want of one: the jobs beyond those that a starting worker is on
/// its way to, as far as there is room.
pub(crate) fn demanded(crowd: &Crowd, max: usize) -> usize {
    let unserved = crowd.standing.saturating_sub(crowd.starting);
    (crowd.workers + unserved).min(max.saturating_sub(crowd.leaving)).max(crowd.workers)
}

fn queue_use(load: &Load) -> f64 {
    if load.capacity == 0 { 0.0 } else { load.waiting as f64 / load.capacity as f64 }
}

/// The page's `int(float64(workers) * factor)`.
fn scaled(workers: usize, factor: f64) -> usize {
    (workers as f64 * factor) as usize
}

#[cfg(test)]
mod tests;
