//! What each client has taken of its limits: pure, with `now` handed in.
//!
//! **Bounds** (I4). At most [`MOST`] clients are known at a time. Whoever has nothing under way and whose limits are full again
//! is as good as a new one, and gives way when there is no place; if there is none such, newcomers share the default's
//! limits as if they were one, until there is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::who::Who;
use crate::config::plugins::KeyLimits;
use crate::metrics::rate::{Bucket, MINUTE, Ticket};
use crate::metrics::tokens::Usual;

/// The most clients that are known at a time.
pub(super) const MOST: usize = 4096;

/// How long after a look for who could give way the next one is.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

/// One of a client's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Requests,
    DailyRequests,
    Tokens,
    Concurrent,
}

impl What {
    pub(super) const ALL: [Self; 4] = [Self::Requests, Self::DailyRequests, Self::Tokens, Self::Concurrent];

    /// Its name in the configuration.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_minute",
            Self::DailyRequests => "requests_per_day",
            Self::Tokens => "tokens_per_minute",
            Self::Concurrent => "concurrent",
        }
    }
}

/// Why a request may not go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) what: What,
    pub(super) limit: u64,
    /// When it could; nobody knows when somebody else's request ends.
    pub(super) after: Option<Duration>,
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) limit: u64,
    /// How much could go now.
    pub(super) left: u64,
    /// In which time all of it could.
    pub(super) reset: Duration,
}

impl Left {
    fn of(bucket: &Bucket, now: Instant) -> Self {
        let (limit, reset) = (bucket.limit(), bucket.wait_for(bucket.limit(), now));
        // Each that was taken is rounded up by less than a nanosecond; together that must not hide the last one left.
        let (minute, count) = (MINUTE.as_nanos(), u128::from(limit));
        let rounded = count.min(minute / count / 2);
        let room = (MINUTE.saturating_sub(reset).as_nanos() + rounded) * count / minute;
        Self { limit, left: u64::try_from(room).unwrap_or(limit), reset }
    }
}

/// What is left to a client of this minute's requests and tokens, as far as it has such limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) requests: Option<Left>,
    pub(super) tokens: Option<Left>,
}

/// What a request has taken, until it ends.
#[derive(Debug)]
pub(super) struct Held {
    who: Who,
    ticket: Ticket,
    tokens: u64,
}

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It took nothing.
    Nothing,
    /// It took its place, and so many tokens; as many as were estimated if nobody knows.
    Took(Option<u64>),
}

/// What all clients have taken.
#[derive(Debug)]
pub(super) struct Book {
    default: KeyLimits,
    clients: BTreeMap<Who, Client>,
    /// When somebody last looked in vain for who could give way.
    looked: Option<Instant>,
    /// How long answers are.
    pub(super) usual: Usual,
    /// By [`What`].
    refused: [u64; What::ALL.len()],
}

/// What one client has taken.
#[derive(Debug)]
struct Client {
    requests: Option<Bucket>,
    daily: Option<Bucket>,
    tokens: Option<Bucket>,
    concurrent: Option<u64>,
    in_flight: u64,
    next: Ticket,
}

impl Book {
    /// Nobody has taken anything. Newcomers without a place share limits as `default` says.
    pub(super) fn new(default: KeyLimits) -> Self {
        let refused = [0; What::ALL.len()];
        Self { default, clients: BTreeMap::new(), looked: None, usual: Usual::new(), refused }
    }

    /// Takes what a request of so many tokens needs, whose client has these limits; with what is left to that.
    pub(super) fn take(
        &mut self,
        who: Who,
        limits: KeyLimits,
        tokens: u64,
        now: Instant,
    ) -> (Room, Result<Held, (Who, Refusal)>) {
        let (who, limits) = if self.has_place(&who, now) { (who, limits) } else { (Who::Others, self.default) };
        let client = self.clients.entry(who.clone()).or_insert_with(|| Client::new(limits, now));
        if let Some(refusal) = client.refusal(tokens, now) {
            self.refused[refusal.what as usize] += 1;
            return (client.room(now), Err((who, refusal)));
        }
        let ticket = client.take(tokens, now);
        (client.room(now), Ok(Held { who, ticket, tokens }))
    }

