//! What a gateway says of itself: [`Gateway::stats`](crate::Gateway::stats) gives a [`Snapshot`], which is also what
//! `GET /stats` shows as JSON, name for name.
//!
//! Counters end in `_total` and only grow; `_us` and `_ns` are whole microseconds and nanoseconds; a [`Dist`] is cumulative; what
//! is not known is `None`. With the feature `front` a thread takes one each second, and whoever reads gets the last one.

#[cfg(feature = "front")]
mod taker;

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
