//! Leave to make an attempt: what stands between a request that has chosen its target and the provider's queue.
//!
//! **Protocol.** [`Gate::enter`] is asked on the waiting thread before anything is submitted; what it refuses is an error
//! of the gateway's own and is never submitted. What it grants is a [`Pass`], which goes with the job to the worker. The
//! worker tells it the attempt's outcome by [`Pass::end`] before the waiter hears. A pass that is dropped instead belongs
//! to an attempt that came to nothing of the provider's doing: it gives back what it holds and counts for nothing.
//!
//! **Invariants.** I2: a pass is a guard. I5: `enter` waits until its deadline at most.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::classify::{Blame, judge};
use super::headers;
use super::limits::{HeldBack, Limits, Share};
use crate::error::Error;
use crate::metrics::Counter;
use crate::model::{Call, Usage};
use crate::sync::locks::{Leaf, classes};
use crate::time::{Deadline, now};

/// How long a key rests after a 429 that says nothing of it.
const COOLING: Duration = Duration::from_secs(5);

/// One provider's gate.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Until when its key rests.
    rests_until: Leaf<Option<Instant>>,
    /// What may go in a minute; none where nothing is limited, and then nothing is asked.
    limits: Option<Arc<Limits>>,
    /// Attempts that were asked for.
    pub(crate) entered: Counter,
}

/// When a request can be tried with a key again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyReady {
    /// At once, with another one.
    #[expect(dead_code, reason = "a ring of keys says so")]
    Now,
    /// After so long.
    In(Duration),
    /// Never, as far as is known.
    Never,
}

impl Gate {
    pub(crate) fn new(limits: Option<Arc<Limits>>) -> Self {
        Self { rests_until: Leaf::new(&classes::KEYS, None), limits, entered: Counter::new() }
    }

    /// Asks for leave to make one attempt, and waits for it until `until` where it is to be waited for.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn enter(self: &Arc<Self>, call: &Call, model: &Arc<str>, until: Deadline) -> Result<Pass, Error> {
        self.entered.inc();
        let limits = self.limits.as_ref();
        let share = limits.map(|limits| limits.enter(call, model, 0, until)).transpose()?;
        Ok(Pass { gate: Arc::clone(self), share })
    }

    /// Ends all waiting, for good.
    pub(crate) fn close(&self) {
        self.limits.iter().for_each(|limits| limits.close());
    }

    /// What the rate limits hold back at `now`, if anything has been lately.
    pub(crate) fn held_back(&self, now: Instant) -> Option<HeldBack> {
        self.limits.as_ref()?.held_back(now)
    }

    /// When `model` can be asked with a key again, after a failure that was a key's.
    pub(crate) fn key_ready(&self, blame: Blame, _model: &str, now: Instant) -> KeyReady {
        match blame {
            Blame::KeyCools(_) => {
                let until = *self.rests_until.lock();
                KeyReady::In(until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now)))
            }
            _ => KeyReady::Never,
        }
    }
}

/// What an attempt that succeeded came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// Tokens, if the provider counted them.
    pub(crate) usage: Option<Usage>,
    /// From the worker's taking to the end.
    #[expect(dead_code, reason = "a breaker reads it")]
    pub(crate) took: Duration,
}

/// Leave to make one attempt.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    /// Boxed, since most providers have no limits.
    share: Option<Box<Share>>,
}

impl Pass {
    /// How long it was waited for.
    pub(crate) fn waited(&self) -> Duration {
        self.share.as_ref().map_or(Duration::ZERO, |share| share.waited())
    }

    /// What stands at the head of the provider's answer, whatever its status.
    pub(crate) fn note_headers(&self, headers: &[(String, String)]) {
        if let Some(share) = &self.share {
            share.told(headers::nothing_left(headers));
        }
    }

    /// The attempt is over, and that is how.
    pub(crate) fn end(self, result: Result<&Done, &Error>) {
        if let Some(share) = self.share {
            share.end(result.map(|done| done.usage));
        }
        let Err(error) = result else { return };
        if let Blame::KeyCools(told) = judge(error).blame {
            *self.gate.rests_until.lock() = Some(now() + told.unwrap_or(COOLING));
        }
    }
}
