//! One limit a minute, or in any other period, as a bucket that holds a period's worth and refills all the time: pure, with
//! `now` handed in.
//!
//! The generic cell rate algorithm (ITU-T I.371) with a burst of one period's worth: all that is kept of what was taken is
//! when the bucket will be full again. Taking n of a limit of N a minute moves that by n/N of a minute, and what was taken may
//! go once it lies no more than a minute ahead. So in any span of time w no more goes than N · (1 + w / 1 min): this is how
//! OpenAI, Anthropic and Groq count themselves. Costs are rounded up, never down.
//!
//! **Taking back.** What was taken may turn out smaller, or not to be wanted at all. Then everything must be as if it never
//! had been taken so, and no better: a bucket that has been full in the meantime has forgiven it already. So each open entry
//! remembers how empty the bucket was at least when others went after it, and what is taken back shrinks to that on its way
//! from entry to entry up to the present; whoever waits goes now at the earliest. The property test compares this with
//! counting all over again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What most limits are for.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Names what was taken: later ones have greater numbers.
pub(crate) type Ticket = u64;

/// A limit and what was taken of it.
#[derive(Debug)]
pub(crate) struct Bucket {
    limit: u64,
    period: Duration,
    full_at: Instant,
    open: BTreeMap<Ticket, Open>,
}

/// Something taken that can still be corrected.
#[derive(Debug)]
struct Open {
    /// When the bucket would be full again if nothing had been taken after it: it may go from a period before.
    full_at: Instant,
    cost: Duration,
    /// How empty the bucket was at least when what was taken after it went, up to the next open one; endless if nothing was.
    empty: Duration,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(limit: u64, period: Duration, now: Instant) -> Self {
        Self { limit: limit.max(1), period, full_at: now, open: BTreeMap::new() }
    }

