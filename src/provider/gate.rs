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
use super::keys::{COOLING, Held, Keys, Outlook, Verdict};
use crate::error::Error;
use crate::metrics::Counter;
use crate::model::{Call, Usage};
use crate::time::Deadline;

/// The headers of a client that say whose account within a key's pays: a provider that refuses them refuses no key.
const ACCOUNTS: [&str; 2] = ["openai-organization", "openai-project"];

/// One provider's gate.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) keys: Arc<Keys>,
    /// Attempts that were asked for.
    pub(crate) entered: Counter,
}

/// When a request can be tried with a key again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyReady {
    /// At once, with another one.
    Now,
    /// After so long.
    In(Duration),
    /// Never, as far as is known.
    Never,
}

impl Gate {
    pub(crate) fn new(keys: Arc<Keys>) -> Self {
        Self { keys, entered: Counter::new() }
    }

    /// Asks for leave to make one attempt, and waits for it until `until` where it is to be waited for.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn enter(&self, call: &Call, model: &Arc<str>, _until: Deadline) -> Result<Pass, Error> {
        self.entered.inc();
        let key = self.keys.take(model)?;
        Ok(Pass { key, names_account: names_account(call) })
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
            (Outlook::Ready(ready), _) if ready > usize::from(!rests) => KeyReady::Now,
            (Outlook::Ready(_) | Outlook::NoKeys, Blame::KeyCools(told)) => KeyReady::In(told.unwrap_or(COOLING)),
            (Outlook::Cooling(after), _) => KeyReady::In(after),
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
    key: Option<Held>,
    names_account: bool,
}

impl Pass {
    /// Sees to it that the attempt can still be made, now that a worker has it.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) fn renew(&mut self) -> Result<(), Error> {
        self.key.as_mut().map_or(Ok(()), Held::renew)
    }

    /// The header that carries the attempt's key; counts that it is sent.
    pub(crate) fn send_key(&self) -> Option<(&'static str, &str)> {
        self.key.as_ref().and_then(Held::send)
    }

    /// The provider has begun to answer well.
    pub(crate) fn accepted(&mut self) {
        self.key.iter_mut().for_each(Held::accepted);
    }

    /// The attempt is over, and that is how.
    pub(crate) fn end(self, result: Result<&Done, &Error>) {
        let Some(key) = self.key else { return };
        match result {
            Ok(_) => key.end(Verdict::Taken, false),
            Err(error) => {
                let status = error.upstream_answer().map(|answer| answer.status);
                key.end(said_of_key(error, self.names_account), matches!(status, Some(401 | 403 | 429)));
            }
        }
    }
}

/// What an error says of the key that was sent; `names_account` is whether a client's word was sent with it.
fn said_of_key(error: &Error, names_account: bool) -> Verdict {
    match judge(error).blame {
        Blame::KeyCools(told) => Verdict::Cools(told),
        Blame::KeyRefused | Blame::KeyRefusedForModel if names_account => Verdict::Nothing,
        Blame::KeyRefused => Verdict::Refused,
        Blame::KeyRefusedForModel => Verdict::RefusedForModel,
        Blame::Nobody | Blame::Provider | Blame::Model => match error.upstream_answer() {
            // Whoever finds fault with the request has looked at its key before.
            Some(answer) if matches!(answer.status, 400 | 402 | 404..=406 | 409..=428 | 430..=499) => Verdict::Taken,
            _ => Verdict::Nothing,
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
            (answer(401, "no"), Verdict::Refused),
            (answer(403, "your account is closed"), Verdict::Refused),
            (answer(403, "no such model for you"), Verdict::RefusedForModel),
            (answer(403, "not in your country"), Verdict::Nothing),
            (answer(403, "forbidden"), Verdict::Nothing),
            (answer(429, "slow down"), Verdict::Cools(None)),
            (answer(429, "slow down").with_retry_after(wait), Verdict::Cools(Some(wait))),
            (answer(400, "bad temperature"), Verdict::Taken),
            (answer(404, "no such model"), Verdict::Taken),
            (answer(422, "no"), Verdict::Taken),
            (answer(407, "a proxy's"), Verdict::Nothing),
            (answer(408, "late"), Verdict::Nothing),
            (answer(500, "down"), Verdict::Nothing),
            (Error::new(Code::UpstreamConnectError, "refused"), Verdict::Nothing),
            (Error::new(Code::FirstTokenTimeout, "late"), Verdict::Nothing),
            (Error::new(Code::ClientClosed, "gone"), Verdict::Nothing),
        ] {
            assert_eq!(said_of_key(&error, false), said, "{error}");
            let with_account = match said {
                Verdict::Refused | Verdict::RefusedForModel => Verdict::Nothing,
                other => other,
            };
            assert_eq!(said_of_key(&error, true), with_account, "{error}");
        }
    }
}
