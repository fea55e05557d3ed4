//! What a thread holds, who holds a lock, and for how long it has been seen to: thread-locals, and one word in each lock.
//!
//! **Cost.** A leaf reads and writes one thread-local without a destructor and one word beside its mutex, in a cache line
//! that the locking thread owns anyway: no clock, no shared counter. A ranked lock pushes to a thread-local list besides.
//!
//! **Protocol.** A thread gets its number, and a name to be told by, at its first lock; the name goes with the thread. A
//! lock's [`Stamp`] is written by its holder alone and read by those who wait, so a wait that finds it unchanged knows that
//! the lock has not been let go in between.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::class::LockClass;
use crate::time::micros_of;

/// A place in the code.
pub(super) type Site = &'static Location<'static>;

/// A lock as the books know it: by its address, which stays while anybody holds it or waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LockId(pub(super) usize);

impl LockId {
    pub(super) fn of<T>(lock: &T) -> Self {
        Self(std::ptr::from_ref(lock).addr())
    }
}

/// A ranked lock that a thread holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) class: &'static LockClass,
    pub(super) id: LockId,
    pub(super) site: Site,
}

/// The current thread's own book, made so that reading it needs no look whether it is there.
pub(super) struct Mine {
    number: Cell<u32>,
    /// The leaf that it holds.
    leaf: Cell<Option<(&'static LockClass, Site)>>,
    /// How many ranked locks it holds.
    ranked: Cell<u32>,
    #[cfg(any(test, debug_assertions))]
    unordered: Cell<bool>,
}

thread_local! {
    static MINE: Mine = const {
        Mine {
            number: Cell::new(0),
            leaf: Cell::new(None),
            ranked: Cell::new(0),
            #[cfg(any(test, debug_assertions))]
            unordered: Cell::new(false),
        }
    };
    /// The ranked locks that this thread holds, in the order taken.
    static RANKED: RefCell<Vec<Taken>> = const { RefCell::new(Vec::new()) };
    /// Takes the thread's name out of the table when the thread ends.
    static NAMED: Cell<Option<Named>> = const { Cell::new(None) };
}

/// Works on the current thread's book.
#[inline]
pub(super) fn mine<R>(work: impl FnOnce(&Mine) -> R) -> R {
    MINE.with(work)
}

impl Mine {
    /// Whether the thread holds anything.
    #[inline]
    pub(super) fn holds_any(&self) -> bool {
        self.leaf.get().is_some() || self.ranked.get() != 0
    }

    #[inline]
    pub(super) fn leaf(&self) -> Option<(&'static LockClass, Site)> {
        self.leaf.get()
    }

