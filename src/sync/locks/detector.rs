//! Finds deadlocks among those who wait for locks, has one of them give way, and remembers the pattern.
//!
//! **Protocol.** A thread that has to wait enters itself, with what it wants and what it holds, and takes itself out when
//! the wait is over, however it ends. [`Detector::look`] makes the wait-for graph of what is entered; for each cycle it
//! chooses a victim (`graph`), sends it the [`Deadlock`], and counts it. The victim's wait ends with that error within a
//! slice. Each gateway's watchdog has a [`Detector`] and looks at its own interval: locks are the process's, so whoever
//! looks first ends the deadlock, and everybody is told of it once.
//!
//! **Invariants.** No false deadlock is told. What a waiter is entered as holding it really holds: its guards cannot leave
//! its thread, and its thread is in the wait until it has taken itself out, which needs the lock that the look holds. So of
//! two that hold what the other wants neither can have got it, and nothing in the picture is stale; the one exception, a
//! member whose time has just run out, was in a deadlock until then. That is why a cycle is not looked at twice.
//!
//! A deadlock is resolved when every wait that was part of it has ended. Leaves are infallible: who waits for one is watched
//! but never chosen.
//!
//! **Lock order.** The table's own lock and, under it, those of names and patterns are below every lock of the gateway.
//! Nothing is logged under them; what is sent under them, a verdict, goes into a slot that is empty and kept for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::class::LockClass;
use super::graph::{self, Waiter};
use super::held::{self, Hold, LockId, Site, Stamp, Taken};
use super::patterns;
use super::wait::{LockError, LockErrorKind};
use crate::metrics::Counter;
use crate::sync::threads::{self, State, StateGuard};

/// From when on a wait is told as lasting.
pub const LASTING: Duration = Duration::from_millis(500);

/// How many deadlocks are remembered for those who have not been told yet.
const REMEMBERED: usize = 64;

static TABLE: Mutex<Table> = Mutex::new(Table::new());
static WAITING: AtomicU64 = AtomicU64::new(0);
static DETECTED: Counter = Counter::new();
static RESOLVED: Counter = Counter::new();

struct Table {
    next: u64,
    waits: BTreeMap<u64, Entry>,
    /// For each deadlock that is not resolved the waits that it was made of.
    unresolved: Vec<BTreeSet<u64>>,
    deadlocks: VecDeque<Arc<Deadlock>>,
}

impl Table {
    const fn new() -> Self {
        Self { next: 0, waits: BTreeMap::new(), unresolved: Vec::new(), deadlocks: VecDeque::new() }
    }
}

struct Entry {
    thread: u32,
    class: &'static LockClass,
    id: LockId,
    site: Site,
    since: Instant,
    holds: Vec<Taken>,
    /// Who holds what is wanted, as last seen.
    holder: Arc<AtomicU32>,
    /// Where the victim's error is sent; none for one that cannot leave.
    verdict: Option<Sender<Arc<Deadlock>>>,
    /// Whether a cycle that it is in has been judged by it: it is about to leave, or nobody there can.
    judged: bool,
}

/// A deadlock that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlock {
    /// Counts the deadlocks of this process, from 1.
    number: u64,
    /// The pattern: which lock was held and which asked for by the one that gave way, `held -> wanted`.
    pub edge: String,
    /// Where the held one was taken.
    pub first_site: String,
    /// Where the wanted one was asked for.
    pub second_site: String,
    /// Every member: who, holding what, waits for what.
    pub members: Vec<String>,
    /// The thread whose wait was ended; none if nobody's could be.
    pub victim: Option<String>,
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deadlock: {}; ", self.members.join("; "))?;
        match &self.victim {
            Some(victim) => write!(f, "{victim} gives way"),
            None => f.write_str("nobody can give way"),
        }
    }
}

/// A wait that lasts: a lock that somebody holds for long.
#[derive(Clone, Debug)]
pub struct Lasting {
    /// The lock's name.
    pub lock: &'static str,
    /// The thread that holds it, as far as known.
    pub holder: Option<String>,
    /// The thread that waits.
    pub waiter: Option<String>,
    /// Where it asked for the lock.
    pub site: String,
    /// For how long it has waited.
    pub waited: Duration,
}

/// What a look found.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The deadlocks found since the last look of the same detector, by whomever.
    pub deadlocks: Vec<Arc<Deadlock>>,
    /// The longest of the waits for each lock's class that have lasted for [`LASTING`] or longer.
    pub lasting: Vec<Lasting>,
}

