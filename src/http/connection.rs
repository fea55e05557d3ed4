//! One client's connection: reading requests off it, writing answers to it, and every way in which it ends.
//!
//! All bytes go in and out through the [`Link`], which is where TLS stands; what is parked, drained and reset is the socket.
//!
//! **Protocol.** A connection is owned by exactly one: the thread that serves it, an exchange, a stream, or the watcher's
//! table. It moves whole, as a box. Whoever is done with it and is not its thread calls [`Connection::resume`] (served
//! again from a thread or parked), [`Connection::close`], or drops it, which cuts it.
//!
//! **Invariants.** I1 and P1: every way out of here answers, or visibly closes. I2: the slot is a guard in the connection.
//! P3: every read and write has a deadline. A connection that closes while the client may still be sending is closed for
//! writing first and drained, within bounds: closing a socket with unread bytes resets it, and the answer with it.
//!
//! A keep-alive request in one segment costs one `recv` and one `send`. Both use the time-out that lingering has set: a
//! longer wait first goes through a short one, so that a body in a second segment sets no other.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::chunked::Chunked;
use super::framing::Body;
use super::head::{Head, Scan};
use super::input::Input;
use super::limits::{DRAIN_BYTES, DRAIN_TIME, LINGER};
use super::link::{Link, Shake};
use super::parking::Wait;
use super::refusal::Refusal;
use super::response::{Ending, Response};
use super::server::{Shared, Stay};
use super::service::Hold;
use super::stream::SendError;
use crate::time::{Deadline, now, unix_ms};

/// The longest body that is copied behind its head; a longer one goes out beside it, in the same call.
const COPIED: usize = 3 << 10;

/// How much of a body of known length is made room for at once; more only as it comes.
const BODY_STEP: usize = 16 << 10;

/// How much the watcher throws away at one event of a connection being drained.
const DRAIN_STEP: usize = 256 << 10;

/// What came of waiting for a request.
#[derive(Debug)]
pub(super) enum Received {
    /// A head.
    Head(Head),
    /// Nothing for a few milliseconds.
    Quiet,
    /// The client's end, or the server's.
    Over,
    /// Something that is no request.
    Refused(Refusal),
    /// No TLS was agreed upon, which the client has been told.
    Failed,
}

/// Why a body was not had.
#[derive(Debug)]
pub(super) enum BodyError {
    /// The client left in the middle.
    Gone,
    /// It is malformed, too long or too slow.
    Refused(Refusal),
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    peer: SocketAddr,
    link: Link,
    input: Input,
    scan: Scan,
    /// How much is still to come of a body that was refused, and is thrown away.
    discarding: u64,
    /// When the first byte of the head under way was read, or the refusal of a body that is thrown away was written. A
    /// handshake counts as part of the first head, and begins with the connection.
    head_since: Option<Instant>,
    /// When the last answer was over.
    idle_since: Instant,
    /// Whether epoll has seen it.
    armed: bool,
    /// Last: its slot and its place in the server's table end when the descriptor is closed.
    stay: Stay,
}

impl Connection {
    /// Takes an accepted socket.
    pub(super) fn new(socket: Arc<TcpStream>, id: u64, peer: SocketAddr, stay: Stay) -> Self {
        let (link, idle_since) = (Link::new(socket, stay.server().certificates()), now());
        Self {
            id,
            peer,
            head_since: link.is_shaking().then_some(idle_since),
            link,
            input: Input::default(),
            scan: Scan::default(),
            discarding: 0,
            idle_since,
            armed: false,
            stay,
        }
    }

    /// Its number: unique in this process, never reused.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Who is on the other side.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Its server.
    pub(super) fn server(&self) -> &Arc<Shared> {
        self.stay.server()
    }

    /// Its socket.
    pub(super) fn socket(&self) -> &Arc<TcpStream> {
        self.link.socket()
    }

    /// Whether epoll has seen it; from now on it has.
    pub(super) fn was_armed(&mut self) -> bool {
        std::mem::replace(&mut self.armed, true)
    }

