//! The order of locks: what is checked before one is taken, which orders were seen, and what a violation says.
//!
//! **Protocol.** A thread that holds nothing is through after one look at its own book. Else each held lock's class and the
//! wanted one's make an edge, outer to inner: checked by rank, looked up in a matrix of bits, and entered with both sites
//! the first time it is seen, so that an edge costs nothing from then on.
//!
//! **Invariants.** I6. The edges that were entered have no cycle: ranks forbid it, and between classes of one rank the edge
//! that would close one is a violation. What a violation did is not entered.
//!
//! **Panics.** A violation panics where assertions are on. Elsewhere it is counted, and logged once an edge (I4).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::class::{LockClass, MOST_CLASSES, classes};
use super::held::{self, LockId, Site, Taken};
use crate::metrics::Counter;

/// A bit for each ordered pair of classes.
#[derive(Debug)]
pub(super) struct Matrix([AtomicU64; MOST_CLASSES]);

impl Matrix {
    pub(super) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; MOST_CLASSES])
    }

    pub(super) fn has(&self, outer: &LockClass, inner: &LockClass) -> bool {
        self.row(outer.number()) & (1 << inner.number()) != 0
    }

    /// Sets the pair's bit; `true` if it was not set.
    pub(super) fn add(&self, outer: &LockClass, inner: &LockClass) -> bool {
        let bit = 1 << inner.number();
        self.0[outer.number()].fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    #[cfg(test)]
    pub(super) fn clear(&self, outer: &LockClass, inner: &LockClass) {
        self.0[outer.number()].fetch_and(!(1 << inner.number()), Ordering::Relaxed);
    }

    fn row(&self, class: usize) -> u64 {
        self.0[class].load(Ordering::Relaxed)
    }

    /// Whether a chain of pairs leads from one class to another.
    fn leads(&self, from: &LockClass, to: &LockClass) -> bool {
        let (mut reached, mut looked) = (self.row(from.number()), 0u64);
        while reached & !looked != 0 {
            let next = (reached & !looked).trailing_zeros() as usize;
            looked |= 1 << next;
            reached |= self.row(next);
        }
        reached & (1 << to.number()) != 0
    }
}

static SEEN: Matrix = Matrix::new();
static EDGES: Mutex<BTreeMap<(usize, usize), (Site, Site)>> = Mutex::new(BTreeMap::new());
static VIOLATIONS: Counter = Counter::new();
static LOGGED: Matrix = Matrix::new();

/// An order in which two classes of locks were taken, and where it was seen first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The name of the class that was held.
    pub outer: &'static str,
    /// The name of the class that was taken under it.
    pub inner: &'static str,
    /// Where the outer one was taken.
    pub outer_site: String,
    /// Where the inner one was.
    pub inner_site: String,
}

/// Every order that was seen in this process.
#[must_use]
pub fn edges() -> Vec<Edge> {
    let edges = EDGES.lock();
    let named = edges.iter().map(|((outer, inner), sites)| Edge {
        outer: classes::ALL[*outer].name(),
        inner: classes::ALL[*inner].name(),
        outer_site: sites.0.to_string(),
        inner_site: sites.1.to_string(),
    });
    named.collect()
}

/// How many violations there were.
pub(super) fn violations() -> u64 {
    VIOLATIONS.get()
}

/// How a lock is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Alone: no other of its class may be held.
    Alone,
    /// As one of several, sorted: others of its class may be held whose addresses are lower.
    Sorted,
}

/// Checks what is asked for against what the thread holds, and enters the orders that are new.
#[cold]
pub(super) fn check(class: &'static LockClass, id: LockId, site: Site, asked: Asked) {
    if held::mine(held::Mine::is_unordered) {
        return;
    }
    let under_leaf = held::mine(held::Mine::leaf).map(|(held, at)| (held, at, "nothing is locked under a leaf"));
    let wrong = under_leaf.or_else(|| {
        held::ranked(|held| {
            held.iter().find_map(|held| objection(held, class, id, site, asked).map(|why| (held.class, held.site, why)))
        })
    });
    if let Some((held, held_site, why)) = wrong {
        violation((held, held_site), (class, site), why);
    }
}

/// What is wrong with taking a lock of `class` under `held`; enters the edge if nothing is.
fn objection(held: &Taken, class: &'static LockClass, id: LockId, site: Site, asked: Asked) -> Option<&'static str> {
    if held.class.rank() > class.rank() {
        Some("smaller ranks are taken first")
    } else if std::ptr::eq(held.class, class) && (asked == Asked::Alone || held.id >= id) {
        Some("several of one class are taken together or not at all")
    } else if SEEN.has(held.class, class) || enter(held, class, site) {
        None
    } else {
        Some("the other order was seen before, and both would close a cycle")
    }
}

/// Enters an edge that was not seen before; `false` if it would close a cycle. Under a lock, so that of two that would
/// close one together the second finds the first.
fn enter(outer: &Taken, inner: &'static LockClass, site: Site) -> bool {
    let mut edges = EDGES.lock();
    if !std::ptr::eq(outer.class, inner) && SEEN.leads(inner, outer.class) {
        return false;
    }
    if SEEN.add(outer.class, inner) {
        edges.insert((outer.class.number(), inner.number()), (outer.site, site));
    }
    true
}

fn violation(held: (&LockClass, Site), wanted: (&LockClass, Site), why: &str) {
    VIOLATIONS.inc();
    let text = format!(
        "lock order: {} (rank {}) asked for at {} while {} (rank {}) is held since {}: {why}",
        wanted.0.name(),
        wanted.0.rank(),
        wanted.1,
        held.0.name(),
        held.0.rank(),
        held.1,
    );
    if LOGGED.add(held.0, wanted.0) {
        log::error!("{text}");
    }
    if cfg!(debug_assertions) && !std::thread::panicking() {
        panic!("{text}");
    }
}
