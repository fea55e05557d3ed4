//! Every lock of the gateway: leaves, under which nothing is locked, and ranked locks, taken in order and timed (I6).
//!
//! **Lock order.** A lock belongs to a [`LockClass`] with a name and a rank. Ranks grow downwards through the layers, so a
//! thread takes an outer layer's lock before an inner one's. A leaf ranks below everything: while one is held, no other
//! lock may be taken. Both rules are checked on every acquisition through a thread-local; a violation panics where
//! assertions are on and is counted and logged otherwise.
//!
//! **Cost.** The uncontended path reads and writes one thread-local: no clock, no shared counter.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;

use crate::metrics::Counter;

/// What all locks of one kind share: their name, their rank and their figures.
#[derive(Debug)]
pub struct LockClass {
    name: &'static str,
    rank: u16,
    contended: Counter,
    timed_out: Counter,
}

/// The rank of leaves.
const LEAF: u16 = u16::MAX;

impl LockClass {
    /// A class of locks under which nothing is locked.
    const fn leaf(name: &'static str) -> Self {
        Self::ranked(name, LEAF)
    }

    /// A class of locks taken in rank order, smaller first.
    const fn ranked(name: &'static str, rank: u16) -> Self {
        Self { name, rank, contended: Counter::new(), timed_out: Counter::new() }
    }

    /// The name of these locks.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// The registry: each class of locks, outer layers first.
pub mod classes {
    use super::LockClass;

    macro_rules! classes {
        ($($(#[$doc:meta])* $name:ident = $kind:ident($($arg:expr),*);)*) => {
            $($(#[$doc])* pub static $name: LockClass = LockClass::$kind($($arg),*);)*
            /// Every class there is.
            pub static ALL: &[&LockClass] = &[$(&$name),*];
        };
    }

    classes! {
        /// The simulated provider and the watcher, being started.
        SIM_HOST = ranked("gateway.sim_host", 200);
        /// A pool's scaler: evaluating and carrying out one decision at a time.
        SCALING = ranked("provider.scaling", 390);
        /// The workers of a pool: who runs, who is being started, who is quitting.
        ROSTER = ranked("provider.roster", 400);
        /// A pool's supervisor: taken by whoever ends it.
        LIFECYCLE = leaf("provider.lifecycle");
        /// One job's payload: taken by its worker or by its waiter.
        JOB = leaf("provider.job");
        /// A client's connection, standing in a job: taken by its worker or by its waiter.
        SINK = leaf("provider.sink");
        /// A pool's last scaling decision and what is known of its provider.
        STAFFING = leaf("provider.staffing");
        /// What a worker is at.
        FACE = leaf("provider.face");
        /// Admission: places taken, and who waits for one.
        PERMITS = leaf("queue.permits");
        /// The workers that wait for a job.
        IDLE = leaf("queue.idle");
        /// The idle objects of a pool.
        RECYCLE = leaf("recycle.idle");
        /// A provider's idle connections.
        CONNECTIONS = leaf("transport.connections");
        /// The resolver's cache and its look-ups under way.
        RESOLVER = leaf("transport.resolver");
        /// Sockets that the watcher looks at.
        WATCHER = leaf("http.watcher");
        /// The listener's table of connections.
        LISTENER = leaf("http.listener");
        /// The aborts attached to a request.
        CANCEL = leaf("sync.cancel");
        /// The table of threads.
        THREADS = leaf("sync.threads");
        /// The last events.
        EVENTS = leaf("stats.events");
        /// What is wrong now.
        ALERTS = leaf("events.alerts");
        /// The last snapshots.
        STATS = leaf("stats.samples");
        /// The simulated provider's figures.
        SIM = leaf("sim.figures");
        /// For tests.
        TEST_LEAF = leaf("test.leaf");
        /// For tests.
        TEST_OUTER = ranked("test.outer", 60_000);
        /// For tests.
        TEST_INNER = ranked("test.inner", 60_001);
    }
}

static VIOLATIONS: Counter = Counter::new();
static WAITING: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The leaf that this thread holds.
    static HELD_LEAF: Cell<Option<&'static LockClass>> = const { Cell::new(None) };
    /// The ranked locks that this thread holds, in the order taken.
    static HELD_RANKED: RefCell<Vec<&'static LockClass>> = const { RefCell::new(Vec::new()) };
}

fn violation(wanted: &LockClass, held: &LockClass) {
    VIOLATIONS.inc();
    log::error!("lock order: {} asked for while {} is held", wanted.name, held.name);
    if cfg!(debug_assertions) && !std::thread::panicking() {
        panic!("lock order: {} asked for while {} is held", wanted.name, held.name);
    }
}

/// A lock held for a few instructions: infallible, with nothing locked, sent, read or called under it.
pub struct Leaf<T> {
    class: &'static LockClass,
    inner: Mutex<T>,
}

impl<T> Leaf<T> {
    /// A lock of `class` around `value`.
    #[must_use]
    pub const fn new(class: &'static LockClass, value: T) -> Self {
        Self { class, inner: Mutex::new(value) }
    }

    /// Takes the lock.
    ///
    /// # Panics
    /// Where assertions are on: if this thread holds a leaf already.
    #[inline]
    pub fn lock(&self) -> LeafGuard<'_, T> {
        if let Some(held) = HELD_LEAF.get() {
            violation(self.class, held);
        }
        let guard = self.inner.try_lock().unwrap_or_else(|| self.lock_contended());
        HELD_LEAF.set(Some(self.class));
        LeafGuard { guard, _not_send: std::marker::PhantomData }
    }

    #[cold]
    fn lock_contended(&self) -> MutexGuard<'_, T> {
        self.class.contended.inc();
        WAITING.fetch_add(1, Ordering::Relaxed);
        let guard = self.inner.lock();
        WAITING.fetch_sub(1, Ordering::Relaxed);
        guard
    }
}

impl<T> fmt::Debug for Leaf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leaf").field(&self.class.name).finish()
    }
}

