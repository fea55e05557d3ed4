//! How many retries a provider is worth: a fifth of its traffic and ten a second, so that retries never become a storm.
//!
//! Source: the retry budget of linkerd and Finagle, a token bucket that first tries fill and retries empty. Pure: `now` and
//! the count of first tries are handed in; the count is one that is kept anyway, so a first try pays nothing.

use std::time::Instant;

use crate::sync::locks::{Leaf, classes};

/// What each first try adds.
const PER_REQUEST: f64 = 0.2;

/// What each second adds.
const PER_SECOND: f64 = 10.0;

/// The most that is saved up: ten seconds of the floor.
const MOST: f64 = 100.0;

/// A provider's retries that may still be made.
#[derive(Debug)]
pub(crate) struct RetryBudget(Leaf<State>);

#[derive(Debug)]
struct State {
    left: f64,
    at: Instant,
    firsts: u64,
}

impl RetryBudget {
    /// A budget that begins with one second of the floor.
    pub(crate) fn new(now: Instant) -> Self {
        Self(Leaf::new(&classes::RETRY_BUDGET, State { left: PER_SECOND, at: now, firsts: 0 }))
    }

    /// Takes one retry, if there is one left; `firsts` is how many first tries there have been in all.
    pub(crate) fn take(&self, now: Instant, firsts: u64) -> bool {
        let mut state = self.0.lock();
        let since = now.saturating_duration_since(state.at).as_secs_f64();
        let new = firsts.saturating_sub(state.firsts) as f64;
        state.left = (state.left + since * PER_SECOND + new * PER_REQUEST).min(MOST);
        state.at = state.at.max(now);
        state.firsts = state.firsts.max(firsts);
        let granted = state.left >= 1.0;
        if granted {
            state.left -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_grants_ten_a_second_and_a_fifth_of_the_traffic() {
        let start = crate::time::now();
        let budget = RetryBudget::new(start);
        let granted = |now, firsts| (0..1000).filter(|_| budget.take(now, firsts)).count();
        assert_eq!(granted(start, 0), 10, "the first second's");
        assert_eq!(granted(start, 0), 0);
        assert_eq!(granted(start + Duration::from_secs(1), 0), 10);
        assert_eq!(granted(start + Duration::from_secs(1), 200), 40);
        assert_eq!(granted(start + Duration::from_secs(3), 300), 40);
    }

    #[test]
    fn what_is_saved_up_is_bounded_and_a_clock_that_stands_gives_nothing() {
        let start = crate::time::now();
        let budget = RetryBudget::new(start + Duration::from_secs(5));
        let granted = |now, firsts| (0..100_000).filter(|_| budget.take(now, firsts)).count();
        assert_eq!(granted(start + Duration::from_secs(3600), 1_000_000), MOST as usize);
        assert_eq!(granted(start, 1_000_000), 0, "an earlier moment, and no new traffic");
    }
}
