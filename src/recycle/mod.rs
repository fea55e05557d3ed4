//! Object pools: things that cost something to make are used again, reset, bounded and counted.
//!
//! **Protocol.** [`Pool::acquire`] gives a [`Lease`]: an idle object if there is one (the last returned, whose memory is
//! warm), else a new one from the factory. [`Lease::give_back`] resets the object and makes it idle; a lease that is merely
//! dropped discards its object. So a thing goes back only where somebody knows that every other holder has let go (I3), and
//! forgetting costs an allocation, never a mix-up.
//!
//! **Invariants.** I3; I4: at most `max_idle` objects stand idle, none longer than `idle_max_age` past a sweep.
//!
//! **Lock order.** The idle set is a leaf; factory and reset run outside it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::metrics::{CountGuard, Counter, Dist, Gauge, Histogram};
use crate::sync::locks::{Leaf, classes};
use crate::time::now;

/// One acquisition in this many is timed: a clock reading costs more than the acquisition itself.
const SAMPLE_EVERY: u64 = 64;

/// What can be pooled.
pub trait Recycle: Send + 'static {
    /// Makes a new one.
    fn make() -> Self;

    /// Clears all state. `false` if that cannot be done: the object is discarded then.
    fn reset(&mut self) -> bool;

    /// The bytes that using it again saves.
    fn bytes(&self) -> u64;
}

/// A bounded set of idle objects of one type. Cheap to clone.
pub struct Pool<T: Recycle>(Arc<Shared<T>>);

struct Shared<T> {
    idle: Leaf<Vec<Idle<T>>>,
    max_idle: usize,
    live: Arc<Gauge>,
    acquired: Counter,
    hits: Counter,
    created: Counter,
    returned: Counter,
    discarded: Counter,
    sweeps: Counter,
    evicted: Counter,
    bytes_reused: Counter,
    acquire_ns: Histogram,
    reset_ns: Histogram,
    return_ns: Histogram,
}

struct Idle<T> {
    object: Counted<T>,
    since: Instant,
}

/// An object with its place in the count of live ones.
struct Counted<T> {
    value: T,
    _live: CountGuard,
}

impl<T: Recycle> Pool<T> {
    /// A pool that keeps at most `max_idle` idle objects, `initial` of them made now.
    #[must_use]
    pub fn new(initial: usize, max_idle: usize) -> Self {
        let pool = Self(Arc::new(Shared {
            idle: Leaf::new(&classes::RECYCLE, Vec::with_capacity(initial.min(max_idle))),
            max_idle,
            live: Arc::default(),
            acquired: Counter::new(),
            hits: Counter::new(),
            created: Counter::new(),
            returned: Counter::new(),
            discarded: Counter::new(),
            sweeps: Counter::new(),
            evicted: Counter::new(),
            bytes_reused: Counter::new(),
            acquire_ns: Histogram::default(),
            reset_ns: Histogram::default(),
            return_ns: Histogram::default(),
        }));
        let fresh: Vec<_> = (0..initial.min(max_idle)).map(|_| Idle { object: pool.0.make(), since: now() }).collect();
        pool.0.idle.lock().extend(fresh);
        pool
    }

    /// An object, idle or new.
    #[must_use]
    pub fn acquire(&self) -> Lease<T> {
        let shared = &self.0;
        let count = shared.acquired.get();
        shared.acquired.inc();
        let sampled = count.is_multiple_of(SAMPLE_EVERY).then(now);
        let found = shared.idle.lock().pop();
        let object = match found {
            Some(idle) => {
                shared.hits.inc();
                shared.bytes_reused.add(idle.object.value.bytes());
                idle.object
            }
            None => shared.make(),
        };
        record(&shared.acquire_ns, sampled);
        Lease { object: Some(object), pool: Arc::clone(shared), sampled: sampled.is_some() }
    }

    /// Throws away what has stood idle for `max_age` or longer.
    pub fn sweep(&self, now: Instant, max_age: Duration) {
        let mut idle = self.0.idle.lock();
        // The stack's bottom is the oldest: last in, first out.
        let old = idle.partition_point(|entry| now.saturating_duration_since(entry.since) >= max_age);
        let evicted: Vec<_> = idle.drain(..old).collect();
        drop(idle);
        self.0.sweeps.inc();
        self.0.evicted.add(evicted.len() as u64);
    }

    /// The pool's part of `/stats`.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let shared = &self.0;
        let (idle, bytes_held) = {
            let idle = shared.idle.lock();
            (idle.len() as u64, idle.iter().map(|entry| entry.object.value.bytes()).sum())
        };
        let (acquired, hits, live) = (shared.acquired.get(), shared.hits.get(), shared.live.get());
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part.min(whole) as f64 / whole as f64);
        PoolStats {
            acquired_total: acquired,
            hits_total: hits,
            misses_total: acquired.saturating_sub(hits),
            created_total: shared.created.get(),
            returned_total: shared.returned.get(),
            discarded_total: shared.discarded.get(),
            sweeps_total: shared.sweeps.get(),
            evicted_total: shared.evicted.get(),
            hit_ratio: ratio(hits, acquired),
            idle,
            live,
            utilisation: ratio(live.saturating_sub(idle), live),
            acquire_ns: shared.acquire_ns.dist().unwrap_or_default(),
            reset_ns: shared.reset_ns.dist().unwrap_or_default(),
            return_ns: shared.return_ns.dist().unwrap_or_default(),
            bytes_held,
            bytes_reused_total: shared.bytes_reused.get(),
            alert: None,
        }
    }
}

