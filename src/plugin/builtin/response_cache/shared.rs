//! The cache as its requests share it: what is kept and who is under way, under one lock.
//!
//! **Protocol.** A request looks for its answer and joins a flight in one step, and an answer is kept and its flight ended in
//! one step: so nobody finds neither. A member of a flight holds a [`Seat`]. Who leads ends the flight by [`Seat::land`]; who
//! drops the seat instead, whatever the reason, a panic among them, hands the lead to the next follower (`flights`).
//!
//! **Lock order.** The one lock is a leaf. Under it nothing is sent, waited for or freed that is large: what has to go is
//! handed out and dropped afterwards.
//!
//! **Invariants.** I1: a follower hears one word or leaves. I2: a seat is a guard. I4: everything is bounded.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use serde_json::{Value, json};

use super::flights::{FlightKey, Flights, Joined, Left};
use super::kept::{Kept, Recording};
use super::key::Key;
use super::store::Store;
use crate::config::plugins::ResponseCache as Settings;
use crate::error::Error;
use crate::metrics::Counter;
use crate::sync::locks::{Leaf, classes};
use crate::time::now;

/// What a follower is told.
#[derive(Clone, Debug)]
pub(super) enum Word {
    /// It leads now.
    Lead,
    /// What the leader was answered.
    Answer(Arc<Kept>),
    /// What the leader failed by.
    Failed(Arc<Error>),
    /// The leader was answered with something that is not for others.
    Alone,
}

/// What a request finds.
pub(super) enum Found {
    /// Its answer, which came so long ago.
    Kept(Arc<Kept>, Duration),
    /// Nothing: it goes to a provider, and leads a flight if it has a seat.
    Nothing(Option<Seat>),
    /// An equal request under way, whose leader's word comes by the channel.
    UnderWay(Seat, Receiver<Word>),
}

/// The cache, shared by its requests.
#[derive(Debug)]
pub(super) struct Shared {
    max_entry_bytes: usize,
    join: bool,
    state: Leaf<State>,
    pub(super) figures: Figures,
}

#[derive(Debug)]
struct State {
    store: Store<Arc<Kept>>,
    flights: Flights<Word>,
}

/// What is counted. A request that is looked for counts as one of the first three, unless its caller leaves before.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    /// Requests that got what another was answered, or failed by.
    pub(super) joined: Counter,
    /// Requests that asked for no look.
    pub(super) bypassed: Counter,
    stored: Counter,
}

impl Shared {
    pub(super) fn new(settings: &Settings) -> Self {
        let state = State { store: Store::new(settings.max_bytes, settings.ttl), flights: Flights::default() };
        Self {
            max_entry_bytes: settings.max_entry_bytes,
            join: settings.join,
            state: Leaf::new(&classes::RESPONSE_CACHE, state),
            figures: Figures::default(),
        }
    }

    /// Looks for the answer to a request, else for an equal request under way.
    pub(super) fn look(self: &Arc<Self>, key: FlightKey) -> Found {
        let (now, mut gone) = (now(), Vec::new());
        let mut state = self.state.lock();
        if let Some((kept, age)) = state.store.get(&key.0, now, &mut gone) {
            return Found::Kept(Arc::clone(kept), age);
        }
        let joined = if self.join { state.flights.join(key) } else { Joined::Alone };
        drop(state);
        let seat = |number| Seat { shared: Arc::clone(self), key, number: Some(number) };
        match joined {
            Joined::Leads(number) => Found::Nothing(Some(seat(number))),
            Joined::Follows(number, words) => Found::UnderWay(seat(number), words),
            Joined::Alone => Found::Nothing(None),
        }
    }

    /// The longest answer that is kept, in bytes.
    pub(super) fn max_entry_bytes(&self) -> usize {
        self.max_entry_bytes
    }

    /// Sets `bytes` aside for a recording.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        let (now, mut gone) = (now(), Vec::new());
        self.state.lock().store.reserve(bytes, now, &mut gone)
    }

    /// Takes back what a recording had.
    pub(super) fn release(&self, bytes: usize) {
        self.state.lock().store.release(bytes);
    }

    /// Keeps an answer, in the place of what its recording took if it is a stream's.
    pub(super) fn keep(&self, key: Key, kept: Arc<Kept>, recording: Option<Recording>) {
        let followers = self.keep_and_land(key, kept, recording, |_| Vec::new());
        debug_assert!(followers.is_empty(), "nobody follows who is in no flight");
    }

    fn keep_and_land(
        &self,
        key: Key,
        kept: Arc<Kept>,
        recording: Option<Recording>,
        land: impl FnOnce(&mut Flights<Word>) -> Vec<Sender<Word>>,
    ) -> Vec<Sender<Word>> {
        let (now, mut gone, cost, mut recording) = (now(), Vec::new(), kept.cost(), recording);
        let mut state = self.state.lock();
        state.store.release(recording.as_mut().map_or(0, Recording::take_reserved));
        // What is there may have been made new while this one was waited for.
        let is_late = state.store.peek(&key).is_some_and(|there| there.is_newer_than(&kept));
        let is_stored = !is_late && state.store.insert(key, kept, cost, now, &mut gone);
        let followers = land(&mut state.flights);
        drop(state);
        if is_stored {
            self.figures.stored.inc();
        }
        followers
    }

    pub(super) fn stats(&self) -> Value {
        let state = self.state.lock();
        let (entries, bytes, (evicted, expired)) = (state.store.len(), state.store.bytes(), state.store.gone());
        let (flights, followers) = state.flights.len();
        drop(state);
        let Figures { hits, misses, joined, bypassed, stored } = &self.figures;
        json!({
            "hits_total": hits, "misses_total": misses, "joined_total": joined, "bypassed_total": bypassed,
            "stored_total": stored, "evicted_total": evicted, "expired_total": expired,
            "entries": entries, "bytes": bytes, "flights": flights, "followers": followers,
        })
    }
}

/// A request's place in a flight.
pub(super) struct Seat {
    shared: Arc<Shared>,
    key: FlightKey,
    /// Its number; none once the flight has ended by it.
    number: Option<u64>,
}

impl Seat {
    /// Ends the flight that it leads: keeps the answer, and gives it to all who follow.
    pub(super) fn land_with(mut self, kept: &Arc<Kept>, recording: Option<Recording>) {
        let Some(number) = self.number.take() else { return };
        let key = self.key;
        let land = |flights: &mut Flights<Word>| flights.land(&key, number);
        let followers = self.shared.keep_and_land(key.0, Arc::clone(kept), recording, land);
        tell(followers, &Word::Answer(Arc::clone(kept)));
    }

    /// Ends the flight that it leads with this word to all who follow.
    pub(super) fn land(mut self, word: &Word) {
        let Some(number) = self.number.take() else { return };
        let followers = self.shared.state.lock().flights.land(&self.key, number);
        tell(followers, word);
    }
}

/// Each has room for the one word that it is told in its life, or has left.
fn tell(followers: Vec<Sender<Word>>, word: &Word) {
    for follower in followers {
        let _ = follower.try_send(word.clone());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(number) = self.number.take() else { return };
        let left = self.shared.state.lock().flights.leave(&self.key, number);
        match left {
            // If it is leaving as well, its own seat hands the lead on.
            Left::Leads(next) => tell(vec![next], &Word::Lead),
            Left::Own(sender) => drop(sender),
            Left::Nothing => {}
        }
    }
}
