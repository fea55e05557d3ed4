//! The circuits of one provider: its own, and one for each of its models. Pure; `now` is handed in.
//!
//! The provider's own circuit counts whether it can be reached at all, a model's whether it answers well: one that fails
//! leaves the others of its provider alone. A call needs both; if only one of them lets it in, that one has its place back.
//!
//! Circuits are told apart in time by an epoch: a number that grows whenever one opens or is put back by hand. Who was let
//! in before his circuit's epoch says nothing of it any more, and is not to be sent either.
//!
//! **Invariants.** I4: at most [`MOST_MODELS`] models are kept; the one whose last call is longest ago makes room, but none
//! that is not simply closed. A model for which there is no room is let through by the provider's circuit alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::circuit::{BreakerState, Circuit, Ended, Seat, Turn, Turns};
use crate::config::Breaker as Settings;

/// The most models of a provider that are kept apart.
pub(crate) const MOST_MODELS: usize = 256;

/// Who decides.
///
/// ```
/// use sluicegate::gateway::BreakerMode;
/// use sluicegate::{Code, Gateway};
///
/// let gateway = Gateway::from_env()?;
/// assert!(gateway.set_breaker("sim", BreakerMode::Open), "there is such a provider");
/// let error = gateway.ask("sim/echo", "Hello").expect_err("nobody passes");
/// assert_eq!(error.code(), Code::CircuitOpen);
/// assert!(gateway.set_breaker("sim", BreakerMode::Auto));
/// assert_eq!(gateway.ask("sim/echo", "Hello")?, "Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BreakerMode {
    /// What is counted.
    Auto,
    /// An operator: nobody passes.
    Open,
    /// An operator: everybody passes.
    Closed,
}

/// What a call holds that was let in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) epoch: u64,
    provider: Seat,
    model: Seat,
}

impl Ticket {
    /// One that holds nothing.
    pub(crate) fn free(epoch: u64) -> Self {
        Self { epoch, provider: Seat::Free, model: Seat::Free }
    }

    /// Whether it is a probe of the provider's circuit, and of its model's.
    #[cfg(test)]
    pub(crate) fn probes(&self) -> [bool; 2] {
        [self.provider, self.model].map(|seat| matches!(seat, Seat::Probe(_)))
    }

    /// Whether it is a probe, of whichever circuit.
    pub(crate) fn is_probe(&self) -> bool {
        [self.provider, self.model].iter().any(|seat| matches!(seat, Seat::Probe(_)))
    }

    /// Whether it holds a place that is wanted back.
    pub(crate) fn holds(&self) -> bool {
        (self.provider, self.model) != (Seat::Free, Seat::Free)
    }
}

/// What the end of a call says of the provider, and of its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) provider: Ended,
    pub(crate) model: Ended,
}

impl Verdict {
    /// It says nothing of either.
    pub(crate) const SILENT: Self = Self { provider: Ended::Silent, model: Ended::Silent };
}

/// Why a call is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// After this it may be.
    pub(crate) after: Duration,
    pub(crate) by: Whose,
}

/// Whose circuit, or who in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Provider,
    Model,
    Operator,
}

/// A circuit's change of state: of the provider's own if no model is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) model: Option<Arc<str>>,
    pub(crate) turn: Turn,
}

#[derive(Debug)]
struct Kept {
    circuit: Circuit,
    /// Whoever was let in before this epoch has nothing to say.
    since: u64,
    last_used: Instant,
    /// Calls that it did not let in.
    refused: u64,
}

/// What of a board outlives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heritage {
    mode: BreakerMode,
    turns: Turns,
    refused: u64,
}

/// All circuits of one provider.
#[derive(Debug)]
pub(crate) struct Board {
    settings: Settings,
    mode: BreakerMode,
    own: Kept,
    models: HashMap<Arc<str>, Kept>,
    book: Book,
}

/// What is kept of all circuits together.
#[derive(Debug, Default)]
struct Book {
    epoch: u64,
    /// How many circuits are not simply closed.
    restless: usize,
    /// What has changed and is not told yet.
    changes: Vec<Change>,
    changed: u64,
    /// Calls that were not let in, by whichever circuit.
    refused: u64,
    /// The turns of models that had to make room.
    gone: Turns,
}

impl Board {
    pub(crate) fn new(now: Instant, settings: Settings) -> Self {
        let own = Kept { circuit: Circuit::new(now, &settings), since: 0, last_used: now, refused: 0 };
        Self { settings, mode: BreakerMode::Auto, own, models: HashMap::new(), book: Book::default() }
    }

    /// What the board that takes its place goes on from.
    pub(crate) fn heritage(&self) -> Heritage {
        Heritage { mode: self.mode, turns: self.turns(), refused: self.refused() }
    }

