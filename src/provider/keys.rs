//! A provider's keys: whose turn it is, as what each is sent, and what is told of them.
//!
//! **Protocol.** [`Keys::take`] gives the key of one attempt as a [`Held`], which travels with the attempt. [`Held::end`] says
//! what became of it; one that is dropped instead says nothing of its key, and leaves the next caller what it was to try.
//! What the turns are and how long keys rest stands in `ring`, which is pure; here are its lock, its clock and its words.
//!
//! A key is taken before its attempt is queued, since what the ring refuses is never submitted, and looked at again by the worker
//! ([`Held::renew`]).
//!
//! **Cost.** An only key that does not rest takes neither lock nor clock. Several take one short leaf lock and one look at the
//! clock for each attempt, and another where some key rests; none at its end unless something is to be said.
//!
//! **Invariants.** I2: a `Held` is a guard. I4: see `ring`. I6: the one lock is a leaf; events are told after it. I10: a key's
//! value stands in its credential alone, as a secret.

mod ring;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::credential::Credential;
use super::snapshot::KeyStats;
use crate::config::{KeyModels, nearest};
use crate::error::{Code, Error};
use crate::events::Events;
use crate::metrics::Counter;
use crate::sync::locks::{Leaf, classes};
use crate::time::now;
pub(super) use ring::{COOLING, Verdict};
use ring::{Change, NoTurn, Ring, Spec, Turn};

/// The most of a model's name that an error shows, in characters.
const SHOWN: usize = 120;

/// The kind of the alert on a key that the provider refuses.
const DEAD: &str = "key_dead";

/// A key of a provider.
#[derive(Clone, Debug)]
pub struct KeySettings {
    /// Names it in logs and figures.
    pub name: String,
    /// Its share among the keys of a model; one without gets nothing as long as another has one.
    pub weight: f64,
    /// The models that it is for.
    pub models: KeyModels,
    /// How it is shown to the provider.
    pub credential: Credential,
}

/// One provider's keys.
pub(crate) struct Keys {
    provider: Arc<str>,
    keys: Vec<Key>,
    ring: Leaf<Ring>,
    /// Whether every key was ready for every model when the ring was last let go of.
    calm: AtomicBool,
    /// Whether others tell of the provider's keys.
    silent: AtomicBool,
    events: Events,
}

struct Key {
    settings: KeySettings,
    used: Arc<Counter>,
    failed: Arc<Counter>,
}

impl Keys {
    /// The keys of `provider`, all of them ready. Those that take the place of the ones of the same names in `before` go on
    /// counting where these stand.
    pub(crate) fn new(provider: &Arc<str>, keys: &[KeySettings], events: Events, before: Option<&Self>) -> Arc<Self> {
        let spec = |key: &KeySettings| Spec { weight: key.weight, models: key.models.clone() };
        let specs: Vec<_> = keys.iter().map(spec).collect();
        let key = |key: &KeySettings| {
            let known = before.and_then(|before| before.keys.iter().find(|known| known.settings.name == key.name));
            let (used, failed) =
                known.map(|known| (Arc::clone(&known.used), Arc::clone(&known.failed))).unwrap_or_default();
            Key { settings: key.clone(), used, failed }
        };
        Arc::new(Self {
            provider: Arc::clone(provider),
            keys: keys.iter().map(key).collect(),
            ring: Leaf::new(&classes::KEYS, Ring::new(&specs)),
            calm: AtomicBool::new(true),
            silent: AtomicBool::new(false),
            events,
        })
    }

