//! Cancelling one request: everything that works for it hears of it, down to the upstream's socket (I9).
//!
//! **Protocol.** A token is shared by the thread that waits, the worker, the watcher and the transport. Whoever has a
//! socket that works for the request attaches an [`Abort`]; cancelling calls every attached one and closes a channel that
//! a `select!` can name. Detaching takes the same lock under which aborts are called, so once [`Attached`] has dropped, no
//! late cancel can reach the connection, which may serve another request by then.
//!
//! A token that a caller gives away with several requests is none of theirs: each has one of its own that follows it. A
//! cancel is handed down to followers when the lock is free again, and never up. I4: of those that have gone, at most as many
//! are remembered as are there.
//!
//! **Lock order.** The token's lock is a leaf. An abort runs under it and must neither block nor take a lock; shutting a
//! socket down does neither.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::locks::{Leaf, classes};

/// Why a request was cancelled.
///
/// ```
/// use sluicegate::{CancelReason, CancelToken};
///
/// let token = CancelToken::new();
/// assert_eq!(token.reason(), None);
/// token.cancel();
/// match token.reason() {
///     Some(CancelReason::Caller) => {}
///     other => panic!("nobody but this program had it: {other:?}"),
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum CancelReason {
    /// The client closed its connection, or its side of it.
    ClientGone = 1,
    /// The request's deadline passed.
    Deadline = 2,
    /// A library caller dropped its stream or called cancel.
    Caller = 3,
    /// The gateway's shutdown deadline passed.
    Shutdown = 4,
    /// The client read too slowly for too long.
    ClientSlow = 5,
}

impl CancelReason {
    fn from_raw(raw: u8) -> Option<Self> {
        [Self::ClientGone, Self::Deadline, Self::Caller, Self::Shutdown, Self::ClientSlow]
            .into_iter()
            .find(|reason| *reason as u8 == raw)
    }
}

/// Something that can be ended from another thread: a socket, usually.
pub trait Abort: Send + Sync {
    /// Ends it. Must not block, take a lock, or panic.
    fn abort(&self);
}

impl Abort for std::net::TcpStream {
    fn abort(&self) {
        // A socket that is not connected any more has nothing to shut down.
        let _ = self.shutdown(std::net::Shutdown::Both);
    }
}

/// The right to cancel one request, and to hear of it. Cheap to clone; all clones are one token.
///
/// ```
/// use std::thread;
/// use sluicegate::{CallOptions, CancelToken, Code, Gateway};
///
/// let gateway = Gateway::from_env()?;
/// let token = CancelToken::new();
/// let calls = gateway.with(CallOptions::new().cancel(token.clone()));
/// thread::scope(|scope| {
///     scope.spawn(|| token.cancel());
///     assert_eq!(calls.ask("sim/hang", "Hello").expect_err("it never answers").code(), Code::ClientClosed);
/// });
/// assert!(token.is_cancelled() && !token.cancel(), "the first cancel is the one that counts");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct CancelToken(Arc<Inner>);

struct Inner {
    reason: AtomicU8,
    hooks: Leaf<Hooks>,
    signal: Receiver<Infallible>,
}

struct Hooks {
    /// `None` once cancelled: its drop is the signal.
    open: Option<Sender<Infallible>>,
    next: u64,
    aborts: Vec<(u64, Arc<dyn Abort>)>,
    followers: Vec<Weak<Inner>>,
    /// How many followers there may be until those that have gone are looked for.
    crowded: usize,
}

/// Followers among whom those that have gone are not looked for.
const FEW: usize = 16;

impl CancelToken {
    /// A token not cancelled yet.
    #[must_use]
    pub fn new() -> Self {
        // Of capacity 1 although nothing is sent: a `select!` on a channel of capacity 0 allocates each time it waits.
        let (open, signal) = bounded(1);
        let hooks = Hooks { open: Some(open), next: 0, aborts: Vec::new(), followers: Vec::new(), crowded: FEW };
        Self(Arc::new(Inner { reason: AtomicU8::new(0), hooks: Leaf::new(&classes::CANCEL, hooks), signal }))
    }

    /// Cancels what it was given to, wherever that is: in a queue, between two attempts, with its provider. `true` for the first
    /// who does.
    pub fn cancel(&self) -> bool {
        self.cancel_for(CancelReason::Caller)
    }

    /// Cancels for a reason: calls every attached abort and closes the channel. `true` for the first caller, whose reason stays.
    #[doc(hidden)]
    pub fn cancel_for(&self, reason: CancelReason) -> bool {
        let mut hooks = self.0.hooks.lock();
        let Some(open) = hooks.open.take() else { return false };
        self.0.reason.store(reason as u8, Ordering::Release);
        for (_, abort) in &hooks.aborts {
            abort.abort();
        }
        let followers = std::mem::take(&mut hooks.followers);
        drop(hooks);
        drop(open);
        for follower in followers.iter().filter_map(Weak::upgrade) {
            Self(follower).cancel_for(reason);
        }
        true
    }

    /// A token for one of those that this one goes with: cancelled when this one is, and by itself without it.
    #[must_use]
    pub(crate) fn follower(&self) -> Self {
        let follower = Self::new();
        let mut hooks = self.0.hooks.lock();
        if hooks.open.is_none() {
            drop(hooks);
            follower.cancel_for(self.reason().unwrap_or(CancelReason::Caller));
            return follower;
        }
        if hooks.followers.len() >= hooks.crowded {
            hooks.followers.retain(|follower| follower.strong_count() > 0);
            hooks.crowded = FEW.max(2 * hooks.followers.len());
        }
        hooks.followers.push(Arc::downgrade(&follower.0));
        drop(hooks);
        follower
    }