/// One who looks for deadlocks from time to time.
#[derive(Debug)]
pub struct Detector {
    /// How many deadlocks it has told of, or was not there to be told of.
    told: u64,
}

impl Detector {
    /// One that tells of what is found from now on.
    #[must_use]
    pub fn new() -> Self {
        Self { told: DETECTED.get() }
    }

    /// Ends each deadlock that there is at `now`, and tells of it.
    pub fn look(&mut self, now: Instant) -> Look {
        let mut table = TABLE.lock();
        let found = table.judge();
        let deadlocks: Vec<_> = table.deadlocks.iter().filter(|one| one.number > self.told).cloned().collect();
        let lasting = table.lasting(now);
        drop(table);
        self.told = deadlocks.last().map_or(self.told, |last| last.number);
        for deadlock in found {
            log::error!("{deadlock}");
        }
        Look { deadlocks, lasting }
    }
}

impl Default for Detector {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    /// Finds the cycles that were not found before, and has one member of each give way.
    fn judge(&mut self) -> Vec<Arc<Deadlock>> {
        let numbers: Vec<_> = self.waits.keys().copied().collect();
        let waiters: Vec<_> = self.waits.values().map(Entry::waiter).collect();
        let mut found = Vec::new();
        for cycle in graph::cycles(&waiters) {
            let members: Vec<_> = cycle.members.iter().map(|at| numbers[*at]).collect();
            let entries: Vec<_> = members.iter().map(|number| &self.waits[number]).collect();
            if entries.iter().any(|entry| entry.judged) {
                continue;
            }
            let holds = |place| graph::held_by(&waiters, &cycle.members, place);
            let guilty = cycle.victim.unwrap_or(0);
            DETECTED.inc();
            let deadlock = Arc::new(describe(DETECTED.get(), &entries, guilty, cycle.victim.is_some(), holds));
            if let Some((held, wanted)) = entries[guilty].held(holds(guilty)).zip(Some(entries[guilty])) {
                patterns::learn(held, (wanted.class, wanted.site));
            }
            if let Some(verdict) = cycle.victim.and_then(|place| entries[place].verdict.as_ref()) {
                // Its slot is empty: a wait is told once, and ends then.
                let _ = verdict.try_send(Arc::clone(&deadlock));
            }
            if let Some(judged) = self.waits.get_mut(&members[guilty]) {
                judged.judged = true;
            }
            self.unresolved.push(members.into_iter().collect());
            if self.deadlocks.len() == REMEMBERED {
                self.deadlocks.pop_front();
            }
            self.deadlocks.push_back(Arc::clone(&deadlock));
            found.push(deadlock);
        }
        found
    }

    fn lasting(&self, now: Instant) -> Vec<Lasting> {
        let mut told = BTreeSet::new();
        // Oldest first, so that the first of a class is the longest.
        let waits = self.waits.values().filter(|wait| now.saturating_duration_since(wait.since) >= LASTING);
        let lasting = waits.filter(|wait| told.insert(wait.class.name())).map(|wait| Lasting {
            lock: wait.class.name(),
            holder: held::name_of(wait.holder.load(Ordering::Relaxed)),
            waiter: held::name_of(wait.thread),
            site: wait.site.to_string(),
            waited: now.saturating_duration_since(wait.since),
        });
        lasting.collect()
    }

    /// Takes a wait out, and settles the deadlocks that it was the last wait of.
    fn leave(&mut self, number: u64) {
        self.waits.remove(&number);
        let before = self.unresolved.len();
        self.unresolved.retain_mut(|members| {
            members.remove(&number);
            !members.is_empty()
        });
        RESOLVED.add((before - self.unresolved.len()) as u64);
    }
}

impl Entry {
    fn waiter(&self) -> Waiter {
        Waiter {
            wants: self.id,
            rank: self.class.rank(),
            holds: self.holds.iter().map(|taken| (taken.id, taken.class.rank())).collect(),
            can_leave: self.verdict.is_some(),
        }
    }

    fn held(&self, id: LockId) -> Option<&Taken> {
        self.holds.iter().find(|taken| taken.id == id)
    }
}

