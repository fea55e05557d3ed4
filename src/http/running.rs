//! The requests under way whose clients are, or will be, watched: a slab with a list of those not registered yet.
//!
//! Nothing here locks or calls the system. An entry is put in when a request asks to be watched and taken out when it is
//! answered; between the two it costs nothing, unless it stays past its time and the watcher's tick registers it. The list
//! is in the order in which the entries fall due, so that a tick looks only at those that are.

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::CancelToken;

/// No entry: the end of the list.
const NONE: u32 = u32::MAX;

/// How long the table goes on asking for ticks after the last entry came: waking the watcher is a system call, which a
/// client that comes back at once should not pay for each time.
const STAYS_AWAKE: Duration = Duration::from_secs(1);

/// Whose client is watched, and what is cancelled when it leaves.
#[derive(Debug)]
pub(super) struct Watched {
    /// The connection's number.
    pub(super) connection: u64,
    /// Its socket.
    pub(super) socket: Arc<TcpStream>,
    /// The request's token.
    pub(super) token: CancelToken,
    /// When to register it.
    pub(super) due: Instant,
}

#[derive(Debug)]
struct Slot {
    watched: Option<Watched>,
    registered: bool,
    before: u32,
    after: u32,
}

/// The table.
#[derive(Debug)]
pub(super) struct Running {
    slots: Vec<Slot>,
    free: Vec<u32>,
    first: u32,
    last: u32,
    registered: HashMap<u64, u32>,
    came: bool,
    came_at: Option<Instant>,
}

