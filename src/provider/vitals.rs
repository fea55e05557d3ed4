//! What a watchdog looks at: how long the queue's head has waited, and which running job is nearest to its limit.

use std::time::{Duration, Instant};

use super::Provider;
use super::face::WorkerState;
use crate::ids::RequestId;

/// A provider's vital signs, with the limits to judge them by.
#[derive(Clone, Debug)]
pub struct VitalSigns {
    /// How long the job at the queue's head has waited. For up to `wait_timeout` it may be one whose waiter has left since.
    pub queue_head: Option<Duration>,
    /// How long a job may wait; its waiter leaves by itself then.
    pub wait_timeout: Duration,
    /// The running job that is furthest past its limit, or nearest to it.
    pub oldest_running: Option<RunningJob>,
}

/// A job that a worker is at.
#[derive(Clone, Debug)]
pub struct RunningJob {
    /// The worker's name, which is its thread's.
    pub worker: String,
    /// The request.
    pub request_id: RequestId,
    /// How long the worker has been at it.
    pub age: Duration,
    /// How long it may take: an attempt's limit, and a stream's length once it is being relayed.
    pub limit: Duration,
}

impl Provider {
    /// The provider's vital signs at `now`.
    #[must_use]
    pub fn vital_signs(&self, now: Instant) -> VitalSigns {
        let shared = self.pool.shared();
        let (settings, attempt) = (&shared.settings, &shared.attempt);
        let head = || shared.lanes.oldest_wait(now).filter(|_| shared.figures.waiting.get() > 0);
        let mut queue_head = head();
        if queue_head.is_some_and(|age| age > settings.wait_timeout) {
            // Nobody waits that long: what stands there are shells whose waiters have left.
            shared.lanes.compact();
            queue_head = head();
        }
        let answered_within = attempt.limit(false).max(attempt.limit(true));
        let running = self.pool.faces().into_iter().filter_map(|face| {
            let (id, request_id, age) = face.current(now)?;
            let limit = match face.state() {
                WorkerState::Responding => answered_within + attempt.settings.stream_max_duration,
                _ => answered_within,
            };
            Some(RunningJob { worker: format!("{}-worker-{}", settings.name, id.0), request_id, age, limit })
        });
        let spare = |job: &RunningJob| job.limit.as_secs_f64() - job.age.as_secs_f64();
        let oldest_running = running.min_by(|one, other| spare(one).total_cmp(&spare(other)));
        VitalSigns { queue_head, wait_timeout: settings.wait_timeout, oldest_running }
    }
}
