//! A provider's configured rate limits: an attempt takes its share before it is submitted, and waits for it if need be,
//! so that what would be a 429 is a short wait instead.
//!
//! **Protocol.** [`Limits::enter`] is called on the waiting thread, which holds nothing else than its share while it waits for
//! {its time, a bell, cancel}. The bell rings where somebody else's share came back, so that it may go sooner; whoever goes
//! rings the next. Who could not go in its time is refused at once with the time at which it could. A [`Share`] ends with
//! what the attempt took, or is dropped and gives back everything: the attempt was never sent. How many tokens an attempt
//! takes is estimated by its body's length and by what answers took so far, and put right at its end.
//!
//! Read `metrics::rate` for one limit, and `line` for all of them together; both are pure.
//!
//! **Invariants.** I2: a share is a guard. I4: no more wait than the pool has places. I5. I6: the lock is a leaf; bells ring
//! outside it.

mod line;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::pool::cancelled;
use crate::config::{RateLimit, RateLimits};
use crate::error::{Code, Error};
use crate::metrics::rate::Ticket;
use crate::metrics::tokens::{Usual, of_text};
use crate::model::{Call, Operation, Usage};
use crate::sync::locks::{Leaf, classes};
use crate::sync::{CancelReason, State as ThreadState, threads};
use crate::time::{Deadline, format_duration, micros_of, now};
use line::{Ask, Held, Line, Refusal, Subject};

/// The limits of one provider, of which there is at least one.
#[derive(Debug)]
pub(crate) struct Limits(Leaf<State>);

#[derive(Debug)]
struct State {
    line: Line,
    /// Rung for those who wait when they are to look again.
    bells: BTreeMap<Ticket, Sender<()>>,
    /// How many tokens answers usually have.
    usual: Usual,
    /// Whether nobody is to wait any more.
    closed: bool,
}

/// What is held back, as a watchdog should see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// For how long without a pause.
    pub lasting: Duration,
    /// How many wait now.
    pub waiting: usize,
    /// How many were refused in that time.
    pub refused: u64,
}

impl Limits {
    /// The limits of a provider and of its keys in their order, of which no more than `places` attempts wait at a time;
    /// none if nothing is limited.
    pub(crate) fn new(limits: &RateLimits, keys: &[RateLimit], places: usize, now: Instant) -> Option<Arc<Self>> {
        let models = limits.models.iter().map(|(_, limit)| limit);
        if std::iter::once(&limits.all).chain(models).chain(keys).all(RateLimit::is_none) {
            return None;
        }
        let line = Line::new(limits.all, &limits.models, keys, places, now);
        let state = State { line, bells: BTreeMap::new(), usual: Usual::new(), closed: false };
        Some(Arc::new(Self(Leaf::new(&classes::LIMITS, state))))
    }

    /// Takes a share for an attempt with the key at this place, 0 where there are none, and waits until it may go, at the
    /// latest `until`.
    ///
    /// # Errors
    /// [`Code::RateLimited`] if it could not go by then, which is said at once; what goes with the reason if the request is
    /// cancelled, or the provider ends.
    pub(crate) fn enter(
        self: &Arc<Self>,
        call: &Call,
        model: &Arc<str>,
        key: usize,
        until: Deadline,
    ) -> Result<Box<Share>, Error> {
        let asked = now();
        let (ticket, rung) = {
            let mut state = self.0.lock();
            let ask = Ask { model: Arc::clone(model), key, tokens: state.estimate(call) };
            match state.line.ask(ask, asked, until.instant()) {
                Ok((ticket, wait)) if wait.is_zero() => (ticket, None),
                Ok((ticket, wait)) => {
                    let (bell, rung) = bounded(1);
                    // A bell that is nobody's tells its waiter of the end.
                    if !state.closed {
                        state.bells.insert(ticket, bell);
                    }
                    (ticket, Some((rung, wait)))
                }
                Err(refusal) => {
                    drop(state);
                    return Err(refused(refusal, model));
                }
            }
        };
        let mut share = Box::new(Share { limits: Arc::clone(self), ticket: Some(ticket), waited: Duration::ZERO });
        if let Some((rung, wait)) = rung {
            share.wait(call, model, until, &rung, wait)?;
            share.waited = now().saturating_duration_since(asked);
        }
        Ok(share)
    }

    /// How long each key, in their order, would hold back an attempt of `call` at `model`; none where no key does.
    pub(crate) fn of_keys(&self, call: &Call, model: &Arc<str>, now: Instant) -> Vec<Duration> {
        let state = self.0.lock();
        state.line.of_keys(model, state.estimate(call), now)
    }

    /// Ends all waiting, for good.
    pub(crate) fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        let bells = std::mem::take(&mut state.bells);
        drop(state);
        drop(bells);
    }

    /// What is held back at `now`, if anything has been lately.
    pub(crate) fn held_back(&self, now: Instant) -> Option<HeldBack> {
        let state = self.0.lock();
        let (lasting, refused) = state.line.pressed(now)?;
        Some(HeldBack { lasting, waiting: state.line.waiting(), refused })
    }

    /// Does something with the state, and rings for whoever is to look again after it.
    fn change<T>(&self, now: Instant, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.lock();
        let out = change(&mut state);
        let bells = state.due(now);
        drop(state);
        // One that is full has been rung already, and one whose waiter has gone needs no ringing.
        bells.into_iter().for_each(|bell| _ = bell.try_send(()));
        out
    }
}

