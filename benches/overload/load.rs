//! The load generator: many connections on one thread on epoll, closed loop or open loop.
//!
//! In the open loop requests are due at times fixed beforehand, and a request's time counts from when it was due: a
//! generator that is late charges itself, and says by how much. Connections are taken in turn, longest free first; more are
//! opened when all are busy.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;

use crate::Error;

/// Silence after which the gateway is taken to have lost a request.
const STALLED: Duration = Duration::from_secs(10);

/// How long a run runs before its goodput counts: several times what the slowest answer takes.
const SETTLE: Duration = Duration::from_millis(500);

/// The most connections that are opened.
const MOST: usize = 4000;

/// Connections to one gateway.
pub(crate) struct Load {
    addr: SocketAddr,
    request: Vec<u8>,
    start: Instant,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    free: VecDeque<usize>,
    events: Vec<epoll::Event>,
}

struct Connection {
    socket: TcpStream,
    /// When the request under way was due.
    due: Instant,
    answer: Vec<u8>,
}

/// What came of a run; times are microseconds from when a request was due.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) good_us: Vec<u64>,
    pub(crate) refused_us: Vec<u64>,
    /// How late requests were sent.
    pub(crate) late_us: Vec<u64>,
    /// Anything else: another status, a refusal that does not say when to come again.
    pub(crate) failed: u64,
    /// Connections that were closed by the gateway.
    pub(crate) closed: u64,
    /// When good answers came, from the run's beginning.
    good_at: Vec<Duration>,
    /// When the last request was sent.
    sending: Duration,
}

impl Tally {
    /// Good answers a second, from [`SETTLE`] after the run's beginning until the last request was sent.
    pub(crate) fn goodput(&self) -> f64 {
        let counted = self.good_at.iter().filter(|at| (SETTLE..self.sending).contains(at)).count();
        counted as f64 / self.sending.saturating_sub(SETTLE).as_secs_f64()
    }

    /// Refusals a second, all the time.
    pub(crate) fn refused_per_s(&self) -> f64 {
        self.refused_us.len() as f64 / self.sending.as_secs_f64()
    }
}

