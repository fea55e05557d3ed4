//! A lock whose value is a token in a channel of one: it may be held across I/O, and waited for in a `select!`.
//!
//! **Protocol.** Whoever receives the [`Token`] has the lock; it goes back into the channel when it, or the guard made of
//! it, drops. [`ChannelLock::lock`] waits by one `select!` of {token, cancel, deadlock, deadline}, so that each ends it at once;
//! a caller with a `select!` of its own names [`ChannelLock::token`] there and [`claim`](ChannelLock::claim)s what comes.
//!
//! **Invariants.** I5: every wait of `lock` ends at its deadline. I6: it has a rank and is checked like a ranked lock; the
//! rule against I/O under a lock is what it is exempt from, and the reason for it. The token is in the channel or with one
//! holder, so that sending it back never finds the channel full.
//!
//! **Panics.** One under the lock gives the token back, with the value as the panic left it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, bounded, never, select_biased};

use super::class::LockClass;
use super::detector::{Counted, Wanted};
use super::held::{self, LockId, Site, Stamp, Taken};
use super::order::{self, Asked};
use super::patterns;
use super::wait::{LockError, LockErrorKind, LockTimes, Patience, Wait};
use crate::sync::cancel::{CancelReason, CancelToken};
use crate::time::now;

/// A lock that may be held across I/O, and waited for in a `select!`.
pub struct ChannelLock<T>(Arc<Home<T>>);

struct Home<T> {
    class: &'static LockClass,
    times: LockTimes,
    stamp: Stamp,
    token: Receiver<Token<T>>,
    back: Sender<Token<T>>,
}

/// The right to a [`ChannelLock`]'s value. Dropping it gives it back.
pub struct Token<T> {
    /// There until the drop.
    value: Option<T>,
    /// Weak: the channel that a token lies in must not be kept alive by it.
    home: Weak<Home<T>>,
}

impl<T> ChannelLock<T> {
    /// A lock of `class` around `value`, waited for as `times` say.
    #[must_use]
    pub fn new(class: &'static LockClass, times: LockTimes, value: T) -> Self {
        let (back, token) = bounded(1);
        let home = Arc::new(Home { class, times, stamp: Stamp::new(), token, back });
        drop(Token { value: Some(value), home: Arc::downgrade(&home) });
        Self(home)
    }

    /// Takes the lock, waiting as `wait` says.
    ///
    /// # Errors
    /// If it was not had: in time, before a cancel, or because of a deadlock, now or twice before in this order.
    ///
    /// # Panics
    /// Where assertions are on: if this thread holds a leaf, or a lock of the same class or a higher rank.
    #[track_caller]
    pub fn lock<'w>(&self, wait: impl Into<Wait<'w>>) -> Result<ChannelGuard<'_, T>, LockError> {
        let (site, mut patience) = (Location::caller(), Patience::new(wait.into()));
        let token = match self.token()?.try_recv() {
            Ok(token) => token,
            Err(_) => self.wait_for(&mut patience, site)?,
        };
        Ok(self.hold(token, site))
    }

    /// Takes the lock if it is free.
    #[track_caller]
    pub fn try_lock(&self) -> Option<ChannelGuard<'_, T>> {
        let token = self.token().ok()?.try_recv().ok()?;
        Some(self.hold(token, Location::caller()))
    }

    /// The channel to name in a `select!`: what is received from it is the lock. To call this is to ask for the lock, so it
    /// is where the order is checked; a wait that goes by it is bounded by the `select!` and not seen by the detector.
    ///
    /// # Errors
    /// If this order of locks has come to a deadlock twice before.
    ///
    /// # Panics
    /// As [`lock`](Self::lock).
    #[track_caller]
    pub fn token(&self) -> Result<&Receiver<Token<T>>, LockError> {
        if held::mine(held::Mine::holds_any) {
            order::check(self.0.class, self.id(), Location::caller(), Asked::Alone);
            patterns::check(self.0.class, self.id(), Asked::Alone)?;
        }
        Ok(&self.0.token)
    }

    /// Holds the lock whose token was received.
    #[track_caller]
    pub fn claim(&self, token: Token<T>) -> ChannelGuard<'_, T> {
        self.hold(token, Location::caller())
    }

    fn hold(&self, token: Token<T>, site: Site) -> ChannelGuard<'_, T> {
        self.0.stamp.take(held::mine(held::Mine::number));
        held::push(Taken { class: self.0.class, id: self.id(), site });
        ChannelGuard { lock: self, token, _not_send: std::marker::PhantomData }
    }

    #[cold]
    fn wait_for(&self, patience: &mut Patience<'_>, site: Site) -> Result<Token<T>, LockError> {
        let began = now();
        let (since, until) = patience.begin(self.0.times, began);
        let wanted = Wanted { class: self.0.class, id: self.id(), site, stamp: &self.0.stamp, can_leave: true };
        let mut waiting = Counted::enter(self.0.class).wait(wanted, began);
        let (told, uncancelled, cancel) = (waiting.told(), never(), patience.wait.cancel());
        let kind = select_biased! {
            recv(cancel.map_or(&uncancelled, CancelToken::channel)) -> _ => {
                LockErrorKind::Cancelled(cancel.and_then(CancelToken::reason).unwrap_or(CancelReason::Caller))
            }
            recv(told) -> deadlock => match deadlock {
                Ok(deadlock) => LockErrorKind::Deadlock(deadlock),
                // Its sender stands in the table for as long as the wait does.
                Err(_) => LockErrorKind::TimedOut,
            },
            recv(self.0.token) -> token => match token {
                Ok(token) => {
                    waiting.look(now());
                    return Ok(token);
                }
                // Its sender stands beside it.
                Err(_) => LockErrorKind::TimedOut,
            },
            default(until.remaining_at(began)) => LockErrorKind::TimedOut,
        };
        let ended = now();
        waiting.look(ended);
        Err(waiting.give_up(kind, ended.saturating_duration_since(since)))
    }

    fn id(&self) -> LockId {
        LockId::of(&*self.0)
    }
}

impl<T> Drop for Token<T> {
    fn drop(&mut self) {
        // Without a home the lock itself has gone, and the value goes too.
        if let Some((value, home)) = self.value.take().zip(self.home.upgrade()) {
            let _ = home.back.try_send(Self { value: Some(value), home: std::mem::take(&mut self.home) });
        }
    }
}

impl<T> fmt::Debug for Token<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl<T> fmt::Debug for ChannelLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChannelLock").field(&self.0.class.name()).finish()
    }
}

/// A [`ChannelLock`] that is held. Field order is drop order: the token goes back when nothing speaks of its holder.
#[derive(Debug)]
pub struct ChannelGuard<'a, T> {
    lock: &'a ChannelLock<T>,
    token: Token<T>,
    _not_send: std::marker::PhantomData<*const ()>,
}

impl<T> Deref for ChannelGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.token.value.as_ref().expect("a token has its value until it drops")
    }
}

impl<T> DerefMut for ChannelGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.token.value.as_mut().expect("a token has its value until it drops")
    }
}

impl<T> Drop for ChannelGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.0.stamp.release();
        held::remove(self.lock.id());
    }
}
