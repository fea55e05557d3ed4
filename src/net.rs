//! A TCP socket whose every read and write has a deadline, at no system call more than a bare one.
//!
//! Both the server's and the providers' connections stand on it, which is why it lies below `http` and `transport`. A
//! kernel time-out is set only when the one in force is no longer right: it is rounded down to a power of two, so that
//! requests with about the same time left share it, and a read that ends early with time to spare goes round again.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::{Abort, State, threads};
use crate::time::{Deadline, now};

/// The least time-out that is set: a shorter one is hardly told apart from none by the kernel's clock.
const LEAST: Duration = Duration::from_millis(1);

/// A connected socket. One descriptor: whoever needs to end it from elsewhere shares it through [`DeadlineStream::aborter`].
#[derive(Debug)]
pub struct DeadlineStream {
    socket: Arc<TcpStream>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl DeadlineStream {
    /// Takes a connected, blocking socket; turns `TCP_NODELAY` on.
    ///
    /// # Errors
    /// If the socket is dead already.
    pub fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self::from_shared(Arc::new(socket)))
    }

    /// Takes a socket that others can end already.
    #[must_use]
    pub fn from_shared(socket: Arc<TcpStream>) -> Self {
        Self { socket, read_timeout: None, write_timeout: None }
    }

    /// The socket, for its addresses and its descriptor.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// What ends this socket from another thread.
    #[must_use]
    pub fn aborter(&self) -> Arc<dyn Abort> {
        Arc::clone(&self.socket) as Arc<dyn Abort>
    }

    /// Reads what is there, waiting for the first byte until `deadline`. 0 is the peer's end.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; whatever else the socket says.
    pub fn read(&mut self, buf: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        let _io = threads::enter(State::Io);
        loop {
            self.arm_read(deadline)?;
            match (&*self.socket).read(buf) {
                Err(error) if is_wait(&error) => {}
                other => return other,
            }
        }
    }

    /// Reads what is there, waiting for the first byte about `patience`: once, for a kernel time-out of half of it to all
    /// of it, and at no look at the clock. For waits whose exact length does not matter, before every request.
    ///
    /// # Errors
    /// `TimedOut` if nothing came; whatever else the socket says.
    pub fn read_for(&mut self, buf: &mut [u8], patience: Duration) -> io::Result<usize> {
        let _io = threads::enter(State::Io);
        if self.read_timeout.is_none_or(|timeout| timeout > patience || timeout < patience / 2) {
            self.set_read_timeout(rounded(patience))?;
        }
        match (&*self.socket).read(buf) {
            Err(error) if is_wait(&error) => Err(ErrorKind::TimedOut.into()),
            other => other,
        }
    }

    /// Writes all of `buf` until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, with part of `buf` written; `WriteZero` or whatever else the socket says.
    pub fn write_all(&mut self, mut buf: &[u8], deadline: Deadline) -> io::Result<()> {
        let _io = threads::enter(State::Io);
        while !buf.is_empty() {
            match self.write_some(buf, deadline)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                n => buf = &buf[n..],
            }
        }
        Ok(())
    }

    /// Writes what the socket takes, waiting for room until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; whatever else the socket says.
    pub fn write_some(&mut self, buf: &[u8], deadline: Deadline) -> io::Result<usize> {
        loop {
            self.arm_write(deadline)?;
            match (&*self.socket).write(buf) {
                Err(error) if is_wait(&error) => {}
                other => return other,
            }
        }
    }

    fn arm_read(&mut self, deadline: Deadline) -> io::Result<()> {
        let left = time_left(deadline)?;
        if let Some(timeout) = timeout_for(left, self.read_timeout) {
            self.set_read_timeout(timeout)?;
        }
        Ok(())
    }

    fn set_read_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(timeout))?;
        self.read_timeout = Some(timeout);
        Ok(())
    }

    fn arm_write(&mut self, deadline: Deadline) -> io::Result<()> {
        let left = time_left(deadline)?;
        if let Some(timeout) = timeout_for(left, self.write_timeout) {
            self.socket.set_write_timeout(Some(timeout))?;
            self.write_timeout = Some(timeout);
        }
        Ok(())
    }
}

/// Whether a read or write ended because its kernel time-out ran out, or a signal came: it is tried again, and the
/// deadline decides.
fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn time_left(deadline: Deadline) -> io::Result<Duration> {
    let left = deadline.remaining_at(now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The time-out to set when `left` remains and `current` is in force; `None` if the current one does.
///
/// The current one does when it ends before the deadline and is not so short that going round costs more than setting
/// it anew: between an eighth of what is left and all of it.
fn timeout_for(left: Duration, current: Option<Duration>) -> Option<Duration> {
    if current.is_some_and(|timeout| timeout <= left && timeout >= left / 8) {
        return None;
    }
    let rounded = rounded(left);
    (current != Some(rounded)).then_some(rounded)
}

/// A duration rounded down to a power of two of milliseconds, at least one.
fn rounded(duration: Duration) -> Duration {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(1 << ms.ilog2()).max(LEAST)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (DeadlineStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        (DeadlineStream::new(client).expect("connected"), listener.accept().expect("it connected").0)
    }

    #[test]
    fn a_read_ends_at_its_deadline_not_at_the_rounded_timeout() {
        let (mut stream, _peer) = pair();
        for ms in [3, 50, 130] {
            let start = now();
            let error =
                stream.read(&mut [0; 8], Deadline::after(Duration::from_millis(ms))).expect_err("nothing comes");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= Duration::from_millis(ms), "{ms} ms were not waited for");
        }
    }

    #[test]
    fn a_read_of_about_a_time_ends_in_it_and_sets_a_timeout_only_if_another_is_in_force() {
        let (mut stream, mut peer) = pair();
        let about = |stream: &mut DeadlineStream| stream.read_for(&mut [0; 8], Duration::from_millis(50));
        let start = now();
        assert_eq!(about(&mut stream).expect_err("nothing comes").kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= Duration::from_millis(25));
        peer.write_all(b"ab").expect("connected");
        assert_eq!(about(&mut stream).expect("it came"), 2);
        assert_eq!(stream.read_timeout, Some(Duration::from_millis(32)));
    }

    #[test]
    fn an_abort_ends_a_read_on_another_thread() {
        let (mut stream, _peer) = pair();
        let aborter = stream.aborter();
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || stream.read(&mut [0; 8], Deadline::after(Duration::from_secs(5))));
            aborter.abort();
            assert!(matches!(reader.join().expect("no panic"), Ok(0)));
        });
    }

    #[test]
    fn a_timeout_in_force_is_kept_while_it_does() {
        let ms = Duration::from_millis;
        assert_eq!(timeout_for(ms(120_000), None), Some(ms(65_536)));
        assert_eq!(timeout_for(ms(119_000), Some(ms(65_536))), None);
        assert_eq!(timeout_for(ms(60_000), Some(ms(65_536))), Some(ms(32_768)));
        assert_eq!(timeout_for(ms(120_000), Some(ms(4))), Some(ms(65_536)));
    }
}