    /// The key that the next attempt at `model` goes with; none where the provider asks for none. `held_back` is how long its
    /// own rate limit would hold each of them back, in their order, if any: those that can go first are asked first.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`] if no key is for `model`, [`Code::RateLimited`] if those that are cool, and
    /// [`Code::CredentialsExhausted`] if the provider refuses them.
    pub(crate) fn take(self: &Arc<Self>, model: &Arc<str>, held_back: &[Duration]) -> Result<Option<Held>, Error> {
        let held = |turn| Some(Held { keys: Arc::clone(self), model: Arc::clone(model), turn: Some(turn) });
        match self.keys.as_slice() {
            [] => return Ok(None),
            [only] if self.calm.load(Ordering::Relaxed) && (model.is_empty() || only.settings.models.has(model)) => {
                return Ok(held(Turn::of(0)));
            }
            _ => {}
        }
        let now = now();
        let turn = self.with_ring(|ring| ring.next_of(model, now, held_back));
        turn.map(held).map_err(|why| self.refusal(why, model, now))
    }

    /// When the next key can go for `model`.
    pub(crate) fn outlook(&self, model: &str, now: Instant) -> Outlook {
        match self.ring.lock().outlook(model, now) {
            Err(_) if self.keys.is_empty() => Outlook::NoKeys,
            Ok(ready) => Outlook::Ready(ready),
            Err(NoTurn::Cooling(until)) => Outlook::Cooling(until.saturating_duration_since(now)),
            Err(NoTurn::NoKey | NoTurn::Refused) => Outlook::Refused,
        }
    }

    /// What a request is told that ends because the provider refuses its keys, with `last` in the end: not that 401 or 403,
    /// which its caller would take for an answer to a key of its own. Where there are no keys, it is.
    pub(crate) fn refused(&self, model: &str, last: Error, now: Instant) -> Error {
        let (status, words) = (last.status(), last.message());
        let error = match self.outlook(model, now) {
            Outlook::NoKeys => return last,
            Outlook::Cooling(after) => {
                let text = format!("the provider refused a key ({status}: {words}), and the others rest for a while");
                Error::new(Code::RateLimited, text).with_retry_after(after)
            }
            Outlook::Ready(_) | Outlook::Refused => {
                let text = format!("the provider refused every key that was tried; in the end {status}: {words}");
                Error::new(Code::CredentialsExhausted, text)
            }
        };
        error.with_provider(&self.provider).with_source(last)
    }

    /// The header of a key for a look at the provider that is nobody's turn and is not counted: of one that is not refused, if
    /// there is one.
    pub(crate) fn for_check(&self) -> Option<(&str, &str)> {
        let good = {
            let ring = self.ring.lock();
            (0..self.keys.len()).find(|key| !ring.is_dead(*key))
        };
        self.keys.get(good.unwrap_or(0))?.settings.credential.line()
    }

    /// Others have taken their place: what was told of them stands no longer, and nothing more is told.
    pub(crate) fn fall_silent(&self) {
        let dead: Vec<_> = {
            let ring = self.ring.lock();
            (0..self.keys.len()).filter(|key| ring.is_dead(*key)).collect()
        };
        dead.into_iter().for_each(|key| self.tell(&self.keys[key], Some(Change::Revived)));
        self.silent.store(true, Ordering::SeqCst);
    }

    /// `keys` in `/stats`.
    pub(crate) fn stats(&self, now: Instant) -> Vec<KeyStats> {
        let views: Vec<_> = {
            let ring = self.ring.lock();
            (0..self.keys.len()).map(|key| ring.view(key, now)).collect()
        };
        let row = |(key, view): (&Key, ring::View)| KeyStats {
            name: key.settings.name.clone(),
            weight: key.settings.weight,
            state: view.state,
            models: view.resting.into_iter().map(|(model, rest)| (model, millis(rest))).collect(),
            used_total: key.used.get(),
            failed_total: key.failed.get(),
        };
        self.keys.iter().zip(views).map(row).collect()
    }

    fn with_ring<T>(&self, act: impl FnOnce(&mut Ring) -> T) -> T {
        let mut ring = self.ring.lock();
        let out = act(&mut ring);
        self.calm.store(ring.is_calm(), Ordering::Relaxed);
        out
    }

