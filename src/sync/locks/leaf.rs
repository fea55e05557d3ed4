//! Locks held for a few instructions: infallible, with nothing locked, sent, read or called under them (I6).
//!
//! **Cost.** Free, a leaf costs a look at the thread's own book, the mutex, and a word written beside it. When it is not
//! free, the first millisecond is the mutex's own affair: it spins, then parks. Only a wait that lasts longer reads the
//! clock, shows in the thread's state, and is entered with the detector, which watches it but cannot end it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::class::LockClass;
use super::detector::{Counted, Wanted};
use super::held::{self, LockId, Site, Stamp};
use super::order::{self, Asked};
use super::ranked::SLICE;
use crate::time::now;

/// How long a wait goes by unwatched: longer than any leaf is held, shorter than anybody would ask about.
const UNWATCHED: Duration = Duration::from_millis(1);

/// A lock held for a few instructions: infallible, with nothing locked, sent, read or called under it.
pub struct Leaf<T> {
    class: &'static LockClass,
    stamp: Stamp,
    inner: Mutex<T>,
}

impl<T> Leaf<T> {
    /// A lock of `class` around `value`.
    #[must_use]
    pub const fn new(class: &'static LockClass, value: T) -> Self {
        Self { class, stamp: Stamp::new(), inner: Mutex::new(value) }
    }

    /// The value, for the only one who can see it: nothing is locked.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }

    /// Takes the lock.
    ///
    /// # Panics
    /// Where assertions are on: if this thread holds a leaf already.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> LeafGuard<'_, T> {
        let site = Location::caller();
        held::mine(|mine| {
            if mine.holds_any() {
                order::check(self.class, LockId::of(self), site, Asked::Alone);
            }
            let guard = match self.inner.try_lock() {
                Some(guard) => guard,
                None => self.lock_contended(site),
            };
            mine.set_leaf(Some((self.class, site)));
            self.stamp.take(mine.number());
            LeafGuard { guard, _not_send: std::marker::PhantomData }
        })
    }

    #[cold]
    fn lock_contended(&self, site: Site) -> MutexGuard<'_, T> {
        let counted = Counted::enter(self.class);
        if let Some(guard) = self.inner.try_lock_for(UNWATCHED) {
            return guard;
        }
        let wanted = Wanted { class: self.class, id: LockId::of(self), site, stamp: &self.stamp, can_leave: false };
        let mut waiting = counted.wait(wanted, now());
        loop {
            let guard = self.inner.try_lock_for(SLICE);
            waiting.look(now());
            if let Some(guard) = guard {
                return guard;
            }
        }
    }
}

impl<T> fmt::Debug for Leaf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leaf").field(&self.class.name()).finish()
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
    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for LeafGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for LeafGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        held::mine(|mine| mine.set_leaf(None));
    }
}
