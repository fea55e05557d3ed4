//! What a gateway says of itself: [`Gateway::stats`](crate::Gateway::stats) gives a [`Snapshot`], which is also what
//! `GET /stats` shows as JSON, name for name.
//!
//! Counters end in `_total` and only grow; `_us` and `_ns` are whole microseconds and nanoseconds; a [`Dist`] is cumulative; what
//! is not known is `None`. With the feature `front` a thread takes one each second, and whoever reads gets the last one.
//!
//! A look around:
//!
//! ```
//! let gateway = sluicegate::Gateway::from_env()?;
//! gateway.ask("sim/lorem-12", "Hello")?;
//! gateway.ask("sim/fail-400", "Hello").expect_err("it always fails");
//! let stats = gateway.stats();
//!
//! // What became of requests, and how long they took.
//! assert_eq!((stats.requests.received_total, stats.requests.succeeded_total), (2, 1));
//! assert_eq!(stats.errors["upstream_error"], 1);
//! let (total, ours) = (stats.requests.total_us, stats.requests.overhead_us);
//! println!("99 of 100 took at most {} µs, and {} µs of the gateway itself", total.p99, ours.p99);
//!
//! // A provider: its pool, its places, its attempts, its breaker.
//! let sim = &stats.providers["sim"];
//! println!("{}: {} of {} workers are busy", sim.phase, sim.workers.busy, sim.workers.active);
//! assert_eq!((sim.queue.submitted_total, sim.queue.rejected_total), (2, 0));
//! assert_eq!((sim.jobs.succeeded_total, sim.jobs.failed_total, sim.jobs.tokens_out_total), (1, 1, 12));
//! assert_eq!((sim.breaker.state.to_string(), sim.breaker.opened_total), ("closed".to_owned(), 0));
//! assert_eq!(sim.health.state.to_string(), "healthy");
//! for worker in sim.per_worker.iter().filter(|worker| worker.state.is_busy()) {
//!     println!("worker {} has been at {:?} for {:?} ms", worker.id.0, worker.request_id, worker.current_ms);
//! }
//!
//! // What all of them stand on.
//! assert!(stats.threads.active <= stats.threads.limit && stats.threads.panics_total == 0);
//! assert_eq!(stats.locks.deadlocks_detected_total, 0);
//! println!("{:?} of all buffers were used again", stats.pools.buffer.hit_ratio);
//! println!("{:?} bytes of memory, {:?} descriptors", stats.process.rss_bytes, stats.process.open_fds);
//! assert!(stats.alerts.is_empty() && !stats.events.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "front")]
mod history;
#[cfg(feature = "front")]
mod prometheus;
#[cfg(feature = "front")]
mod taker;

#[cfg(feature = "front")]
pub(crate) use prometheus::Format;

#[cfg(feature = "front")]
pub use taker::{Enrich, Json, Stats};

#[doc(inline)]
pub use crate::gateway::{Blocked, Process, RequestStats, Snapshot};
pub use crate::http::ConnectionStats;
pub use crate::ids::{ThreadId, WorkerId};
pub use crate::metrics::{Bucket, Dist, PairedStats};
pub use crate::plugin::PluginStats;
pub use crate::provider::{
    BreakerState, BreakerStats, Change, CircuitStats, Direction, HealthState, HealthStats, JobStats, KeyStats,
    LastScaling, OptimizationStats, PoolPhase, Pools, ProviderStats, QueueStats, Reason, RetryStrategy, ScalingStats,
    StartupTimes, WorkerRow, WorkerState, WorkerStats,
};
pub use crate::recycle::PoolStats;
pub use crate::sync::Role;
pub use crate::sync::locks::{LockStats, Pattern};
pub use crate::sync::threads::{Ended, RoleRow, ThreadStats};