fn describe(number: u64, entries: &[&Entry], guilty: usize, leaves: bool, holds: impl Fn(usize) -> LockId) -> Deadlock {
    let name = |entry: &Entry| held::name_of(entry.thread).unwrap_or_else(|| format!("thread {}", entry.thread));
    let held = |place: usize| entries[place].held(holds(place));
    let members = entries.iter().enumerate().map(|(place, entry)| {
        let (lock, since) =
            held(place).map_or(("a lock", String::new()), |held| (held.class.name(), format!(" since {}", held.site)));
        format!("{} holds {lock}{since} and waits for {} at {}", name(entry), entry.class.name(), entry.site)
    });
    let first = held(guilty);
    Deadlock {
        number,
        edge: first.map_or_else(String::new, |held| patterns::edge(held.class, entries[guilty].class)),
        first_site: first.map_or_else(String::new, |held| held.site.to_string()),
        second_site: entries[guilty].site.to_string(),
        members: members.collect(),
        victim: leaves.then(|| name(entries[guilty])),
    }
}

/// What a thread waits for.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) class: &'static LockClass,
    pub(super) id: LockId,
    pub(super) site: Site,
    pub(super) stamp: &'a Stamp,
    /// Whether its wait can be ended by an error.
    pub(super) can_leave: bool,
}

/// Counts a wait until dropped (I2).
#[derive(Debug)]
pub(super) struct Counted(());

impl Counted {
    pub(super) fn enter(class: &LockClass) -> Self {
        class.contended.inc();
        WAITING.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// Enters the wait with the detector, and shows it as the thread's state.
    pub(super) fn wait(self, wanted: Wanted<'_>, now: Instant) -> Waiting<'_> {
        let (verdict, told) = if wanted.can_leave { Some(bounded(1)).unzip() } else { (None, None) };
        let holder = Arc::new(AtomicU32::new(wanted.stamp.holder()));
        let entry = Entry {
            thread: held::mine(held::Mine::number),
            class: wanted.class,
            id: wanted.id,
            site: wanted.site,
            since: now,
            holds: held::ranked(<[Taken]>::to_vec),
            holder: Arc::clone(&holder),
            verdict,
            judged: false,
        };
        let hold = Hold::begin(wanted.stamp, now);
        let state = threads::enter(State::WaitingLock);
        let mut table = TABLE.lock();
        let number = table.next;
        table.next += 1;
        table.waits.insert(number, entry);
        drop(table);
        Waiting { number, told, holder, wanted, hold, _state: state, _counted: self }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A wait that the detector knows of, until dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    number: u64,
    told: Option<Receiver<Arc<Deadlock>>>,
    holder: Arc<AtomicU32>,
    wanted: Wanted<'a>,
    hold: Hold,
    _state: StateGuard,
    _counted: Counted,
}

impl Waiting<'_> {
    /// Looks at the lock's holder, whether the lock was just had or not; the deadlock, if this wait is to end one.
    pub(super) fn look(&mut self, now: Instant) -> Option<Arc<Deadlock>> {
        self.hold.look(self.wanted.stamp, now);
        self.holder.store(self.wanted.stamp.holder(), Ordering::Relaxed);
        self.told.as_ref().and_then(|told| told.try_recv().ok())
    }

    /// The channel on which this wait is told to end a deadlock; one on which nothing comes if it cannot be.
    pub(super) fn told(&self) -> Receiver<Arc<Deadlock>> {
        self.told.clone().unwrap_or_else(crossbeam_channel::never)
    }

    /// Ends the wait without the lock.
    pub(super) fn give_up(self, kind: LockErrorKind, waited: Duration) -> LockError {
        if kind == LockErrorKind::TimedOut {
            self.wanted.class.timed_out.inc();
        }
        LockError { lock: self.wanted.class.name(), holder: held::name_of(self.wanted.stamp.holder()), waited, kind }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        TABLE.lock().leave(self.number);
    }
}

/// How many threads wait for a lock.
pub(super) fn waiting() -> u64 {
    WAITING.load(Ordering::Relaxed)
}

/// How many deadlocks were found, and how many of them are over.
pub(super) fn deadlocks() -> (u64, u64) {
    let resolved = RESOLVED.get();
    (DETECTED.get(), resolved)
}

/// How many wait for one of these locks.
#[cfg(test)]
pub(super) fn waiting_for(ids: &[LockId]) -> usize {
    TABLE.lock().waits.values().filter(|entry| ids.contains(&entry.id)).count()
}
