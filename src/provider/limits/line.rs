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

use crate::config::RateLimit;
use crate::metrics::rate::{Bucket, MINUTE, Ticket};

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
        let bucket = |per_minute: Option<u64>| per_minute.map(|limit| Bucket::new(limit, MINUTE, now));
        Self { requests: bucket(limit.requests_per_minute), tokens: bucket(limit.tokens_per_minute) }
    }

    fn take(&mut self, ticket: Ticket, tokens: u64, now: Instant) {
        self.requests.iter_mut().for_each(|bucket| bucket.take(ticket, 1, now));
        self.tokens.iter_mut().for_each(|bucket| bucket.take(ticket, tokens, now));
    }

    fn go(&mut self, ticket: Ticket, now: Instant) {
        let buckets = self.requests.iter_mut().chain(&mut self.tokens);
        buckets.for_each(|bucket| bucket.go(ticket, now));
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
    /// What it took of its key's limits by, where that is another key than the one it was asked for with.
    of_key: Option<Ticket>,
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
        self.shares.insert(ticket, Share { ask, model, looks_at, of_key: None });
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
            let (model, key) = (share.model, share.ask.key);
            self.waiting -= 1;
            self.concerned_mut(model, key).for_each(|pair| pair.go(ticket, now));
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
        let key = if share.of_key.is_some() { usize::MAX } else { share.ask.key };
        self.concerned_mut(share.model, key).for_each(|pair| pair.settle(ticket, asked, used, now));
        if let Some((own, pair)) = share.of_key.zip(self.keys.get_mut(share.ask.key)) {
            pair.settle(own, asked, used, now);
        }
    }

    /// A share that may go goes with another key: what it took of the one's limits it takes of the other's.
    ///
    /// # Errors
    /// If that one's do not let it go now: nothing is changed then.
    pub(super) fn moved(&mut self, ticket: Ticket, key: usize, now: Instant) -> Result<(), Refusal> {
        let own = self.next;
        let Some(share) = self.shares.get_mut(&ticket) else { return Ok(()) };
        let (tokens, old, of_old) = (share.ask.tokens, share.ask.key, share.of_key.unwrap_or(ticket));
        if let Some(pair) = self.keys.get(key) {
            let requests =
                pair.requests.as_ref().map(|b| (b.wait_for(1, now), Held::Requests(Subject::Key(key), b.limit())));
            let tokens =
                pair.tokens.as_ref().map(|b| (b.wait_for(tokens, now), Held::Tokens(Subject::Key(key), b.limit())));
            let held = [requests, tokens].into_iter().flatten().max_by_key(|(after, _)| *after);
            if let Some((after, by)) = held.filter(|(after, _)| !after.is_zero()) {
                return Err(Refusal { after, by });
            }
        }
        (share.ask.key, share.of_key) = (key, Some(own));
        self.next += 1;
        self.keys.get_mut(old).into_iter().for_each(|pair| pair.settle(of_old, tokens, (0, 0), now));
        self.keys.get_mut(key).into_iter().for_each(|pair| pair.take(own, tokens, now));
        Ok(())
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

    /// How long each key, in their order, would hold back an attempt of so many tokens at `model`; none where no key does.
    pub(super) fn of_keys(&self, model: &Arc<str>, tokens: u64, now: Instant) -> Vec<Duration> {
        let wait = |key: usize| {
            let ask = Ask { model: Arc::clone(model), key, tokens };
            let held = self.longest(&ask, None, now, |bucket, count| bucket.wait_for(count, now));
            held.map_or(Duration::ZERO, |held| held.after)
        };
        let waits: Vec<_> = (0..self.keys.len()).map(wait).collect();
        if waits.iter().all(Duration::is_zero) { Vec::new() } else { waits }
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
            let requests = requests.map(|b| (wait(b, 1), Held::Requests(subject, b.limit())));
            let tokens = pair.tokens.as_ref();
            let tokens = tokens.map(|b| (wait(b, ask.tokens), Held::Tokens(subject, b.limit())));
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
        f.debug_struct("Line")
            .field("waiting", &self.waiting)
            .field("shares", &self.shares.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limit(requests: u64, tokens: u64) -> RateLimit {
        let some = |count: u64| (count > 0).then_some(count);
        RateLimit { requests_per_minute: some(requests), tokens_per_minute: some(tokens) }
    }

    fn ask(model: &str, tokens: u64) -> Ask {
        Ask { model: model.into(), key: 0, tokens }
    }

    fn line(provider: RateLimit, model: RateLimit, now: Instant) -> Line {
        Line::new(provider, &[("m".to_owned(), model)], &[], 1000, now)
    }

    #[test]
    fn the_strictest_limit_holds_back_and_says_when() {
        let now = crate::time::now();
        let mut line = Line::new(limit(60, 600), &[("m".to_owned(), limit(2, 0))], &[limit(3, 0)], 10, now);
        let mut take = |model: &str, tokens| line.ask(ask(model, tokens), now, now).map(|(_, wait)| wait);
        assert_eq!(take("m", 10), Ok(Duration::ZERO));
        assert_eq!(take("m", 10), Ok(Duration::ZERO));
        let held = |after, by| Err(Refusal { after, by });
        assert_eq!(take("m", 10), held(SECOND * 30, Held::Requests(Subject::Model, 2)));
        assert_eq!(take("n", 10), Ok(Duration::ZERO), "another model has no limit of its own");
        assert_eq!(take("n", 10), held(SECOND * 20, Held::Requests(Subject::Key(0), 3)));
        let other = Ask { key: 1, ..ask("n", 571) };
        assert_eq!(line.ask(other, now, now).err().map(|r| r.by), Some(Held::Tokens(Subject::Provider, 600)));
        assert_eq!(line.pressed(now), Some((Duration::ZERO, 3)));
        assert_eq!(line.pressed(now + PAUSE), None);
    }

    #[test]
    fn keys_are_told_apart_by_when_each_could_go() {
        let now = crate::time::now();
        let mut line = Line::new(limit(0, 0), &[], &[limit(1, 0), limit(0, 0), limit(0, 60)], 10, now);
        let model: Arc<str> = "m".into();
        assert!(line.of_keys(&model, 10, now).is_empty(), "nobody is held back");
        let mut take = |key, tokens| line.ask(Ask { model: "m".into(), key, tokens }, now, now).expect("it goes").0;
        let first = take(0, 10);
        let second = take(1, 10);
        take(2, 55);
        line.told(second, Some(SECOND * 2), now);
        assert_eq!(line.of_keys(&model, 10, now), [MINUTE, SECOND * 2, SECOND * 5]);
        line.give_back(first, now);
        assert_eq!(line.of_keys(&"n".into(), 5, now), [Duration::ZERO; 0]);
    }

    #[test]
    fn who_waits_for_its_model_keeps_no_other_model_back() {
        let now = crate::time::now();
        let mut line = line(limit(60, 0), limit(1, 0), now);
        let until = now + MINUTE * 2;
        assert_eq!(line.ask(ask("m", 0), now, until).map(|(_, wait)| wait), Ok(Duration::ZERO));
        assert_eq!(line.ask(ask("m", 0), now, until).map(|(_, wait)| wait), Ok(MINUTE));
        assert_eq!(line.ask(ask("n", 0), now, until).map(|(_, wait)| wait), Ok(Duration::ZERO));
        assert_eq!(line.waiting(), 1);
    }

    #[test]
    fn no_more_wait_than_there_are_places() {
        let now = crate::time::now();
        let mut line = Line::new(limit(1, 0), &[], &[], 1, now);
        let until = now + MINUTE * 10;
        let (first, _) = line.ask(ask("m", 0), now, until).expect("it goes");
        let (second, _) = line.ask(ask("m", 0), now, until).expect("it waits");
        let crowd = Refusal { after: MINUTE * 2, by: Held::Crowd };
        assert_eq!(line.ask(ask("m", 0), now, until), Err(crowd));
        line.give_back(second, now);
        assert!(line.ask(ask("m", 0), now, until).is_ok(), "its place is free");
        line.end(first, None, now);
        assert_eq!(line.waiting(), 1);
    }

    #[test]
    fn a_share_given_back_lets_the_next_one_look_again() {
        let now = crate::time::now();
        let mut line = line(limit(2, 0), limit(0, 0), now);
        let until = now + MINUTE * 10;
        let tickets: Vec<_> = (0..5).map(|_| line.ask(ask("m", 0), now, until).expect("it may wait")).collect();
        let waits: Vec<_> = tickets.iter().map(|(_, wait)| wait.as_secs()).collect();
        assert_eq!(waits, [0, 0, 30, 60, 90]);
        assert!(line.due(now).is_empty());
        line.give_back(tickets[0].0, now);
        assert_eq!(line.due(now), [tickets[2].0, tickets[3].0], "one may go, and the next would look too late");
        assert_eq!(line.look(tickets[2].0, now, until), Ok(Duration::ZERO));
        assert_eq!(line.look(tickets[3].0, now, until), Ok(SECOND * 30));
        assert!(line.due(now).is_empty(), "the last one hears when the one before it goes");
        let later = now + SECOND * 30;
        assert_eq!(line.look(tickets[3].0, later, until), Ok(Duration::ZERO));
        assert_eq!(line.due(later), [tickets[4].0]);
    }

    #[test]
    fn what_the_provider_says_holds_its_key_and_model_back_until_it_says_otherwise() {
        let now = crate::time::now();
        let mut line = line(limit(1000, 0), limit(0, 0), now);
        let (ticket, _) = line.ask(ask("m", 0), now, now).expect("it goes");
        line.told(ticket, Some(SECOND * 3), now);
        let held = Refusal { after: SECOND * 3, by: Held::Told };
        assert_eq!(line.ask(ask("m", 0), now, now), Err(held));
        assert!(line.ask(ask("n", 0), now, now).is_ok(), "another model");
        assert!(line.ask(Ask { key: 1, ..ask("m", 0) }, now, now).is_ok(), "another key");
        assert!(line.ask(ask("m", 0), now + SECOND * 3, now + SECOND * 3).is_ok(), "its time is over");
        line.told(ticket, None, now);
        assert!(line.ask(ask("m", 0), now, now).is_ok(), "something is left again");
        line.told(ticket, Some(MINUTE * 600), now);
        assert_eq!(line.ask(ask("m", 0), now, now), Err(Refusal { after: MINUTE, by: Held::Told }));
    }

    #[test]
    fn what_is_told_of_many_models_is_bounded() {
        let now = crate::time::now();
        let mut line = line(limit(1000, 0), limit(0, 0), now);
        for number in 0..MOST_TOLD * 2 {
            let (ticket, _) = line.ask(ask(&number.to_string(), 0), now, now).expect("it goes");
            line.told(ticket, Some(SECOND), now);
        }
        assert_eq!(line.told.len(), MOST_TOLD);
    }

    #[test]
    fn tokens_are_put_right_at_the_end() {
        let now = crate::time::now();
        let mut line = line(limit(0, 100), limit(0, 0), now);
        let until = now + MINUTE;
        let (first, _) = line.ask(ask("m", 100), now, until).expect("it goes");
        let (second, wait) = line.ask(ask("m", 50), now, until).expect("it waits");
        assert_eq!(wait, SECOND * 30);
        line.end(first, Some(60), now);
        assert_eq!(line.look(second, now, until), Ok(SECOND * 6));
        let (third, wait) = line.ask(ask("m", 10), now, until).expect("it waits");
        assert_eq!(wait, SECOND * 12);
        line.end(second, None, now);
        assert_eq!(line.look(third, now, until), Ok(SECOND * 12), "nobody knows what it took");
    }

    /// What callers do.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// One of two models, so many tokens, and so many seconds of patience.
        Ask(bool, u64, u64),
        /// Of those that went, the one at this place ends with so many percent of its tokens.
        End(usize, u64),
        /// Of all, the one at this place is given up.
        GiveUp(usize),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (any::<bool>(), 0..40u64, 0..60u64).prop_map(|(m, tokens, patience)| Step::Ask(m, tokens, patience)),
            2 => (0..8usize, 0..=100u64).prop_map(|(at, percent)| Step::End(at, percent)),
            1 => (0..8usize).prop_map(Step::GiveUp),
            3 => (0..15_000u64).prop_map(Step::Pass),
        ]
    }

    /// One that asked, as its waiter sees it.
    struct Asker {
        ticket: Ticket,
        ours: bool,
        tokens: u64,
        until: Instant,
        looks_at: Instant,
        went: Option<Instant>,
    }

    /// Lets time pass up to `to`: whoever is to look at a moment looks at that moment, and so does whoever is named.
    fn pass(line: &mut Line, askers: &mut [Asker], to: Instant) -> Result<(), TestCaseError> {
        loop {
            let next = askers.iter_mut().filter(|a| a.went.is_none()).min_by_key(|a| (a.looks_at, a.ticket));
            let Some(next) = next.filter(|next| next.looks_at <= to) else { return Ok(()) };
            let now = next.looks_at;
            match line.look(next.ticket, now, next.until) {
                Ok(Duration::ZERO) => next.went = Some(now),
                Ok(wait) => next.looks_at = now + wait,
                // Nothing is ever charged here, so that nobody's time moves away.
                Err(refusal) => return Err(TestCaseError::fail(format!("refused after waiting: {refusal:?}"))),
            }
            ring(line, askers, now);
        }
    }

    fn ring(line: &Line, askers: &mut [Asker], now: Instant) {
        let due = line.due(now);
        askers.iter_mut().filter(|a| due.contains(&a.ticket)).for_each(|a| a.looks_at = now);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
        /// Whatever is asked, ended and given up: those of one model go in their order, nobody waits beyond its patience or
        /// is late by a bell that did not ring, no limit is exceeded, and at the end everything is as new.
        #[test]
        fn a_line_keeps_its_order_and_its_limits(
            (requests, tokens, of_model) in (1..40u64, 40..200u64, 1..20u64),
            steps in proptest::collection::vec(step(), 1..100),
        ) {
            let start = crate::time::now();
            let mut now = start;
            let mut line = line(limit(requests, tokens), limit(of_model, 0), now);
            let (mut askers, mut gone) = (Vec::<Asker>::new(), Vec::<Asker>::new());
            for step in steps {
                match step {
                    Step::Ask(ours, tokens, patience) => {
                        let until = now + SECOND * patience as u32;
                        let asked = line.ask(ask(if ours { "m" } else { "n" }, tokens), now, until);
                        if let Ok((ticket, wait)) = asked {
                            prop_assert!(now + wait <= until);
                            let went = wait.is_zero().then_some(now);
                            askers.push(Asker { ticket, ours, tokens, until, looks_at: now + wait, went });
                        }
                    }
                    Step::End(at, percent) => {
                        let at = askers.iter().enumerate().filter(|(_, a)| a.went.is_some()).map(|(at, _)| at).nth(at);
                        if let Some(mut asker) = at.map(|at| askers.remove(at)) {
                            asker.tokens = asker.tokens * percent / 100;
                            line.end(asker.ticket, Some(asker.tokens), now);
                            ring(&line, &mut askers, now);
                            gone.push(asker);
                        }
                    }
                    Step::GiveUp(at) if at < askers.len() => {
                        let asker = askers.remove(at);
                        line.give_back(asker.ticket, now);
                        ring(&line, &mut askers, now);
                    }
                    Step::GiveUp(_) => {}
                    Step::Pass(ms) => {
                        let to = now + Duration::from_millis(ms);
                        pass(&mut line, &mut askers, to)?;
                        now = to;
                    }
                }
                pass(&mut line, &mut askers, now)?;
                for waiting in askers.iter().filter(|a| a.went.is_none()) {
                    let first = askers.iter().filter(|a| a.went.is_none()).map(|a| a.looks_at).min();
                    let wait = line.held(waiting.ticket, now).map_or(Duration::ZERO, |held| held.after);
                    prop_assert!(first.is_some_and(|first| first <= now + wait), "somebody looks in time");
                }
                prop_assert_eq!(line.waiting(), askers.iter().filter(|a| a.went.is_none()).count());
            }
            pass(&mut line, &mut askers, now + MINUTE * 3)?;
            prop_assert!(askers.iter().all(|a| a.went.is_some_and(|went| went <= a.until)), "nobody waits for ever");
            now += MINUTE * 3;
            let mut went: Vec<_> = gone.into_iter().chain(askers.drain(..).inspect(|a| line.end(a.ticket, None, now))).collect();
            went.sort_by_key(|a| a.ticket);
            for ours in [true, false] {
                let times: Vec<_> = went.iter().filter(|a| a.ours == ours).map(|a| a.went).collect();
                prop_assert!(times.is_sorted(), "those of one model go in their order");
            }
            // A share that waits for one limit has been taken of the others already: what of these goes may bunch up by as long
            // as one may wait.
            let most = |per_minute: u64, span: Duration| per_minute as f64 * (1.0 + span.as_secs_f64() / 60.0) + 1e-6;
            for from in &went {
                for to in &went {
                    let (Some(first), Some(last)) = (from.went, to.went) else { continue };
                    let within = || went.iter().filter(|a| a.went >= Some(first) && a.went <= Some(last));
                    let span = last.saturating_duration_since(first);
                    let count = |of: &mut dyn Iterator<Item = &Asker>| of.count() as f64;
                    prop_assert!(count(&mut within().filter(|a| a.ours)) <= most(of_model, span + MINUTE));
                    prop_assert!(count(&mut within()) <= most(requests, span + MINUTE));
                    prop_assert!(within().map(|a| a.tokens as f64).sum::<f64>() <= most(tokens, span + MINUTE));
                }
            }
            prop_assert!(line.shares.is_empty() && line.waiting() == 0);
            let full = line.ask(ask("m", tokens), now + MINUTE, now + MINUTE);
            prop_assert_eq!(full.map(|(_, wait)| wait), Ok(Duration::ZERO), "everything is there again");
        }

        /// Under one limit there is nothing else to wait for: not one more goes than a full bucket and what refills.
        #[test]
        fn one_limit_is_never_exceeded(
            requests in 1..40u64,
            asks in proptest::collection::vec((0..4000u64, any::<bool>()), 1..100),
        ) {
            let start = crate::time::now();
            let (mut now, mut line) = (start, line(limit(requests, 0), limit(0, 0), start));
            let mut askers = Vec::<Asker>::new();
            for (ms, gives_up) in asks {
                let to = now + Duration::from_millis(ms);
                pass(&mut line, &mut askers, to)?;
                now = to;
                let until = now + SECOND * 20;
                let Ok((ticket, wait)) = line.ask(ask("n", 0), now, until) else { continue };
                let went = wait.is_zero().then_some(now);
                askers.push(Asker { ticket, ours: false, tokens: 0, until, looks_at: now + wait, went });
                // Before it was sent.
                if gives_up {
                    let left = askers.remove(askers.len() / 2);
                    line.give_back(left.ticket, now);
                    ring(&line, &mut askers, now);
                    pass(&mut line, &mut askers, now)?;
                }
            }
            pass(&mut line, &mut askers, now + MINUTE)?;
            let mut times: Vec<_> = askers.iter().filter_map(|a| a.went).collect();
            prop_assert_eq!(times.len(), askers.len());
            times.sort_unstable();
            for (at, from) in times.iter().enumerate() {
                for (count, to) in times[at..].iter().enumerate() {
                    let span = to.saturating_duration_since(*from).as_secs_f64();
                    prop_assert!((count + 1) as f64 <= requests as f64 * (1.0 + span / 60.0) + 1e-6);
                }
            }
        }
    }
}
