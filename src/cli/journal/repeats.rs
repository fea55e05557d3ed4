//! So many lines of one place in the program in a while: an outage must not fill a disk with one warning. Pure but for its
//! atomics; `now` is handed in.
//!
//! A place has its count to itself from its first line on. Where more places log than there are counts, those that come late
//! share one. No lock: a line may be logged from under any.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many lines of a place are written in a window.
pub(super) const MOST: u64 = 50;

/// How long a window is.
pub(super) const WINDOW_S: u64 = 10;

/// Several times those that the program and its libraries have.
const PLACES: usize = 512;

/// The bits of a word that count; above them stands the number of the window.
const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// The lines of one place.
struct Place {
    /// Which it is; 0 for none yet.
    key: AtomicU64,
    /// Those in its present window.
    word: AtomicU64,
}

/// The lines of each place in its present window.
pub(super) struct Repeats {
    places: [Place; PLACES],
    left_out: AtomicU64,
}

impl Repeats {
    pub(super) const fn new() -> Self {
        let places = [const { Place { key: AtomicU64::new(0), word: AtomicU64::new(0) } }; PLACES];
        Self { places, left_out: AtomicU64::new(0) }
    }

    /// The count of the place with this key, which is not 0: the first that is its own, or nobody's yet, from where the key
    /// says. A shared one if all are others'.
    fn place(&self, key: u64) -> Option<&AtomicU64> {
        let (before, from) = self.places.split_at(key as usize % PLACES);
        let is_its_own = |place: &&Place| {
            let taken = place.key.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed);
            taken.is_ok() || taken == Err(key)
        };
        from.iter().chain(before).find(is_its_own).or(from.first()).map(|place| &place.word)
    }

    /// Whether a line of this place is written.
    pub(super) fn admit(&self, target: &str, line: u32, now_us: u64) -> bool {
        // FNV-1a: a few dozen bytes, and nothing that a stranger chooses.
        let hash = target
            .bytes()
            .chain(line.to_le_bytes())
            .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
        let window = window(now_us);
        let Some(place) = self.place(hash.max(1)) else { return true };
        let before = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let count = if word >> COUNT_BITS == window { word & COUNT } else { 0 };
            Some(window << COUNT_BITS | (count + 1).min(COUNT))
        });
        let before = before.unwrap_or_default();
        if before >> COUNT_BITS == window {
            return before & COUNT < MOST;
        }
        self.note(before);
        true
    }

    /// How many lines were left out in windows that are over and have not been told of.
    pub(super) fn left_out(&self, now_us: u64) -> u64 {
        let window = window(now_us);
        for Place { word: place, .. } in &self.places {
            let word = place.load(Ordering::Relaxed);
            if word >> COUNT_BITS != window
                && word & COUNT > MOST
                && place.compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            {
                self.note(word);
            }
        }
        self.left_out.swap(0, Ordering::Relaxed)
    }

    fn note(&self, over: u64) {
        self.left_out.fetch_add((over & COUNT).saturating_sub(MOST), Ordering::Relaxed);
    }
}

/// The number of a window, from 1 so that a word of zeros is of none.
fn window(now_us: u64) -> u64 {
    now_us / (WINDOW_S * 1_000_000) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_so_many_lines_in_a_window_and_what_is_more_is_counted_once() {
        let (repeats, second) = (Repeats::new(), 1_000_000);
        let storm = |line, at| (0..500).filter(|_| repeats.admit("sluicegate::a", line, at)).count() as u64;
        assert_eq!((storm(7, second), storm(8, second)), (MOST, MOST), "each place for itself");
        assert_eq!(repeats.left_out(2 * second), 0, "the window is not over");
        assert_eq!(storm(7, 11 * second), MOST, "the next one");
        assert_eq!(repeats.left_out(11 * second), 900);
        assert_eq!((repeats.left_out(21 * second), repeats.left_out(21 * second)), (450, 0));
        assert!((0..MOST).all(|_| repeats.admit("sluicegate::a", 7, 30 * second)));
        assert_eq!(repeats.left_out(90 * second), 0, "nothing was left out");
    }

    #[test]
    fn no_two_places_share_a_bound_until_there_are_more_than_counts() {
        let (repeats, places) = (Repeats::new(), PLACES as u32);
        let storm = |line| (0..2 * MOST).filter(|_| repeats.admit("sluicegate::a", line, 1)).count() as u64;
        assert!((0..places).all(|line| storm(line) == MOST), "each for itself");
        assert!((0..places).all(|line| storm(line) == 0), "and found again");
        assert_eq!(storm(places), 0, "one more is bounded, too");
    }
}