    /// How much it lets go in a period.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// How long it takes to refill by `count`.
    fn cost(&self, count: u64) -> Duration {
        let nanos = (self.period.as_nanos() * u128::from(count)).div_ceil(u128::from(self.limit));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The same for what is yet to go: more than there is room for waits for a full bucket, and goes then.
    fn asked(&self, count: u64) -> Duration {
        self.cost(count.min(self.limit))
    }

    /// How long whoever takes `count` now has to wait.
    pub(crate) fn wait_for(&self, count: u64, now: Instant) -> Duration {
        (self.full_at.max(now) + self.asked(count)).saturating_duration_since(now + self.period)
    }

    /// Takes `count`, which may go once [`wait_of`](Self::wait_of) says so.
    pub(crate) fn take(&mut self, ticket: Ticket, count: u64, now: Instant) {
        let empty = self.full_at.saturating_duration_since(now);
        if let Some(mut last) = self.open.last_entry() {
            let last = last.get_mut();
            last.empty = last.empty.min(empty);
        }
        let cost = self.asked(count);
        self.full_at = self.full_at.max(now) + cost;
        self.open.insert(ticket, Open { full_at: self.full_at, cost, empty: Duration::MAX });
    }

    /// What was taken goes, after it had to wait.
    pub(crate) fn go(&mut self, ticket: Ticket, now: Instant) {
        let Some(open) = self.open.get(&ticket) else { return };
        let empty = (open.full_at - open.cost).saturating_duration_since(now);
        if let Some((_, before)) = self.open.range_mut(..ticket).next_back() {
            before.empty = before.empty.min(empty);
        }
    }

    /// How long what was taken has to wait still.
    pub(crate) fn wait_of(&self, ticket: Ticket, now: Instant) -> Duration {
        self.open.get(&ticket).map_or(Duration::ZERO, |open| open.full_at.saturating_duration_since(now + self.period))
    }

    /// What was taken as `count` came to `used`, and is not open any more.
    pub(crate) fn settle(&mut self, ticket: Ticket, count: u64, used: u64, now: Instant) {
        let (asked, used) = (self.asked(count), self.cost(used.min(self.limit.saturating_mul(2))));
        if used <= asked {
            self.take_back(ticket, asked - used, now);
        } else {
            self.charge(used - asked, now);
        }
        let Some(gone) = self.open.remove(&ticket) else { return };
        if let Some((_, before)) = self.open.range_mut(..ticket).next_back() {
            before.empty = before.empty.min(gone.empty);
        }
    }

    fn take_back(&mut self, ticket: Ticket, cost: Duration, now: Instant) {
        if cost.is_zero() {
            return;
        }
        let mut left = cost;
        for (later, open) in self.open.range_mut(ticket..) {
            // Its own time to go is what it was: only what comes after it goes sooner.
            if *later != ticket {
                if open.full_at > now + self.period {
                    left = left.min((open.full_at - open.cost).saturating_duration_since(now));
                }
                open.full_at -= left;
            }
            left = left.min(open.empty);
            open.empty -= left;
        }
        self.full_at -= left.min(self.full_at.saturating_duration_since(now));
    }

    /// Takes what has been used already, before all that still waits.
    fn charge(&mut self, cost: Duration, now: Instant) {
        self.full_at = self.full_at.max(now) + cost;
        for open in self.open.values_mut().filter(|open| open.full_at > now + self.period) {
            open.full_at += cost;
            open.empty = open.empty.saturating_add(cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What went when, or was asked for when if it still waits, at what cost as it is known now.
    struct Naive(Vec<(Instant, Duration)>);

    impl Naive {
        /// Counts all over again: when the bucket is full after the first `upto` of them.
        fn full_at(&self, upto: usize, start: Instant) -> Instant {
            self.0[..upto].iter().fold(start, |full_at, (at, cost)| full_at.max(*at) + *cost)
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Take(u64),
        /// Of those open, the one at this place comes to so many percent.
        Settle(usize, u64),
        /// So many milliseconds pass.
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..30u64).prop_map(Step::Take),
            3 => (0..8usize, 0..=100u64).prop_map(|(at, percent)| Step::Settle(at, percent)),
            3 => (0..20_000u64).prop_map(Step::Pass),
        ]
    }

    /// Those go who may in the time from `now` to `to`.
    fn go(
        bucket: &mut Bucket,
        naive: &mut Naive,
        gone: &mut BTreeSet<Ticket>,
        open: &[(Ticket, u64)],
        now: Instant,
        to: Instant,
    ) {
        for (ticket, _) in open {
            let goes = now + bucket.wait_of(*ticket, now);
            if goes <= to && gone.insert(*ticket) {
                naive.0[*ticket as usize].0 = goes;
                bucket.go(*ticket, goes);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 512 }))]
        /// Whatever is taken back in whatever order, it is as if it had never been taken: for the bucket, and for each that waits.
        #[test]
        fn what_is_taken_back_was_never_taken(per_minute in 1..120u64, steps in proptest::collection::vec(step(), 1..80)) {
            let start = crate::time::now();
            let (mut bucket, mut naive, mut now) = (Bucket::new(per_minute, MINUTE, start), Naive(Vec::new()), start);
            let (mut open, mut gone) = (Vec::<(Ticket, u64)>::new(), BTreeSet::<Ticket>::new());
            for step in steps {
                match step {
                    Step::Take(count) => {
                        let ticket = naive.0.len() as Ticket;
                        let wait = bucket.wait_for(count, now);
                        bucket.take(ticket, count, now);
                        prop_assert_eq!(wait, bucket.wait_of(ticket, now));
                        if wait.is_zero() {
                            gone.insert(ticket);
                        }
                        naive.0.push((now, bucket.asked(count)));
                        open.push((ticket, count));
                    }
                    Step::Settle(at, percent) if at < open.len() => {
                        let (ticket, count) = open.remove(at);
                        // What still waits has used nothing.
                        let used = if gone.contains(&ticket) { count.min(per_minute) * percent / 100 } else { 0 };
                        // Who waits goes now at the earliest.
                        let waiting = open.iter().filter(|(other, _)| *other > ticket && !gone.contains(other));
                        waiting.for_each(|(other, _)| naive.0[*other as usize].0 = now);
                        bucket.settle(ticket, count, used, now);
                        naive.0[ticket as usize].1 = bucket.cost(used);
                    }
                    Step::Settle(..) => {}
                    Step::Pass(ms) => {
                        let to = now + Duration::from_millis(ms);
                        go(&mut bucket, &mut naive, &mut gone, &open, now, to);
                        now = to;
                    }
                }
                go(&mut bucket, &mut naive, &mut gone, &open, now, now);
                let all = naive.full_at(naive.0.len(), start).max(now);
                prop_assert_eq!(bucket.full_at.max(now), all, "the bucket itself");
                for (ticket, _) in &open {
                    let expected = naive.full_at(*ticket as usize + 1, start).saturating_duration_since(now + MINUTE);
                    prop_assert_eq!(bucket.wait_of(*ticket, now), expected, "ticket {}", ticket);
                }
            }
        }

        /// Whoever goes as soon as it may, in no span of time does more go than the limit allows.
        #[test]
        fn no_span_of_time_sees_more_than_a_full_bucket_and_what_refills(
            per_minute in 1..200u64,
            asks in proptest::collection::vec((0..3000u64, 1..20u64), 1..150),
        ) {
            let start = crate::time::now();
            let (mut bucket, mut now, mut went) = (Bucket::new(per_minute, MINUTE, start), start, Vec::new());
            for (ticket, (ms, count)) in asks.into_iter().enumerate() {
                now += Duration::from_millis(ms);
                let count = count.min(per_minute);
                bucket.take(ticket as Ticket, count, now);
                went.push((now + bucket.wait_of(ticket as Ticket, now), count));
            }
            prop_assert!(went.is_sorted_by_key(|(at, _)| *at), "the order of asking is kept");
            for from in 0..went.len() {
                let mut sum = 0;
                for (at, count) in &went[from..] {
                    sum += count;
                    let span = (*at - went[from].0).as_secs_f64();
                    let most = per_minute as f64 * (1.0 + span / 60.0);
                    prop_assert!(sum as f64 <= most + 1e-6, "{sum} within {span} s of {per_minute} a minute");
                }
            }
        }
    }

    #[test]
    fn who_waited_has_not_gone_before_it_went() {
        let start = crate::time::now();
        let mut bucket = Bucket::new(100, MINUTE, start);
        bucket.take(0, 100, start);
        bucket.take(1, 100, start);
        let end = start + MINUTE;
        bucket.go(1, end);
        bucket.settle(0, 100, 0, end);
        assert_eq!(bucket.wait_for(100, end), MINUTE, "what the first one took would have come back by now");
    }

    #[test]
    fn a_minutes_worth_goes_at_once_and_then_one_by_one() {
        let start = crate::time::now();
        let mut bucket = Bucket::new(60, MINUTE, start);
        (0..60).for_each(|ticket| bucket.take(ticket, 1, start));
        assert_eq!(bucket.wait_of(59, start), Duration::ZERO);
        assert_eq!(bucket.wait_for(1, start), Duration::from_secs(1));
        assert_eq!(bucket.wait_for(1, start + Duration::from_millis(400)), Duration::from_millis(600));
    }

    #[test]
    fn more_than_the_limit_waits_for_a_full_bucket_and_what_it_used_is_paid_by_the_next() {
        let start = crate::time::now();
        let mut bucket = Bucket::new(100, MINUTE, start);
        bucket.take(0, 10, start);
        bucket.take(1, 1_000_000, start);
        assert_eq!(bucket.wait_of(1, start), Duration::from_secs(6));
        let end = start + Duration::from_secs(6);
        bucket.settle(1, 1_000_000, u64::MAX, end);
        assert_eq!(bucket.wait_for(1, end), MINUTE + Duration::from_millis(600), "a minute's debt and no more");
    }

    #[test]
    fn what_was_used_beyond_the_estimate_delays_those_who_wait() {
        let start = crate::time::now();
        let mut bucket = Bucket::new(60, MINUTE, start);
        bucket.take(0, 60, start);
        bucket.take(1, 5, start);
        bucket.settle(0, 60, 70, start);
        assert_eq!(bucket.wait_of(1, start), Duration::from_secs(15));
        bucket.settle(1, 5, 0, start);
        assert_eq!(bucket.wait_for(1, start), Duration::from_secs(11));
    }
}
