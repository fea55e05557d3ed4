//! Locks under which inner ones may be taken: by rank, with a time limit, ended by a cancel or by the detector.
//!
//! **Protocol.** A free lock is taken at once. One that is not free is waited for in slices: a parked mutex can be woken by
//! nothing but its release, so a waiter looks after each [`SLICE`] whether its token was cancelled or the detector has
//! chosen it to end a deadlock. A condition variable or a channel could be woken by either, but would cost two locks or an
//! exchange on the path that is always free; ten milliseconds of delay are paid by those alone who wait anyway.
//!
//! **Invariants.** I5: every wait ends at its deadline. I6.
//!
//! **Panics.** A panic under the lock gives it back; the value is as the panic left it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::class::LockClass;
use super::detector::{Counted, Wanted};
use super::held::{self, LockId, Site, Stamp, Taken};
use super::order::{self, Asked};
use super::patterns;
use super::wait::{LockError, LockErrorKind, LockTimes, Patience, Wait};
use crate::sync::cancel::CancelToken;
use crate::time::now;

/// How long a waiter parks before it looks around.
pub(super) const SLICE: Duration = Duration::from_millis(10);

/// A lock under which inner locks may be taken: by rank, with a time limit.
pub struct Ranked<T> {
    class: &'static LockClass,
    times: LockTimes,
    stamp: Stamp,
    inner: Mutex<T>,
}

impl<T> Ranked<T> {
    /// A lock of `class` around `value`, with the times that go without configuration.
    #[must_use]
    pub const fn new(class: &'static LockClass, value: T) -> Self {
        Self::timed(class, LockTimes::DEFAULT, value)
    }

    /// A lock of `class` around `value`, waited for as `times` say.
    #[must_use]
    pub const fn timed(class: &'static LockClass, times: LockTimes, value: T) -> Self {
        Self { class, times, stamp: Stamp::new(), inner: Mutex::new(value) }
    }

    /// Takes the lock, waiting as `wait` says: a `Duration`, a [`Deadline`](crate::time::Deadline), or [`Wait::DEFAULT`].
    ///
    /// # Errors
    /// If it was not had: in time, before a cancel, or because of a deadlock, now or twice before in this order. The error
    /// names the thread that held it.
    ///
    /// # Panics
    /// Where assertions are on: if this thread holds a leaf, or a lock of the same class or a higher rank.
    #[track_caller]
    pub fn lock<'w>(&self, wait: impl Into<Wait<'w>>) -> Result<RankedGuard<'_, T>, LockError> {
        self.lock_as(Asked::Alone, &mut Patience::new(wait.into()), Location::caller())
    }

    /// Takes the lock, alone or as one of several.
    pub(super) fn lock_as(
        &self,
        asked: Asked,
        patience: &mut Patience<'_>,
        site: Site,
    ) -> Result<RankedGuard<'_, T>, LockError> {
        let id = self.id();
        if held::mine(held::Mine::holds_any) {
            order::check(self.class, id, site, asked);
            patterns::check(self.class, id, asked)?;
        }
        let guard = match self.inner.try_lock() {
            Some(guard) => guard,
            None => self.lock_contended(patience, site)?,
        };
        self.stamp.take(held::mine(held::Mine::number));
        held::push(Taken { class: self.class, id, site });
        Ok(RankedGuard { lock: self, guard, _not_send: std::marker::PhantomData })
    }

    #[cold]
    fn lock_contended(&self, patience: &mut Patience<'_>, site: Site) -> Result<MutexGuard<'_, T>, LockError> {
        let began = now();
        let (since, until) = patience.begin(self.times, began);
        let wanted = Wanted { class: self.class, id: self.id(), site, stamp: &self.stamp, can_leave: true };
        let mut waiting = Counted::enter(self.class).wait(wanted, began);
        let (mut at, mut verdict) = (began, None);
        loop {
            let kind = if let Some(deadlock) = verdict {
                LockErrorKind::Deadlock(deadlock)
            } else if let Some(reason) = patience.wait.cancel().and_then(CancelToken::reason) {
                LockErrorKind::Cancelled(reason)
            } else {
                let left = until.remaining_at(at);
                let guard = self.inner.try_lock_for(left.min(SLICE));
                at = now();
                verdict = waiting.look(at);
                match guard {
                    Some(guard) => return Ok(guard),
                    None if verdict.is_some() || !until.remaining_at(at).is_zero() => continue,
                    None => LockErrorKind::TimedOut,
                }
            };
            return Err(waiting.give_up(kind, at.saturating_duration_since(since)));
        }
    }

    pub(super) fn class(&self) -> &'static LockClass {
        self.class
    }

    pub(super) fn id(&self) -> LockId {
        LockId::of(self)
    }
}

impl<T> fmt::Debug for Ranked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ranked").field(&self.class.name()).finish()
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
        self.lock.stamp.release();
        held::remove(self.lock.id());
    }
}
