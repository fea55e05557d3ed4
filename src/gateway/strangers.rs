//! Failed keys, counted by address: how often an address may fail before it is told to come again later.
//!
//! **What the limit is for.** A key is judged whatever its address did before, so that nobody locks out others behind the
//! same address; a right key never meets this module. What is limited is what a failure may cost: past the limit its
//! answer is the same 401 with a `Retry-After`, after which the connection closes, so that each further guess pays for a
//! connection of its own, and of a flood the operator is told once per address and window, a few addresses at most. It is
//! no defence of a key that can be guessed: keys should be long and random.
//!
//! **Invariants.** I4: so many addresses are known at a time, and the one that came first goes for a new one; so many events
//! are told in a window. I10: of a failed key nothing is kept or told.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::events::Events;
use crate::sync::locks::{Leaf, classes};

/// How long failures of an address are added up.
const WINDOW: Duration = Duration::from_secs(60);

/// The failures of an address that are answered without more ado, in each window.
const MOST_FAILURES: u32 = 60;

/// The most addresses that are known at a time.
const MOST_ADDRESSES: usize = 4096;

/// The most addresses that the operator is told of, in each window: the events are few, and others need them, too.
const MOST_TOLD: u32 = 8;

/// Failed keys of both planes of one gateway. Cheap to clone.
#[derive(Clone)]
pub struct Strangers(Arc<Inner>);

struct Inner {
    ledger: Leaf<Ledger>,
    events: Events,
}

impl Strangers {
    pub(super) fn new(events: Events) -> Self {
        Self(Arc::new(Inner { ledger: Leaf::new(&classes::STRANGERS, Ledger::default()), events }))
    }

    /// Counts a failure of `address` at `now`. Beyond the limit it says how long to wait; the answer is the same 401.
    pub fn failed(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let block = Block::of(address);
        let (wait, tell) = self.0.ledger.lock().fail(block, now);
        match tell {
            Tell::Nothing => {}
            Tell::This => self.tell(&block.to_string(), "it"),
            Tell::Last => self.tell(&block.to_string(), "it, and perhaps others that are not told of for a minute,"),
        }
        wait
    }

    fn tell(&self, subject: &str, who: &str) {
        let seconds = WINDOW.as_secs();
        let message = format!("{who} sent more than {MOST_FAILURES} missing or wrong keys within {seconds} s");
        log::warn!("unauthorized ({subject}): {message}");
        self.0.events.push("unauthorized", subject, message);
    }
}

impl fmt::Debug for Strangers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Strangers")
    }
}

/// What counts as one address: a v4 address, or the /64 of a v6 address, within which a host has as many as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Block(IpAddr);

impl Block {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0, if self.0.is_ipv6() { "/64" } else { "" })
    }
}

/// Whom to tell the operator of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tell {
    Nothing,
    /// This address.
    This,
    /// This address, and no further one until the window is over.
    Last,
}

/// The count of a window.
#[derive(Clone, Copy, Debug)]
struct Count {
    began: Instant,
    number: u32,
}

impl Count {
    fn is_over(self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= WINDOW
    }
}

/// The failures of a window, by address. Pure. `order` has each known address once, by when its window began.
#[derive(Debug, Default)]
struct Ledger {
    known: HashMap<Block, Count>,
    order: VecDeque<Block>,
    told: Option<Count>,
}

impl Ledger {
    fn fail(&mut self, block: Block, now: Instant) -> (Option<Duration>, Tell) {
        while let Some(first) = self.order.front()
            && self.known.get(first).is_none_or(|count| count.is_over(now))
        {
            self.forget_first();
        }
        if !self.known.contains_key(&block) {
            if self.known.len() == MOST_ADDRESSES {
                self.forget_first();
            }
            self.order.push_back(block);
        }
        let count = self.known.entry(block).or_insert(Count { began: now, number: 0 });
        count.number = count.number.saturating_add(1);
        let Count { began, number } = *count;
        if number <= MOST_FAILURES {
            return (None, Tell::Nothing);
        }
        let left = WINDOW.saturating_sub(now.saturating_duration_since(began)).max(Duration::from_secs(1));
        (Some(left), if number == MOST_FAILURES + 1 { self.tell(now) } else { Tell::Nothing })
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.order.pop_front() {
            self.known.remove(&first);
        }
    }

