//! The ledger of requests: each is received once and ends once, as succeeded, failed or cancelled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::house::House;
use crate::error::{Code, Error};
#[cfg(feature = "front")]
use crate::metrics::Tally;
use crate::metrics::{CountGuard, Counter, Dist, Gauge, Histogram};
#[cfg(feature = "front")]
use crate::metrics::{OVERHEADS_US, Spread, TIMES_US};
use crate::plugin::Chain;
use crate::provider::Asking;
use crate::queue::Bytes;
use crate::time::now;

/// What the gateway counts of its requests.
#[derive(Debug, Default)]
pub(super) struct Requests {
    received: Counter,
    succeeded: Counter,
    failed: Counter,
    cancelled: Counter,
    in_flight: Arc<Gauge>,
    overhead_us: Histogram,
    total_us: Histogram,
    errors: [Counter; Code::ALL.len()],
}

impl Requests {
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.get()
    }

    /// Requests that have ended.
    pub(super) fn ended(&self) -> u64 {
        self.succeeded.get() + self.failed.get() + self.cancelled.get()
    }

    /// Requests that had been let in and have ended: all but those that were turned away at the door.
    pub(super) fn ended_inside(&self) -> u64 {
        let door = [Code::Unauthorized, Code::Forbidden, Code::Overloaded, Code::ShuttingDown];
        let at_the_door = |(code, _): &(&Code, &Counter)| door.contains(code);
        let turned_away: u64 = Code::ALL.iter().zip(&self.errors).filter(at_the_door).map(|(_, n)| n.get()).sum();
        self.ended().saturating_sub(turned_away)
    }

    pub(super) fn stats(&self) -> RequestStats {
        // Each read once, so that what is said of it in two ways agrees.
        let (overhead, total) = (self.overhead_us.all(), self.total_us.all());
        RequestStats {
            received_total: self.received.get(),
            succeeded_total: self.succeeded.get(),
            failed_total: self.failed.get(),
            cancelled_total: self.cancelled.get(),
            in_flight: self.in_flight.get(),
            max_in_flight: 0,
            buffered_bytes: 0,
            throughput_per_s: None,
            overhead_us: overhead.dist().unwrap_or_default(),
            total_us: total.dist().unwrap_or_default(),
            #[cfg(feature = "front")]
            overhead: overhead.spread(&OVERHEADS_US),
            #[cfg(feature = "front")]
            total: total.spread(&TIMES_US),
        }
    }

    /// How long all of them took so far.
    #[cfg(feature = "front")]
    pub(super) fn times(&self) -> Tally {
        self.total_us.all()
    }

    /// The errors that have occurred, by code.
    pub(super) fn errors(&self) -> BTreeMap<&'static str, u64> {
        let counted = Code::ALL.iter().zip(&self.errors).map(|(code, counter)| (code.as_str(), counter.get()));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    fn count_error(&self, code: Code) {
        if let Some(index) = Code::ALL.iter().position(|each| *each == code) {
            self.errors[index].inc();
        }
    }
}

/// One request under way. Whoever ends it says how; one that is dropped has failed by a defect of ours (I1, I2).
#[derive(Debug)]
#[must_use = "a request that is dropped counts as failed"]
pub struct RequestGuard {
    requests: Arc<Requests>,
    arrived: Instant,
    open: bool,
    /// What its body and its answer take of the byte budget; gone before the request is.
    held: Option<Bytes>,
    /// What was in force when it arrived, until it is handled.
    house: Option<Arc<House>>,
    /// What it first led to, if it led anywhere.
    asking: Option<Asking>,
    /// The plugins that it has met as HTTP, or that there were none, until it is handled.
    pub(super) plugins: Option<Option<Arc<Chain>>>,
    _in_flight: CountGuard,
}

impl RequestGuard {
    pub(super) fn begin(requests: &Arc<Requests>, arrived: Instant) -> Self {
        requests.received.inc();
        let in_flight = requests.in_flight.enter();
        let requests = Arc::clone(requests);
        Self {
            requests,
            arrived,
            open: true,
            held: None,
            house: None,
            asking: None,
            plugins: None,
            _in_flight: in_flight,
        }
    }

    /// Keeps what was in force when it arrived: a reload while its body comes changes nothing for it.
    pub(super) fn in_house(mut self, house: Arc<House>) -> Self {
        self.house = Some(house);
        self
    }

    /// What was in force when it arrived, for whoever handles it.
    pub(super) fn take_house(&mut self) -> Option<Arc<House>> {
        self.house.take()
    }

    /// It leads there: it is measured by that, too.
    pub(super) fn leads_to(&mut self, asking: Asking) {
        self.asking = Some(asking);
    }

