//! What a pool shows to whoever watches over it: cheap to take, and more than numbers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::face::WorkerState;
use super::limits::HeldBack;
use super::pool::Pool;

/// A pool at one moment.
#[derive(Clone, Debug)]
pub struct PoolVitals {
    /// The provider's name.
    pub provider: Arc<str>,
    /// What its workers are at.
    pub running: Vec<RunningJob>,
    /// Workers that wait for a job. One between two jobs does not, though its row in `/stats` says that it listens: of a
    /// busy pool somebody is between two jobs at many a look.
    pub idle: usize,
    /// How long a job may wait for a place and a worker.
    pub wait_timeout: Duration,
    /// How long the job that a worker would take next has waited; `None` if none does.
    pub queue_head: Option<Duration>,
    /// What its rate limits hold back, if they have held anything back lately.
    pub held_back: Option<HeldBack>,
}

/// A job that a worker is at.
#[derive(Clone, Debug)]
pub struct RunningJob {
    /// The worker's thread.
    pub thread: String,
    /// The request's id.
    pub request_id: String,
    /// Since when the worker has had it.
    pub age: Duration,
    /// Whether it is a stream that is being relayed: a whole answer is handed over at once.
    pub streams: bool,
}

pub(super) fn take(pool: &Pool, now: Instant) -> PoolVitals {
    let (faces, settings) = (pool.faces(), &pool.shared().settings);
    let running = faces.iter().map(|face| face.row(now)).filter_map(|row| {
        let (request_id, age_ms) = row.request_id.zip(row.current_ms)?;
        Some(RunningJob {
            thread: format!("{}-worker-{}", settings.name, row.id.0),
            request_id,
            age: Duration::from_millis(age_ms),
            streams: row.state == WorkerState::Responding,
        })
    });
    PoolVitals {
        provider: Arc::clone(&settings.name),
        running: running.collect(),
        idle: pool.shared().lanes.idle(),
        wait_timeout: settings.wait_timeout,
        queue_head: queue_head(pool, now),
        held_back: pool.shared().gate.held_back(now),
    }
}

/// How long the job at the queue's head has waited. For up to `wait_timeout` it may be one whose waiter has left since.
fn queue_head(pool: &Pool, now: Instant) -> Option<Duration> {
    let shared = pool.shared();
    let head = || shared.lanes.oldest_wait(now).filter(|_| shared.figures.waiting.get() > 0);
    let age = head()?;
    if age <= shared.settings.wait_timeout {
        return Some(age);
    }
    // Nobody waits that long: what stands there are shells whose waiters have left.
    shared.lanes.compact();
    head()
}