    /// Counts on from there, under the same operator's word; before anybody was let in.
    pub(crate) fn inherit(&mut self, from: Heritage) {
        (self.mode, self.book.gone, self.book.refused) = (from.mode, from.turns, from.refused);
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn mode(&self) -> BreakerMode {
        self.mode
    }

    /// Grows whenever a circuit opens or is put back by hand.
    pub(crate) fn epoch(&self) -> u64 {
        self.book.epoch
    }

    /// Whether everybody is let in, and time alone changes nothing.
    pub(crate) fn is_calm(&self) -> bool {
        match self.mode {
            BreakerMode::Auto => self.book.restless == 0,
            BreakerMode::Open => false,
            BreakerMode::Closed => true,
        }
    }

    /// The state of the provider's own circuit, or the operator's word.
    pub(crate) fn state(&self) -> BreakerState {
        match self.mode {
            BreakerMode::Auto => self.own.circuit.state(),
            BreakerMode::Open => BreakerState::Open,
            BreakerMode::Closed => BreakerState::Closed,
        }
    }

    /// The provider's own circuit.
    pub(crate) fn own(&self) -> &Circuit {
        &self.own.circuit
    }

    /// The state of a model's circuit, or of the provider's own if none is named.
    pub(crate) fn state_of(&self, model: Option<&str>) -> BreakerState {
        let Some(model) = model else { return self.state() };
        self.models.get(model).map_or(BreakerState::Closed, |kept| kept.circuit.state())
    }

    /// Each model that is kept, with its circuit and how many calls that did not let in.
    pub(crate) fn models(&self) -> impl Iterator<Item = (&Arc<str>, &Circuit, u64)> {
        self.models.iter().map(|(name, kept)| (name, &kept.circuit, kept.refused))
    }

    /// How many calls were not let in, by whichever circuit.
    pub(crate) fn refused(&self) -> u64 {
        self.book.refused
    }

    /// A call for `model` was refused that had been let in before.
    pub(crate) fn note_refused(&mut self, model: &str) {
        self.book.refused += 1;
        if let Some(kept) = self.models.get_mut(model) {
            kept.refused += 1;
        }
    }

    /// How many changes there have been.
    pub(crate) fn changed(&self) -> u64 {
        self.book.changed
    }

    /// The turns of all circuits together.
    pub(crate) fn turns(&self) -> Turns {
        let all = self.models().map(|(_, circuit, _)| circuit.turns()).chain([self.own.circuit.turns()]);
        all.fold(self.book.gone, sum)
    }

    /// What has changed since this was last asked.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.book.changes)
    }

    /// Does what time alone does.
    pub(crate) fn advance(&mut self, now: Instant) {
        if self.book.restless == 0 {
            return;
        }
        let Self { settings, own, models, book, .. } = self;
        let named = models.iter_mut().map(|(name, kept)| (Some(name), kept));
        for (name, kept) in named.chain([(None, own)]).filter(|(_, kept)| !kept.circuit.is_calm()) {
            if let Some(turn) = kept.circuit.advance(now, settings) {
                book.tell(name, turn);
            }
            book.restless -= usize::from(kept.circuit.is_calm());
        }
    }

    /// Lets a call for `model` in.
    ///
    /// # Errors
    /// If a circuit does not, or an operator.
    pub(crate) fn admit(&mut self, now: Instant, model: &str) -> Result<Ticket, Refusal> {
        let admitted = match self.mode {
            BreakerMode::Closed => Ok(Ticket::free(self.epoch())),
            BreakerMode::Open => Err(Refusal { after: self.settings.open_for, by: Whose::Operator }),
            BreakerMode::Auto => self.ask_both(now, model),
        };
        match &admitted {
            Ok(_) => {}
            Err(Refusal { by: Whose::Model, .. }) => self.note_refused(model),
            Err(_) => self.book.refused += 1,
        }
        admitted
    }

    fn ask_both(&mut self, now: Instant, model: &str) -> Result<Ticket, Refusal> {
        self.advance(now);
        let epoch = self.epoch();
        let Self { settings, own, models, .. } = self;
        let provider = own.circuit.admit(now, settings).map_err(|after| Refusal { after, by: Whose::Provider })?;
        let seat = models.get_mut(model).map_or(Ok(Seat::Free), |kept| kept.circuit.admit(now, settings));
        match seat {
            Ok(model) => Ok(Ticket { epoch, provider, model }),
            Err(after) => {
                // It changes nothing else of the circuit: nobody has been sent.
                own.circuit.end(now, settings, provider, Ended::Silent);
                Err(Refusal { after, by: Whose::Model })
            }
        }
    }