    /// The plugins that it has met, if it came over HTTP, for whoever handles it.
    pub(super) fn take_plugins(&mut self) -> Option<Option<Arc<Chain>>> {
        self.plugins.take()
    }

    /// When the request arrived.
    #[must_use]
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Holds `bytes` more of the budget until it drops.
    pub(super) fn hold(&mut self, bytes: Bytes) {
        match &mut self.held {
            Some(held) => held.absorb(bytes),
            None => self.held = Some(bytes),
        }
    }

    /// Counts the time that the gateway itself took.
    pub(super) fn note_overhead(&self, overhead: Duration) {
        self.requests.overhead_us.record_micros(overhead);
    }

    /// It ended well. The request stays in flight until the guard drops.
    pub(crate) fn succeed(&mut self) {
        if self.close(None) {
            self.requests.succeeded.inc();
        }
    }

    /// It ended with `error`.
    pub fn fail(&mut self, error: &Error) {
        if self.close(Some(error.code())) {
            self.requests.count_error(error.code());
            match error.code() {
                Code::ClientClosed | Code::ClientTooSlow => self.requests.cancelled.inc(),
                _ => self.requests.failed.inc(),
            }
        }
    }

    fn close(&mut self, failed: Option<Code>) -> bool {
        let was_open = std::mem::replace(&mut self.open, false);
        if was_open {
            let took = now().saturating_duration_since(self.arrived);
            self.requests.total_us.record_micros(took);
            if let Some(asking) = self.asking.take() {
                asking.ended(failed, took);
            }
        }
        was_open
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.close(Some(Code::Internal)) {
            self.requests.count_error(Code::Internal);
            self.requests.failed.inc();
        }
    }
}

/// `requests` in `/stats`.
///
/// ```
/// let gateway = sluicegate::Gateway::from_env()?;
/// let _ = (gateway.ask("sim/echo", "Hello"), gateway.ask("sim/fail-400", "Hello"));
/// let requests = gateway.stats().requests;
/// assert_eq!((requests.succeeded_total, requests.failed_total), (1, 1));
/// // At rest each has ended in one of three ways.
/// let ended = requests.succeeded_total + requests.failed_total + requests.cancelled_total;
/// assert_eq!((requests.received_total, requests.in_flight), (ended, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RequestStats {
    /// Requests that came: calls of this program, and of clients with a valid head. Each ends as one of the next three.
    pub received_total: u64,
    /// Those that ended with a whole answer.
    pub succeeded_total: u64,
    /// Those that ended with an error, a caller's own mistakes among them.
    pub failed_total: u64,
    /// Those whose caller left: a cancelled token, a stream that was dropped, a client that has gone.
    pub cancelled_total: u64,
    /// Those under way now.
    pub in_flight: u64,
    /// The most that the data plane lets in at a time: `server.max_in_flight`, or what `"auto"` comes to; filled in by whoever
    /// has the limits.
    pub max_in_flight: u64,
    /// Bytes of requests and answers that are held whole, of `server.max_buffered_bytes`; filled in by whoever has the budget.
    pub buffered_bytes: u64,
    /// Filled in from samples over the last 60 s.
    pub throughput_per_s: Option<f64>,
    /// What the gateway itself took of each, in microseconds: its time less queue, provider and pauses.
    pub overhead_us: Dist,
    /// How long each took, in microseconds.
    pub total_us: Dist,
    /// The same two as `/metrics` has them.
    #[cfg(feature = "front")]
    #[serde(skip)]
    pub(crate) overhead: Spread,
    #[cfg(feature = "front")]
    #[serde(skip)]
    pub(crate) total: Spread,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_ends_exactly_once() {
        let requests = Arc::new(Requests::default());
        let mut good = RequestGuard::begin(&requests, now());
        good.succeed();
        good.fail(&Error::new(Code::Internal, "too late to count"));
        let mut gone = RequestGuard::begin(&requests, now());
        gone.fail(&Error::new(Code::ClientClosed, "left"));
        assert_eq!(requests.in_flight(), 2, "in flight until the guards drop");
        drop((good, gone));
        drop(RequestGuard::begin(&requests, now()));
        let stats = requests.stats();
        assert_eq!(
            (stats.received_total, stats.succeeded_total, stats.failed_total, stats.cancelled_total, stats.in_flight),
            (3, 1, 1, 1, 0)
        );
        assert_eq!(requests.errors(), BTreeMap::from([("internal", 1), ("client_closed", 1)]));
        RequestGuard::begin(&requests, now()).fail(&Error::new(Code::Overloaded, "at the door"));
        assert_eq!((requests.ended(), requests.ended_inside()), (4, 3));
    }
}