    #[inline]
    pub(super) fn set_leaf(&self, leaf: Option<(&'static LockClass, Site)>) {
        self.leaf.set(leaf);
    }

    /// The thread's number.
    #[inline]
    pub(super) fn number(&self) -> u32 {
        match self.number.get() {
            0 => self.enlist(),
            number => number,
        }
    }

    #[cold]
    fn enlist(&self) -> u32 {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.number.set(number);
        let name = std::thread::current().name().map(Arc::from);
        // A thread that locks while its thread-locals are being dropped stays without a name.
        let _ = NAMED.try_with(|named| {
            if let Some(name) = name {
                NAMES.lock().insert(number, name);
                named.set(Some(Named(number)));
            }
        });
        number
    }

    #[cfg(any(test, debug_assertions))]
    pub(super) fn is_unordered(&self) -> bool {
        self.unordered.get()
    }

    #[cfg(not(any(test, debug_assertions)))]
    pub(super) fn is_unordered(&self) -> bool {
        false
    }
}

/// Notes a ranked lock as held. A thread whose list has been dropped already goes on without.
pub(super) fn push(taken: Taken) {
    if RANKED.try_with(|held| held.borrow_mut().push(taken)).is_ok() {
        mine(|mine| mine.ranked.set(mine.ranked.get() + 1));
    }
}

/// Notes a ranked lock as given back.
pub(super) fn remove(id: LockId) {
    let found = RANKED.try_with(|held| {
        let mut held = held.borrow_mut();
        held.iter().rposition(|taken| taken.id == id).map(|at| held.remove(at))
    });
    if let Ok(Some(_)) = found {
        mine(|mine| mine.ranked.set(mine.ranked.get() - 1));
    }
}

/// Looks at the ranked locks that the current thread holds, in the order taken.
pub(super) fn ranked<R>(look: impl Fn(&[Taken]) -> R) -> R {
    RANKED.try_with(|held| look(&held.borrow())).unwrap_or_else(|_| look(&[]))
}

/// The order of locks is neither checked nor entered on the current thread until the guard drops: as if ranks were wrong,
/// for tests that need a deadlock. There is no such thing in a release.
#[cfg(any(test, debug_assertions))]
pub fn unordered() -> Unordered {
    Unordered(mine(|mine| mine.unordered.replace(true)))
}

/// Has the order of locks checked again when dropped.
#[cfg(any(test, debug_assertions))]
#[derive(Debug)]
#[must_use = "dropping the guard has the order checked again"]
pub struct Unordered(bool);

#[cfg(any(test, debug_assertions))]
impl Drop for Unordered {
    fn drop(&mut self) {
        mine(|mine| mine.unordered.set(self.0));
    }
}

static NEXT: AtomicU32 = AtomicU32::new(1);
static NAMES: Mutex<BTreeMap<u32, Arc<str>>> = Mutex::new(BTreeMap::new());

struct Named(u32);

impl Drop for Named {
    fn drop(&mut self) {
        let name = NAMES.lock().remove(&self.0);
        drop(name);
    }
}

/// The name of a thread that has locked something and has not ended.
pub(super) fn name_of(thread: u32) -> Option<String> {
    NAMES.lock().get(&thread).map(|name| name.to_string())
}

/// Who holds a lock, and how often it has been taken, in one word that only the holder writes.
#[derive(Debug)]
pub(super) struct Stamp(AtomicU64);

impl Stamp {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Written by the thread that has just taken the lock; nobody else writes, so a load and a store do.
    #[inline]
    pub(super) fn take(&self, thread: u32) {
        let taken = (self.0.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        self.0.store(taken << 32 | u64::from(thread), Ordering::Relaxed);
    }

    /// Written by the holder that is about to let go.
    #[inline]
    pub(super) fn release(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) & !u64::from(u32::MAX), Ordering::Relaxed);
    }

    /// The thread that holds the lock, or for a leaf held it last; 0 if none.
    pub(super) fn holder(&self) -> u32 {
        (self.0.load(Ordering::Relaxed) & u64::from(u32::MAX)) as u32
    }

    fn times_taken(&self) -> u64 {
        self.0.load(Ordering::Relaxed) >> 32
    }
}

static LONGEST_US: AtomicU64 = AtomicU64::new(0);

/// The longest that a lock was seen to be held, in microseconds. See [`Hold`].
pub(super) fn longest_us() -> u64 {
    LONGEST_US.load(Ordering::Relaxed)
}

/// How long one holder keeps a lock, as seen by a thread that waits for it.
///
/// A holder's time is counted from when the first waiter has seen it to the last look that found it still there, so what
/// is counted is never more than the truth, and a hold that nobody waits for costs no clock and is not counted.
#[derive(Debug)]
pub(super) struct Hold {
    seen: u64,
    since: Instant,
}

impl Hold {
    pub(super) fn begin(stamp: &Stamp, now: Instant) -> Self {
        Self { seen: stamp.times_taken(), since: now }
    }

    /// Looks again; to be called also when the wait is over, before the new holder's stamp.
    pub(super) fn look(&mut self, stamp: &Stamp, now: Instant) {
        let times_taken = stamp.times_taken();
        if times_taken == self.seen {
            let held = micros_of(now.saturating_duration_since(self.since));
            LONGEST_US.fetch_max(held, Ordering::Relaxed);
        } else {
            *self = Self { seen: times_taken, since: now };
        }
    }
}
