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
use super::credential::Credential;
use super::figures::Figures;
use super::headers;
use super::keys::{COOLING, Held, Keys, Outlook, Verdict as KeyVerdict};
use super::limits::{HeldBack, Limits, Share};
use crate::error::{Code, Error};
use crate::model::{Call, Usage};
use crate::time::{Deadline, now, unix_ms};

/// The headers of a client that say whose account within a key's pays: a provider that refuses them refuses no key.
const ACCOUNTS: [&str; 2] = ["openai-organization", "openai-project"];

/// When one who comes to a paused provider should come again: how long it lasts only its operator knows.
const PAUSED: Duration = Duration::from_secs(5);

/// One provider's gate.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Whether its operator lets nothing new in: one flag for each pool that the provider has, the next one's too.
    paused: Arc<AtomicBool>,
    pub(crate) breaker: Breaker,
    pub(crate) keys: Arc<Keys>,
    /// What may go in a minute; none where nothing is limited, and then nothing is asked.
    limits: Option<Arc<Limits>>,
    figures: Arc<Figures>,
}

/// When a request can be tried with a key again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyReady {
    /// At once, with another one; `rests` is whether the one that failed is not asked again meanwhile.
    Now { rests: bool },
    /// After so long.
    In(Duration),
    /// Never, as far as is known.
    Never,
    /// It is sent none, so that it was the request that was refused.
    None,
}

impl Gate {
    /// The gate of a pool that counts in `figures`; what takes the place of the one behind `before`, if there is one, is as
    /// paused as that.
    pub(crate) fn new(
        breaker: Breaker,
        keys: Arc<Keys>,
        limits: Option<Arc<Limits>>,
        figures: Arc<Figures>,
        before: Option<&Self>,
    ) -> Self {
        let paused = before.map(|before| Arc::clone(&before.paused)).unwrap_or_default();
        Self { paused, breaker, keys, limits, figures }
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
        let ticket = self.breaker.enter(model)?;
        // What is refused here is no traffic, of which retries may be a fifth.
        self.figures.entered.inc();
        // A probe waits for nothing: its place would be lent to others meanwhile, who would all go at once then.
        let until = if ticket.is_probe() { Deadline::at(now()) } else { until };
        // Whatever is refused below gives back what it has by the pass's drop.
        let mut pass = Pass {
            gate: Arc::clone(self),
            model: Arc::clone(model),
            deadline: call.deadline,
            names_account: names_account(call),
            ticket: Some(ticket),
            began: None,
            key: None,
            share: None,
        };
        let Some(limits) = &self.limits else {
            pass.key = self.keys.take(model, &[])?;
            return Ok(pass);
        };
        pass.key = self.keys.take(model, &limits.of_keys(call, model, now()))?;
        let key = pass.key.as_ref().and_then(Held::index).unwrap_or(0);
        pass.share = Some(limits.enter(call, model, key, until)?);
        Ok(pass)
    }

    /// Ends all waiting, for good.
    pub(crate) fn close(&self) {
        self.limits.iter().for_each(|limits| limits.close());
    }

    /// Another has taken its place: what it has told stands no longer, and it tells nothing more.
    pub(crate) fn fall_silent(&self) {
        self.breaker.fall_silent();
        self.keys.fall_silent();
    }

    /// What the rate limits hold back at `now`, if anything has been lately.
    pub(crate) fn held_back(&self, now: Instant) -> Option<HeldBack> {
        self.limits.as_ref()?.held_back(now)
    }

    /// When `model` can be asked with a key again, after a failure of `call` that was a key's.
    pub(crate) fn key_ready(&self, call: &Call, blame: Blame, model: &str, now: Instant) -> KeyReady {
        // Whether the key that failed rests now, so that whichever can go is another one.
        let rests = match blame {
            Blame::KeyCools(told) => told != Some(Duration::ZERO),
            Blame::KeyRefused | Blame::KeyRefusedForModel => !names_account(call),
            Blame::Nobody | Blame::Provider | Blame::Model => false,
        };
        match (self.keys.outlook(model, now), blame) {
            (Outlook::Ready(ready), _) if ready > usize::from(!rests) => KeyReady::Now { rests },
            (Outlook::Ready(_) | Outlook::NoKeys, Blame::KeyCools(told)) => KeyReady::In(told.unwrap_or(COOLING)),
            (Outlook::Cooling(after), _) => KeyReady::In(after),
            (Outlook::NoKeys, _) => KeyReady::None,
            _ => KeyReady::Never,
        }
    }

    /// What `call` is told if it ends by `error`: a refusal of the gateway's key is no answer to its caller.
    pub(crate) fn told(&self, call: &Call, error: Error, model: &str, now: Instant) -> Error {
        let refused = matches!(judge(&error).blame, Blame::KeyRefused | Blame::KeyRefusedForModel);
        if refused && !names_account(call) { self.keys.refused(model, error, now) } else { error }
    }
}

