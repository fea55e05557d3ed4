//! The end of a gateway, by phases and not by sleeps.
//!
//! **Protocol.** Draining: nothing new is taken, what is under way goes on until it is done or the deadline passes.
//! Stopping: what is left is cancelled, the pools answer what still waits and join their workers by name, and the runners,
//! which have nothing left to wait for then, are joined, too. The last clone's
//! drop does the same, briefly, from whatever thread that is, a worker or a runner of the gateway's own included; a request that
//! was handed over keeps the gateway until it is answered.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::{Gateway, Inner, Phase};
use crate::provider::Provider;
use crate::time::Deadline;

/// How often the drain looks whether everything is done.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long threads are waited for after what they did was cut.
const JOIN_WAIT: Duration = Duration::from_secs(2);

/// How long the last clone's drop waits for what is under way.
const DROP_WAIT: Duration = Duration::from_millis(500);

/// What became of the requests and threads at the end.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::{ChatRequest, Code, Gateway};
///
/// let gateway = Gateway::from_env()?;
/// let mut endless = gateway.chat_stream(&ChatRequest::new("sim/lorem-1000+gap-1s", "Hello"))?;
///
/// // Nobody waits for it: what is left is cut, and its caller hears of it.
/// let report = gateway.shutdown(Duration::ZERO);
/// assert_eq!((report.finished, report.cut, report.swept), (0, 1, 0));
/// let last = endless.by_ref().last().expect("an error").expect_err("it was cut");
/// assert_eq!(last.code(), Code::ShuttingDown);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Requests under way at the beginning of the drain that ended by themselves.
    pub finished: u64,
    /// Jobs that were running at the deadline and were cancelled, and requests that paused between two attempts.
    pub cut: u64,
    /// Jobs that still waited for a worker and were answered with `shutting_down`.
    pub swept: u64,
    /// Threads that did not end in time, by name.
    pub stragglers: Vec<String>,
}

impl Gateway {
    /// Takes nothing new from now on; what is under way goes on.
    pub fn drain(&self) {
        self.0.drain();
    }

    /// Waits until nothing is under way; `false` if the deadline came first.
    #[must_use]
    pub fn wait_idle(&self, deadline: impl Into<Deadline>) -> bool {
        self.0.wait_idle(deadline.into())
    }

    /// Drains for at most `patience`, cuts what is left, and ends every thread of the pools.
    pub fn shutdown(&self, patience: impl Into<Deadline>) -> ShutdownReport {
        self.0.shutdown(patience.into())
    }
}

impl Inner {
    fn drain(&self) {
        if self.advance(Phase::Draining) {
            self.house.load().providers.iter().for_each(|provider| provider.drain());
        }
    }

    fn wait_idle(&self, deadline: Deadline) -> bool {
        let tick = crossbeam_channel::tick(LOOK_EVERY);
        while self.requests.in_flight() > 0 {
            if deadline.passed() {
                return false;
            }
            // Each tick comes within LOOK_EVERY, so the deadline is looked at in time.
            let _ = tick.recv();
        }
        true
    }

    fn shutdown(&self, deadline: Deadline) -> ShutdownReport {
        let under_way = self.requests.in_flight();
        self.drain();
        // Whoever reloads now sees the phase, and nobody does after this. One that is not over in time is stuck.
        let _last = self.reloading.lock(Deadline::from(deadline.instant(), JOIN_WAIT));
        self.wait_idle(deadline);
        let left = self.requests.in_flight();
        let mut report = ShutdownReport { finished: under_way.saturating_sub(left), ..ShutdownReport::default() };
        self.advance(Phase::Stopped);
        report.cut += self.pauses.under_way();
        drop(self.ending.take());
        // All are told before the first is waited for: one that is stuck keeps none of the others.
        let mut halted = Provider::halt_all(&self.house.load().providers);
        halted.extend(self.retired.cut_all());
        let until = Deadline::after(JOIN_WAIT);
        for halt in halted {
            let end = halt.join(until);
            report.cut += end.cut;
            report.swept += end.swept;
            report.stragglers.extend(end.stragglers);
        }
        // All that they waited for is answered.
        self.runners.close();
        report.stragglers.extend(self.runners.join(Deadline::after(JOIN_WAIT)));
        report.stragglers.extend(self.sim.stop(Deadline::after(JOIN_WAIT)));
        if let Some(watchdog) = self.watchdog.take() {
            report.stragglers.extend(watchdog.stop(Deadline::after(JOIN_WAIT)));
        }
        report
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.phase.load(Ordering::SeqCst) != Phase::Stopped as u8 {
            self.shutdown(Deadline::after(DROP_WAIT));
        }
    }
}
