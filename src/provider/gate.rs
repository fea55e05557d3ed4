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

use super::breaker::{Breaker, Ended, Ticket, Verdict};
use super::classify::{Blame, judge};
use super::figures::Figures;
use super::headers;
use super::limits::{HeldBack, Limits, Share};
use crate::config;
use crate::error::{Code, Error};
use crate::events::Events;
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
    pub(crate) breaker: Breaker,
    /// What may go in a minute; none where nothing is limited, and then nothing is asked.
    limits: Option<Arc<Limits>>,
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
    /// The gate of the provider `name`, whose pool counts in `figures`; what takes the place of the one behind `before`, if
    /// there is one, is as paused as that.
    pub(crate) fn new(
        name: &Arc<str>,
        breaker: &config::Breaker,
        limits: Option<Arc<Limits>>,
        events: Events,
        figures: Arc<Figures>,
        before: Option<&Self>,
    ) -> Self {
        let paused = before.map(|before| Arc::clone(&before.paused)).unwrap_or_default();
        let breaker = Breaker::new(name, breaker, events, now(), before.map(|before| &before.breaker));
        Self { paused, rests_until: Leaf::new(&classes::KEYS, None), breaker, limits, figures }
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
    pub(crate) fn enter(self: &Arc<Self>, call: &Call, model: &Arc<str>, until: Deadline) -> Result<Pass, Error> {
        if self.is_paused() {
            let text = "the provider is paused by its operator, who has to let it go on";
            return Err(Error::new(Code::CircuitOpen, text).with_retry_after(PAUSED));
        }
        self.figures.entered.inc();
        let ticket = Some(self.breaker.enter(model)?);
        let (model, deadline) = (Arc::clone(model), call.deadline);
        let mut pass = Pass { gate: Arc::clone(self), model, deadline, ticket, began: None, share: None };
        if let Some(limits) = &self.limits {
            pass.share = Some(limits.enter(call, &pass.model, 0, until)?);
        }
        Ok(pass)
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
    pub(crate) took: Duration,
}

/// Leave to make one attempt.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    model: Arc<str>,
    /// The request's own: what is late by it alone is not the provider's fault.
    deadline: Option<Deadline>,
    /// What the breaker hears of; none once it has.
    ticket: Option<Ticket>,
    /// How long a stream took to begin.
    began: Option<Duration>,
    /// What it takes of the rate limits. Boxed, since most providers have none.
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

    /// Asks once more before the attempt is sent: a circuit may have opened while it waited for a worker.
    ///
    /// # Errors
    /// If one has.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let breaker = &self.gate.breaker;
        let may = self.ticket.as_ref().is_none_or(|ticket| breaker.may_send(ticket, &self.model));
        if may { Ok(()) } else { Err(breaker.opened_meanwhile(&self.model)) }
    }

    /// A stream has begun well, after `took`; how it ends is still to come.
    pub(crate) fn begun(&mut self, took: Duration) {
        self.began = Some(took);
        if let Some(ticket) = &mut self.ticket {
            self.gate.breaker.begun(ticket, &self.model);
        }
    }

    /// The attempt is over, and that is how.
    pub(crate) fn end(mut self, result: Result<&Done, &Error>) {
        if let Some(share) = self.share.take() {
            share.end(result.map(|done| done.usage));
        }
        let blame = result.err().map_or(Blame::Nobody, |error| judge(error).blame);
        let breaker = &self.gate.breaker;
        if let Some(ticket) = self.ticket.take() {
            let verdict = match result {
                Ok(done) => Verdict { provider: Ended::Good, model: breaker.well(self.began.unwrap_or(done.took)) },
                Err(error) => self.verdict(error, blame),
            };
            breaker.end(&ticket, &self.model, verdict);
        }
        if let Blame::KeyCools(told) = blame {
            *self.gate.rests_until.lock() = Some(now() + told.unwrap_or(COOLING));
        }
    }

    /// What an error says of provider and model. The provider's own circuit is about whether it can be reached: whatever it
    /// answered, it could.
    fn verdict(&self, error: &Error, blame: Blame) -> Verdict {
        let is_late = matches!(error.code(), Code::UpstreamTimeout | Code::FirstTokenTimeout);
        match blame {
            Blame::Provider => Verdict { provider: Ended::Bad, model: Ended::Silent },
            // Whoever gives a provider less time than it is allowed says nothing of it.
            Blame::Model if is_late && self.deadline.is_some_and(Deadline::passed) => Verdict::SILENT,
            Blame::Model if is_late => Verdict { provider: Ended::Silent, model: Ended::Bad },
            Blame::Model => Verdict { provider: Ended::Good, model: Ended::Bad },
            _ if error.upstream_answer().is_some() => Verdict { provider: Ended::Good, model: Ended::Silent },
            _ => Verdict::SILENT,
        }
    }
}

impl Drop for Pass {
    /// An attempt that came to nothing gives back what it holds.
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.gate.breaker.abandon(&ticket, &self.model);
        }
    }
}