fn names_account(call: &Call) -> bool {
    call.headers.iter().any(|(name, _)| ACCOUNTS.contains(name))
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
    /// Whether the client says whose account pays.
    names_account: bool,
    /// What the breaker hears of; none once it has.
    ticket: Option<Ticket>,
    /// How long a stream took to begin.
    began: Option<Duration>,
    /// The key that it goes with; none where the provider asks for none.
    key: Option<Held>,
    /// What it takes of the rate limits. Boxed, since most providers have none.
    share: Option<Box<Share>>,
}

impl Pass {
    /// How long it was waited for.
    pub(crate) fn waited(&self) -> Duration {
        self.share.as_ref().map_or(Duration::ZERO, |share| share.waited())
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

    /// Sees to it that the attempt has a key that can go, now that a worker has it.
    ///
    /// # Errors
    /// Why it has none.
    pub(crate) fn renew(&mut self) -> Result<(), Error> {
        let Some(key) = &mut self.key else { return Ok(()) };
        let before = key.index();
        key.renew()?;
        match (&self.share, key.index()) {
            (Some(share), Some(at)) if before != Some(at) => share.moved(&self.model, at),
            _ => Ok(()),
        }
    }

    /// How the attempt's key is shown to the provider; counts that it is sent.
    pub(crate) fn send_key(&self) -> Option<&Credential> {
        self.key.as_ref().and_then(Held::send)
    }

    /// What stands at the head of the provider's answer, whatever its status.
    pub(crate) fn note_headers(&self, headers: &[(String, String)]) {
        if let Some(share) = &self.share {
            share.told(headers::nothing_left(headers, unix_ms()));
        }
    }

    /// The provider has begun to answer well.
    pub(crate) fn accepted(&mut self) {
        self.key.iter_mut().for_each(Held::accepted);
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
        if let Some(key) = self.key.take() {
            match result {
                Ok(_) => key.end(KeyVerdict::Taken, false),
                Err(error) => {
                    let status = error.upstream_answer().map(|answer| answer.status);
                    let said = said_of_key(error, blame, self.names_account);
                    key.end(said, matches!(status, Some(401 | 403 | 429)));
                }
            }
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

/// What an error, blamed so, says of the key that was sent; `names_account` is whether a client's word was sent with it.
fn said_of_key(error: &Error, blame: Blame, names_account: bool) -> KeyVerdict {
    match blame {
        Blame::KeyCools(told) => KeyVerdict::Cools(told),
        Blame::KeyRefused | Blame::KeyRefusedForModel if names_account => KeyVerdict::Nothing,
        Blame::KeyRefused => KeyVerdict::Refused,
        Blame::KeyRefusedForModel => KeyVerdict::RefusedForModel,
        Blame::Nobody | Blame::Provider | Blame::Model => match error.upstream_answer() {
            // Whoever finds fault with the request has looked at its key before.
            Some(answer) if matches!(answer.status, 400 | 402 | 404..=406 | 409..=428 | 430..=499) => KeyVerdict::Taken,
            _ => KeyVerdict::Nothing,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, UpstreamAnswer};

    #[test]
    fn an_error_says_of_its_key_what_its_status_and_words_say() {
        let answer = |status, message: &str| {
            Error::upstream(UpstreamAnswer { status, message: message.into(), kind: None, param: None, code: None })
        };
        let wait = Duration::from_secs(7);
        for (error, said) in [
            (answer(401, "no"), KeyVerdict::Refused),
            (answer(403, "your account is closed"), KeyVerdict::Refused),
            (answer(403, "no such model for you"), KeyVerdict::RefusedForModel),
            (answer(403, "not in your country"), KeyVerdict::Nothing),
            (answer(403, "forbidden"), KeyVerdict::Nothing),
            (answer(429, "slow down"), KeyVerdict::Cools(None)),
            (answer(429, "slow down").with_retry_after(wait), KeyVerdict::Cools(Some(wait))),
            (answer(400, "bad temperature"), KeyVerdict::Taken),
            (answer(404, "no such model"), KeyVerdict::Taken),
            (answer(422, "no"), KeyVerdict::Taken),
            (answer(407, "a proxy's"), KeyVerdict::Nothing),
            (answer(408, "late"), KeyVerdict::Nothing),
            (answer(500, "down"), KeyVerdict::Nothing),
            (Error::new(Code::UpstreamConnectError, "refused"), KeyVerdict::Nothing),
            (Error::new(Code::FirstTokenTimeout, "late"), KeyVerdict::Nothing),
            (Error::new(Code::ClientClosed, "gone"), KeyVerdict::Nothing),
        ] {
            assert_eq!(said_of_key(&error, judge(&error).blame, false), said, "{error}");
            let with_account = match said {
                KeyVerdict::Refused | KeyVerdict::RefusedForModel => KeyVerdict::Nothing,
                other => other,
            };
            assert_eq!(said_of_key(&error, judge(&error).blame, true), with_account, "{error}");
        }
    }
}
