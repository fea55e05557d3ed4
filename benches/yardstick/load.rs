//! The load generator: many connections on one thread, closed loop or open loop.
//!
//! One thread on epoll, since a thread per connection would spend more on switching between them than on the work, and
//! takes that from the target. Connections stay open from the warm-up to the end of a stage.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;

use crate::Error;
use crate::client::{Connection, Times};
use crate::fixture::Script;

/// Silence after which the target is taken to have lost a request.
const STALLED: Duration = Duration::from_secs(10);

/// Connections to one target, and the question they all ask.
pub(crate) struct Load<'a> {
    script: &'a Script,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    events: Vec<epoll::Event>,
    scratch: Vec<u8>,
}

/// What came of a run: the times of each answer, in no order.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answers: Vec<Times>,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
}

impl<'a> Load<'a> {
    /// Opens `connections` of them to `addr`.
    pub(crate) fn new(addr: SocketAddr, script: &'a Script, connections: usize) -> Result<Self, Error> {
        // A timer's usual 50 µs of slack would be charged to the answers of an open loop.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let connections = (0..connections).map(|_| Connection::open(addr, false)).collect::<Result<Vec<_>, _>>()?;
        for (index, connection) in connections.iter().enumerate() {
            epoll::add(&epoll, connection.socket(), EventData::new_u64(index as u64), EventFlags::IN)?;
        }
        let events = Vec::with_capacity(connections.len());
        Ok(Self { script, epoll, connections, events, scratch: vec![0; 64 * 1024] })
    }

    /// Each connection asks again as soon as it is answered, until `time` is over; then the last answers are awaited.
    pub(crate) fn closed(&mut self, time: Duration) -> Result<Tally, Error> {
        let mut tally = Tally::default();
        let start = Instant::now();
        for connection in &mut self.connections {
            connection.send(self.script, Instant::now())?;
        }
        let mut busy = self.connections.len();
        while busy > 0 {
            self.wait(STALLED)?;
            for event in self.events.drain(..) {
                let connection = &mut self.connections[event.data.u64() as usize];
                let Some(times) = connection.receive(self.script, &mut self.scratch)? else { continue };
                tally.answers.push(times);
                let now = Instant::now();
                if now.duration_since(start) < time {
                    connection.send(self.script, now)?;
                } else {
                    busy -= 1;
                }
            }
        }
        tally.elapsed = start.elapsed();
        Ok(tally)
    }

    /// `rate` requests a second for `time`, at times fixed beforehand, the connections in turn. A request that finds
    /// every connection busy goes out late and is charged for it: its time counts from when it was due.
    pub(crate) fn open(&mut self, rate: u32, time: Duration) -> Result<Tally, Error> {
        let mut tally = Tally::default();
        let total = (time.as_secs_f64() * f64::from(rate)).round().max(1.0) as u32;
        let start = Instant::now();
        let due = |number: u32| start + Duration::from_secs(1) * number / rate;
        let (mut sent, mut busy, mut turn) = (0, 0, 0);
        while sent < total || busy > 0 {
            while sent < total && busy < self.connections.len() && due(sent) <= Instant::now() {
                while self.connections[turn].is_busy() {
                    turn = (turn + 1) % self.connections.len();
                }
                self.connections[turn].send(self.script, due(sent))?;
                turn = (turn + 1) % self.connections.len();
                (sent, busy) = (sent + 1, busy + 1);
            }
            if sent < total && busy < self.connections.len() {
                // To the microsecond: epoll's own time-out counts in milliseconds.
                let rest = Timespec::try_from(due(sent).saturating_duration_since(Instant::now()))?;
                let ready = poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&rest))?;
                if ready == 0 {
                    continue;
                }
            }
            self.wait(STALLED)?;
            for event in self.events.drain(..) {
                let connection = &mut self.connections[event.data.u64() as usize];
                if let Some(times) = connection.receive(self.script, &mut self.scratch)? {
                    tally.answers.push(times);
                    busy -= 1;
                }
            }
        }
        tally.elapsed = start.elapsed();
        Ok(tally)
    }

    /// Waits for answers; `events` then holds whose.
    fn wait(&mut self, time: Duration) -> Result<(), Error> {
        epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&Timespec::try_from(time)?))?;
        if self.events.is_empty() {
            return Err(format!("no answer within {} s", time.as_secs()).into());
        }
        Ok(())
    }
}
