//! What a worker shows of itself: its state, what it is at, and what it has done.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::ids::{RequestId, WorkerId};
use crate::metrics::Counter;
use crate::sync::locks::{Leaf, classes};
use crate::sync::{CancelReason, CancelToken};
use crate::time::micros_of;

/// What a worker is doing: the states of the reference page's diagram.
///
/// ```
/// use sluicegate::{ChatRequest, Gateway};
///
/// let gateway = Gateway::from_env()?;
/// let stream = gateway.chat_stream(&ChatRequest::new("sim/lorem-100+gap-100ms", "Hello"))?;
/// let workers = gateway.stats().providers["sim"].per_worker.clone();
/// let busy: Vec<_> = workers.iter().filter(|worker| worker.state.is_busy()).collect();
/// assert_eq!(busy.len(), 1, "the one that relays the stream");
/// println!("it has been at {:?} for {:?} ms", busy[0].request_id, busy[0].current_ms);
/// # drop(stream);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
#[non_exhaustive]
pub enum WorkerState {
    /// Setting itself up.
    Starting,
    /// Waiting for a job.
    Listening,
    /// Preparing a request.
    Processing,
    /// Talking to the provider.
    ApiCall,
    /// Handing the answer over, or relaying a stream.
    Responding,
    /// Ending.
    Shutdown,
}

impl fmt::Display for WorkerState {
    /// The word that `/stats` has for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl WorkerState {
    pub(crate) const ALL: [Self; 6] =
        [Self::Starting, Self::Listening, Self::Processing, Self::ApiCall, Self::Responding, Self::Shutdown];

    /// Whether a job is under way.
    #[must_use]
    pub fn is_busy(self) -> bool {
        matches!(self, Self::Processing | Self::ApiCall | Self::Responding)
    }
}

/// One worker's public side, written by the worker and read by the statistics.
#[derive(Debug)]
pub(crate) struct Face {
    id: WorkerId,
    state: AtomicU8,
    jobs: Counter,
    busy_us: AtomicU64,
    current: Leaf<Option<Current>>,
}

#[derive(Debug)]
struct Current {
    request_id: RequestId,
    since: Instant,
    cancel: CancelToken,
}

impl Face {
    pub(crate) fn new(id: WorkerId) -> Self {
        Self {
            id,
            state: AtomicU8::new(WorkerState::Starting as u8),
            jobs: Counter::new(),
            busy_us: AtomicU64::new(0),
            current: Leaf::new(&classes::FACE, None),
        }
    }

    pub(crate) fn enter(&self, state: WorkerState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn state(&self) -> WorkerState {
        let raw = self.state.load(Ordering::Relaxed);
        WorkerState::ALL.get(usize::from(raw)).copied().unwrap_or(WorkerState::Shutdown)
    }

    /// A job begins; it ends when the guard drops, by panic too.
    pub(crate) fn begin(&self, request_id: &RequestId, cancel: &CancelToken, now: Instant) -> Busy<'_> {
        let current = Current { request_id: request_id.clone(), since: now, cancel: cancel.clone() };
        *self.current.lock() = Some(current);
        self.enter(WorkerState::Processing);
        Busy(self)
    }

    /// Cancels whatever the worker is at.
    pub(crate) fn cancel_current(&self, reason: CancelReason) {
        // The token is taken out first: cancelling takes its own lock, and this one is a leaf.
        let token = self.current.lock().as_ref().map(|current| current.cancel.clone());
        if let Some(token) = token {
            token.cancel_for(reason);
        }
    }

    /// What it has done so far.
    pub(crate) fn tally(&self, now: Instant) -> Tally {
        let running = self.current.lock().as_ref().map(|current| now.saturating_duration_since(current.since));
        Tally {
            jobs: self.jobs.get(),
            served: Duration::from_micros(self.busy_us.load(Ordering::Relaxed)),
            running: running.unwrap_or_default(),
            busy: usize::from(running.is_some()),
        }
    }

    pub(crate) fn row(&self, now: Instant) -> WorkerRow {
        let (request_id, current_ms) = match &*self.current.lock() {
            Some(current) => (
                Some(current.request_id.as_str().to_owned()),
                Some(micros_of(now.saturating_duration_since(current.since)) / 1000),
            ),
            None => (None, None),
        };
        WorkerRow {
            id: self.id,
            state: self.state(),
            jobs_total: self.jobs.get(),
            busy_ms: self.busy_us.load(Ordering::Relaxed) / 1000,
            current_ms,
            request_id,
        }
    }
}

/// What workers have done and are at, to be added up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Jobs ended, and the time that they took.
    pub(crate) jobs: u64,
    pub(crate) served: Duration,
    /// How many are busy, and for how long with their present jobs together.
    pub(crate) busy: usize,
    pub(crate) running: Duration,
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            jobs: self.jobs + other.jobs,
            served: self.served + other.served,
            busy: self.busy + other.busy,
            running: self.running + other.running,
        }
    }
}

/// A job under way on a worker.
#[derive(Debug)]
pub(crate) struct Busy<'a>(&'a Face);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let face = self.0;
        let ended = face.current.lock().take();
        if let Some(current) = ended {
            let spent = micros_of(crate::time::now().saturating_duration_since(current.since));
            face.busy_us.fetch_add(spent, Ordering::Relaxed);
        }
        face.jobs.inc();
        face.enter(WorkerState::Listening);
    }
}

/// One row of `per_worker[]` in `/stats`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct WorkerRow {
    /// Its number.
    pub id: WorkerId,
    /// What it is at.
    pub state: WorkerState,
    /// Jobs that it has taken.
    pub jobs_total: u64,
    /// How long it has worked in all, in milliseconds.
    pub busy_ms: u64,
    /// How long it has been at its present job, in milliseconds.
    pub current_ms: Option<u64>,
    /// The request of that job.
    pub request_id: Option<String>,
}