    /// A request has ended.
    pub(super) fn end(&mut self, held: Held, end: End, now: Instant) {
        // Whoever has something under way is known until it ends.
        let Some(client) = self.clients.get_mut(&held.who) else { return };
        client.in_flight = client.in_flight.saturating_sub(1);
        let (requests, tokens) = match end {
            End::Nothing => (0, 0),
            End::Took(tokens) => (1, tokens.unwrap_or(held.tokens)),
        };
        let by_requests = client.requests.iter_mut().chain(&mut client.daily);
        by_requests.for_each(|bucket| bucket.settle(held.ticket, 1, requests, now));
        client.tokens.iter_mut().for_each(|bucket| bucket.settle(held.ticket, held.tokens, tokens, now));
    }

    /// Whether a client is known, or can be.
    fn has_place(&mut self, who: &Who, now: Instant) -> bool {
        if self.clients.len() < MOST || self.clients.contains_key(who) {
            return true;
        }
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < LOOK_AGAIN) {
            return false;
        }
        self.clients.retain(|_, client| !client.is_as_new(now));
        let has_place = self.clients.len() < MOST;
        self.looked = (!has_place).then_some(now);
        has_place
    }

    /// How many clients are known.
    pub(super) fn known(&self) -> usize {
        self.clients.len()
    }

    /// How many requests are under way.
    pub(super) fn in_flight(&self) -> u64 {
        self.clients.values().map(|client| client.in_flight).sum()
    }

    /// How many requests each limit has refused.
    pub(super) fn refused(&self) -> impl Iterator<Item = (What, u64)> {
        What::ALL.into_iter().zip(self.refused)
    }
}

impl Client {
    fn new(limits: KeyLimits, now: Instant) -> Self {
        let bucket = |limit: Option<u64>, period| limit.map(|limit| Bucket::new(limit, period, now));
        Self {
            requests: bucket(limits.requests_per_minute, MINUTE),
            daily: bucket(limits.requests_per_day, DAY),
            tokens: bucket(limits.tokens_per_minute, MINUTE),
            concurrent: limits.concurrent,
            in_flight: 0,
            next: 0,
        }
    }

    /// The limit that holds a request back for longest, if one does.
    fn refusal(&self, tokens: u64, now: Instant) -> Option<Refusal> {
        if let Some(limit) = self.concurrent.filter(|limit| self.in_flight >= *limit) {
            return Some(Refusal { what: What::Concurrent, limit, after: None });
        }
        let of = |what, bucket: &Option<Bucket>, count| {
            let (limit, wait) = bucket.as_ref().map(|bucket| (bucket.limit(), bucket.wait_for(count, now)))?;
            (!wait.is_zero()).then_some(Refusal { what, limit, after: Some(wait) })
        };
        let held = [
            of(What::Requests, &self.requests, 1),
            of(What::DailyRequests, &self.daily, 1),
            of(What::Tokens, &self.tokens, tokens),
        ];
        held.into_iter().flatten().max_by_key(|refusal| refusal.after)
    }