impl<T: Recycle> Shared<T> {
    fn make(&self) -> Counted<T> {
        self.created.inc();
        Counted { value: T::make(), _live: self.live.enter() }
    }
}

fn record(histogram: &Histogram, since: Option<Instant>) {
    if let Some(since) = since {
        histogram.record(u64::try_from(now().saturating_duration_since(since).as_nanos()).unwrap_or(u64::MAX));
    }
}

impl<T: Recycle> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Recycle> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("live", &self.0.live.get()).finish_non_exhaustive()
    }
}

/// The use of one object. Dropping it discards the object; [`Lease::give_back`] returns it.
pub struct Lease<T: Recycle> {
    object: Option<Counted<T>>,
    pool: Arc<Shared<T>>,
    sampled: bool,
}

impl<T: Recycle> Lease<T> {
    /// Resets the object and makes it idle, unless it cannot be reset or enough are idle already.
    pub fn give_back(mut self) {
        let Some(mut object) = self.object.take() else { return };
        let start = self.sampled.then(now);
        let clean = object.value.reset();
        record(&self.pool.reset_ns, start);
        if clean {
            let since = now();
            let mut idle = self.pool.idle.lock();
            if idle.len() < self.pool.max_idle {
                idle.push(Idle { object, since });
                drop(idle);
                self.pool.returned.inc();
                record(&self.pool.return_ns, start);
                return;
            }
        }
        self.pool.discarded.inc();
    }
}

impl<T: Recycle> Drop for Lease<T> {
    fn drop(&mut self) {
        if self.object.take().is_some() {
            self.pool.discarded.inc();
        }
    }
}

impl<T: Recycle> Deref for Lease<T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.object {
            Some(object) => &object.value,
            None => unreachable!("a lease holds its object until it ends"),
        }
    }
}

impl<T: Recycle> DerefMut for Lease<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.object {
            Some(object) => &mut object.value,
            None => unreachable!("a lease holds its object until it ends"),
        }
    }
}

impl<T: Recycle> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

/// A pool's part of `/stats`. Times are in nanoseconds, one acquisition in 64 sampled.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the interface's section 5 explains each")]
pub struct PoolStats {
    pub acquired_total: u64,
    pub hits_total: u64,
    pub misses_total: u64,
    pub created_total: u64,
    pub returned_total: u64,
    pub discarded_total: u64,
    pub sweeps_total: u64,
    pub evicted_total: u64,
    pub hit_ratio: Option<f64>,
    pub idle: u64,
    pub live: u64,
    pub utilisation: Option<f64>,
    pub acquire_ns: Dist,
    pub reset_ns: Dist,
    pub return_ns: Dist,
    pub bytes_held: u64,
    pub bytes_reused_total: u64,
    /// Whether the hit ratio is too low; `null` until alerts are built.
    pub alert: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Thing {
        dirt: u32,
        stubborn: bool,
    }

    impl Recycle for Thing {
        fn make() -> Self {
            Self { dirt: 0, stubborn: false }
        }
        fn reset(&mut self) -> bool {
            self.dirt = 0;
            !self.stubborn
        }
        fn bytes(&self) -> u64 {
            8
        }
    }

    #[test]
    fn what_is_given_back_is_used_again_and_clean() {
        let pool = Pool::<Thing>::new(0, 4);
        let mut thing = pool.acquire();
        thing.dirt = 9;
        thing.give_back();
        assert_eq!(pool.acquire().dirt, 0);
        let stats = pool.stats();
        assert_eq!((stats.acquired_total, stats.hits_total, stats.misses_total, stats.created_total), (2, 1, 1, 1));
        assert_eq!((stats.returned_total, stats.discarded_total, stats.live, stats.bytes_reused_total), (1, 1, 0, 8));
    }

    #[test]
    fn what_is_dropped_or_cannot_be_reset_is_discarded() {
        let pool = Pool::<Thing>::new(0, 4);
        drop(pool.acquire());
        let mut thing = pool.acquire();
        thing.stubborn = true;
        thing.give_back();
        let stats = pool.stats();
        assert_eq!((stats.idle, stats.discarded_total, stats.returned_total), (0, 2, 0));
    }

    #[test]
    fn idle_objects_are_bounded_in_number_and_age() {
        let pool = Pool::<Thing>::new(2, 2);
        let leases: Vec<_> = (0..5).map(|_| pool.acquire()).collect();
        leases.into_iter().for_each(Lease::give_back);
        assert_eq!(pool.stats().idle, 2);
        pool.sweep(now(), Duration::from_secs(60));
        assert_eq!(pool.stats().idle, 2, "nothing is a minute old");
        pool.sweep(now() + Duration::from_secs(61), Duration::from_secs(60));
        let stats = pool.stats();
        assert_eq!((stats.idle, stats.live, stats.evicted_total, stats.sweeps_total), (0, 0, 2, 2));
    }
}
