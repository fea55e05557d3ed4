//! The bytes of a connection, plain or in TLS: the one place where they are read and written.
//!
//! **Protocol.** A link is plain, or it begins *due*: its first bytes say what the client speaks. TLS makes a session of
//! them, which goes on with whatever comes until hands are shaken; a half-open one holds no thread, it is parked like a slow
//! head. Plain HTTP is told so in plain. After the handshake a session reads and writes for as long as the connection lasts,
//! and moves with it.
//!
//! **Invariants.** What a session has decrypted and nobody has read yet is no event to epoll: whoever parks a link asks
//! [`Link::has_input`] first. A read that brought bytes but no whole record says [`ErrorKind::WouldBlock`], so that whoever
//! waits looks at his deadline between any two pieces. I4: a session holds at most a record of what it read, and
//! 32 KiB of what it writes. A plain link costs one comparison a call.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

use super::certificates::Certificates;
use super::stream::SendError;
use super::tls::Session;
use crate::net::DeadlineStream;
use crate::time::{Deadline, now};

/// How much is read of what a client begins with. Most of them say all that they have to say first in less.
const FIRST: usize = 4 << 10;

const NO_WAIT: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// A connection's socket, and what is spoken on it.
#[derive(Debug)]
pub(super) struct Link {
    socket: Arc<TcpStream>,
    stream: DeadlineStream,
    layer: Layer,
}

#[derive(Debug)]
enum Layer {
    Plain,
    /// TLS, of which no byte has come yet. It holds no memory.
    Due(Arc<Certificates>),
    Secured(Box<Session>),
}

/// How far a handshake has come.
#[derive(Debug)]
pub(super) enum Shake {
    /// It is done.
    Done,
    /// Something came, and more is to come.
    More,
    /// Nothing came in a while.
    Quiet,
    /// The client has gone.
    Over,
    /// The client speaks plain HTTP, and so does the link now.
    Plain,
    /// It failed; the client has been told why, as TLS does it.
    Failed(io::Error),
}

impl Link {
    /// A link on a connected socket: TLS if there are `certificates`.
    pub(super) fn new(socket: Arc<TcpStream>, certificates: Option<&Arc<Certificates>>) -> Self {
        let layer = certificates.map_or(Layer::Plain, |certificates| Layer::Due(Arc::clone(certificates)));
        Self { stream: DeadlineStream::from_shared(Arc::clone(&socket)), socket, layer }
    }

    /// The socket.
    pub(super) fn socket(&self) -> &Arc<TcpStream> {
        &self.socket
    }

    /// Whether hands are still to be shaken.
    pub(super) fn is_shaking(&self) -> bool {
        match &self.layer {
            Layer::Plain => false,
            Layer::Due(_) => true,
            Layer::Secured(session) => session.is_shaking(),
        }
    }

    /// Whether the client has sent nothing yet of a handshake that it owes.
    pub(super) fn is_due(&self) -> bool {
        matches!(self.layer, Layer::Due(_))
    }

    /// Whether something can be read though no byte lies in the socket.
    pub(super) fn has_input(&self) -> bool {
        matches!(&self.layer, Layer::Secured(session) if session.has_input())
    }

    /// Goes on with the handshake: reads once, for about `patience`, and answers until `deadline`.
    pub(super) fn shake(&mut self, patience: Duration, deadline: Deadline) -> Shake {
        let took = match &mut self.layer {
            Layer::Plain => return Shake::Done,
            Layer::Due(certificates) => {
                let mut first = [0; FIRST];
                match self.stream.read_for(&mut first, patience) {
                    Ok(0) => return Shake::Over,
                    // A record of TLS never begins with a letter, and a request of HTTP with nothing else.
                    Ok(_) if first[0].is_ascii_alphabetic() => {
                        self.layer = Layer::Plain;
                        return Shake::Plain;
                    }
                    Ok(n) => Session::begin(&certificates.current()).and_then(|mut session| {
                        let took = session.fill_all(&first[..n]);
                        self.layer = Layer::Secured(session);
                        took
                    }),
                    Err(error) => Err(error),
                }
            }
            Layer::Secured(session) => session.fill(&mut Patient(&mut self.stream, patience)),
        };
        match (took, &mut self.layer) {
            (Err(error), _) if error.kind() == ErrorKind::TimedOut => Shake::Quiet,
            (Err(error), Layer::Secured(session)) if error.kind() == ErrorKind::InvalidData => {
                session.tell(&self.socket);
                Shake::Failed(error)
            }
            (Err(_) | Ok(0), _) => Shake::Over,
            (Ok(_), Layer::Secured(session)) => {
                match session.flush(&self.socket, &mut self.stream, &mut deadline.remaining()) {
                    Ok(()) if session.is_shaking() => Shake::More,
                    Ok(()) => Shake::Done,
                    Err(_) => Shake::Over,
                }
            }
            (Ok(_), Layer::Plain | Layer::Due(_)) => Shake::Over,
        }
    }