    /// What there is to say of a key's new state.
    fn tell(&self, key: &Key, change: Option<Change>) {
        if self.silent.load(Ordering::SeqCst) {
            return;
        }
        let subject = || format!("{}/{}", self.provider, key.settings.name);
        match change {
            Some(Change::Died) => {
                let text = "the provider refuses the key; it is left out until a call that tries it is answered";
                self.events.raise(DEAD, &subject(), text);
            }
            Some(Change::Revived) => self.events.clear(DEAD, &subject()),
            None => {}
        }
    }

    fn refusal(&self, why: NoTurn, model: &str, now: Instant) -> Error {
        let shown: String = model.chars().take(SHOWN).collect();
        match why {
            NoTurn::NoKey => {
                let named = self.keys.iter().flat_map(|key| key.settings.models.named());
                let near = nearest(&shown, named.map(String::as_str)).map(|near| format!("{}/{near}", self.provider));
                let hint = near.map_or(String::new(), |near| format!("; near: {near}"));
                let text = format!("no key of the provider {} is for the model {shown:?}{hint}", self.provider);
                Error::new(Code::ModelNotFound, text).with_param("model")
            }
            NoTurn::Cooling(until) => {
                let text = format!("every key of the provider for {shown:?} rests: its rate limit was reached");
                Error::new(Code::RateLimited, text).with_retry_after(until.saturating_duration_since(now))
            }
            NoTurn::Refused => {
                let text = format!("the provider refuses every key that there is for {shown:?}");
                Error::new(Code::CredentialsExhausted, text)
            }
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("provider", &self.provider).field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Drop for Keys {
    /// What is wrong with keys that are gone is wrong no more.
    fn drop(&mut self) {
        self.fall_silent();
    }
}

/// Whether a key can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// There are none, nor does the provider ask for any.
    NoKeys,
    /// So many can.
    Ready(usize),
    /// The first can after so long.
    Cooling(Duration),
    /// None can, as far as is known.
    Refused,
}

/// The key of one attempt.
pub(crate) struct Held {
    keys: Arc<Keys>,
    model: Arc<str>,
    /// `None` once it is settled.
    turn: Option<Turn>,
}

impl Held {
    fn key(&self) -> Option<&Key> {
        self.turn.as_ref().map(|turn| &self.keys.keys[turn.key])
    }

    /// Its place among the provider's keys.
    pub(crate) fn index(&self) -> Option<usize> {
        self.turn.as_ref().map(|turn| turn.key)
    }

    /// Sees to it that the key has not come to rest while its attempt waited for a worker, and takes another one if it has:
    /// else one 429 would be followed by one for each attempt in the queue.
    ///
    /// # Errors
    /// As [`Keys::take`].
    pub(crate) fn renew(&mut self) -> Result<(), Error> {
        if self.keys.calm.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Some(turn) = self.turn.take() else { return Ok(()) };
        let now = now();
        let renewed = self.keys.with_ring(|ring| ring.renew(turn, &self.model, now));
        self.turn = Some(renewed.map_err(|why| self.keys.refusal(why, &self.model, now))?);
        Ok(())
    }

    /// How it is shown to the provider; counts that it is sent.
    pub(crate) fn send(&self) -> Option<&Credential> {
        let key = self.key()?;
        key.used.inc();
        Some(&key.settings.credential)
    }

    /// The provider has begun to answer well: a key that this attempt tries is good, however long the answer takes.
    pub(crate) fn accepted(&mut self) {
        if let Some(turn) = self.turn.take_if(|turn| !turn.is_plain()) {
            let key = turn.key;
            self.settle(turn, Verdict::Taken);
            self.turn = Some(Turn::of(key));
        }
    }

    /// The attempt is over, and says this of its key; `failed` is whether it failed by it.
    pub(crate) fn end(mut self, verdict: Verdict, failed: bool) {
        if let Some(key) = self.key().filter(|_| failed) {
            key.failed.inc();
        }
        if let Some(turn) = self.turn.take() {
            self.settle(turn, verdict);
        }
    }

    fn settle(&self, turn: Turn, verdict: Verdict) {
        if turn.is_plain() && matches!(verdict, Verdict::Taken | Verdict::Nothing) {
            return;
        }
        let (key, now) = (turn.key, now());
        let change = self.keys.with_ring(|ring| ring.settle(turn, &self.model, verdict, now));
        self.keys.tell(&self.keys.keys[key], change);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("key", &self.key().map(|key| &key.settings.name)).finish_non_exhaustive()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.settle(turn, Verdict::Nothing);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn keys(count: usize, events: &Events) -> Arc<Keys> {
        let key = |nth| KeySettings {
            name: format!("k{nth}"),
            weight: 1.0,
            models: KeyModels::Any,
            credential: Credential::Header("authorization", Secret::new(format!("Bearer sk-canary-{nth}"))),
        };
        let settings: Vec<_> = (0..count).map(key).collect();
        Keys::new(&"p".into(), &settings, events.clone(), None)
    }

    /// A key that was refused so long ago that a call is to try it, and that call.
    fn due(keys: &Arc<Keys>) -> Held {
        let held = take(keys).expect("it is ready");
        held.end(Verdict::Refused, true);
        assert_eq!(take(keys).expect_err("it is dead").code(), Code::CredentialsExhausted);
        let later = now() + Duration::from_secs(5);
        let turn = keys.with_ring(|ring| ring.next("m", later)).expect("it is due");
        Held { keys: Arc::clone(keys), model: "m".into(), turn: Some(turn) }
    }

    fn take(keys: &Arc<Keys>) -> Result<Held, Error> {
        keys.take(&"m".into(), &[]).map(|held| held.expect("there are keys"))
    }

    #[test]
    fn a_key_that_a_call_tries_is_good_as_soon_as_its_answer_begins() {
        let events = Events::new();
        let keys = keys(1, &events);
        let mut held = due(&keys);
        assert_eq!(events.alerts().len(), 1);
        assert_eq!(take(&keys).expect_err("one call tries it").code(), Code::CredentialsExhausted);
        held.accepted();
        assert!(events.alerts().is_empty());
        let other = take(&keys).expect("it is ready, while the answer still comes");
        drop(other);
        // What becomes of the answer says nothing more of its key, but that it was refused.
        held.end(Verdict::Nothing, false);
        assert!(take(&keys).is_ok());
    }

    #[test]
    fn whoever_gives_up_the_call_that_tries_a_key_leaves_it_to_the_next() {
        let keys = keys(1, &Events::new());
        drop(due(&keys));
        let later = now() + Duration::from_secs(5);
        let next = keys.with_ring(|ring| ring.next("m", later).map(|turn| turn.is_plain()));
        assert_eq!(next, Ok(false));
    }

    #[test]
    fn a_panic_while_a_key_is_held_leaves_the_call_to_the_next_too() {
        let keys = keys(1, &Events::new());
        let held = due(&keys);
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = held;
            panic!("in the middle of the attempt");
        }));
        assert!(unwound.is_err());
        let later = now() + Duration::from_secs(5);
        assert!(keys.with_ring(|ring| ring.next("m", later)).is_ok());
    }

    #[test]
    fn what_is_wrong_with_keys_ends_with_them() {
        let events = Events::new();
        let keys = keys(2, &events);
        take(&keys).expect("it is ready").end(Verdict::Refused, true);
        assert_eq!(events.alerts().first().map(|alert| alert.subject.clone()).as_deref(), Some("p/k0"));
        drop(keys);
        assert!(events.alerts().is_empty());
    }

    #[test]
    fn no_way_of_printing_shows_a_key() {
        let keys = keys(1, &Events::new());
        let held = take(&keys).expect("it is ready");
        let printed = format!("{keys:?} {held:?} {:?} {:?}", keys.keys[0].settings, keys.stats(now()));
        assert!(!printed.contains("canary"), "{printed}");
        assert_eq!(held.send().and_then(Credential::line), Some(("authorization", "Bearer sk-canary-0")));
    }
}
