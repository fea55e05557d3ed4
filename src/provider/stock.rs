//! The object pools of a gateway, which all its providers share: what a request needs besides a worker.
//!
//! Shared, since an idle object is as good for one provider as for another, and what a burst at one has warmed serves the
//! next. A pool's lock is held for tens of nanoseconds, whatever a provider does (I7). An object that its holder never gives
//! back is missing nowhere: the next who finds the pool empty makes another.

use std::time::Instant;

use serde::Serialize;

use super::job::{Job, ReplyChannel};
use crate::config;
use crate::events::Events;
use crate::recycle::{Buffers, JointPool, Pool, PoolStats};

/// What alerts on a pool are called.
const ALERT: &str = "pool_hit_ratio";

/// The four pools. Cheap to clone; all clones are the same pools.
#[derive(Clone, Debug)]
pub struct Stock {
    /// Where an attempt's waiter hears of its end.
    pub(crate) replies: Pool<ReplyChannel>,
    /// The shells that wait in the lanes.
    pub(crate) jobs: JointPool<Job>,
    /// Whole answers' bodies, from the worker that reads one to whoever writes it out.
    pub(crate) responses: Buffers,
    /// Requests' bodies as they came and as they go upstream, and what streams are read with.
    pub(crate) buffers: Buffers,
}

impl Stock {
    /// Pools as the configuration sizes them.
    #[must_use]
    pub fn new(pools: &config::Pools) -> Self {
        Self {
            replies: Pool::new(pools.reply_channel),
            jobs: JointPool::new(pools.job),
            responses: Pool::new(pools.response),
            buffers: Pool::new(pools.buffer),
        }
    }

    /// The memory for requests' bodies.
    #[must_use]
    pub fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// What is to be done about once a second: throws away what has stood idle for too long, takes the samples of which the
    /// ratios of hits are made, and raises or clears each pool's alert.
    pub fn tend(&self, now: Instant, events: &Events) {
        events.set(ALERT, "reply_channel", self.replies.tend(now));
        events.set(ALERT, "job", self.jobs.pool().tend(now));
        events.set(ALERT, "response", self.responses.tend(now));
        events.set(ALERT, "buffer", self.buffers.tend(now));
    }

    /// The pools' part of `/stats`.
    #[must_use]
    pub fn stats(&self) -> Pools {
        Pools {
            reply_channel: self.replies.stats(),
            job: self.jobs.pool().stats(),
            response: self.responses.stats(),
            buffer: self.buffers.stats(),
        }
    }
}

/// `pools` in `/stats`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Pools {
    /// The channels on which callers wait for their answers.
    pub reply_channel: PoolStats,
    /// What a request is while it waits for a worker.
    pub job: PoolStats,
    /// The memory of whole answers' bodies.
    pub response: PoolStats,
    /// The memory of requests' bodies, and of what streams are read with.
    pub buffer: PoolStats,
}
