//! Who may go when under all limits of a provider together: pure, with `now` handed in.
//!
//! **Protocol.** [`Line::ask`] takes a share of every limit that concerns an attempt, at once and in the order of asking: of
//! the provider, of its model and of its key, requests and tokens each. A share may go when the last of them lets it;
//! until then it waits, and what it took is nobody else's, so that nobody overtakes it at a limit that both are held back
//! by. Every share ends in [`Line::end`] or [`Line::give_back`]. Both can let others go sooner: [`Line::due`] then names those
//! who are to look again.
//!
//! **Bounds** (I4). Shares are as many as attempts; what a provider said of itself is kept for at most [`MOST_TOLD`] models.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bucket::{Bucket, MINUTE, Ticket};
use crate::config::RateLimit;

/// For how many models of a key at a time it is known that the provider has nothing left.
const MOST_TOLD: usize = 128;

/// The limits of one subject.
#[derive(Debug)]
struct Pair {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

impl Pair {
    fn new(limit: RateLimit, now: Instant) -> Self {
        let bucket = |per_minute: Option<u64>| per_minute.map(|per_minute| Bucket::new(per_minute, now));
        Self { requests: bucket(limit.requests_per_minute), tokens: bucket(limit.tokens_per_minute) }
    }

    /// Its buckets, and what an attempt of `tokens` takes of each.
    fn buckets(&self, tokens: u64) -> impl Iterator<Item = (&Bucket, u64)> {
        self.requests.iter().map(|bucket| (bucket, 1)).chain(self.tokens.iter().map(move |bucket| (bucket, tokens)))
    }

    fn take(&mut self, ticket: Ticket, tokens: u64, now: Instant) {
        self.requests.iter_mut().for_each(|bucket| bucket.take(ticket, 1, now));
        self.tokens.iter_mut().for_each(|bucket| bucket.take(ticket, tokens, now));
    }

    /// What was taken for a request of `tokens` came to so many requests, none or one, and so many tokens.
    fn settle(&mut self, ticket: Ticket, tokens: u64, used: (u64, u64), now: Instant) {
        self.requests.iter_mut().for_each(|bucket| bucket.settle(ticket, 1, used.0, now));
        self.tokens.iter_mut().for_each(|bucket| bucket.settle(ticket, tokens, used.1, now));
    }
}

/// Whom a limit concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Provider,
    /// The model that is asked for.
    Model,
    /// The key at this place.
    Key(usize),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) model: Arc<str>,
    /// The place of the key that it goes with.
    pub(super) key: usize,
    /// How many tokens it will take, as far as can be told.
    pub(super) tokens: u64,
}

/// What holds an attempt back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// A limit of so many requests a minute.
    Requests(Subject, u64),
    /// A limit of so many tokens a minute.
    Tokens(Subject, u64),
    /// The provider's own word that nothing is left.
    Told,
    /// Too many wait already.
    Crowd,
}

/// Why an attempt may not even wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// When it could go.
    pub(super) after: Duration,
    pub(super) by: Held,
}

/// What an attempt took.
#[derive(Debug)]
struct Share {
    ask: Ask,
    model: Option<usize>,
    /// For one that waits: when its waiter will look again.
    looks_at: Option<Instant>,
}

/// What has been held back lately without a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pressed {
    since: Instant,
    last: Instant,
    refused: u64,
}

/// The limits of a provider, and who has a share of them.
pub(super) struct Line {
    provider: Pair,
    models: Vec<(Box<str>, Pair)>,
    keys: Vec<Pair>,
    /// The most that wait.
    places: usize,
    told: BTreeMap<(usize, Arc<str>), Instant>,
    shares: BTreeMap<Ticket, Share>,
    waiting: usize,
    next: Ticket,
    pressed: Option<Pressed>,
}

/// After how long without anybody held back the pressure is over.
const PAUSE: Duration = Duration::from_secs(5);

