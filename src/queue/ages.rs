//! Since when each job of a lane has waited: a ring beside the channel, whose own head cannot be looked at.
//!
//! **Protocol.** A push takes the next number and notes its job's time under it, and then sends the job, so numbers run in
//! the channel's order but for pushes that cross each other. The head's number is what was given out less what stands in
//! the channel. A push that has its number and has not sent yet makes the head look younger than it is, by one job and for
//! that moment, never older: an entry carries the lap it was written in, so last lap's is told from one not yet written.
//!
//! A push into a lane pays one addition to a counter of that lane and one plain store; one that is handed to an idle
//! worker pays nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The bits of an entry that hold its time, in nanoseconds: nine years.
const TIME_BITS: u32 = 58;

/// Where in an entry they are.
const TIME: u64 = (1 << TIME_BITS) - 1;

/// How many laps are told apart; an entry never written has lap 0.
const LAPS: u64 = (1 << (u64::BITS - TIME_BITS)) - 1;

/// The times of a lane's jobs.
pub(super) struct Ages {
    epoch: Instant,
    given: AtomicU64,
    ring: Box<[AtomicU64]>,
}

impl Ages {
    /// For a lane of `slots`; no job is older than `epoch`. The ring is as long as the next power of two, so that a number's
    /// place and lap cost no division.
    pub(super) fn new(slots: usize, epoch: Instant) -> Self {
        let length = slots.max(1).next_power_of_two();
        Self { epoch, given: AtomicU64::new(0), ring: (0..length).map(|_| AtomicU64::new(0)).collect() }
    }

    /// A job is about to be sent that has waited since `at`; `None` for one of which nobody knows.
    pub(super) fn note(&self, at: Option<Instant>) {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let Some(at) = at else { return };
        let nanos = at.saturating_duration_since(self.epoch).as_nanos() as u64 & TIME;
        self.slot(number).store(self.lap(number) << TIME_BITS | nanos, Ordering::Relaxed);
    }

    /// The job was not sent after all.
    pub(super) fn take_back(&self) {
        self.given.fetch_sub(1, Ordering::Relaxed);
    }

    /// Since when the first of the `standing` jobs has waited whose time is known.
    pub(super) fn head(&self, standing: usize) -> Option<Instant> {
        let given = self.given.load(Ordering::Relaxed);
        (given.saturating_sub(standing as u64)..given).find_map(|number| {
            let entry = self.slot(number).load(Ordering::Relaxed);
            (entry >> TIME_BITS == self.lap(number)).then(|| self.epoch + Duration::from_nanos(entry & TIME))
        })
    }

    fn slot(&self, number: u64) -> &AtomicU64 {
        // Less than the ring's length, which is a `usize`.
        &self.ring[(number & (self.ring.len() as u64 - 1)) as usize]
    }

    /// The lap that a number belongs to, from 1 on.
    fn lap(&self, number: u64) -> u64 {
        // LAPS is no power of two, but dividing by what the compiler knows is a multiplication.
        (number >> self.ring.len().trailing_zeros()) % LAPS + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::now;

    #[test]
    fn the_head_is_the_oldest_that_stands_over_many_laps() {
        let start = now();
        let ages = Ages::new(3, start);
        let at = |n: u64| start + Duration::from_millis(n);
        assert_eq!(ages.head(0), None);
        for number in 0..20 {
            ages.note(Some(at(number)));
            for standing in 1..=number.min(3) {
                assert_eq!(ages.head(standing as usize), Some(at(number + 1 - standing)), "{standing} at {number}");
            }
        }
    }

    #[test]
    fn one_not_yet_written_is_no_time_of_the_last_lap() {
        let start = now();
        let ages = Ages::new(2, start);
        ages.note(Some(start));
        ages.note(Some(start));
        ages.note(None);
        assert_eq!(ages.head(1), None, "the slot's old time would make the head look older than it is");
        ages.take_back();
        ages.note(Some(start + Duration::from_secs(1)));
        assert_eq!(ages.head(1), Some(start + Duration::from_secs(1)));
    }
}
