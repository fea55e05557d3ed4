//! How long a ranked lock is waited for, what ends the wait early, and what is said when it was not had.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::detector::Deadlock;
use crate::sync::cancel::{CancelReason, CancelToken};
use crate::time::Deadline;

/// How long locks are waited for: the times of one gateway, which its locks carry.
///
/// Each lock has them of its own and not of the process, so that of two gateways in one process the second does not set
/// the times of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockTimes {
    /// The wait of whoever says nothing about it.
    pub default_timeout: Duration,
    /// The longest wait, whatever is asked for.
    pub max_timeout: Duration,
}

impl LockTimes {
    /// One second, at most five.
    pub const DEFAULT: Self = Self { default_timeout: Duration::from_secs(1), max_timeout: Duration::from_secs(5) };
}

impl Default for LockTimes {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What bounds the wait for a lock: a time, a deadline, a cancel token, whichever ends it first.
///
/// Without a time or a deadline it is [`LockTimes::default_timeout`]; in any case at most [`LockTimes::max_timeout`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait<'a> {
    limit: Option<Duration>,
    until: Option<Deadline>,
    cancel: Option<&'a CancelToken>,
}

impl<'a> Wait<'a> {
    /// As long as the configuration says.
    pub const DEFAULT: Wait<'static> = Wait { limit: None, until: None, cancel: None };

    /// Ends the wait when `token` is cancelled, too.
    #[must_use]
    pub fn or_cancelled(self, token: &'a CancelToken) -> Self {
        Self { cancel: Some(token), ..self }
    }

    pub(super) fn cancel(&self) -> Option<&'a CancelToken> {
        self.cancel
    }

    fn deadline(&self, times: LockTimes, now: Instant) -> Deadline {
        let limit = match (self.limit, self.until) {
            (Some(limit), _) => limit,
            (None, Some(_)) => times.max_timeout,
            (None, None) => times.default_timeout,
        };
        let end = Deadline::from(now, limit.min(times.max_timeout));
        self.until.map_or(end, |until| until.earlier(end))
    }
}

impl From<Duration> for Wait<'_> {
    fn from(limit: Duration) -> Self {
        Self { limit: Some(limit), ..Self::DEFAULT }
    }
}

impl From<Deadline> for Wait<'_> {
    fn from(until: Deadline) -> Self {
        Self { until: Some(until), ..Self::DEFAULT }
    }
}

/// A wait that one or several locks are taken under; its end is fixed when the first of them has to be waited for, so that
/// locks that are free cost no clock.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    pub(super) wait: Wait<'a>,
    begun: Option<(Instant, Deadline)>,
}

impl<'a> Patience<'a> {
    pub(super) fn new(wait: Wait<'a>) -> Self {
        Self { wait, begun: None }
    }

    /// When the waiting began and when it ends.
    pub(super) fn begin(&mut self, times: LockTimes, now: Instant) -> (Instant, Deadline) {
        *self.begun.get_or_insert_with(|| (now, self.wait.deadline(times, now)))
    }
}

/// Why a ranked lock was not had.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockError {
    /// The lock's name.
    pub lock: &'static str,
    /// The thread that held it when the wait ended; none if it was free by then, or has no name.
    pub holder: Option<String>,
    /// How long was waited.
    pub waited: Duration,
    /// What ended the wait.
    pub kind: LockErrorKind,
}

/// What ended the wait for a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockErrorKind {
    /// The time ran out.
    TimedOut,
    /// The token was cancelled.
    Cancelled(CancelReason),
    /// The wait was part of a deadlock, and this was the one to be ended so that the others go on.
    Deadlock(Arc<Deadlock>),
    /// Not waited for at all: this order of locks has come to a deadlock before. It names the pattern's edge.
    Refused(String),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lock, waited, .. } = self;
        match &self.kind {
            LockErrorKind::TimedOut => write!(f, "the lock {lock} was not had within {waited:?}")?,
            LockErrorKind::Cancelled(reason) => {
                write!(f, "the wait for the lock {lock} was cancelled after {waited:?}: {reason:?}")?;
            }
            LockErrorKind::Deadlock(deadlock) => {
                return write!(f, "the wait for the lock {lock} was ended after {waited:?} by a {deadlock}");
            }
            LockErrorKind::Refused(edge) => {
                return write!(f, "the lock {lock} is refused: {edge} has come to a deadlock before");
            }
        }
        match &self.holder {
            Some(holder) => write!(f, "; held by {holder}"),
            None => f.write_str("; held by nobody any more, or by a thread without a name"),
        }
    }
}

impl std::error::Error for LockError {}
