//! What concerns the whole process: limits, what others may see of its memory, signals. `journal` has its log.

use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::gateway::StartError;
use crate::sync::{Role, State, Threads, threads};

/// Keeps what is in memory, keys among it, out of core dumps, and out of reach of other processes of the same user: the
/// kernel then lets only root look into `/proc/PID/mem`, `environ`, `fd` and `maps`, or attach a debugger. The process itself
/// goes on reading its own.
pub(super) fn keep_memory_private() {
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    let done = setrlimit(Resource::Core, no_core).and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = done {
        log::warn!("core dumps cannot be turned off: {error}");
    }
}

/// Raises the limit on open descriptors to what the system allows: one per connection, on both sides.
pub(super) fn raise_limits() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        log::warn!("the limit on open descriptors stays at {:?}: {error}", limit.current);
    }
}

/// The signals that ask for an end: the first begins the drain, the second ends at once; and, where it is listened for, the
/// one that asks for a reload.
pub(super) struct Signals {
    ends: Receiver<()>,
    reloads: Receiver<()>,
}

impl Signals {
    /// Listens for SIGINT and SIGTERM on a thread of the gateway.
    pub(super) fn listen(threads: &Threads) -> Result<Self, StartError> {
        Self::listen_for(threads, &[SIGINT, SIGTERM])
    }

    /// Listens for SIGHUP, too.
    pub(super) fn listen_with_reloads(threads: &Threads) -> Result<Self, StartError> {
        Self::listen_for(threads, &[SIGINT, SIGTERM, SIGHUP])
    }

    /// Listens for SIGINT alone; SIGTERM ends the process, as it does where nobody listens.
    pub(super) fn listen_to_interrupts(threads: &Threads) -> Result<Self, StartError> {
        Self::listen_for(threads, &[SIGINT])
    }

    fn listen_for(threads: &Threads, which: &[i32]) -> Result<Self, StartError> {
        let mut signals = signal_hook::iterator::Signals::new(which).map_err(StartError::Listen)?;
        let (end, ends) = bounded(2);
        let (reload, reloads) = bounded(1);
        threads.service(Role::Watchdog, "signals", move || {
            let _resting = threads::rest(State::Io, Duration::MAX);
            for signal in signals.forever() {
                // A third end finds its channel full; two are all that is listened to. A reload that is asked for while
                // another one waits to begin is that one.
                let _ = if signal == SIGHUP { reload.try_send(()) } else { end.try_send(()) };
            }
        })?;
        Ok(Self { ends, reloads })
    }

    /// The channel that asks for an end.
    pub(super) fn channel(&self) -> &Receiver<()> {
        &self.ends
    }

    /// The channel that asks for a reload.
    pub(super) fn reloads(&self) -> &Receiver<()> {
        &self.reloads
    }
}
