//! Stand-ins under which production files run on shuttle's scheduler: one crate that is `std`, `parking_lot` and
//! `crossbeam_channel` to them, so that not a line of theirs is written for the models.
//!
//! **Protocol.** Every operation that another thread can see is a scheduling point, and whoever has to wait gives the turn
//! away, so a hang is a deadlock that shuttle reports. Time is part of the schedule: a wait of less than [`FUSE`] may end
//! at any of its moments, whatever the clock says; a longer one never does, so that a message that somebody owes and does
//! not send is a deadlock, not a time-out.
//!
//! **What is not modelled.** Memory orderings: an atomic is sequentially consistent here (miri looks at those, `make
//! miri`). Sending on a channel of capacity 0, which nobody does: those are only ever closed.

mod channel;
mod local;
mod lock;

pub use channel::{
    Case, Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryIter, TryRecvError,
    TrySendError, bounded, never, choose,
};
pub use local::{AccessError, LocalKey};
pub use lock::{Mutex, MutexGuard};

pub use std::*;

#[doc(hidden)]
pub use shuttle as __shuttle;

/// Waits shorter than this may end at any moment; longer ones do not end by themselves.
const FUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// Whether a wait of `limit` ends here, the thing waited for not being there.
fn times_out(limit: Option<std::time::Duration>) -> bool {
    use shuttle::rand::Rng as _;
    limit.is_some_and(|limit| limit.is_zero() || limit < FUSE && shuttle::rand::thread_rng().gen_bool(0.25))
}

/// A place where the scheduler may let another thread go on.
fn point() {
    use shuttle::sync::atomic::{AtomicBool, Ordering};
    // Each operation on one of shuttle's atomics is such a place.
    static POINT: AtomicBool = AtomicBool::new(false);
    let _ = POINT.load(Ordering::SeqCst);
}

pub mod sync {
    //! `std::sync` with shuttle's atomics.
    pub use shuttle::sync::atomic;
    pub use std::sync::*;
}

pub mod thread {
    //! `std::thread` on shuttle's scheduler.
    pub use crate::{AccessError, LocalKey};
    pub use shuttle::thread::{
        Builder, JoinHandle, Scope, ScopedJoinHandle, Thread, ThreadId, current, park, park_timeout, scope, spawn,
        yield_now,
    };
    pub use std::thread::{Result, panicking};
}
