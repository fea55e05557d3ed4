//! The load on one target: requests that are due at times fixed beforehand, sent by as many threads as there are connections.
//!
//! **Protocol.** A thread takes the next request's number, waits until it is due, sends it and reads its answer to the end.
//! A request that finds every thread busy goes out late; its time counts from when it was due, so that a target that
//! stalls is charged for those who wait behind (no coordinated omission). What was due and not sent when the time is over is
//! never sent, and counted.
//!
//! **Shutdown.** A thread ends when the numbers are used up or the time is over; and at once, with its request, when the
//! token is cancelled.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::tally::{Fault, Tally};
use super::target::{Said, Target};
use crate::sync::locks::{Leaf, classes};
use crate::sync::threads::{SpawnError, Thread};
use crate::sync::{CancelToken, Role, Threads};
use crate::time::{Deadline, micros_of, now};
use crate::transport::{Incoming, Outgoing, TransportError, TransportErrorKind};
use crate::wire::sse::Decoder;

/// How much later than the last one was due a request may still be sent: the time that a thread may take to wake up.
const GRACE: Duration = Duration::from_millis(100);

/// The largest answer, and the largest event of a stream, in bytes.
const MAX_ANSWER: usize = 64 << 20;
const MAX_EVENT: usize = 4 << 20;

/// How much of an error's answer is looked at, in bytes.
const MAX_ERROR: usize = 64 << 10;

/// When requests are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// When the first is due.
    pub(super) start: Instant,
    /// How many are due each second.
    pub(super) rate: u32,
    /// For how long.
    pub(super) time: Duration,
}

/// A target under load.
pub(super) struct Load {
    pub(super) target: Target,
    pub(super) schedule: Schedule,
    pub(super) tally: Leaf<Tally>,
    next: AtomicU64,
    timeout: Duration,
    stop: CancelToken,
}

/// How a request ended that did not fail.
enum Ended {
    Whole,
    Cancelled,
}

impl Schedule {
    /// How many requests there are in all.
    pub(super) fn total(&self) -> u64 {
        u64::from(self.rate) * self.time.as_secs()
    }

    fn due(&self, number: u64) -> Instant {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.rate);
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many are due by `now`.
    pub(super) fn due_by(&self, now: Instant) -> u64 {
        let past = now.saturating_duration_since(self.start).min(self.time);
        let due = past.as_nanos() * u128::from(self.rate) / 1_000_000_000;
        u64::try_from(due).unwrap_or(u64::MAX).saturating_add(1).min(self.total())
    }
}

impl Load {
    pub(super) fn new(target: Target, schedule: Schedule, timeout: Duration, stop: CancelToken) -> Self {
        let tally = Leaf::new(&classes::BENCH, Tally::new());
        Self { target, schedule, tally, next: AtomicU64::new(0), timeout, stop }
    }

    /// Starts so many threads.
    pub(super) fn start(self: &Arc<Self>, conns: u32, threads: &Threads) -> Result<Vec<Thread>, SpawnError> {
        let start = |number| {
            let load = Arc::clone(self);
            threads.spawn(Role::Runner, &format!("{}-{number}", self.target.name), move || load.work())
        };
        (0..conns).map(start).collect()
    }

    fn work(&self) {
        // A timer's usual 50 µs of slack would be charged to the answers. Where it stays, they are.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let last = self.schedule.start + self.schedule.time + GRACE;
        let headers = self.target.headers();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.schedule.total() {
                return;
            }
            let due = self.schedule.due(number);
            if self.stop.channel().recv_deadline(due) != Err(RecvTimeoutError::Timeout) || now() > last {
                return;
            }
            self.tally.lock().sends(since(due));
            let ended = self.ask(number, due, &headers);
            let took = since(due);
            let mut tally = self.tally.lock();
            match ended {
                Ok(Ended::Whole) => tally.succeeds(took),
                // What was sent and neither succeeded nor failed.
                Ok(Ended::Cancelled) => {}
                Err(fault) => tally.fails(fault),
            }
            let hopeless = tally.is_hopeless();
            drop(tally);
            if hopeless {
                self.stop.cancel();
            }
        }
    }

    /// Sends a request and reads its answer to the end.
    fn ask(&self, number: u64, due: Instant, headers: &[(&str, &str)]) -> Result<Ended, Fault> {
        let Target { path, client, .. } = &self.target;
        let request = Outgoing { method: "POST", path, headers, body: &self.target.body(number) };
        let within = Deadline::after(self.timeout);
        match client.open_within(self.timeout, &self.stop, &request) {
            Err(error) => lost(&error),
            Ok(mut incoming) if incoming.status != 200 => {
                let mut body = Vec::new();
                // The status says the most; what is missing of the words is missing.
                let _ = incoming.body.read_to_end(MAX_ERROR, within, &mut body);
                Err(Fault::status(incoming.status, &body))
            }
            Ok(incoming) if self.target.stream => self.follow(incoming, due),
            Ok(mut incoming) => {
                let mut body = Vec::new();
                match incoming.body.read_to_end(MAX_ANSWER, within, &mut body) {
                    Ok(()) => Ok(Ended::Whole),
                    Err(error) => lost(&error),
                }
            }
        }
    }

    /// Reads a stream event by event.
    fn follow(&self, mut incoming: Incoming, due: Instant) -> Result<Ended, Fault> {
        let (mut decoder, mut buffer) = (Decoder::new(MAX_EVENT), [0; 16 << 10]);
        let (mut last, mut whole) = (None, false);
        loop {
            let n = match incoming.body.read(&mut buffer, Deadline::after(self.timeout)) {
                Ok(0) if whole => return Ok(Ended::Whole),
                Ok(0) => return Err(Fault::cut()),
                Ok(n) => n,
                Err(error) => return lost(&error),
            };
            let at = now();
            decoder.push(&buffer[..n]);
            while let Some(event) = decoder.next() {
                let event =
                    event.map_err(|error| Fault::transport(TransportErrorKind::TooLarge, &error.to_string()))?;
                if event.is_comment {
                    continue;
                }
                match self.target.said(&event) {
                    Said::Failed(data) => return Err(Fault::event(&data)),
                    // The end mark comes with the last event, and is none that anybody waits for.
                    Said::End => {
                        whole = true;
                        continue;
                    }
                    Said::More => {}
                }
                let before = last.replace(at);
                let mut tally = self.tally.lock();
                match before {
                    None => tally.begins(micros_of(at.saturating_duration_since(due))),
                    Some(before) => tally.goes_on(micros_of(at.saturating_duration_since(before))),
                }
            }
        }
    }
}

/// A request whose connection failed; one that was cancelled has not.
fn lost(error: &TransportError) -> Result<Ended, Fault> {
    match error.kind {
        TransportErrorKind::Cancelled(_) => Ok(Ended::Cancelled),
        kind => Err(Fault::transport(kind, &error.message)),
    }
}

fn since(due: Instant) -> u64 {
    micros_of(now().saturating_duration_since(due))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_evenly_and_none_after_the_time() {
        let schedule = Schedule { start: now(), rate: 3, time: Duration::from_secs(2) };
        let at = |ms| schedule.start + Duration::from_millis(ms);
        assert_eq!(schedule.total(), 6);
        assert_eq!((schedule.due(0), schedule.due(3)), (schedule.start, at(1000)));
        assert_eq!([0, 300, 334, 1000, 5000].map(|ms| schedule.due_by(at(ms))), [1, 1, 2, 4, 6]);
    }
}
