//! One connection to a provider, during a request and between requests.
//!
//! **Protocol.** [`Link::begin`] binds a connection used before to a request's cancel token (a fresh one is bound before it
//! connects); `send` and `receive` work for that request; [`Link::end`] lets go of the token and gives the connection back
//! if nothing speaks against using it again. Letting go takes the lock under which a cancel shuts sockets down, and only
//! then is the token asked whether it was cancelled: so a connection given back was not shut down and will not be by that
//! request (I3, I9).
//!
//! **Early answers.** A provider may answer before it has read the request, 401 or 413 say, and close. So a send that finds
//! no room listens for an answer too, and one that fails is forgotten: what the provider has said is read first, and only
//! its saying nothing makes the failure an error.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use rustix::event::PollFlags;

use super::attempt::Stage;
use super::buffers::{Input, MAX_HEAD};
use super::endpoint::Endpoint;
use super::socket::Socket;
use super::tls::Tls;
use super::{TransportError, TransportErrorKind as Kind};
use crate::metrics::CountGuard;
use crate::sync::{Attached, CancelToken};
use crate::time::Deadline;

/// What carries the bytes.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<Tls>),
}

impl Stream {
    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket(),
        }
    }

    /// Sends what there is room for and cuts it off `bytes`; `WouldBlock` as long as something is left.
    fn push(&mut self, bytes: &mut &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => {
                while !bytes.is_empty() {
                    let sent = socket.try_write(bytes)?;
                    *bytes = &bytes[sent..];
                }
                Ok(())
            }
            Self::Tls(tls) => tls.push(bytes),
        }
    }

    fn read(&mut self, buf: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf, deadline),
            Self::Tls(tls) => tls.read(buf, deadline),
        }
    }

    fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read(buf),
            Self::Tls(tls) => tls.try_read(buf),
        }
    }

    /// Whether an idle connection may take a request: nothing has come since its last answer's end.
    ///
    /// It costs one system call, and keeps bytes that nobody asked for (a 408 before an idle connection is closed, more body
    /// than was announced) from being taken for the next request's answer.
    fn is_quiet(&mut self) -> bool {
        if !self.socket().has_input() {
            return true;
        }
        match self {
            Self::Plain(_) => false,
            // A session ticket or a key update may have come, which is no one's answer.
            Self::Tls(tls) => matches!(tls.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    /// The request that it works for; an idle connection has none.
    bound: Option<(Attached, CancelToken)>,
    stream: Stream,
    endpoint: Arc<Endpoint>,
    /// Whether it has served a request before this one.
    reused: bool,
    /// Whether a byte of this request's answer has come.
    answered: bool,
    /// Why the request was not sent whole.
    unsent: Option<io::Error>,
    _open: CountGuard,
}

impl Link {
    /// A fresh connection, bound to the request that it was made for.
    pub(super) fn new(
        attached: Attached,
        token: CancelToken,
        stream: Stream,
        endpoint: Arc<Endpoint>,
        open: CountGuard,
    ) -> Self {
        let bound = Some((attached, token));
        Self { bound, stream, endpoint, reused: false, answered: false, unsent: None, _open: open }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Binds a connection used before to the request of `token`; `None` if it is stale.
    ///
    /// # Errors
    /// If the request is cancelled already.
    pub(super) fn begin(mut self, token: &CancelToken) -> Result<Option<Self>, TransportError> {
        if !self.stream.is_quiet() {
            return Ok(None);
        }
        let attached = token.attach(self.stream.socket().aborter()).map_err(TransportError::cancelled)?;
        self.bound = Some((attached, token.clone()));
        (self.reused, self.answered) = (true, false);
        Ok(Some(self))
    }

    /// Lets go of the request; `None` if the connection cannot serve another.
    pub(super) fn end(mut self) -> Option<Self> {
        let (attached, token) = self.bound.take()?;
        drop(attached);
        (self.unsent.is_none() && !token.is_cancelled()).then_some(self)
    }

    /// Sends all of `bytes`, or finds that the provider does not want them; what it says meanwhile goes to `input`.
    ///
    /// # Errors
    /// If the request is cancelled or the deadline passes.
    pub(super) fn send(&mut self, bytes: &[u8], input: &mut Input, deadline: Deadline) -> Result<(), TransportError> {
        let mut left = bytes;
        let mut listen = PollFlags::IN;
        while self.unsent.is_none() {
            match self.stream.push(&mut left) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.unsent = Some(error);
                    break;
                }
            }
            match self.stream.socket().wait(PollFlags::OUT | listen, deadline) {
                Ok(ready) if ready.intersects(PollFlags::OUT) => {}
                Ok(_) => {
                    if !self.listen(input) {
                        listen = PollFlags::empty();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Err(self.timed_out("the request was not taken")),
            }
            self.check_cancelled()?;
        }
        self.check_cancelled()
    }

    /// Takes what the provider says before it has the whole request; `false` if there is no more room for it.
    fn listen(&mut self, input: &mut Input) -> bool {
        let room = input.room();
        if room.is_empty() {
            return false;
        }
        match self.stream.try_read(room) {
            Ok(0) => self.unsent = Some(ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                self.answered = true;
                input.filled(n);
                // An answer that is no success ends the request: the rest of the body would be sent in vain.
                if status_of(input.bytes()).is_some_and(|status| status >= 300) {
                    self.unsent = Some(io::Error::other("answered before it was read"));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.unsent = Some(error),
        }
        true
    }

    /// Waits for more of the answer; `false` if the provider has ended it, whose framing says whether it was whole.
    ///
    /// # Errors
    /// If the request is cancelled, the deadline passes, the connection breaks off, or ends in an answer's head.
    pub(super) fn receive(
        &mut self,
        input: &mut Input,
        (deadline, stage): (Deadline, Stage),
    ) -> Result<bool, TransportError> {
        let room = input.room();
        if room.is_empty() {
            let message = format!("{} sent {MAX_HEAD} bytes that are no head and no body", self.endpoint);
            return Err(TransportError::new(Kind::TooLarge, message));
        }
        let error = match self.stream.read(room, deadline) {
            Ok(0) => None,
            Ok(n) => {
                self.answered = true;
                input.filled(n);
                return Ok(true);
            }
            Err(error) => Some(error),
        };
        self.check_cancelled()?;
        match error {
            Some(error) if error.kind() == ErrorKind::TimedOut => Err(self.timed_out(match stage {
                Stage::Head if self.answered => "the answer's head did not end",
                Stage::Head => "no answer came",
                Stage::Body => "no more of the answer came",
            })),
            Some(error) if error.kind() == ErrorKind::InvalidData => {
                Err(TransportError::because(Kind::Tls, format_args!("TLS with {}", self.endpoint), error))
            }
            error if !self.answered => Err(self.unanswered(error)),
            None if stage == Stage::Body && input.bytes().is_empty() => Ok(false),
            error => {
                let error = error.unwrap_or_else(|| ErrorKind::UnexpectedEof.into());
                let doing = format!("the answer of {} broke off", self.endpoint);
                Err(TransportError::because(Kind::Cut, doing, error))
            }
        }
    }

    /// The connection ended without a byte of answer.
    fn unanswered(&mut self, error: Option<io::Error>) -> TransportError {
        let endpoint = &self.endpoint;
        let error = match (self.unsent.take(), error) {
            (Some(unsent), _) => TransportError::because(Kind::Send, format_args!("sending to {endpoint}"), unsent),
            (None, Some(error)) => {
                TransportError::because(Kind::NoAnswer, format_args!("{endpoint} closed without an answer"), error)
            }
            (None, None) => TransportError::new(Kind::NoAnswer, format!("{endpoint} closed without an answer")),
        };
        error.on_reused(self.reused)
    }

    fn timed_out(&self, what: &str) -> TransportError {
        TransportError::new(Kind::Timeout, format!("{}: {what} in time", self.endpoint))
    }

    fn check_cancelled(&self) -> Result<(), TransportError> {
        let reason = self.bound.as_ref().and_then(|(_, token)| token.reason());
        reason.map_or(Ok(()), |reason| Err(TransportError::cancelled(reason)))
    }
}

/// The status in the first line of an answer, if so much of it is there.
fn status_of(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