    /// Whether one who was let in is to be sent still: neither circuit has opened since.
    pub(crate) fn may_send(&self, ticket: &Ticket, model: &str) -> bool {
        let fresh = |kept: &Kept| kept.since <= ticket.epoch;
        self.mode != BreakerMode::Open && fresh(&self.own) && self.models.get(model).is_none_or(fresh)
    }

    /// A stream of `model` has begun well; `ticket` holds nothing from then on.
    pub(crate) fn begun(&mut self, now: Instant, ticket: &mut Ticket, model: &Arc<str>) {
        let held = std::mem::replace(ticket, Ticket::free(ticket.epoch));
        if self.mode != BreakerMode::Auto {
            return;
        }
        self.advance(now);
        let Self { settings, own, models, book, .. } = self;
        book.note(own, None, held.epoch, |circuit| circuit.begun(now, settings, held.provider));
        if let Some(kept) = models.get_mut(model) {
            book.note(kept, Some(model), held.epoch, |circuit| circuit.begun(now, settings, held.model));
        }
    }

    /// A call of `model` has ended.
    pub(crate) fn end(&mut self, now: Instant, ticket: &Ticket, model: &Arc<str>, verdict: Verdict) {
        if self.mode != BreakerMode::Auto {
            return;
        }
        self.advance(now);
        let Self { settings, own, models, book, .. } = self;
        book.note(own, None, ticket.epoch, |circuit| circuit.end(now, settings, ticket.provider, verdict.provider));
        let ends = |kept: &mut Kept, book: &mut Book| {
            kept.last_used = now;
            book.note(kept, Some(model), ticket.epoch, |circuit| {
                circuit.end(now, settings, ticket.model, verdict.model)
            });
        };
        if let Some(kept) = models.get_mut(model) {
            ends(kept, book);
        } else if verdict.model != Ended::Silent && make_room(models, &mut book.gone) {
            let circuit = Circuit::new(now, settings);
            let mut kept = Kept { circuit, since: 0, last_used: now, refused: 0 };
            ends(&mut kept, book);
            models.insert(Arc::clone(model), kept);
        }
    }

    /// An operator decides. Whatever was counted or was under way before says nothing of what comes then.
    pub(crate) fn set_mode(&mut self, now: Instant, mode: BreakerMode) {
        if mode == self.mode {
            return;
        }
        let before = self.state();
        self.mode = mode;
        let why = if mode == BreakerMode::Auto { "an operator has left it to itself" } else { "by an operator's word" };
        let Self { settings, own, models, book, .. } = self;
        book.epoch += 1;
        for (name, kept) in models.iter_mut().map(|(name, kept)| (Some(name), kept)).chain([(None, &mut *own)]) {
            kept.since = book.epoch;
            let was = kept.circuit.reset(now, settings);
            if name.is_some() && was != BreakerState::Closed {
                kept.circuit.count(BreakerState::Closed);
                book.tell(name, Turn { to: BreakerState::Closed, why: why.to_owned() });
            }
        }
        book.restless = 0;
        let after = self.state();
        if before != after {
            self.own.circuit.count(after);
            self.book.tell(None, Turn { to: after, why: why.to_owned() });
        }
    }
}

impl Book {
    /// Has a circuit take note of one who was let in at `epoch`, unless it has opened since.
    fn note(
        &mut self,
        kept: &mut Kept,
        model: Option<&Arc<str>>,
        epoch: u64,
        note: impl FnOnce(&mut Circuit) -> Option<Turn>,
    ) {
        if kept.since > epoch {
            return;
        }
        let was_calm = kept.circuit.is_calm();
        if let Some(turn) = note(&mut kept.circuit) {
            if turn.to == BreakerState::Open {
                self.epoch += 1;
                kept.since = self.epoch;
            }
            self.tell(model, turn);
        }
        self.restless = self.restless + usize::from(was_calm) - usize::from(kept.circuit.is_calm());
    }

    fn tell(&mut self, model: Option<&Arc<str>>, turn: Turn) {
        self.changed += 1;
        self.changes.push(Change { model: model.cloned(), turn });
    }
}

/// Makes room for one more model; `false` if there is none to be had. The turns of one that goes are kept in `gone`.
fn make_room(models: &mut HashMap<Arc<str>, Kept>, gone: &mut Turns) -> bool {
    if models.len() < MOST_MODELS {
        return true;
    }
    let calm = models.iter().filter(|(_, kept)| kept.circuit.is_calm());
    let oldest = calm.min_by_key(|(_, kept)| kept.last_used).map(|(name, _)| Arc::clone(name));
    let Some(kept) = oldest.and_then(|oldest| models.remove(&oldest)) else { return false };
    *gone = sum(*gone, kept.circuit.turns());
    true
}

fn sum(a: Turns, b: Turns) -> Turns {
    Turns { opened: a.opened + b.opened, half_opened: a.half_opened + b.half_opened, closed: a.closed + b.closed }
}