impl Running {
    /// A table with nothing in it.
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            first: NONE,
            last: NONE,
            registered: HashMap::new(),
            came: false,
            came_at: None,
        }
    }

    /// Puts an entry in. Gives its key, and whether the watcher must be woken because it sleeps without ticking.
    pub(super) fn insert(&mut self, watched: Watched) -> (u32, bool) {
        let due = watched.due;
        let slot = Slot { watched: Some(watched), registered: false, before: NONE, after: NONE };
        let key = match self.free.pop() {
            Some(key) => {
                self.slots[key as usize] = slot;
                key
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        if self.due(self.first).is_none_or(|first| due < first) {
            self.link_first(key)
        } else {
            self.link_last(key)
        }
        let asleep = self.came_at.is_none() && !self.came;
        self.came = true;
        (key, asleep)
    }

    /// Takes an entry out; from here on nothing can cancel it. The caller drops it after the lock.
    pub(super) fn remove(&mut self, key: u32) -> Option<Watched> {
        let slot = self.slots.get_mut(key as usize)?;
        let watched = slot.watched.take()?;
        if slot.registered {
            self.registered.remove(&watched.connection);
        } else {
            self.unlink(key);
        }
        self.free.push(key);
        Some(watched)
    }

    /// Has an entry fall due at once.
    pub(super) fn hurry(&mut self, key: u32, now: Instant) {
        let Some(slot) = self.slots.get_mut(key as usize) else { return };
        if let (Some(watched), false) = (&mut slot.watched, slot.registered) {
            watched.due = watched.due.min(now);
            self.unlink(key);
            self.link_first(key);
        }
    }

    /// The next entry that is due at `now`, marked as registered: the caller registers it before it unlocks.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<&Watched> {
        let key = self.first;
        if self.due(key)? > now {
            return None;
        }
        self.unlink(key);
        let slot = self.slots.get_mut(key as usize)?;
        slot.registered = true;
        let watched = slot.watched.as_ref()?;
        self.registered.insert(watched.connection, key);
        Some(watched)
    }

    /// The registered request on this connection.
    pub(super) fn registered(&self, connection: u64) -> Option<&Watched> {
        self.slots.get(*self.registered.get(&connection)? as usize)?.watched.as_ref()
    }

    /// Whether the watcher should go on ticking: an entry waits to fall due, or the last one came a short while ago.
    pub(super) fn wants_tick(&mut self, now: Instant) -> bool {
        if std::mem::take(&mut self.came) || self.first != NONE {
            self.came_at = Some(now);
        } else if self.came_at.is_some_and(|at| now.saturating_duration_since(at) > STAYS_AWAKE) {
            self.came_at = None;
        }
        self.came_at.is_some()
    }

    fn due(&self, key: u32) -> Option<Instant> {
        self.slots.get(key as usize)?.watched.as_ref().map(|watched| watched.due)
    }

    fn link_first(&mut self, key: u32) {
        let second = std::mem::replace(&mut self.first, key);
        self.slots[key as usize].after = second;
        match self.slots.get_mut(second as usize) {
            Some(second) => second.before = key,
            None => self.last = key,
        }
    }

    fn link_last(&mut self, key: u32) {
        let before = std::mem::replace(&mut self.last, key);
        self.slots[key as usize].before = before;
        match self.slots.get_mut(before as usize) {
            Some(before) => before.after = key,
            None => self.first = key,
        }
    }

    fn unlink(&mut self, key: u32) {
        let slot = &mut self.slots[key as usize];
        let (before, after) = (std::mem::replace(&mut slot.before, NONE), std::mem::replace(&mut slot.after, NONE));
        match self.slots.get_mut(before as usize) {
            Some(before) => before.after = after,
            None => self.first = after,
        }
        match self.slots.get_mut(after as usize) {
            Some(after) => after.before = before,
            None => self.last = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use proptest::prelude::*;

    use super::*;
    use crate::time::now;

    fn socket() -> Arc<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Arc::new(TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens"))
    }

    fn entry(socket: &Arc<TcpStream>, connection: u64, due: Instant) -> Watched {
        Watched { connection, socket: Arc::clone(socket), token: CancelToken::new(), due }
    }

    #[test]
    fn only_what_is_due_is_registered_and_only_what_is_registered_is_found() {
        let (socket, start) = (socket(), now());
        let mut running = Running::new();
        let (early, asleep) = running.insert(entry(&socket, 1, start));
        assert!(asleep, "the first one wakes the watcher");
        let (late, asleep) = running.insert(entry(&socket, 2, start + Duration::from_millis(50)));
        assert!(!asleep);
        assert_eq!(running.next_due(start).map(|w| w.connection), Some(1));
        assert!(running.next_due(start).is_none());
        assert!(running.registered(1).is_some() && running.registered(2).is_none());
        running.hurry(late, start);
        assert_eq!(running.next_due(start).map(|w| w.connection), Some(2));
        assert!(running.remove(early).is_some() && running.remove(early).is_none());
        assert!(running.registered(1).is_none(), "a late event finds nothing");
    }

    #[test]
    fn ticks_go_on_a_while_after_the_last_entry_and_no_longer() {
        let (socket, start) = (socket(), now());
        let mut running = Running::new();
        assert!(!running.wants_tick(start));
        let (key, _) = running.insert(entry(&socket, 1, start));
        running.remove(key);
        assert!(running.wants_tick(start));
        let (key, asleep) = running.insert(entry(&socket, 1, start));
        assert!(!asleep, "it ticks still");
        running.remove(key);
        assert!(running.wants_tick(start + STAYS_AWAKE));
        assert!(!running.wants_tick(start + STAYS_AWAKE * 3));
        assert!(running.insert(entry(&socket, 1, start)).1);
    }

    proptest! {
        #[test]
        fn every_entry_is_registered_once_or_removed(steps in proptest::collection::vec((0u8..4, 0u64..40), 1..120)) {
            let (socket, start) = (socket(), now());
            let at = |ms: u64| start + Duration::from_millis(ms);
            let mut running = Running::new();
            let mut waiting: HashMap<u64, u32> = HashMap::new();
            let mut next = 0;
            for (what, ms) in steps {
                match what {
                    0 | 1 => {
                        waiting.insert(next, running.insert(entry(&socket, next, at(ms))).0);
                        next += 1;
                    }
                    2 => {
                        if let Some((connection, key)) = waiting.iter().next().map(|(c, k)| (*c, *k)) {
                            waiting.remove(&connection);
                            prop_assert_eq!(running.remove(key).map(|w| w.connection), Some(connection));
                        }
                    }
                    _ => while let Some(due) = running.next_due(at(ms)).map(|w| w.connection) {
                        prop_assert!(waiting.remove(&due).is_some(), "{} was due twice", due);
                    },
                }
            }
            while let Some(due) = running.next_due(at(100)).map(|w| w.connection) {
                prop_assert!(waiting.remove(&due).is_some());
            }
            prop_assert!(waiting.is_empty(), "never due: {:?}", waiting);
        }
    }
}