    fn tell(&mut self, now: Instant) -> Tell {
        let told = self.told.filter(|told| !told.is_over(now)).unwrap_or(Count { began: now, number: 0 });
        self.told = Some(Count { number: (told.number + 1).min(MOST_TOLD + 1), ..told });
        match told.number + 1 {
            ..MOST_TOLD => Tell::This,
            MOST_TOLD => Tell::Last,
            _ => Tell::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::now;

    fn block(text: &str) -> Block {
        Block::of(text.parse().expect("an address"))
    }

    fn numbered(number: u32) -> Block {
        Block::of(IpAddr::V4(number.into()))
    }

    #[test]
    fn past_the_limit_an_address_is_told_when_to_come_again_until_its_window_is_over() {
        let (mut ledger, start) = (Ledger::default(), now());
        let (one, other) = (block("192.0.2.1"), block("192.0.2.2"));
        for _ in 0..MOST_FAILURES {
            assert_eq!(ledger.fail(one, start), (None, Tell::Nothing));
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(ledger.fail(one, later), (Some(Duration::from_secs(40)), Tell::This));
        assert_eq!(ledger.fail(one, later), (Some(Duration::from_secs(40)), Tell::Nothing), "told once");
        let end = start + WINDOW - Duration::from_millis(1);
        assert_eq!(ledger.fail(one, end).0, Some(Duration::from_secs(1)), "at least a second");
        assert_eq!(ledger.fail(other, later), (None, Tell::Nothing), "another's failures are its own");
        assert_eq!(ledger.fail(one, start + WINDOW), (None, Tell::Nothing), "a new window");
    }

    #[test]
    fn so_many_addresses_are_known_and_the_first_goes_for_a_new_one() {
        let (mut ledger, start) = (Ledger::default(), now());
        for number in 0..3 * MOST_ADDRESSES as u32 {
            ledger.fail(numbered(number), start + Duration::from_micros(number.into()));
            assert!(ledger.known.len() <= MOST_ADDRESSES && ledger.known.len() == ledger.order.len());
        }
        assert_eq!(ledger.known.len(), MOST_ADDRESSES);
        let kept = |number: u32| ledger.known.contains_key(&numbered(number));
        assert!(!kept(2 * MOST_ADDRESSES as u32 - 1) && kept(2 * MOST_ADDRESSES as u32));
        ledger.fail(numbered(1), start + 2 * WINDOW);
        assert_eq!((ledger.known.len(), ledger.order.len()), (1, 1), "windows that are over are forgotten");
    }

    #[test]
    fn a_host_is_one_address_however_many_of_its_network_it_uses() {
        assert_eq!(block("2001:db8::1"), block("2001:db8::ffff:1"));
        assert_ne!(block("2001:db8::1"), block("2001:db8:0:1::1"));
        assert_eq!(block("::ffff:192.0.2.1"), block("192.0.2.1"));
        assert_eq!(
            (block("2001:db8::1").to_string(), block("192.0.2.1").to_string()),
            ("2001:db8::/64".into(), "192.0.2.1".into())
        );
    }

    #[test]
    fn a_flood_from_everywhere_is_told_of_a_few_times_in_a_window() {
        let (strangers, events, start) = {
            let events = Events::new();
            (Strangers::new(events.clone()), events, now())
        };
        let flood = |at: Instant| {
            for host in 0..100u8 {
                for _ in 0..=MOST_FAILURES {
                    strangers.failed(IpAddr::from([192, 0, 2, host]), at);
                }
            }
        };
        flood(start);
        let told = events.list();
        assert_eq!(told.len(), MOST_TOLD as usize);
        assert!(told.iter().all(|event| event.kind == "unauthorized"));
        assert!(told[7].message.contains("others") && !told[6].message.contains("others"));
        flood(start + WINDOW);
        assert_eq!(events.list().len(), 2 * MOST_TOLD as usize);
    }
}