impl Load {
    pub(crate) fn new(addr: SocketAddr, request: Vec<u8>) -> Result<Self, Error> {
        // A timer's usual 50 µs of slack would be charged to the answers of an open loop.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self {
            addr,
            request,
            start: Instant::now(),
            epoll,
            connections: Vec::new(),
            free: VecDeque::new(),
            events: Vec::with_capacity(512),
        })
    }

    /// `connections` that each ask again as soon as they are answered, for `time`.
    pub(crate) fn closed(&mut self, connections: usize, time: Duration) -> Result<Tally, Error> {
        let mut tally = Tally::default();
        let start = Instant::now();
        self.start = start;
        for _ in 0..connections {
            self.send(Instant::now(), &mut tally)?;
        }
        let mut busy = connections;
        while busy > 0 {
            let ended = self.wait(STALLED, &mut tally)?;
            busy -= ended;
            if start.elapsed() < time {
                tally.sending = start.elapsed();
                for _ in 0..ended {
                    self.send(Instant::now(), &mut tally)?;
                }
                busy += ended;
            }
        }
        Ok(tally)
    }

    /// `rate` requests a second for `time`, at times fixed beforehand.
    pub(crate) fn open(&mut self, rate: f64, time: Duration) -> Result<Tally, Error> {
        let mut tally = Tally::default();
        let total = (time.as_secs_f64() * rate).round().max(1.0) as u64;
        let start = Instant::now();
        self.start = start;
        let due = |number: u64| start + Duration::from_secs_f64(number as f64 / rate);
        let (mut sent, mut busy) = (0, 0);
        while sent < total || busy > 0 {
            while sent < total && due(sent) <= Instant::now() {
                self.send(due(sent), &mut tally)?;
                (sent, busy) = (sent + 1, busy + 1);
                // Answers are read in between, however far behind it is.
                if sent.is_multiple_of(64) {
                    busy -= self.wait(Duration::ZERO, &mut tally)?;
                }
            }
            if sent < total {
                tally.sending = start.elapsed();
                // To the microsecond: epoll's own time-out counts in milliseconds.
                let rest = Timespec::try_from(due(sent).saturating_duration_since(Instant::now()))?;
                if poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&rest))? == 0 {
                    continue;
                }
            }
            busy -= self.wait(if sent < total { Duration::ZERO } else { STALLED }, &mut tally)?;
        }
        Ok(tally)
    }

    fn send(&mut self, due: Instant, tally: &mut Tally) -> Result<(), Error> {
        let index = match self.free.pop_front() {
            Some(index) => index,
            None => self.connect()?,
        };
        let connection = &mut self.connections[index];
        connection.due = due;
        tally.sent += 1;
        tally.late_us.push(due.elapsed().as_micros() as u64);
        let sent = connection.socket.write(&self.request)?;
        if sent < self.request.len() {
            return Err("a request did not fit into an idle connection".into());
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<usize, Error> {
        let index = self.connections.len();
        if index == MOST {
            return Err(format!("{MOST} connections are not enough").into());
        }
        let socket = self.open_socket(index)?;
        self.connections.push(Connection { socket, due: Instant::now(), answer: Vec::new() });
        Ok(index)
    }

    fn open_socket(&self, index: usize) -> Result<TcpStream, Error> {
        let socket = TcpStream::connect_timeout(&self.addr, STALLED)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        epoll::add(&self.epoll, &socket, EventData::new_u64(index as u64), EventFlags::IN)?;
        Ok(socket)
    }

    /// Reads what has come; how many requests ended by it.
    fn wait(&mut self, time: Duration, tally: &mut Tally) -> Result<usize, Error> {
        epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&Timespec::try_from(time)?))?;
        if self.events.is_empty() && !time.is_zero() {
            return Err(format!("no answer within {} s", time.as_secs()).into());
        }
        let mut ended = 0;
        let mut scratch = [0; 16 << 10];
        for event in std::mem::take(&mut self.events) {
            let index = event.data.u64() as usize;
            let connection = &mut self.connections[index];
            let closed = match connection.socket.read(&mut scratch) {
                Ok(0) => true,
                Ok(read) => {
                    connection.answer.extend_from_slice(&scratch[..read]);
                    false
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
                Err(error) => return Err(error.into()),
            };
            if closed {
                tally.closed += 1;
                // One that was idle has lost nothing; one that waited has.
                if !self.free.contains(&index) {
                    tally.failed += 1;
                    ended += 1;
                    self.free.push_back(index);
                }
                self.connections[index].socket = self.open_socket(index)?;
                self.connections[index].answer.clear();
                continue;
            }
            let Some(kind) = judge(&connection.answer)? else { continue };
            let us = connection.due.elapsed().as_micros() as u64;
            match kind {
                Kind::Good => {
                    tally.good_us.push(us);
                    tally.good_at.push(self.start.elapsed());
                }
                Kind::Refused => tally.refused_us.push(us),
                Kind::Other => tally.failed += 1,
            }
            connection.answer.clear();
            self.free.push_back(index);
            ended += 1;
        }
        self.events = Vec::with_capacity(512);
        Ok(ended)
    }
}

enum Kind {
    Good,
    Refused,
    Other,
}

/// What an answer is, if it is whole.
fn judge(answer: &[u8]) -> Result<Option<Kind>, Error> {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end])?;
    let header = |name: &str| {
        head.lines().filter_map(|line| line.split_once(": ")).find(|(own, _)| *own == name).map(|(_, value)| value)
    };
    let length: usize = header("content-length").ok_or("an answer without a length")?.parse()?;
    if answer.len() < end + 4 + length {
        return Ok(None);
    }
    let refused =
        || memchr::memmem::find(&answer[end..], b"\"overloaded\"").is_some() && header("retry-after").is_some();
    Ok(Some(match head.get(9..12) {
        Some("200") => Kind::Good,
        Some("503") if refused() => Kind::Refused,
        _ => Kind::Other,
    }))
}