impl Line {
    /// The limits of a provider, of some of its models, and of its keys in their order; at most `places` wait.
    pub(super) fn new(
        provider: RateLimit,
        models: &[(String, RateLimit)],
        keys: &[RateLimit],
        places: usize,
        now: Instant,
    ) -> Self {
        Self {
            provider: Pair::new(provider, now),
            models: models.iter().map(|(name, limit)| (name.as_str().into(), Pair::new(*limit, now))).collect(),
            keys: keys.iter().map(|limit| Pair::new(*limit, now)).collect(),
            places,
            told: BTreeMap::new(),
            shares: BTreeMap::new(),
            waiting: 0,
            next: 0,
            pressed: None,
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes a share for an attempt that may go at `until` at the latest; the share, and how long it has to wait.
    ///
    /// # Errors
    /// If it could not go by then, or too many wait: nothing is taken then.
    pub(super) fn ask(&mut self, ask: Ask, now: Instant, until: Instant) -> Result<(Ticket, Duration), Refusal> {
        let model = self.models.iter().position(|(name, _)| **name == *ask.model);
        let held = self.longest(&ask, model, now, |bucket, count| bucket.wait_for(count, now));
        if let Some(refusal) = held {
            self.press(now);
            let Refusal { after, by } = refusal;
            let by = if self.waiting >= self.places { Held::Crowd } else { by };
            if by == Held::Crowd || now + after > until {
                return Err(self.refuse(Refusal { after, by }));
            }
            self.waiting += 1;
        }
        let ticket = self.next;
        self.next += 1;
        let (key, tokens) = (ask.key, ask.tokens);
        self.concerned_mut(model, key).for_each(|pair| pair.take(ticket, tokens, now));
        let looks_at = held.map(|held| now + held.after);
        self.shares.insert(ticket, Share { ask, model, looks_at });
        Ok((ticket, held.map_or(Duration::ZERO, |held| held.after)))
    }

    /// How long a share has to wait still, `until` at the latest; with nothing left, it goes.
    ///
    /// # Errors
    /// If it could not go by then any more: others took more than they had asked for. It is to be given back.
    pub(super) fn look(&mut self, ticket: Ticket, now: Instant, until: Instant) -> Result<Duration, Refusal> {
        let held = self.held(ticket, now);
        let Some(share) = self.shares.get_mut(&ticket).filter(|share| share.looks_at.is_some()) else {
            return Ok(Duration::ZERO);
        };
        let Some(refusal) = held else {
            share.looks_at = None;
            self.waiting -= 1;
            return Ok(Duration::ZERO);
        };
        share.looks_at = Some(now + refusal.after);
        self.press(now);
        if now + refusal.after > until { Err(self.refuse(refusal)) } else { Ok(refusal.after) }
    }

    /// An attempt is over; it took so many tokens, if that is known.
    pub(super) fn end(&mut self, ticket: Ticket, tokens: Option<u64>, now: Instant) {
        self.settle(ticket, 1, tokens, now);
    }

    /// An attempt was given up before it was sent.
    pub(super) fn give_back(&mut self, ticket: Ticket, now: Instant) {
        self.settle(ticket, 0, Some(0), now);
    }

    fn settle(&mut self, ticket: Ticket, requests: u64, tokens: Option<u64>, now: Instant) {
        let Some(share) = self.shares.remove(&ticket) else { return };
        self.waiting -= usize::from(share.looks_at.is_some());
        let asked = share.ask.tokens;
        let used = (requests, tokens.unwrap_or(asked));
        self.concerned_mut(share.model, share.ask.key).for_each(|pair| pair.settle(ticket, asked, used, now));
    }

    /// The provider said, of the key and model of a share, that nothing is left for so long, or that something is. After a
    /// minute it is asked again, whatever it said.
    pub(super) fn told(&mut self, ticket: Ticket, nothing_for: Option<Duration>, now: Instant) {
        let Some(share) = self.shares.get(&ticket) else { return };
        let subject = || (share.ask.key, Arc::clone(&share.ask.model));
        match nothing_for {
            None if self.told.is_empty() => {}
            None => _ = self.told.remove(&subject()),
            Some(time) => {
                if self.told.len() >= MOST_TOLD {
                    self.told.retain(|_, until| *until > now);
                }
                if self.told.len() < MOST_TOLD {
                    self.told.insert(subject(), now + time.min(MINUTE));
                }
            }
        }
    }

    /// Those who wait and are to look again: who may go now, and the next one, if it would look too late.
    pub(super) fn due(&self, now: Instant) -> Vec<Ticket> {
        let waiting = self.shares.iter().filter_map(|(ticket, share)| share.looks_at.map(|at| (*ticket, at)));
        let mut due = Vec::new();
        let mut next: Option<(Duration, Ticket, Instant)> = None;
        for (ticket, looks_at) in waiting {
            match self.held(ticket, now).map(|held| held.after) {
                None => due.push(ticket),
                Some(wait) if next.is_none_or(|(least, ..)| wait < least) => next = Some((wait, ticket, looks_at)),
                Some(_) => {}
            }
        }
        due.extend(next.filter(|(wait, _, looks_at)| now + *wait < *looks_at).map(|(_, ticket, _)| ticket));
        due
    }

    /// How long the limits of each key alone would hold back an attempt of so many tokens; none if no key has limits.
    pub(super) fn of_keys(&self, tokens: u64, now: Instant) -> Vec<Duration> {
        let longest = |pair: &Pair| pair.buckets(tokens).map(|(bucket, count)| bucket.wait_for(count, now)).max();
        self.keys.iter().map(|pair| longest(pair).unwrap_or_default()).collect()
    }

    /// Since when requests have been held back without a pause, and how many of them were refused.
    pub(super) fn pressed(&self, now: Instant) -> Option<(Duration, u64)> {
        let Pressed { since, last, refused } = self.pressed?;
        let lasts = self.waiting > 0 || now.saturating_duration_since(last) < PAUSE;
        lasts.then(|| (now.saturating_duration_since(since), refused))
    }

    fn press(&mut self, now: Instant) {
        match &mut self.pressed {
            Some(pressed) if now.saturating_duration_since(pressed.last) < PAUSE => pressed.last = now,
            pressed => *pressed = Some(Pressed { since: now, last: now, refused: 0 }),
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Refusal {
        self.pressed.iter_mut().for_each(|pressed| pressed.refused += 1);
        refusal
    }

    /// What holds a share back, if anything does.
    fn held(&self, ticket: Ticket, now: Instant) -> Option<Refusal> {
        let share = self.shares.get(&ticket)?;
        self.longest(&share.ask, share.model, now, |bucket, _| bucket.wait_of(ticket, now))
    }

    /// Which of the limits that concern `ask` holds it back longest, if any does, where each says how long by `wait`.
    fn longest(
        &self,
        ask: &Ask,
        model: Option<usize>,
        now: Instant,
        wait: impl Fn(&Bucket, u64) -> Duration,
    ) -> Option<Refusal> {
        let told = if self.told.is_empty() { None } else { self.told.get(&(ask.key, Arc::clone(&ask.model))) };
        let told = told.map(|until| Refusal { after: until.saturating_duration_since(now), by: Held::Told });
        let of_buckets = self.concerned(model, ask.key).flat_map(|(subject, pair)| {
            let requests = pair.requests.as_ref();
            let requests = requests.map(|b| (wait(b, 1), Held::Requests(subject, b.per_minute())));
            let tokens = pair.tokens.as_ref();
            let tokens = tokens.map(|b| (wait(b, ask.tokens), Held::Tokens(subject, b.per_minute())));
            [requests, tokens].into_iter().flatten().map(|(after, by)| Refusal { after, by })
        });
        of_buckets.chain(told).filter(|held| !held.after.is_zero()).max_by_key(|held| held.after)
    }

    fn concerned(&self, model: Option<usize>, key: usize) -> impl Iterator<Item = (Subject, &Pair)> {
        let of_model = model.and_then(|at| Some((Subject::Model, &self.models.get(at)?.1)));
        let of_key = self.keys.get(key).map(|pair| (Subject::Key(key), pair));
        std::iter::once((Subject::Provider, &self.provider)).chain(of_model).chain(of_key)
    }

    fn concerned_mut(&mut self, model: Option<usize>, key: usize) -> impl Iterator<Item = &mut Pair> {
        let of_model = model.and_then(|at| Some(&mut self.models.get_mut(at)?.1));
        let of_key = self.keys.get_mut(key);
        std::iter::once(&mut self.provider).chain(of_model).chain(of_key)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("waiting", &self.waiting).field("shares", &self.shares.len()).finish_non_exhaustive()
    }
}
