//! The production breaker's board in virtual time, with what it takes to judge it: when each circuit opened last, and the
//! probes that were let through since.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::SECOND;
use crate::config;
use crate::provider::breaker::{Board, BreakerState, Ended, Ticket, Verdict};

pub(super) const MODELS: [&str; 2] = ["a", "b"];

pub(super) const OPEN_FOR: u64 = SECOND / 2;

/// A circuit by its place: the provider's own, then the models'.
const CIRCUITS: usize = 1 + MODELS.len();

/// How a call ended, as far as its upstream goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    Well,
    Unreachable,
    Refused,
    Late,
    /// Without a word of the upstream: its caller left, or its worker panicked.
    Silent,
}

pub(super) struct Breaker {
    pub(super) board: Board,
    pub(super) probes: u32,
    /// When each circuit opened last.
    opened_at: [Option<u64>; CIRCUITS],
    /// When the probes of each circuit that were not abandoned were let in, since it opened last.
    probed: [Vec<(u64, usize)>; CIRCUITS],
}

impl Breaker {
    pub(super) fn new(base: Instant, probes: u32) -> Self {
        let settings = config::Breaker {
            min_requests: 10,
            window: Duration::from_secs(2),
            open_for: Duration::from_micros(OPEN_FOR),
            half_open_probes: probes,
            ..config::Breaker::default()
        };
        Self { board: Board::new(base, settings), probes, opened_at: Default::default(), probed: Default::default() }
    }

    /// Lets the call of this number in.
    pub(super) fn admit(&mut self, now: (u64, Instant), model: usize, call: usize) -> Option<Ticket> {
        let ticket = self.board.admit(now.1, MODELS[model]).ok();
        self.hear(now.0);
        if let Some(ticket) = ticket {
            for (circuit, is_probe) in [0, 1 + model].into_iter().zip(ticket.probes()) {
                if is_probe {
                    self.probed[circuit].push((now.0, call));
                }
            }
        }
        ticket
    }

    pub(super) fn may_send(&self, ticket: &Ticket, model: usize) -> bool {
        self.board.may_send(ticket, MODELS[model])
    }

    pub(super) fn end(&mut self, now: (u64, Instant), ticket: &Ticket, model: usize, call: usize, end: End) {
        let (provider, of_model) = match end {
            End::Well => (Ended::Good, Ended::Good),
            End::Unreachable => (Ended::Bad, Ended::Silent),
            End::Refused => (Ended::Good, Ended::Bad),
            End::Late => (Ended::Silent, Ended::Bad),
            End::Silent => (Ended::Silent, Ended::Silent),
        };
        for (circuit, ended) in [(0, provider), (1 + model, of_model)] {
            if ended == Ended::Silent {
                self.probed[circuit].retain(|(_, probe)| *probe != call);
            }
        }
        let model: Arc<str> = MODELS[model].into();
        self.board.end(now.1, ticket, &model, Verdict { provider, model: of_model });
        self.hear(now.0);
    }

    pub(super) fn tick(&mut self, now: (u64, Instant)) {
        self.board.advance(now.1);
        self.hear(now.0);
    }

    fn hear(&mut self, now: u64) {
        for change in self.board.take_changes() {
            let model = change.model.and_then(|name| MODELS.iter().position(|model| *model == &*name));
            let circuit = model.map_or(0, |model| 1 + model);
            if change.turn.to == BreakerState::Open {
                self.opened_at[circuit] = Some(now);
                self.probed[circuit].clear();
            }
        }
    }

    /// Whether a call that is with the upstream since `since` may be: where a circuit of its is not closed, it was let
    /// through as a probe, or went before it opened.
    pub(super) fn may_be_sent(&self, ticket: Option<&Ticket>, model: usize, since: u64) -> bool {
        let states = [self.board.state(), self.board.state_of(Some(MODELS[model]))];
        let probes = ticket.map_or([true; 2], Ticket::probes);
        [0, 1 + model].into_iter().zip(states).zip(probes).all(|((circuit, state), is_probe)| {
            state == BreakerState::Closed || is_probe || self.opened_at[circuit].is_some_and(|opened| since <= opened)
        })
    }

    /// Whether no circuit let more probes through within the time that it is open than it has places for.
    pub(super) fn probes_are_few(&self) -> bool {
        let places = self.probes as usize;
        self.probed.iter().all(|probed| {
            let too_close = |pair: &[(u64, usize)]| pair[places].0 - pair[0].0 < OPEN_FOR;
            !probed.windows(places + 1).any(too_close)
        })
    }

    pub(super) fn is_calm(&self) -> bool {
        self.board.is_calm()
    }
}
