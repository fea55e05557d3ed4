//! Stands in for the breaker that a later part brings: failures one after the other open it, and one probe closes it.

use super::SECOND;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Circuit {
    Closed { failures: u32 },
    Open { until: u64 },
    HalfOpen { probing: bool },
}

/// The right to send one job; good for as long as the breaker has not opened since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub(super) opened: u64,
    pub(super) probe: bool,
}

/// Knows no clock, like the real one.
pub(super) struct Breaker {
    pub(super) circuit: Circuit,
    pub(super) opened: u64,
    pub(super) opened_at: u64,
}

impl Breaker {
    const FAILURES: u32 = 5;
    const OPEN_FOR: u64 = SECOND / 2;

    pub(super) fn admit(&mut self, now: u64) -> Option<Pass> {
        if matches!(self.circuit, Circuit::Open { until } if now >= until) {
            self.circuit = Circuit::HalfOpen { probing: false };
        }
        let probe = match self.circuit {
            Circuit::Closed { .. } => false,
            Circuit::HalfOpen { probing: false } => true,
            Circuit::Open { .. } | Circuit::HalfOpen { .. } => return None,
        };
        if probe {
            self.circuit = Circuit::HalfOpen { probing: true };
        }
        Some(Pass { opened: self.opened, probe })
    }

    pub(super) fn may_send(&self, pass: Pass) -> bool {
        pass.opened == self.opened
    }

    /// A job has ended: well, badly, or without saying anything of the upstream, which gives a probe's place back.
    pub(super) fn end(&mut self, now: u64, pass: Pass, ended: Option<bool>) {
        if !self.may_send(pass) {
            return;
        }
        let failures = match (&mut self.circuit, ended) {
            (Circuit::HalfOpen { .. }, Some(true)) => return self.circuit = Circuit::Closed { failures: 0 },
            (Circuit::HalfOpen { probing }, None) if pass.probe => return *probing = false,
            (Circuit::HalfOpen { .. }, Some(false)) if pass.probe => Self::FAILURES,
            (Circuit::Closed { failures }, Some(false)) => *failures + 1,
            (Circuit::Closed { failures }, Some(true)) => return *failures = 0,
            _ => return,
        };
        self.circuit = Circuit::Closed { failures };
        if failures >= Self::FAILURES {
            self.circuit = Circuit::Open { until: now + Self::OPEN_FOR };
            (self.opened, self.opened_at) = (self.opened + 1, now);
        }
    }
}