impl State {
    /// How many tokens a call will take.
    fn estimate(&self, call: &Call) -> u64 {
        let answers = match call.operation {
            // Nobody counts its tokens, and counting takes none.
            Operation::Forward(_) | Operation::CountTokens => return 0,
            Operation::Embeddings => 0,
            _ => call.fields.choices.max(1),
        };
        of_text(call.body.len() as u64).saturating_add(self.usual.tokens(answers))
    }

    /// The bells of those who wait and are to look again.
    fn due(&self, now: Instant) -> Vec<Sender<()>> {
        if self.bells.is_empty() {
            return Vec::new();
        }
        self.line.due(now).iter().filter_map(|ticket| self.bells.get(ticket).cloned()).collect()
    }
}

/// What an attempt took of the limits; dropped, it gives everything back.
#[derive(Debug)]
pub(crate) struct Share {
    limits: Arc<Limits>,
    /// None once it was settled.
    ticket: Option<Ticket>,
    waited: Duration,
}

impl Share {
    /// How long it was waited for.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    fn wait(
        &self,
        call: &Call,
        model: &Arc<str>,
        until: Deadline,
        rung: &Receiver<()>,
        mut wait: Duration,
    ) -> Result<(), Error> {
        let _waiting = threads::enter(ThreadState::WaitingChannel);
        loop {
            select! {
                recv(call.cancel.channel()) -> _ => {
                    return Err(cancelled(call.cancel.reason().unwrap_or(CancelReason::Caller)));
                }
                recv(rung) -> word => if word.is_err() {
                    return Err(Error::new(Code::ShuttingDown, "the gateway is shutting down"));
                },
                default(wait) => {}
            }
            let Some(ticket) = self.ticket else { return Ok(()) };
            let now = now();
            let looked = self.limits.change(now, |state| {
                let looked = state.line.look(ticket, now, until.instant());
                if let Ok(Duration::ZERO) = looked {
                    state.bells.remove(&ticket);
                }
                looked
            });
            wait = looked.map_err(|refusal| refused(refusal, model))?;
            if wait.is_zero() {
                return Ok(());
            }
        }
    }

    /// The attempt goes with the key at this place instead, as another has come to rest while it waited for a worker.
    ///
    /// # Errors
    /// [`Code::RateLimited`] if that key's limits do not let it go now.
    pub(crate) fn moved(&self, model: &str, key: usize) -> Result<(), Error> {
        let Some(ticket) = self.ticket else { return Ok(()) };
        let now = now();
        self.limits.change(now, |state| state.line.moved(ticket, key, now)).map_err(|refusal| refused(refusal, model))
    }

    /// What the provider said with its answer: how long nothing will be left, if nothing is.
    pub(crate) fn told(&self, nothing_for: Option<Duration>) {
        let Some(ticket) = self.ticket else { return };
        let now = now();
        self.limits.change(now, |state| state.line.told(ticket, nothing_for, now));
    }

    /// The attempt was made. It took the tokens that the provider counted; none if it was refused or never got there; and
    /// as many as were estimated if nobody knows.
    pub(crate) fn end(mut self, result: Result<Option<Usage>, &Error>) {
        let Some(ticket) = self.ticket.take() else { return };
        let tokens = match result {
            Ok(usage) => usage.map(|usage| usage.input.saturating_add(usage.output)),
            Err(error) => matches!(error.code(), Code::UpstreamError | Code::UpstreamConnectError).then_some(0),
        };
        let now = now();
        self.limits.change(now, |state| {
            if let Ok(Some(usage)) = result {
                state.usual.note(usage.output);
            }
            state.line.end(ticket, tokens, now);
        });
    }
}

/// The error of an attempt that could not go in its time.
fn refused(refusal: Refusal, model: &str) -> Error {
    let path = |subject, what| match subject {
        Subject::Provider => format!("rate_limit.{what}"),
        Subject::Model => format!("rate_limit.models.{model}.{what}"),
        Subject::Key(at) => format!("keys[{at}].rate_limit.{what}"),
    };
    let why = match refusal.by {
        Held::Requests(subject, limit) => format!("{} is {limit}", path(subject, "requests_per_minute")),
        Held::Tokens(subject, limit) => format!("{} is {limit}", path(subject, "tokens_per_minute")),
        Held::Told => "the provider says that nothing is left of its own limit".to_owned(),
        Held::Crowd => "as many requests as the provider has places wait for its rate limit".to_owned(),
    };
    // To the next millisecond, so that whoever comes back then finds room.
    let after = Duration::from_millis(micros_of(refusal.after).div_ceil(1000));
    let text = format!("{why}; the request could go in {}, which is later than it may wait", format_duration(after));
    Error::new(Code::RateLimited, text).with_retry_after(after)
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let now = now();
        self.limits.change(now, |state| {
            state.bells.remove(&ticket);
            state.line.give_back(ticket, now);
        });
    }
}
