//! The thread that accepts: it survives every error that accepting can give (P15).
//!
//! **Protocol.** It polls the listener and its own wake-up. Out of descriptors, it closes the longest idle connection and
//! tries again; if there is none, it waits a little, longer each time, and tries again: a listener that stays readable
//! while accepting fails must not spin, and must not die.
//!
//! **Shutdown.** A flag and the wake-up end it. What was connected before is taken in first: those clients see a served
//! request or an orderly close, where a listener that just closes would reset them.
//!
//! **Panics.** The thread is a service: it goes on after one.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::server::{Shared, StartError};
use crate::sync::locks::classes;
use crate::sync::{Leaf, Role, State, Thread, Threads, threads};
use crate::time::Deadline;

/// The first wait after an accept that failed, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// The longest wait for a connection; a bound, not a need.
const LONGEST: Duration = Duration::from_secs(60);

/// The handle of the thread.
#[derive(Debug)]
pub(super) struct Acceptor {
    wake: Arc<OwnedFd>,
    thread: Leaf<Option<Thread>>,
}

impl Acceptor {
    /// Starts accepting for `server`.
    pub(super) fn start(
        listener: TcpListener,
        server: Arc<Shared>,
        threads: &Threads,
        name: &str,
    ) -> Result<Self, StartError> {
        listener.set_nonblocking(true).map_err(StartError::Io)?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(StartError::io)?);
        let woken = Arc::clone(&wake);
        let thread = threads
            .service(Role::Accept, name, move || Accepting { listener: &listener, wake: &woken, server: &server }.run())
            .map_err(StartError::Spawn)?;
        Ok(Self { wake, thread: Leaf::new(&classes::LISTENER, Some(thread)) })
    }

    /// Wakes the thread, so that it sees that its server stops.
    pub(super) fn tell(&self) {
        // A full counter wakes as well, and nothing else can go wrong with it.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }

    /// Wakes the thread and waits until it is over and the listener closed.
    pub(super) fn stop(&self, deadline: Deadline) {
        self.tell();
        let thread = self.thread.lock().take();
        if let Some(Err(thread)) = thread.map(|thread| thread.join(deadline)) {
            log::warn!("the thread {} still runs", thread.name());
        }
    }
}

struct Accepting<'a> {
    listener: &'a TcpListener,
    wake: &'a OwnedFd,
    server: &'a Arc<Shared>,
}

impl Accepting<'_> {
    fn run(&self) {
        let mut backoff = BACKOFF.0;
        loop {
            let _round = threads::round(threads::ROUND);
            let stopping = self.server.is_stopping();
            let failed = self.accept_all().err();
            if stopping {
                return;
            }
            match failed {
                None => {
                    backoff = BACKOFF.0;
                    self.wait(LONGEST, true);
                }
                Some(error) => {
                    if backoff == BACKOFF.0 {
                        let remedy = if is_exhaustion(&error) {
                            "; raise the limit on open descriptors (ulimit -n)"
                        } else {
                            ""
                        };
                        log::warn!("connections cannot be accepted, which is tried again: {error}{remedy}");
                    }
                    if !(is_exhaustion(&error) && self.server.evict()) {
                        self.wait(backoff, false);
                        backoff = (backoff * 2).min(BACKOFF.1);
                    }
                }
            }
        }
    }

    /// Accepts until nobody waits.
    fn accept_all(&self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((socket, peer)) => {
                    threads::count_job();
                    self.server.welcome(socket, peer);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // One client's trouble: it left before it was accepted.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits to be woken; with `clients`, also for a connection.
    fn wait(&self, longest: Duration, clients: bool) {
        let _resting = threads::rest(State::Io, longest);
        let mut fds = [PollFd::new(self.wake, PollFlags::IN), PollFd::new(self.listener, PollFlags::IN)];
        let timeout = Timespec { tv_sec: longest.as_secs().cast_signed(), tv_nsec: i64::from(longest.subsec_nanos()) };
        // Whatever ends the wait, the next round looks at everything.
        let _ = poll(&mut fds[..if clients { 2 } else { 1 }], Some(&timeout));
    }
}

/// Whether the system ran out of something that closing a connection gives back.
fn is_exhaustion(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|own| error.raw_os_error() == Some(own.raw_os_error()))
}