    fn take(&mut self, tokens: u64, now: Instant) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.in_flight += 1;
        self.requests.iter_mut().chain(&mut self.daily).for_each(|bucket| bucket.take(ticket, 1, now));
        self.tokens.iter_mut().for_each(|bucket| bucket.take(ticket, tokens, now));
        ticket
    }

    fn room(&self, now: Instant) -> Room {
        let left = |bucket: &Option<Bucket>| bucket.as_ref().map(|bucket| Left::of(bucket, now));
        Room { requests: left(&self.requests), tokens: left(&self.tokens) }
    }

    /// Whether nothing is lost if it is forgotten.
    fn is_as_new(&self, now: Instant) -> bool {
        let mut buckets = self.requests.iter().chain(&self.daily).chain(&self.tokens);
        self.in_flight == 0 && buckets.all(|bucket| bucket.wait_for(bucket.limit(), now).is_zero())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: KeyLimits =
        KeyLimits { requests_per_minute: None, requests_per_day: None, tokens_per_minute: None, concurrent: None };

    fn key(name: &str) -> Who {
        Who::Key(name.to_owned())
    }

    /// Takes, and looks at nothing else.
    trait Taking {
        fn taken(&mut self, who: Who, limits: KeyLimits, tokens: u64, now: Instant) -> Result<Held, (Who, Refusal)>;
    }

    impl Taking for Book {
        fn taken(&mut self, who: Who, limits: KeyLimits, tokens: u64, now: Instant) -> Result<Held, (Who, Refusal)> {
            self.take(who, limits, tokens, now).1
        }
    }

    #[test]
    fn what_is_left_can_go_and_not_one_more() {
        let (mut book, now) = (Book::new(NONE), start());
        let limits = KeyLimits { requests_per_minute: Some(7), tokens_per_minute: Some(1000), ..NONE };
        let (room, _) = book.take(key("a"), limits, 300, now);
        let requests = Left { limit: 7, left: 6, reset: MINUTE.div_f64(7.0) };
        let tokens = Left { limit: 1000, left: 700, reset: Duration::from_secs(18) };
        assert_eq!(room, Room { requests: room.requests, tokens: Some(tokens) });
        let asked = room.requests.expect("a limit");
        assert_eq!((asked.limit, asked.left), (requests.limit, requests.left));
        assert!(asked.reset.abs_diff(requests.reset) < Duration::from_micros(1));
        assert_eq!(
            book.taken(key("a"), limits, 701, now).map_err(|(_, refusal)| refusal.what).err(),
            Some(What::Tokens)
        );
        let (room, taken) = book.take(key("a"), limits, 700, now);
        assert!(taken.is_ok() && room.tokens.is_some_and(|tokens| tokens.left == 0 && tokens.reset == MINUTE));
    }

    fn start() -> Instant {
        crate::time::now()
    }

    #[test]
    fn each_has_its_own_and_is_told_of_the_limit_that_holds_it_longest() {
        let (mut book, now) = (Book::new(NONE), start());
        let limits = KeyLimits { requests_per_minute: Some(2), requests_per_day: Some(2), ..NONE };
        for _ in 0..2 {
            book.taken(key("a"), limits, 0, now).expect("within its limits");
        }
        let (_, refusal) = book.taken(key("a"), limits, 0, now).expect_err("over them");
        assert_eq!(refusal, Refusal { what: What::DailyRequests, limit: 2, after: Some(DAY / 2) });
        book.taken(key("b"), limits, 0, now).expect("another's are its own");
        assert_eq!(book.refused().map(|(_, count)| count).collect::<Vec<_>>(), [0, 1, 0, 0]);
    }

    #[test]
    fn what_took_nothing_gives_all_back_and_what_took_less_gives_the_rest_back() {
        let (mut book, now) = (Book::new(NONE), start());
        let limits = KeyLimits { requests_per_minute: Some(2), tokens_per_minute: Some(100), ..NONE };
        let mut take = |tokens, end: Option<End>| {
            let held = book.taken(key("a"), limits, tokens, now).map_err(|(_, refusal)| refusal)?;
            if let Some(end) = end {
                book.end(held, end, now);
            }
            Ok(())
        };
        take(100, Some(End::Nothing)).expect("within its limits");
        take(100, Some(End::Took(Some(10)))).expect("as if nothing had been");
        let tokens = Refusal { what: What::Tokens, limit: 100, after: Some(Duration::from_millis(600)) };
        assert_eq!(take(91, None), Err(tokens));
        take(90, Some(End::Took(None))).expect("the rest");
        assert_eq!(take(0, None).map_err(|refusal| refusal.what), Err(What::Requests));
    }

    #[test]
    fn so_many_go_at_a_time_and_a_place_is_free_when_one_ends() {
        let (mut book, now) = (Book::new(NONE), start());
        let limits = KeyLimits { concurrent: Some(2), ..NONE };
        let first = book.taken(key("a"), limits, 0, now).expect("the first");
        book.taken(key("a"), limits, 0, now).expect("the second");
        let (_, refusal) = book.taken(key("a"), limits, 0, now).expect_err("no place");
        assert_eq!(refusal, Refusal { what: What::Concurrent, limit: 2, after: None });
        book.end(first, End::Took(None), now);
        book.taken(key("a"), limits, 0, now).expect("a place");
        assert_eq!(book.in_flight(), 2);
    }

    #[test]
    fn who_is_as_new_gives_way_and_newcomers_share_until_somebody_is() {
        let limits = KeyLimits { requests_per_minute: Some(1), ..NONE };
        let (mut book, now) = (Book::new(limits), start());
        let mut helds = Vec::new();
        for n in 0..MOST {
            helds.push(book.taken(key(&n.to_string()), limits, 0, now).expect("its first"));
        }
        let held = book.taken(key("late"), limits, 0, now).expect("the shared one's first");
        book.end(held, End::Took(None), now);
        let (who, _) = book.taken(key("later"), limits, 0, now).expect_err("shared");
        assert_eq!((who, book.known()), (Who::Others, MOST + 1));
        let later = now + MINUTE;
        helds.drain(..1000).for_each(|held| book.end(held, End::Took(None), now));
        book.taken(key("later"), limits, 0, later).expect("a place of its own");
        assert_eq!(book.known(), MOST - 1000 + 1, "those with something under way, and the new one");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
        /// Whatever is taken, refused and ended in whatever order: what is under way is what was let in and has not ended, and
        /// never more than may be; and a refusal's time is exact: a moment before it is still refused, then it goes.
        #[test]
        fn what_is_under_way_is_within_bounds_and_a_refusal_says_the_time(
            limits in (1..5u64, 1..40u64, 1..200u64, 1..6u64),
            steps in proptest::collection::vec((0..4usize, 0..3usize, 0..60u64, 0..5000u64), 1..120),
        ) {
            let limits = KeyLimits {
                requests_per_minute: Some(limits.0 * 10), requests_per_day: Some(limits.1 * 10),
                tokens_per_minute: Some(limits.2), concurrent: Some(limits.3),
            };
            let (mut book, mut now, mut under_way) = (Book::new(NONE), start(), Vec::<(usize, Held)>::new());
            for (what, who, tokens, ms) in steps {
                now += Duration::from_millis(ms);
                let of_who = under_way.iter().filter(|(other, _)| *other == who).count() as u64;
                match what {
                    0 | 1 => match book.taken(key(&who.to_string()), limits, tokens, now) {
                        Ok(held) => {
                            prop_assert!(of_who < limits.concurrent.unwrap_or(u64::MAX));
                            under_way.push((who, held));
                        }
                        Err((_, Refusal { after: Some(after), .. })) => {
                            let again = |book: &mut Book, at| book.taken(key(&who.to_string()), limits, tokens, at);
                            prop_assert!(again(&mut book, now + after - Duration::from_nanos(1)).is_err());
                            now += after;
                            let held = again(&mut book, now);
                            prop_assert!(held.is_ok());
                            under_way.extend(held.ok().map(|held| (who, held)));
                        }
                        Err((_, refusal)) => prop_assert_eq!((refusal.what, of_who), (What::Concurrent, limits.concurrent.unwrap_or(0))),
                    },
                    _ if under_way.is_empty() => {}
                    _ => {
                        let (_, held) = under_way.swap_remove(who % under_way.len());
                        let end = if what == 2 { End::Nothing } else { End::Took(Some(tokens)) };
                        book.end(held, end, now);
                    }
                }
                prop_assert_eq!(book.in_flight(), under_way.len() as u64);
            }
        }
    }
}