/// A leaf that is held.
#[derive(Debug)]
pub struct LeafGuard<'a, T> {
    guard: MutexGuard<'a, T>,
    _not_send: std::marker::PhantomData<*const ()>,
}

impl<T> Deref for LeafGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for LeafGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for LeafGuard<'_, T> {
    fn drop(&mut self) {
        HELD_LEAF.set(None);
    }
}

/// Why a ranked lock was not had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockError {
    /// The lock's name.
    pub lock: &'static str,
    /// The thread that held it when the time ran out.
    pub holder: Option<String>,
    /// How long was waited.
    pub waited: Duration,
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holder = self.holder.as_deref().unwrap_or("nobody any more");
        write!(f, "the lock {} was not had within {:?}; held by {holder}", self.lock, self.waited)
    }
}

impl std::error::Error for LockError {}

/// A lock under which inner locks may be taken: by rank, with a time limit.
pub struct Ranked<T> {
    class: &'static LockClass,
    holder: Mutex<Option<String>>,
    inner: Mutex<T>,
}

impl<T> Ranked<T> {
    /// A lock of `class` around `value`.
    #[must_use]
    pub const fn new(class: &'static LockClass, value: T) -> Self {
        Self { class, holder: Mutex::new(None), inner: Mutex::new(value) }
    }

    /// Takes the lock, waiting at most `wait`.
    ///
    /// # Errors
    /// If it was not had in time; the error names the thread that held it.
    ///
    /// # Panics
    /// Where assertions are on: if this thread holds a leaf, or a lock of the same or a higher rank.
    pub fn lock(&self, wait: Duration) -> Result<RankedGuard<'_, T>, LockError> {
        let outer = HELD_LEAF.get().or_else(|| HELD_RANKED.with_borrow(|held| held.last().copied()));
        if let Some(outer) = outer.filter(|outer| outer.rank >= self.class.rank) {
            violation(self.class, outer);
        }
        let guard = match self.inner.try_lock() {
            Some(guard) => guard,
            None => self.lock_contended(wait)?,
        };
        HELD_RANKED.with_borrow_mut(|held| held.push(self.class));
        *self.holder.lock() = std::thread::current().name().map(str::to_owned);
        Ok(RankedGuard { lock: self, guard, _not_send: std::marker::PhantomData })
    }

    #[cold]
    fn lock_contended(&self, wait: Duration) -> Result<MutexGuard<'_, T>, LockError> {
        self.class.contended.inc();
        WAITING.fetch_add(1, Ordering::Relaxed);
        let guard = self.inner.try_lock_for(wait);
        WAITING.fetch_sub(1, Ordering::Relaxed);
        guard.ok_or_else(|| {
            self.class.timed_out.inc();
            LockError { lock: self.class.name, holder: self.holder.lock().clone(), waited: wait }
        })
    }
}

