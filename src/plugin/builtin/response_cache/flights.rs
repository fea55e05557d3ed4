//! Equal requests under way: which of them goes to a provider, and who waits for it.
//!
//! **Protocol.** The first of several equal requests leads their flight, the others follow and wait, each on a channel of its
//! own, for one word: the leader's answer, its error, that each has to go alone, or that the leader's caller left and
//! this follower leads now. Who was told to lead and has left already hands on what it was told when it gives up its seat;
//! of each flight exactly one member leads, and the flight ends with its last member.
//!
//! Pure, but for the channels, on which nothing is sent here: senders are handed out, and used outside the lock.
//!
//! **Invariants.** I4: flights, and followers of each, are bounded. A number is given out once, so that a member that comes too
//! late meets no flight of a later time.

use std::collections::{BTreeMap, HashMap};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::key::Key;
use crate::model::Priority;

/// The most flights at a time; whoever comes when there are as many goes alone.
const MOST_FLIGHTS: usize = 8192;

/// The most that follow one; whoever comes then goes alone.
const MOST_FOLLOWERS: usize = 4096;

/// Which flight: the request's meaning, and its lane, so that nobody who is waited for waits behind a batch.
pub(super) type FlightKey = (Key, Priority);

/// Flights by what their members ask for, with what is told to followers.
#[derive(Debug)]
pub(super) struct Flights<W> {
    flights: HashMap<FlightKey, Flight<W>>,
    /// The next member's number.
    next: u64,
    followers: usize,
}

#[derive(Debug)]
struct Flight<W> {
    leader: u64,
    followers: BTreeMap<u64, Sender<W>>,
}

/// What a request is in its flight, with its number.
#[derive(Debug)]
pub(super) enum Joined<W> {
    Leads(u64),
    Follows(u64, Receiver<W>),
    /// Nothing: there is no place.
    Alone,
}

/// What has to be done when a member has left, outside the lock.
#[derive(Debug)]
pub(super) enum Left<W> {
    Nothing,
    /// It had a channel, to be closed.
    Own(Sender<W>),
    /// It led, and this one is to be told that it leads now.
    Leads(Sender<W>),
}

impl<W> Default for Flights<W> {
    fn default() -> Self {
        Self { flights: HashMap::new(), next: 0, followers: 0 }
    }
}

impl<W> Flights<W> {
    /// Puts a request into the flight of `key`, which begins with it if there is none.
    pub(super) fn join(&mut self, key: FlightKey) -> Joined<W> {
        let (number, is_full) = (self.next, self.flights.len() >= MOST_FLIGHTS);
        match self.flights.get_mut(&key) {
            Some(flight) if flight.followers.len() >= MOST_FOLLOWERS => Joined::Alone,
            Some(flight) => {
                self.next += 1;
                self.followers += 1;
                let (sender, receiver) = bounded(1);
                flight.followers.insert(number, sender);
                Joined::Follows(number, receiver)
            }
            None if is_full => Joined::Alone,
            None => {
                self.next += 1;
                self.flights.insert(key, Flight { leader: number, followers: BTreeMap::new() });
                Joined::Leads(number)
            }
        }
    }

    /// A member leaves: if it led, the follower that came first leads from now on, and the flight ends if there is none.
    pub(super) fn leave(&mut self, key: &FlightKey, number: u64) -> Left<W> {
        let Some(flight) = self.flights.get_mut(key) else { return Left::Nothing };
        if flight.leader != number {
            let own = flight.followers.remove(&number);
            self.followers -= usize::from(own.is_some());
            return own.map_or(Left::Nothing, Left::Own);
        }
        match flight.followers.pop_first() {
            Some((number, sender)) => {
                flight.leader = number;
                self.followers -= 1;
                Left::Leads(sender)
            }
            None => {
                self.flights.remove(key);
                Left::Nothing
            }
        }
    }

    /// The flight that `number` leads ends; who is to be told how.
    pub(super) fn land(&mut self, key: &FlightKey, number: u64) -> Vec<Sender<W>> {
        if self.flights.get(key).is_none_or(|flight| flight.leader != number) {
            return Vec::new();
        }
        let followers = self.flights.remove(key).map(|flight| flight.followers).unwrap_or_default();
        self.followers -= followers.len();
        followers.into_values().collect()
    }

    /// How many flights there are, and how many follow in them.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.flights.len(), self.followers)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> FlightKey {
        (Key::numbered(n), Priority::Interactive)
    }

    #[test]
    fn the_first_leads_and_the_next_takes_over_in_the_order_of_coming() {
        let mut flights = Flights::<()>::default();
        let Joined::Leads(first) = flights.join(key(1)) else { panic!("nobody else is there") };
        let Joined::Follows(second, _words) = flights.join(key(1)) else { panic!("it follows") };
        let Joined::Follows(third, words) = flights.join(key(1)) else { panic!("it follows") };
        assert!(matches!(flights.join((Key::numbered(1), Priority::Batch)), Joined::Leads(_)), "a flight of its own");
        assert!(matches!(flights.leave(&key(1), second), Left::Own(_)));
        let Left::Leads(sender) = flights.leave(&key(1), first) else { panic!("somebody follows") };
        sender.send(()).expect("it waits");
        assert!(words.try_recv().is_ok(), "the third was next");
        assert!(flights.land(&key(1), first).is_empty(), "who has left lands nothing");
        assert!(matches!(flights.leave(&key(1), third), Left::Nothing));
        assert_eq!(flights.len(), (1, 0), "the batch's");
    }

    #[test]
    fn flights_and_their_followers_are_bounded() {
        let mut flights = Flights::<()>::default();
        let followers: Vec<_> = (0..=MOST_FOLLOWERS).map(|_| flights.join(key(1))).collect();
        assert!(matches!(flights.join(key(1)), Joined::Alone));
        assert_eq!(flights.len(), (1, MOST_FOLLOWERS));
        assert_eq!(flights.land(&key(1), 0).len(), MOST_FOLLOWERS);
        assert_eq!((followers.len(), flights.len()), (MOST_FOLLOWERS + 1, (0, 0)));
    }

    proptest! {
        /// Whoever comes and goes in whatever order: one leads while anybody is there, and nothing is left at the end.
        #[test]
        fn of_those_who_are_there_one_leads(steps in proptest::collection::vec((0..3u8, any::<u8>(), any::<bool>()), 1..100)) {
            let mut flights = Flights::<()>::default();
            let mut there: Vec<(u8, u64, Option<Receiver<()>>)> = Vec::new();
            for (of, who, comes) in steps {
                if comes {
                    match flights.join(key(of)) {
                        Joined::Leads(number) => there.push((of, number, None)),
                        Joined::Follows(number, words) => there.push((of, number, Some(words))),
                        Joined::Alone => unreachable!("they are few"),
                    }
                } else if !there.is_empty() {
                    let (of, number, _) = there.remove(usize::from(who) % there.len());
                    if let Left::Leads(next) = flights.leave(&key(of), number) {
                        prop_assert!(next.try_send(()).is_ok(), "it was told nothing before, and is there");
                    }
                }
                for of in 0..3 {
                    let mine: Vec<_> = there.iter().filter(|member| member.0 == of).collect();
                    let leads = |words: &Option<Receiver<()>>| words.as_ref().is_none_or(|words| !words.is_empty());
                    let leading = mine.iter().filter(|member| leads(&member.2)).count();
                    prop_assert_eq!(leading, usize::from(!mine.is_empty()));
                }
            }
            for (of, number, _) in there {
                flights.leave(&key(of), number);
            }
            prop_assert_eq!(flights.len(), (0, 0));
        }
    }
}
