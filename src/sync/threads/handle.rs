//! The owner's handle of a thread: who it is, whether it is over, and waiting for that.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::state::{State, enter};
use crate::ids::ThreadId;
use crate::time::Deadline;

/// The owner's handle of a thread.
pub struct Thread {
    pub(super) id: ThreadId,
    pub(super) name: Arc<str>,
    pub(super) done: Receiver<Infallible>,
    pub(super) handle: Option<JoinHandle<()>>,
}

impl Thread {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> ThreadId {
        self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A channel that closes when the thread's work is over.
    #[must_use]
    pub fn done(&self) -> &Receiver<Infallible> {
        &self.done
    }

    /// Whether this is the thread that asks.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.handle.as_ref().is_some_and(|handle| handle.thread().id() == std::thread::current().id())
    }

    /// Waits until the thread is over. A thread that joins itself returns at once: it ends when its caller returns.
    ///
    /// # Errors
    /// If it still runs at the deadline; the handle comes back for another try or a report.
    pub fn join(mut self, deadline: Deadline) -> Result<(), Self> {
        if self.is_current() {
            return Ok(());
        }
        if let Some(handle) = &self.handle {
            // A service that pauses after a panic; to any other thread it does nothing.
            handle.thread().unpark();
        }
        let _waiting = enter(State::WaitingChannel);
        match self.done.recv_deadline(deadline.instant()) {
            Err(RecvTimeoutError::Timeout) => Err(self),
            Ok(_) | Err(RecvTimeoutError::Disconnected) => {
                if let Some(handle) = self.handle.take() {
                    // Its panic was caught and counted inside; what is left to wait for is the stack's unmapping.
                    let _ = handle.join();
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Thread").field(&self.name).finish()
    }
}
