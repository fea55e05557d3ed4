//! A provider's circuit breaker: who is let in, what calls came to, and who is told when a circuit opens or closes.
//!
//! `circuit` is one circuit, `board` those of a provider and its models; both are pure, and know no clock and no thread.
//! Here they are put under a lock and told to the operator.
//!
//! **Protocol.** A call asks [`Breaker::enter`] before it is submitted and holds a [`Ticket`] from then on, of which exactly
//! one of [`end`](Breaker::end) and [`abandon`](Breaker::abandon) hears. A worker asks [`may_send`](Breaker::may_send) before
//! it sends: what was queued when a circuit opened is refused then, and does not go to a provider that is down.
//!
//! **Cost.** While all circuits are closed, to enter and to send is one relaxed load each; an end takes one short leaf lock,
//! since what goes well counts in the share of what fails. `word` follows the board under its lock. Whoever reads an old one
//! is let in as if he had come a moment before, and says nothing of a circuit that has opened meanwhile, by his ticket's epoch.
//!
//! **Alerts** are set from what stands when they are set, and that is looked at again afterwards: whoever tells last tells
//! what is. Nothing is told under the lock.
//!
//! **Invariants.** I2: a ticket is given back by the drop of the pass that it stands in. I6.

mod board;
mod circuit;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

pub use board::BreakerMode;
pub(crate) use board::{Board, Ticket, Verdict};
use board::{Change, Refusal, Whose};
pub use circuit::BreakerState;
pub(crate) use circuit::Ended;

use crate::config;
use crate::error::{Code, Error};
use crate::events::Events;
use crate::sync::locks::{Leaf, LeafGuard, classes};
use crate::time::{micros_of, now};

/// The kind of the events that tell of a circuit's changes.
const EVENT: &str = "breaker";

/// The kind of the alert that stands as long as a circuit is not closed.
const ALERT: &str = "breaker_open";

/// `breaker` in `/stats`: `state` is that of the provider's own circuit, the totals are of all its circuits together.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BreakerStats {
    /// The state of the provider's own circuit.
    pub state: BreakerState,
    /// Whether the state follows what is counted, or an operator's word.
    pub mode: BreakerMode,
    /// How often a circuit opened.
    pub opened_total: u64,
    /// How often one half-opened, to try whether the provider is back.
    pub half_opened_total: u64,
    /// How often one closed again.
    pub closed_total: u64,
    /// Requests that were refused because one was open.
    pub short_circuited_total: u64,
    /// How long a circuit stays open, in milliseconds, as configured.
    pub open_for_ms: u64,
    /// How long until it half-opens, in milliseconds; `null` if it is not open, or open by hand.
    pub half_opens_in_ms: Option<u64>,
    /// The circuits of models that were called lately.
    pub models: BTreeMap<String, CircuitStats>,
}

/// One of `models` of `breaker` in `/stats`: a model that was called lately.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "they are as in `BreakerStats`")]
#[non_exhaustive]
pub struct CircuitStats {
    pub state: BreakerState,
    pub opened_total: u64,
    pub half_opened_total: u64,
    pub closed_total: u64,
    pub short_circuited_total: u64,
    pub half_opens_in_ms: Option<u64>,
}

/// A provider's circuit breaker.
#[derive(Debug)]
pub(crate) struct Breaker {
    name: Arc<str>,
    events: Events,
    enabled: bool,
    slow_after: Option<Duration>,
    /// The board's epoch and, in the lowest bit, whether it is not calm.
    word: AtomicU64,
    board: Leaf<Board>,
    /// Whether another tells of the provider.
    silent: AtomicBool,
    /// Whether it has told anything, that there is something to be taken back.
    told: AtomicBool,
}

impl Breaker {
    /// A breaker with all circuits closed for the provider `name`. One that takes the place of `before` goes on counting where
    /// that one stands, and an operator's word holds on; what the old one knew of the provider it finds out for itself, since
    /// other settings may be what mends it.
    pub(crate) fn new(
        name: &Arc<str>,
        settings: &config::Breaker,
        events: Events,
        now: Instant,
        before: Option<&Self>,
    ) -> Self {
        let mut board = Board::new(now, settings.clone());
        if let Some(before) = before {
            board.inherit(before.board.lock().heritage());
        }
        let word = AtomicU64::new(word_of(&board));
        let (enabled, slow_after) = (settings.enabled, settings.slow_after);
        let board = Leaf::new(&classes::BREAKER, board);
        Self {
            name: Arc::clone(name),
            events,
            enabled,
            slow_after,
            word,
            board,
            silent: AtomicBool::new(false),
            told: AtomicBool::new(false),
        }
    }

