//! A provider's socket: reads wait in the kernel with a deadline, writes never wait without listening for an early answer.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::net::DeadlineStream;
use crate::sync::{Abort, State, threads};
use crate::time::Deadline;

/// How long one wait in the kernel lasts at most, so that a cancel is seen even where shutting a socket down does not wake
/// the one who waits for it (on Linux it does, also while it connects).
const SLICE: Duration = Duration::from_millis(50);

/// A connected socket, or one that is connecting.
#[derive(Debug)]
pub(super) struct Socket(DeadlineStream);

impl Socket {
    pub(super) fn new(socket: Arc<TcpStream>) -> Self {
        Self(DeadlineStream::from_shared(socket))
    }

    pub(super) fn aborter(&self) -> Arc<dyn Abort> {
        self.0.aborter()
    }

    /// Reads what is there, waiting for it until `deadline`.
    pub(super) fn read(&mut self, buf: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        self.0.read(buf, deadline)
    }

    /// Reads what is there; `WouldBlock` if nothing is.
    pub(super) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0.socket(), buf, RecvFlags::DONTWAIT)?.1)
    }

    /// Whether bytes, or the peer's end, wait to be read.
    pub(super) fn has_input(&self) -> bool {
        let peeked = recv(self.0.socket(), &mut [0u8; 1], RecvFlags::DONTWAIT | RecvFlags::PEEK);
        !matches!(peeked, Err(rustix::io::Errno::AGAIN))
    }

    /// Writes what there is room for; `WouldBlock` if there is none.
    pub(super) fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        Ok(send(self.0.socket(), buf, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
    }

    /// Waits for any of `events`, or for the socket's end; `WouldBlock` after a slice of time without.
    ///
    /// # Errors
    /// `TimedOut` at the deadline.
    pub(super) fn wait(&self, events: PollFlags, deadline: Deadline) -> io::Result<PollFlags> {
        wait(self.0.socket(), events, deadline)
    }
}

/// Waits for any of `events` on `socket`, or for its end; `WouldBlock` after a slice of time without.
///
/// # Errors
/// `TimedOut` at the deadline.
pub(super) fn wait(socket: &TcpStream, events: PollFlags, deadline: Deadline) -> io::Result<PollFlags> {
    let left = deadline.remaining();
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let _io = threads::enter(State::Io);
    let mut fds = [PollFd::new(socket, events)];
    let slice = Timespec::try_from(left.min(SLICE)).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&slice)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
        Ok(_) => Ok(fds[0].revents()),
        Err(error) => Err(error.into()),
    }
}

/// The end of a slice of waiting is no error: whoever waits looks again.
pub(super) fn ignore_slice<T>(waited: io::Result<T>) -> io::Result<Option<T>> {
    match waited {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}
