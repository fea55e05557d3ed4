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

/// A connection's place among those that could give way: by server, by what it waits for, by how long it is parked.
type Place = (u64, u8, u64);

/// The table.
#[derive(Debug, Default)]
pub(super) struct Parking {
    entries: HashMap<u64, (Parked, Place)>,
    places: BTreeMap<Place, u64>,
    expiries: BTreeSet<(Instant, u64)>,
    parked: u64,
}

impl Parking {
    /// Puts a connection in.
    pub(super) fn insert(&mut self, parked: Parked) {
        self.parked += 1;
        let (id, server) = (parked.connection.id(), parked.connection.server().number());
        let place = (server, parked.wait.rank(), self.parked);
        self.places.insert(place, id);
        self.expiries.insert((parked.expiry, id));
        self.entries.insert(id, (parked, place));
    }

    /// Takes the connection with this number out.
    pub(super) fn take(&mut self, id: u64) -> Option<Parked> {
        let (parked, place) = self.entries.remove(&id)?;
        self.places.remove(&place);
        self.expiries.remove(&(parked.expiry, id));
        Some(parked)
    }

    /// Takes out the connection of this server that gives way first; those being closed only if `drains`.
    pub(super) fn take_first(&mut self, server: u64, drains: bool) -> Option<Parked> {
        let least = if drains { DRAIN } else { DRAIN + 1 };
        let (_, id) = self.places.range((server, least, 0)..=(server, u8::MAX, u64::MAX)).next()?;
        self.take(*id)
    }

    /// Takes out a connection whose time is over.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Parked> {
        let (expiry, id) = *self.expiries.first()?;
        if expiry <= now { self.take(id) } else { None }
    }

    /// When the next connection's time is over.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(expiry, _)| *expiry)
    }
}