    /// Lets a call for `model` in.
    ///
    /// # Errors
    /// [`Code::CircuitOpen`] if a circuit does not.
    pub(crate) fn enter(&self, model: &str) -> Result<Ticket, Error> {
        let word = self.word.load(Ordering::Relaxed);
        if is_calm(word) {
            return Ok(Ticket::free(epoch_of(word)));
        }
        let now = now();
        let admitted = self.change(|board| board.admit(now, model));
        admitted.map_err(|refusal| self.refused(refusal, model))
    }

    /// Whether a call that was let in is to be sent still; one that is not is counted as refused.
    pub(crate) fn may_send(&self, ticket: &Ticket, model: &str) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        if epoch_of(word) == ticket.epoch {
            return true;
        }
        let mut board = self.board.lock();
        let may = board.may_send(ticket, model);
        if !may {
            board.note_refused(model);
        }
        may
    }

    /// The error of one that is not to be sent any more.
    pub(crate) fn opened_meanwhile(&self, model: &str) -> Error {
        let after = self.board.lock().settings().open_for;
        self.refused(Refusal { after, by: Whose::Model }, model)
    }

    /// The stream of a call has begun well.
    pub(crate) fn begun(&self, ticket: &mut Ticket, model: &Arc<str>) {
        if ticket.holds() {
            let now = now();
            self.change(|board| board.begun(now, ticket, model));
        }
    }

    /// A call has ended.
    pub(crate) fn end(&self, ticket: &Ticket, model: &Arc<str>, verdict: Verdict) {
        if !self.enabled {
            return;
        }
        if verdict == Verdict::SILENT {
            return self.abandon(ticket, model);
        }
        let now = now();
        self.change(|board| board.end(now, ticket, model, verdict));
    }

    /// A call came to nothing: it gives back what it holds.
    pub(crate) fn abandon(&self, ticket: &Ticket, model: &Arc<str>) {
        if ticket.holds() {
            let now = now();
            self.change(|board| board.end(now, ticket, model, Verdict::SILENT));
        }
    }

    /// What a call says that went well and took so long.
    pub(crate) fn well(&self, took: Duration) -> Ended {
        if self.slow_after.is_some_and(|limit| took > limit) { Ended::Slow } else { Ended::Good }
    }

    /// An operator decides.
    pub(crate) fn set_mode(&self, mode: BreakerMode) {
        let now = now();
        self.change(|board| board.set_mode(now, mode));
    }

    /// Does what time alone does, so that a circuit that nobody asks half-opens, too.
    pub(crate) fn tick(&self, now: Instant) {
        if !is_calm(self.word.load(Ordering::Relaxed)) {
            self.change(|board| board.advance(now));
        }
    }

    /// How long a circuit stays open, while one is not closed.
    pub(crate) fn rests_for(&self) -> Option<Duration> {
        if is_calm(self.word.load(Ordering::Relaxed)) { None } else { Some(self.board.lock().settings().open_for) }
    }

    /// Whether a circuit is open: the provider's own, or that of `model` if one is named. Nobody is let in or refused by it.
    pub(crate) fn is_open(&self, model: Option<&str>) -> bool {
        if is_calm(self.word.load(Ordering::Relaxed)) {
            return false;
        }
        let board = self.board.lock();
        let is_open = |whose| board.state_of(whose) == BreakerState::Open;
        is_open(None) || model.is_some() && is_open(model)
    }

    /// The breaker's part of `/stats`.
    pub(crate) fn stats(&self, now: Instant) -> BreakerStats {
        self.tick(now);
        let board = self.board.lock();
        let left = |until: Option<Instant>| until.map(|until| millis_of(until.saturating_duration_since(now)));
        let turns = board.turns();
        let models = board.models().map(|(name, circuit, refused)| {
            let turns = circuit.turns();
            let stats = CircuitStats {
                state: circuit.state(),
                opened_total: turns.opened,
                half_opened_total: turns.half_opened,
                closed_total: turns.closed,
                short_circuited_total: refused,
                half_opens_in_ms: left(circuit.open_until()),
            };
            (name.to_string(), stats)
        });
        BreakerStats {
            state: board.state(),
            mode: board.mode(),
            opened_total: turns.opened,
            half_opened_total: turns.half_opened,
            closed_total: turns.closed,
            short_circuited_total: board.refused(),
            open_for_ms: millis_of(board.settings().open_for),
            half_opens_in_ms: left(board.own().open_until()),
            models: models.collect(),
        }
    }

    /// Changes the board, has `word` follow it, and tells what came of it.
    fn change<T>(&self, change: impl FnOnce(&mut Board) -> T) -> T {
        let mut board = self.board.lock();
        let result = change(&mut board);
        self.word.store(word_of(&board), Ordering::Relaxed);
        let changes = board.take_changes();
        drop(board);
        changes.into_iter().for_each(|change| self.tell(&change));
        result
    }

    /// Another has taken its place: it tells nothing more, and what it has told stands no longer.
    pub(crate) fn fall_silent(&self) {
        if !self.silent.swap(true, Ordering::SeqCst) && self.told.load(Ordering::SeqCst) {
            self.clear_alerts();
        }
    }

    /// Takes over once more what `before` counts and what an operator said of it, just before it takes its place: its start took
    /// a while, and nobody has asked it yet.
    pub(crate) fn follow(&self, before: &Self) {
        let heritage = before.board.lock().heritage();
        let mut board = self.board.lock();
        board.inherit(heritage);
        self.word.store(word_of(&board), Ordering::Relaxed);
    }

    /// Tells what stands from the start: an operator's word on the one whose place it takes.
    pub(crate) fn stand(&self) {
        if self.board.lock().mode() == BreakerMode::Open {
            self.told.store(true, Ordering::SeqCst);
            self.events.set(ALERT, &self.name, Some("the breaker is open by an operator's word".to_owned()));
        }
    }

    fn clear_alerts(&self) {
        let board = self.board.lock();
        let models: Vec<_> = board.models().map(|(name, ..)| self.subject(Some(name))).collect();
        drop(board);
        models.iter().chain([&self.subject(None)]).for_each(|subject| self.events.clear(ALERT, subject));
    }

    fn tell(&self, Change { model, turn }: &Change) {
        if self.silent.load(Ordering::SeqCst) {
            return;
        }
        self.told.store(true, Ordering::SeqCst);
        let subject = self.subject(model.as_deref());
        let (state, why) = (turn.to, &turn.why);
        // The alert below is what warns, once for as long as it stands.
        log::info!("breaker of {subject}: {state}: {why}");
        self.events.push(EVENT, &subject, format!("{state}: {why}"));
        loop {
            let stands = |board: LeafGuard<'_, Board>| (board.state_of(model.as_deref()), board.changed());
            let (state, changed) = stands(self.board.lock());
            let wrong = (state != BreakerState::Closed).then(|| format!("the breaker is {state}: {why}"));
            self.events.set(ALERT, &subject, wrong);
            if stands(self.board.lock()).1 == changed {
                break;
            }
        }
    }

    fn subject(&self, model: Option<&str>) -> String {
        model.map_or_else(|| self.name.to_string(), |model| format!("{}/{model}", self.name))
    }

    fn refused(&self, Refusal { after, by }: Refusal, model: &str) -> Error {
        let text = match by {
            Whose::Operator => format!("the circuit breaker of {} was opened by an operator", self.name),
            Whose::Provider => {
                format!("the circuit breaker of {} is open: the provider could not be reached", self.name)
            }
            Whose::Model => {
                format!("the circuit breaker of {}/{model} is open: too many calls failed or were slow", self.name)
            }
        };
        Error::new(Code::CircuitOpen, text).with_retry_after(after)
    }
}

impl Drop for Breaker {
    /// Nobody would clear the alerts of a provider that has gone.
    fn drop(&mut self) {
        self.fall_silent();
    }
}

fn word_of(board: &Board) -> u64 {
    board.epoch() << 1 | u64::from(!board.is_calm())
}

fn is_calm(word: u64) -> bool {
    word & 1 == 0
}

fn epoch_of(word: u64) -> u64 {
    word >> 1
}

fn millis_of(time: Duration) -> u64 {
    micros_of(time) / 1000
}