    /// Why it was cancelled, if it was.
    #[must_use]
    pub fn reason(&self) -> Option<CancelReason> {
        // Whoever has seen the channel closed must find the reason. crossbeam looks for a closed channel by a relaxed load,
        // which orders nothing by itself: miri shows the reason missing without this. On x86 it costs no instruction.
        fence(Ordering::Acquire);
        CancelReason::from_raw(self.0.reason.load(Ordering::Acquire))
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    /// The channel to name in a `select!`: it closes when the token is cancelled, and nothing is ever sent on it.
    #[must_use]
    pub fn channel(&self) -> &Receiver<Infallible> {
        &self.0.signal
    }

    /// Has `abort` called at a cancel, until the guard drops.
    ///
    /// # Errors
    /// If the token is cancelled already; `abort` has been called then.
    #[doc(hidden)]
    pub fn attach(&self, abort: Arc<dyn Abort>) -> Result<Attached, CancelReason> {
        let mut hooks = self.0.hooks.lock();
        if hooks.open.is_none() {
            abort.abort();
            return Err(self.reason().unwrap_or(CancelReason::Caller));
        }
        let id = hooks.next;
        hooks.next += 1;
        hooks.aborts.push((id, abort));
        drop(hooks);
        Ok(Attached { token: self.clone(), id })
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelToken").field(&self.reason()).finish()
    }
}

/// Keeps an [`Abort`] attached; once it has dropped, no cancel reaches it any more.
#[must_use = "dropping the guard detaches at once"]
pub struct Attached {
    token: CancelToken,
    id: u64,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut hooks = self.token.0.hooks.lock();
        let found = hooks.aborts.iter().position(|(id, _)| *id == self.id);
        let detached = found.map(|at| hooks.aborts.swap_remove(at));
        drop(hooks);
        // It may be the last one to hold a socket, whose closing is none of a leaf's business.
        drop(detached);
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Calls(AtomicUsize);
    impl Abort for Calls {
        fn abort(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_cancel_reaches_what_is_attached_and_nothing_that_left() {
        let token = CancelToken::new();
        let (stays, left) = (Arc::new(Calls::default()), Arc::new(Calls::default()));
        let _kept = token.attach(stays.clone()).expect("not cancelled");
        drop(token.attach(left.clone()).expect("not cancelled"));
        assert!(token.cancel_for(CancelReason::ClientGone));
        assert!(!token.cancel_for(CancelReason::Deadline), "only the first reason counts");
        assert_eq!(token.reason(), Some(CancelReason::ClientGone));
        assert_eq!((stays.0.load(Ordering::SeqCst), left.0.load(Ordering::SeqCst)), (1, 0));
        assert!(token.channel().recv().is_err(), "the channel is closed");
    }

    #[test]
    fn attaching_too_late_aborts_at_once() {
        let token = CancelToken::new();
        token.cancel_for(CancelReason::Deadline);
        let late = Arc::new(Calls::default());
        assert_eq!(token.attach(late.clone()).err(), Some(CancelReason::Deadline));
        assert_eq!(late.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_cancel_goes_down_to_followers_and_never_up() {
        let token = CancelToken::new();
        let (ends, stays) = (token.follower(), token.follower());
        assert!(ends.cancel_for(CancelReason::Deadline));
        assert!(!token.is_cancelled() && !stays.is_cancelled());
        assert!(token.cancel());
        assert_eq!((ends.reason(), stays.reason()), (Some(CancelReason::Deadline), Some(CancelReason::Caller)));
        assert!(stays.channel().recv().is_err(), "its channel is closed");
        assert_eq!(token.follower().reason(), Some(CancelReason::Caller), "whoever comes too late");
    }

    #[test]
    fn followers_that_have_gone_are_forgotten() {
        let token = CancelToken::new();
        let stay: Vec<_> = (0..FEW / 2).map(|_| token.follower()).collect();
        (0..100 * FEW).for_each(|_| drop(token.follower()));
        assert!(token.0.hooks.lock().followers.len() <= 2 * FEW);
        assert!(token.cancel() && stay.iter().all(CancelToken::is_cancelled));
    }

    #[test]
    fn following_and_cancelling_racing_never_miss_a_cancel() {
        for _ in 0..if cfg!(miri) { 5 } else { 500 } {
            let token = CancelToken::new();
            std::thread::scope(|scope| {
                scope.spawn(|| token.cancel());
                scope.spawn(|| assert!(token.follower().channel().recv().is_err()));
            });
        }
    }

    #[test]
    fn attach_and_cancel_racing_never_miss_an_abort() {
        for _ in 0..if cfg!(miri) { 5 } else { 500 } {
            let token = CancelToken::new();
            let calls = Arc::new(Calls::default());
            std::thread::scope(|scope| {
                scope.spawn(|| token.cancel());
                scope.spawn(|| {
                    // Held until the cancel has come: then the abort must have been called.
                    let _attached = token.attach(calls.clone());
                    let _ = token.channel().recv();
                    while token.0.hooks.lock().open.is_some() {}
                    assert_eq!(calls.0.load(Ordering::SeqCst), 1);
                });
            });
        }
    }
}
