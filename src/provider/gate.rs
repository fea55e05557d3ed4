//! Leave to make an attempt: what stands between a request that has chosen its target and the provider's queue.
//!
//! **Protocol.** [`Gate::enter`] is asked on the waiting thread before anything is submitted; what it refuses is an error
//! of the gateway's own and is never submitted. What it grants is a [`Pass`], which goes with the job to the worker. The
//! worker tells it the attempt's outcome by [`Pass::end`] before the waiter hears. A pass that is dropped instead belongs
//! to an attempt that came to nothing of the provider's doing: it gives back what it holds and counts for nothing.
//!
//! **Invariants.** I2: a pass is a guard. I5: `enter` waits until its deadline at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::classify::{Blame, judge};
use super::figures::Figures;
use crate::error::{Code, Error};
use crate::model::{Call, Usage};
use crate::sync::locks::{Leaf, classes};
use crate::time::{Deadline, now};

/// How long a key rests after a 429 that says nothing of it.
const COOLING: Duration = Duration::from_secs(5);

/// When one who comes to a paused provider should come again: how long it lasts only its operator knows.
const PAUSED: Duration = Duration::from_secs(5);

/// One provider's gate.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Whether its operator lets nothing new in: one flag for each pool that the provider has, the next one's too.
    paused: Arc<AtomicBool>,
    /// Until when its key rests.
    rests_until: Leaf<Option<Instant>>,
    figures: Arc<Figures>,
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
    /// The gate of a pool that counts in `figures` and takes the place of the one behind `before`, if there is one.
    pub(crate) fn new(figures: Arc<Figures>, before: Option<&Self>) -> Self {
        let paused = before.map(|before| Arc::clone(&before.paused)).unwrap_or_default();
        Self { paused, rests_until: Leaf::new(&classes::KEYS, None), figures }
    }

    /// Lets nothing new in from now on, or does again.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::SeqCst);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Asks for leave to make one attempt, and waits for it until `until` where it is to be waited for.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn enter(self: &Arc<Self>, _call: &Call, _model: &Arc<str>, _until: Deadline) -> Result<Pass, Error> {
        if self.is_paused() {
            let text = "the provider is paused by its operator, who has to let it go on";
            return Err(Error::new(Code::CircuitOpen, text).with_retry_after(PAUSED));
        }
        self.figures.entered.inc();
        Ok(Pass { gate: Arc::clone(self) })
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
#[expect(dead_code, reason = "breaker and rate limits read it")]
pub(crate) struct Done {
    /// Tokens, if the provider counted them.
    pub(crate) usage: Option<Usage>,
    /// From the worker's taking to the end.
    pub(crate) took: Duration,
}

/// Leave to make one attempt.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
}

impl Pass {
    /// The attempt is over, and that is how.
    pub(crate) fn end(self, result: Result<&Done, &Error>) {
        let Err(error) = result else { return };
        if let Blame::KeyCools(told) = judge(error).blame {
            *self.gate.rests_until.lock() = Some(now() + told.unwrap_or(COOLING));
        }
    }
}
