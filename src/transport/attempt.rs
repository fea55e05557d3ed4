//! What the current thread's request is bounded by: the way from the caller to our parts inside the HTTP library.
//!
//! The library knows time-outs only as its own settings and cancelling not at all, so both reach our connector and our
//! connections through thread-locals: the attempt while its head is under way, and a deadline around every call that may
//! read or write. Both are taken back by guards, also by a panic.

use std::cell::{Cell, RefCell};

use crate::sync::CancelToken;
use crate::time::Deadline;

/// One request on its way.
pub(super) struct Attempt {
    pub(super) cancel: CancelToken,
    pub(super) deadline: Deadline,
    /// By when a fresh connection must stand.
    pub(super) connect_by: Deadline,
    /// Whether an idle connection will not do, because one was stale.
    pub(super) fresh: bool,
    /// The request's own header lines, each with its line end. They go around the library, whose logs show what it writes.
    pub(super) lines: Vec<u8>,
    /// Room that the head needs in the output buffer at once, in bytes.
    pub(super) head_bytes: usize,
    /// How many bytes of body follow.
    pub(super) body_bytes: usize,
}

/// Which part of an answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Head,
    Body,
}

thread_local! {
    static ATTEMPT: RefCell<Option<Attempt>> = const { RefCell::new(None) };
    static WAIT: Cell<Option<(Deadline, Stage)>> = const { Cell::new(None) };
}

/// Makes `attempt` the current thread's, until the guard drops.
pub(super) fn enter(attempt: Attempt) -> Entered {
    let wait = bound(attempt.deadline, Stage::Head);
    ATTEMPT.with_borrow_mut(|current| *current = Some(attempt));
    Entered { _wait: wait }
}

/// Works on the current thread's attempt; `None` if there is none.
pub(super) fn with<R>(work: impl FnOnce(&mut Attempt) -> R) -> Option<R> {
    ATTEMPT.with_borrow_mut(|current| current.as_mut().map(work))
}

/// Bounds what the current thread reads and writes, until the guard drops.
pub(super) fn bound(deadline: Deadline, stage: Stage) -> Bound {
    Bound(WAIT.replace(Some((deadline, stage))))
}

/// What bounds the current thread; a deadline that has passed if nothing does, so that no wait is without one (I5).
pub(super) fn wait() -> (Deadline, Stage) {
    WAIT.get().unwrap_or_else(|| (Deadline::at(crate::time::now()), Stage::Body))
}

#[must_use = "dropping the guard ends the attempt"]
pub(super) struct Entered {
    _wait: Bound,
}

impl Drop for Entered {
    fn drop(&mut self) {
        ATTEMPT.with_borrow_mut(|current| *current = None);
    }
}

#[must_use = "dropping the guard lifts the bound"]
pub(super) struct Bound(Option<(Deadline, Stage)>);

impl Drop for Bound {
    fn drop(&mut self) {
        WAIT.set(self.0);
    }
}
