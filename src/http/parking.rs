//! The connections that hold no thread: idle between requests, waiting for the rest of a head, or being closed.
//!
//! Nothing here locks or calls the system. A connection is in the table or it is somebody's: whoever takes it out owns it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use super::connection::Connection;
use crate::metrics::CountGuard;

/// The rank of those that give way first.
const DRAIN: u8 = 0;

/// What a parked connection waits for. In the order in which they give way to others when slots run short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// For the client to hear that the connection closes; so many bytes may still come, and are thrown away.
    Drain {
        /// How many.
        left: usize,
    },
    /// For the next request.
    Request,
    /// For the rest of a head.
    Head,
}

impl Wait {
    fn rank(self) -> u8 {
        match self {
            Self::Drain { .. } => DRAIN,
            Self::Request => DRAIN + 1,
            Self::Head => DRAIN + 2,
        }
    }
}

/// A parked connection.
#[derive(Debug)]
pub(super) struct Parked {
    /// The connection.
    pub(super) connection: Box<Connection>,
    /// What it waits for.
    pub(super) wait: Wait,
    /// Until when.
    pub(super) expiry: Instant,
    /// Counts it as idle.
    pub(super) _idle: Option<CountGuard>,
}

impl Parked {
    fn group(&self) -> Group {
        (self.connection.server().number(), self.wait.rank())
    }
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Parking {
    entries: HashMap<u64, Parked>,
    order: Order,
}

impl Parking {
    /// Puts a connection in.
    pub(super) fn insert(&mut self, parked: Parked) {
        let id = parked.connection.id();
        self.order.insert(parked.group(), parked.expiry, id);
        self.entries.insert(id, parked);
    }

    /// Takes the connection with this number out.
    pub(super) fn take(&mut self, id: u64) -> Option<Parked> {
        let parked = self.entries.remove(&id)?;
        self.order.remove(parked.group(), parked.expiry, id);
        Some(parked)
    }

    /// Takes out the connection of this server that gives way first; those being closed only if `drains`.
    pub(super) fn take_first(&mut self, server: u64, drains: bool) -> Option<Parked> {
        let id = self.order.first(server, if drains { DRAIN } else { DRAIN + 1 })?;
        self.take(id)
    }

    /// Takes out a connection whose time is over.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Parked> {
        let (expiry, id) = self.order.next()?;
        if expiry <= now { self.take(id) } else { None }
    }

    /// When the next connection's time is over.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.order.next().map(|(expiry, _)| expiry)
    }
}

/// Those that could give way to each other: of one server, and of one rank.
type Group = (u64, u8);

/// Who gives way first and whose time is over first, which is the same order within a group: what waits for the same has
/// the same time, so that the one whose time is over first has waited longest. A connection that is parked again without
/// having been answered in between is no younger for it.
#[derive(Debug, Default)]
struct Order(BTreeMap<Group, BTreeSet<(Instant, u64)>>);

impl Order {
    fn insert(&mut self, group: Group, expiry: Instant, id: u64) {
        self.0.entry(group).or_default().insert((expiry, id));
    }

    fn remove(&mut self, group: Group, expiry: Instant, id: u64) {
        let Some(members) = self.0.get_mut(&group) else { return };
        members.remove(&(expiry, id));
        if members.is_empty() {
            self.0.remove(&group);
        }
    }

    /// Who gives way first of this server's, from this rank on.
    fn first(&self, server: u64, least: u8) -> Option<u64> {
        let (_, members) = self.0.range((server, least)..=(server, u8::MAX)).next()?;
        members.first().map(|(_, id)| *id)
    }

    /// Whose time is over first, of all. There are a few groups, however many are parked.
    fn next(&self) -> Option<(Instant, u64)> {
        self.0.values().filter_map(BTreeSet::first).min().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::time::now;

    #[test]
    fn the_longest_idle_gives_way_first_whenever_it_was_parked_and_after_those_that_close() {
        let start = now();
        let at = |s: u64| start + Duration::from_secs(s);
        let (drain, request, head) = (Wait::Drain { left: 1 }.rank(), Wait::Request.rank(), Wait::Head.rank());
        let mut order = Order::default();
        for (group, expiry, id) in [
            ((1, head), at(1), 1),
            ((1, request), at(7), 2),
            ((1, request), at(5), 3),
            ((2, request), at(4), 4),
            ((1, request), at(5), 5),
            ((1, drain), at(9), 6),
        ] {
            order.insert(group, expiry, id);
        }
        assert_eq!((order.first(1, DRAIN), order.first(1, DRAIN + 1), order.first(3, DRAIN)), (Some(6), Some(3), None));
        assert_eq!(order.next(), Some((at(1), 1)));
        let mut gone = Vec::new();
        for (group, expiry, id) in [
            ((1, drain), at(9), 6),
            ((1, request), at(5), 3),
            ((1, request), at(5), 5),
            ((1, request), at(7), 2),
            ((1, head), at(1), 1),
        ] {
            gone.push(order.first(1, DRAIN));
            order.remove(group, expiry, id);
        }
        assert_eq!(gone, [6, 3, 5, 2, 1].map(Some));
        assert_eq!(
            (order.first(1, DRAIN), order.next()),
            (None, Some((at(4), 4))),
            "the other server's is still there"
        );
        order.remove((2, request), at(4), 4);
        assert!(order.0.is_empty() && order.next().is_none());
    }
}