impl<T> fmt::Debug for Ranked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ranked").field(&self.class.name).finish()
    }
}

/// A ranked lock that is held.
#[derive(Debug)]
pub struct RankedGuard<'a, T> {
    lock: &'a Ranked<T>,
    guard: MutexGuard<'a, T>,
    _not_send: std::marker::PhantomData<*const ()>,
}

impl<T> Deref for RankedGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for RankedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for RankedGuard<'_, T> {
    fn drop(&mut self) {
        *self.lock.holder.lock() = None;
        HELD_RANKED.with_borrow_mut(|held| {
            if let Some(at) = held.iter().rposition(|class| std::ptr::eq(*class, self.lock.class)) {
                held.remove(at);
            }
        });
    }
}

/// The locks' part of `/stats`. `null` stands for what is not built yet.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the interface's section 5 explains each")]
pub struct LockStats {
    pub registered: usize,
    pub contended_total: u64,
    pub timed_out_total: u64,
    pub order_violations_total: u64,
    pub deadlocks_detected_total: Option<u64>,
    pub deadlocks_resolved_total: Option<u64>,
    pub waiting: u64,
    pub held_longest_us: Option<u64>,
    pub patterns: Option<Vec<String>>,
}

/// The figures of all locks of this process.
#[must_use]
pub fn stats() -> LockStats {
    LockStats {
        registered: classes::ALL.len(),
        contended_total: classes::ALL.iter().map(|class| class.contended.get()).sum(),
        timed_out_total: classes::ALL.iter().map(|class| class.timed_out.get()).sum(),
        order_violations_total: VIOLATIONS.get(),
        deadlocks_detected_total: None,
        deadlocks_resolved_total: None,
        waiting: WAITING.load(Ordering::Relaxed),
        held_longest_us: None,
        patterns: None,
    }
}

#[cfg(test)]
mod tests {
    use super::classes::{TEST_INNER, TEST_LEAF, TEST_OUTER};
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    fn read(leaf: &Leaf<i32>) -> i32 {
        *leaf.lock()
    }

    fn panics(f: impl FnOnce()) -> bool {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err()
    }

    #[test]
    fn under_a_leaf_nothing_is_locked() {
        let (first, second) = (Leaf::new(&TEST_LEAF, 1), Leaf::new(&TEST_LEAF, 2));
        assert!(panics(|| {
            let _held = first.lock();
            let _ = second.lock();
        }));
        let (one, two) = (read(&first), read(&second));
        assert_eq!(one + two, 3, "one after the other both can be had");
    }

    #[test]
    fn ranks_are_taken_in_order() {
        let (outer, inner) = (Ranked::new(&TEST_OUTER, ()), Ranked::new(&TEST_INNER, ()));
        {
            let _outer = outer.lock(WAIT).expect("free");
            let _inner = inner.lock(WAIT).expect("free");
        }
        assert!(panics(|| {
            let _inner = inner.lock(WAIT).expect("free");
            let _ = outer.lock(WAIT);
        }));
        assert!(outer.lock(WAIT).is_ok(), "what the panic held was given back");
    }

    #[test]
    fn a_ranked_lock_not_had_names_its_holder() {
        let lock = Ranked::new(&TEST_OUTER, ());
        let _held = lock.lock(WAIT).expect("free");
        let error = std::thread::scope(|scope| {
            scope.spawn(|| lock.lock(Duration::from_millis(5)).map(drop)).join().expect("no panic")
        });
        let error = error.expect_err("it is held");
        assert_eq!(error.lock, "test.outer");
        assert_eq!(error.holder.as_deref(), std::thread::current().name());
    }
}
