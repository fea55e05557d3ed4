//! What deadlocks have taught: which order of two classes came to one, and how often; seen twice, it is refused.
//!
//! **Protocol.** A pattern is an edge, from what the victim held to what it asked for: of a cycle that is the request that
//! goes against the order of ranks, so the right order is never learned. From the second deadlock on, a thread that holds
//! the one and asks for the other is refused at once, before it waits, whether the lock is free or not; who asks is told
//! by [`LockErrorKind::Refused`]. A pattern lasts as long as the process.
//!
//! **Invariants.** I4: at most [`MOST_PATTERNS`] are kept; a further one is still found and resolved each time.

use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::class::LockClass;
use super::held::{self, LockId, Site, Taken};
use super::order::{Asked, Matrix};
use super::wait::{LockError, LockErrorKind};

/// The most patterns that are kept.
pub const MOST_PATTERNS: usize = 64;

/// How often a pattern is seen before it is refused.
const REFUSED_AFTER: u64 = 2;

static REFUSED: Matrix = Matrix::new();
static PATTERNS: Mutex<Vec<Learned>> = Mutex::new(Vec::new());

struct Learned {
    held: (&'static LockClass, Site),
    wanted: (&'static LockClass, Site),
    count: u64,
}

/// An order of two classes of locks that has come to a deadlock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pattern {
    /// `held -> wanted`, by the classes' names.
    pub edge: String,
    /// How many deadlocks it came to.
    pub count: u64,
    /// Where the held one was taken, the first time.
    pub first_site: String,
    /// Where the wanted one was asked for, the first time.
    pub second_site: String,
}

/// Every pattern that is kept.
pub(super) fn list() -> Vec<Pattern> {
    let patterns = PATTERNS.lock();
    let told = patterns.iter().map(|Learned { held, wanted, count }| Pattern {
        edge: edge(held.0, wanted.0),
        count: *count,
        first_site: held.1.to_string(),
        second_site: wanted.1.to_string(),
    });
    told.collect()
}

/// An edge in words.
pub(super) fn edge(held: &LockClass, wanted: &LockClass) -> String {
    format!("{} -> {}", held.name(), wanted.name())
}

/// Notes that holding the one and asking for the other came to a deadlock.
pub(super) fn learn(held: &Taken, wanted: (&'static LockClass, Site)) {
    if held.class.rank() < wanted.0.rank() {
        // The right order, in a cycle none of whose members that go against it can give way: to refuse it would hurt the
        // innocent.
        return;
    }
    let mut patterns = PATTERNS.lock();
    let known = patterns
        .iter()
        .position(|known| std::ptr::eq(known.held.0, held.class) && std::ptr::eq(known.wanted.0, wanted.0));
    let Some(at) = known.or_else(|| {
        let room = patterns.len() < MOST_PATTERNS;
        room.then(|| patterns.push(Learned { held: (held.class, held.site), wanted, count: 0 }));
        room.then(|| patterns.len() - 1)
    }) else {
        return;
    };
    patterns[at].count += 1;
    if patterns[at].count >= REFUSED_AFTER {
        REFUSED.add(held.class, wanted.0);
    }
}

/// Refuses what has come to a deadlock too often, given what the thread holds.
///
/// # Errors
/// If it is so, with the pattern's edge.
pub(super) fn check(class: &'static LockClass, id: LockId, asked: Asked) -> Result<(), LockError> {
    let contrary = |held: &&Taken| {
        let sorted = asked == Asked::Sorted && std::ptr::eq(held.class, class) && held.id < id;
        REFUSED.has(held.class, class) && !sorted
    };
    let Some(held) = held::ranked(|held| held.iter().find(contrary).copied()) else { return Ok(()) };
    let kind = LockErrorKind::Refused(edge(held.class, class));
    Err(LockError { lock: class.name(), holder: None, waited: Duration::ZERO, kind })
}

/// Unlearns an edge, so that a test can come to the same deadlock again and again.
#[cfg(test)]
pub(super) fn forget(held: &'static LockClass, wanted: &'static LockClass) {
    PATTERNS.lock().retain(|known| !(std::ptr::eq(known.held.0, held) && std::ptr::eq(known.wanted.0, wanted)));
    REFUSED.clear(held, wanted);
}