    /// Waits for the next head: while nothing comes, only as long as a thread lingers.
    pub(super) fn receive(&mut self) -> Received {
        if let Some(ended) = self.shake_hands() {
            return ended;
        }
        if self.discarding > 0
            && let Some(received) = self.discard_more()
        {
            return received;
        }
        let limits = self.stay.server().limits();
        let most = limits.max_header_bytes;
        loop {
            if !self.input.is_empty() {
                // The one blank line that may stand before a request is no beginning of one.
                if self.input.pending() != b"\r\n" {
                    self.head_since.get_or_insert_with(now);
                }
                match self.scan.advance(self.input.pending()) {
                    Ok(Some(place)) if place.len() <= most => return self.parse(place),
                    Ok(None) if self.input.pending().len() <= most => {}
                    Ok(_) => return Received::Refused(Refusal::head_too_large("the head is too long")),
                    Err(refusal) => return Received::Refused(refusal),
                }
            } else if self.stay.server().is_stopping() && !self.link.has_input() && !self.has_bytes() {
                self.link.say_end();
                return Received::Over;
            }
            // Looked at before each read: one that always finds a byte never runs out of time by itself.
            if self.head_since.is_some_and(|since| Deadline::from(since, limits.header_timeout).passed()) {
                self.stay.server().count_header_timeout();
                return Received::Refused(Refusal::too_slow("the head did not come in time"));
            }
            match self.link.read_for(self.input.space(most + 1), LINGER) {
                Ok(0) => {
                    self.link.say_end();
                    return Received::Over;
                }
                Ok(n) => self.input.filled(n),
                Err(error) if error.kind() == ErrorKind::TimedOut => return Received::Quiet,
                // Part of a record of TLS is part of a head: its time runs.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.head_since.get_or_insert_with(now);
                }
                Err(error) => {
                    self.count_if_malformed(&error);
                    return Received::Over;
                }
            }
        }
    }

    /// Has the next `length` bytes thrown away, before the next head: a body that nobody wanted. It may take as long as a
    /// head; while nothing comes the connection is parked, as it is in the middle of one.
    pub(super) fn discard(&mut self, length: u64) {
        let there = self.input.pending().len().min(usize::try_from(length).unwrap_or(usize::MAX));
        self.input.consume(there);
        self.discarding = length - there as u64;
        if self.discarding > 0 {
            self.head_since = Some(now());
        }
    }

    /// Goes on with it; `None` when it is done.
    fn discard_more(&mut self) -> Option<Received> {
        let within = self.stay.server().limits().header_timeout;
        let mut waste = [0; 16 << 10];
        while self.discarding > 0 {
            // It has its answer: there is nothing more to say to it.
            if self.head_since.is_some_and(|since| Deadline::from(since, within).passed()) {
                return Some(Received::Over);
            }
            let most = usize::try_from(self.discarding).unwrap_or(usize::MAX).min(waste.len());
            match self.link.read_for(&mut waste[..most], LINGER) {
                Ok(0) => return Some(Received::Over),
                Ok(n) => self.discarding -= n as u64,
                Err(error) if error.kind() == ErrorKind::TimedOut => return Some(Received::Quiet),
                // A piece of a record of TLS.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Some(Received::Over),
            }
        }
        self.head_since = None;
        None
    }

    /// Shakes hands, if that is to be done: a piece of it at a time, like a head. Gives what keeps a request from coming.
    fn shake_hands(&mut self) -> Option<Received> {
        if !self.link.is_shaking() {
            return None;
        }
        let server = Arc::clone(self.server());
        let deadline = Deadline::from(self.head_since.unwrap_or(self.idle_since), server.limits().header_timeout);
        loop {
            if deadline.passed() {
                // Nothing can be said to it, so its slot is free at once.
                server.count_header_timeout();
                return Some(Received::Over);
            }
            match self.link.shake(LINGER, deadline) {
                Shake::Done => break,
                Shake::More => {}
                Shake::Quiet if server.is_stopping() => return Some(Received::Over),
                Shake::Quiet => return Some(Received::Quiet),
                Shake::Over => return Some(Received::Over),
                Shake::Plain => return Some(Received::Refused(Refusal::plain_on_tls())),
                Shake::Failed(error) => {
                    log::debug!("{} and the gateway agreed on no TLS: {error}", self.peer);
                    server.count_bad_request();
                    return Some(Received::Failed);
                }
            }
        }
        self.head_since = None;
        self.idle_since = now();
        None
    }

    /// Counts what a client sent that is no TLS.
    fn count_if_malformed(&self, error: &std::io::Error) {
        if error.kind() == ErrorKind::InvalidData {
            self.server().count_bad_request();
        }
    }

    /// Whether bytes lie in the socket.
    fn has_bytes(&self) -> bool {
        peek(self.link.socket()) == Peek::Bytes
    }

    fn parse(&mut self, place: Range<usize>) -> Received {
        let parsed = Head::parse(&self.input.pending()[place.clone()]);
        match parsed {
            Ok(head) => {
                self.input.consume(place.end);
                self.scan = Scan::default();
                Received::Head(head)
            }
            Err(refusal) => Received::Refused(refusal),
        }
    }

    /// When the head that was just received began; the next one has not.
    pub(super) fn take_arrival(&mut self) -> Instant {
        self.head_since.take().unwrap_or_else(now)
    }

    /// Tells a client that waits for it to go on, unless its body is coming already.
    pub(super) fn send_continue(&mut self) -> Result<(), SendError> {
        if !self.input.is_empty() || self.link.has_input() {
            return Ok(());
        }
        let mut patience = self.stay.server().limits().write_timeout;
        self.send(b"HTTP/1.1 100 Continue\r\n\r\n", &[], &mut patience)
    }

    /// Reads a whole body of at most `most` bytes into `into`; one of a known length must have been found to fit.
    pub(super) fn read_body(&mut self, body: Body, most: usize, into: &mut Vec<u8>) -> Result<(), BodyError> {
        let deadline = Deadline::after(self.stay.server().limits().body_timeout);
        match body {
            Body::Length(0) => Ok(()),
            Body::Length(length) => self.read_length(usize::try_from(length).unwrap_or(most).min(most), deadline, into),
            Body::Chunked => self.read_chunks(most, deadline, into),
        }
    }

    fn read_length(&mut self, length: usize, deadline: Deadline, body: &mut Vec<u8>) -> Result<(), BodyError> {
        let mut filled = length.min(self.input.pending().len());
        body.reserve_exact(length.min(filled + BODY_STEP));
        body.extend_from_slice(&self.input.pending()[..filled]);
        self.input.consume(filled);
        while filled < length {
            // Room is made as it fills, doubling: an announced length alone must not cost memory (P2).
            if filled == body.len() {
                body.resize(length.min(filled + filled.max(BODY_STEP)), 0);
            }
            filled += read_within(&mut self.link, &mut body[filled..], deadline)?;
        }
        Ok(())
    }

    fn read_chunks(&mut self, most: usize, deadline: Deadline, body: &mut Vec<u8>) -> Result<(), BodyError> {
        let mut chunked = Chunked::new(most);
        loop {
            let used = chunked.decode(self.input.pending(), body).map_err(BodyError::Refused)?;
            self.input.consume(used);
            if chunked.is_done() {
                return Ok(());
            }
            if body.len() > BODY_STEP {
                self.input.enlarge(BODY_STEP);
            }
            let read = read_within(&mut self.link, self.input.space(BODY_STEP), deadline)?;
            self.input.filled(read);
        }
    }

    /// Writes `first` and then `second`, in one call if the socket takes them. What the client stalls it is taken off
    /// `patience`.
    pub(super) fn send(&mut self, first: &[u8], second: &[u8], patience: &mut Duration) -> Result<(), SendError> {
        self.link.send(first, second, patience)
    }

    /// An empty vector to write into; `give_back` returns it.
    pub(super) fn lend(&mut self) -> Vec<u8> {
        self.input.lend()
    }

    /// Takes back what was lent, or a thread's spare buffer.
    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        self.input.give(buffer);
    }

    /// The request under way is over: idleness counts from here.
    pub(super) fn answered(&mut self) {
        self.idle_since = now();
    }

    /// Writes an answer. Gives the connection back if it goes on. `unread` says that the client may still be sending the
    /// request's body; then it closes.
    pub(super) fn respond(
        mut self: Box<Self>,
        response: &Response,
        head_only: bool,
        close: bool,
        unread: bool,
    ) -> Option<Box<Self>> {
        let close = close || unread || response.wants_close() || self.stay.server().is_stopping();
        let mut patience = self.stay.server().limits().write_timeout;
        let sent = self.write(response, head_only, close, &mut patience);
        self.answered();
        match sent {
            Ok(()) if close => {
                let unread = unread || self.discarding > 0;
                self.close(unread);
                None
            }
            Ok(()) => Some(self),
            Err(SendError::TooSlow) => {
                self.reset();
                None
            }
            Err(SendError::Gone) => None,
        }
    }

    fn write(
        &mut self,
        response: &Response,
        head_only: bool,
        close: bool,
        patience: &mut Duration,
    ) -> Result<(), SendError> {
        let mut out = self.input.lend();
        response.write_head(Ending::Length, close, unix_ms() / 1000, &mut out);
        let body: &[u8] = if head_only || !response.may_have_body() { &[] } else { &response.body };
        let sent = if body.len() <= COPIED {
            out.extend_from_slice(body);
            self.send(&out, &[], patience)
        } else {
            self.send(&out, body, patience)
        };
        self.input.give(out);
        sent
    }

    /// Answers what the server itself refuses, and closes.
    pub(super) fn refuse(self: Box<Self>, head: Option<&Head>, refusal: &Refusal, hold: Option<Hold>) {
        let server = Arc::clone(self.server());
        if refusal.is_bad_request() {
            server.count_bad_request();
        }
        let head_only = head.is_some_and(|head| head.method() == "HEAD");
        self.respond(&server.refusal(head, refusal, hold), head_only, true, true);
    }

    /// Answers that there is no room, and closes, without ever waiting: on the thread that accepts, or the watcher.
    pub(super) fn turn_away(mut self: Box<Self>) {
        let response = self.server().refusal(None, &Refusal::busy(), None);
        let mut no_patience = Duration::ZERO;
        match self.write(&response, false, true, &mut no_patience) {
            Ok(()) => self.close(true),
            // It has not even read what it was answered before.
            Err(_) => self.reset(),
        }
    }

    /// Hands the connection back to its server, from whatever thread: to be served if bytes are there, else to be parked.
    pub(super) fn resume(self: Box<Self>) {
        if self.input.is_empty() && !self.link.has_input() {
            self.park();
        } else {
            Shared::dispatch(self);
        }
    }

    /// Whether nothing of a request has come: it needs no thread.
    pub(super) fn is_quiet(&self) -> bool {
        let has_begun = self.head_since.is_some() && !self.link.is_due();
        self.input.is_empty() && !has_begun && !self.link.has_input() && peek(self.link.socket()) == Peek::Nothing
    }

    /// Parks the connection until something comes or its time is over.
    pub(super) fn park(mut self: Box<Self>) {
        let server = Arc::clone(self.server());
        self.input.compact();
        let limits = server.limits();
        let (wait, expiry) = match self.head_since {
            Some(since) => (Wait::Head, Deadline::from(since, limits.header_timeout)),
            None => (Wait::Request, Deadline::from(self.idle_since, limits.idle_timeout)),
        };
        let id = self.id;
        server.watcher().park(self, wait, expiry.instant());
        // A stop that swept before it was parked has missed it.
        if server.is_stopping()
            && let Some(parked) = server.watcher().take(id)
        {
            parked.connection.give_way(parked.wait);
        }
    }

    /// The buffer, for the thread to keep, before the connection is parked.
    pub(super) fn release(&mut self) -> Option<Vec<u8>> {
        self.input.release().filter(|buffer| buffer.capacity() > 0)
    }

    /// The watcher saw an event. `gone` says that the client has closed, at least its side.
    pub(super) fn ready(self: Box<Self>, wait: Wait, expiry: Instant, gone: bool) {
        match wait {
            Wait::Drain { left } => self.drain(left, expiry),
            // Without bytes there is nothing to serve, and no thread needed to see it.
            Wait::Request | Wait::Head if gone && !self.has_bytes() => {}
            Wait::Request | Wait::Head => Shared::dispatch(self),
        }
    }

    /// The watcher found its time over.
    pub(super) fn expired(self: Box<Self>, wait: Wait) {
        match wait {
            // Its thread tells the client that it was too slow.
            Wait::Head => Shared::dispatch(self),
            Wait::Drain { .. } | Wait::Request => {
                self.give_way(wait);
            }
        }
    }

    /// Closes a parked connection, unless a request has just come on it: that is served. `true` if it closed.
    pub(super) fn give_way(mut self: Box<Self>, wait: Wait) -> bool {
        let wanted = !matches!(wait, Wait::Drain { .. }) && self.has_bytes();
        if wanted {
            Shared::dispatch(self);
        } else {
            self.link.say_end();
        }
        !wanted
    }

    /// Closes so that what was sent arrives. `unread` says that the client may still be sending.
    pub(super) fn close(mut self: Box<Self>, unread: bool) {
        self.link.say_end();
        if !unread && self.input.is_empty() && !self.link.has_input() && !self.has_bytes() {
            return;
        }
        if self.link.socket().shutdown(Shutdown::Write).is_ok() {
            self.drain(DRAIN_BYTES, Deadline::after(DRAIN_TIME).instant());
        }
    }

    /// Closes so that the client sees an error whatever it received, and the kernel keeps nothing for it.
    pub(super) fn reset(self: Box<Self>) {
        // If it fails, the socket is dead already.
        let _ = socket2::SockRef::from(&**self.link.socket()).set_linger(Some(Duration::ZERO));
    }

    /// Throws away what has come; parks until more comes, the client closes, or the bounds are reached.
    fn drain(mut self: Box<Self>, mut left: usize, expiry: Instant) {
        self.input = Input::default();
        let mut step = DRAIN_STEP;
        let mut waste = [0; 16 << 10];
        while step > 0 && left > 0 {
            match rustix::net::recv(&**self.link.socket(), &mut waste, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return,
                Ok((_, n)) => (left, step) = (left.saturating_sub(n), step.saturating_sub(n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return,
            }
        }
        if left > 0 {
            let server = Arc::clone(self.server());
            server.watcher().park(self, Wait::Drain { left }, expiry);
        }
    }
}

/// Reads what is there, waiting for it until `deadline`; first for a moment, with the time-out that is set anyway.
fn read_within(link: &mut Link, into: &mut [u8], deadline: Deadline) -> Result<usize, BodyError> {
    let at_once = if deadline.passed() { Err(ErrorKind::TimedOut.into()) } else { link.read_for(into, LINGER) };
    let read = match at_once {
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => link.read(into, deadline),
        read => read,
    };
    match read {
        Ok(0) => Err(BodyError::Gone),
        Ok(n) => Ok(n),
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            Err(BodyError::Refused(Refusal::too_slow("the body did not come in time")))
        }
        Err(_) => Err(BodyError::Gone),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peek {
    Bytes,
    Nothing,
    Over,
}

/// What would be read now.
fn peek(socket: &TcpStream) -> Peek {
    match rustix::net::recv(socket, &mut [0u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Peek::Over,
        Ok(_) => Peek::Bytes,
        Err(Errno::AGAIN) => Peek::Nothing,
        Err(_) => Peek::Over,
    }
}