    /// Reads what is there, waiting for it about `patience`: one read of the socket at most. 0 is the client's end.
    ///
    /// # Errors
    /// `TimedOut` if nothing came; `WouldBlock` if something came, but nothing whole; whatever else the socket or TLS says.
    pub(super) fn read_for(&mut self, into: &mut [u8], patience: Duration) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Plain => self.stream.read_for(into, patience),
            Layer::Due(_) => Err(ErrorKind::NotConnected.into()),
            Layer::Secured(session) => session.read(&self.socket, into, &mut Patient(&mut self.stream, patience)),
        }
    }

    /// Reads what is there, waiting for it until `deadline`. 0 is the client's end.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; whatever else the socket or TLS says.
    pub(super) fn read(&mut self, into: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Plain => self.stream.read(into, deadline),
            Layer::Due(_) => Err(ErrorKind::NotConnected.into()),
            Layer::Secured(session) => loop {
                match session.read(&self.socket, into, &mut Until(&mut self.stream, deadline)) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    read => return read,
                }
            },
        }
    }

    /// Writes `first` and then `second`, in one call if the socket takes them. What the client stalls it is taken off
    /// `patience`.
    pub(super) fn send(&mut self, first: &[u8], second: &[u8], patience: &mut Duration) -> Result<(), SendError> {
        match &mut self.layer {
            Layer::Plain => {
                let sent = match send_now(&self.socket, &[IoSlice::new(first), IoSlice::new(second)]) {
                    Ok(sent) => sent,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                    Err(_) => return Err(SendError::Gone),
                };
                for part in [first.get(sent..), second.get(sent.saturating_sub(first.len())..)] {
                    let mut part = part.unwrap_or_default();
                    while !part.is_empty() {
                        let sent = stalled(patience, |until| self.stream.write_some(part, until))?;
                        part = &part[sent..];
                    }
                }
                Ok(())
            }
            // Nothing can be said yet.
            Layer::Due(_) => Err(SendError::Gone),
            Layer::Secured(session) => session.send((first, second), &self.socket, &mut self.stream, patience),
        }
    }

    /// Says that nothing more is sent, as far as the socket takes it at once: what came before is known to be whole.
    pub(super) fn say_end(&mut self) {
        if let Layer::Secured(session) = &mut self.layer {
            session.say_end(&self.socket);
        }
    }
}

/// Writes with what is left of `patience`, and takes off it what that took.
pub(super) fn stalled(
    patience: &mut Duration,
    write: impl FnOnce(Deadline) -> io::Result<usize>,
) -> Result<usize, SendError> {
    let start = now();
    let sent = write(Deadline::from(start, *patience));
    *patience = patience.saturating_sub(now().saturating_duration_since(start));
    match sent {
        Ok(0) => Err(SendError::Gone),
        Ok(sent) => Ok(sent),
        Err(error) if error.kind() == ErrorKind::TimedOut => Err(SendError::TooSlow),
        Err(_) => Err(SendError::Gone),
    }
}

/// Sends what the socket takes at once; `WouldBlock` if that is nothing.
pub(super) fn send_now(socket: &TcpStream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        let sent = match parts {
            [one, rest @ ..] if rest.iter().all(|part| part.is_empty()) => rustix::net::send(socket, one, NO_WAIT),
            parts => rustix::net::sendmsg(socket, parts, &mut SendAncillaryBuffer::new(&mut []), NO_WAIT),
        };
        match sent {
            Err(Errno::INTR) => {}
            sent => return Ok(sent?),
        }
    }
}

/// Reads that wait for about a time.
struct Patient<'a>(&'a mut DeadlineStream, Duration);

impl Read for Patient<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_for(into, self.1)
    }
}

/// Reads and writes that wait until a deadline.
pub(super) struct Until<'a>(pub(super) &'a mut DeadlineStream, pub(super) Deadline);

impl Read for Until<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into, self.1)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_some(bytes, self.1)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
