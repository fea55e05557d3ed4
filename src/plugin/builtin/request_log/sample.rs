//! Which requests have a line where there are too many. Pure: `now` is handed in.
//!
//! Each second, so many plain successes have a line, and [`FAVOUR`] times as many of those that somebody will look for: what
//! failed, and what was slow. While there are more than that, every nth has one, by what the second before came to, so that the lines are spread
//! over the second and not its beginning. What is left out is counted, and told when its second is over.

use std::fmt;

use serde::Serialize;

/// What kind of request it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It went well, and did not take long.
    Plain,
    /// It went well, and took long.
    Slow,
    /// It failed, or its caller left.
    Failed,
}

/// How many times more failed and slow ones have a line than plain ones.
pub(super) const FAVOUR: u64 = 4;

const SECOND_US: u64 = 1_000_000;

/// How many had no line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct LeftOut {
    pub(super) succeeded: u64,
    pub(super) slow: u64,
    pub(super) failed: u64,
    /// Lines that were made, and found no room among those that wait to be written.
    pub(super) no_room: u64,
}

impl LeftOut {
    pub(super) fn sum(self) -> u64 {
        self.succeeded + self.slow + self.failed + self.no_room
    }

    fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Plain => &mut self.succeeded,
            Kind::Slow => &mut self.slow,
            Kind::Failed => &mut self.failed,
        }
    }
}

impl std::ops::AddAssign for LeftOut {
    fn add_assign(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.slow += other.slow;
        self.failed += other.failed;
        self.no_room += other.no_room;
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests have no line in this log:", self.sum())?;
        let parts = [
            (self.succeeded, "succeeded"),
            (self.slow, "succeeded slowly"),
            (self.failed, "failed"),
            (self.no_room, "found no room, since whoever takes the lines is slow"),
        ];
        let mut separator = "";
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{separator} {count} {what}")?;
            separator = ",";
        }
        Ok(())
    }
}

/// Those that share a bound.
#[derive(Debug)]
struct Lane {
    most: u64,
    seen: u64,
    kept: u64,
    /// One in so many is kept.
    every: u64,
}

impl Lane {
    fn of(most: u64) -> Self {
        Self { most, seen: 0, kept: 0, every: 1 }
    }

    fn admits(&mut self) -> bool {
        let is_next = self.seen.is_multiple_of(self.every);
        self.seen += 1;
        let is_kept = is_next && self.kept < self.most;
        self.kept += u64::from(is_kept);
        is_kept
    }

    fn begin(&mut self, follows: bool) {
        let every = if follows { self.seen.div_ceil(self.most).max(1) } else { 1 };
        *self = Self { every, ..Self::of(self.most) };
    }
}

/// Decides for each request whether it has a line.
#[derive(Debug)]
pub(super) struct Sampler {
    second: u64,
    plain: Lane,
    favoured: Lane,
    left_out: LeftOut,
    total: LeftOut,
}

impl Sampler {
    /// With so many lines a second for plain successes, at least one.
    pub(super) fn new(most: u64) -> Self {
        let most = most.max(1);
        let (plain, favoured) = (Lane::of(most), Lane::of(most.saturating_mul(FAVOUR)));
        Self { second: 0, plain, favoured, left_out: LeftOut::default(), total: LeftOut::default() }
    }

    /// Whether a request that ends now has a line; and what is to be told of the second before, if that is over.
    pub(super) fn admit(&mut self, kind: Kind, now_us: u64) -> (bool, Option<LeftOut>) {
        let told = self.over(now_us);
        let lane = if kind == Kind::Plain { &mut self.plain } else { &mut self.favoured };
        let is_kept = lane.admits();
        if !is_kept {
            *self.left_out.of(kind) += 1;
            *self.total.of(kind) += 1;
        }
        (is_kept, told)
    }

    /// A line that was admitted found no room.
    pub(super) fn refused(&mut self) {
        self.left_out.no_room += 1;
        self.total.no_room += 1;
    }

    /// What was to be told could not be: it is told with what comes next.
    pub(super) fn untold(&mut self, left_out: LeftOut) {
        self.left_out += left_out;
    }

    /// What is to be told of the last second, if it is over and something was left out in it.
    pub(super) fn over(&mut self, now_us: u64) -> Option<LeftOut> {
        // A clock that another thread read a moment earlier does not bring a second back.
        let second = (now_us / SECOND_US).max(self.second);
        if second == self.second {
            return None;
        }
        let follows = second == self.second + 1;
        self.second = second;
        self.plain.begin(follows);
        self.favoured.begin(follows);
        self.rest()
    }

    /// What has not been told yet, at the end.
    pub(super) fn rest(&mut self) -> Option<LeftOut> {
        Some(std::mem::take(&mut self.left_out)).filter(|left_out| left_out.sum() > 0)
    }

    /// What was left out in all.
    pub(super) fn total(&self) -> LeftOut {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_steady_flood_has_lines_from_all_over_the_second() {
        let mut sampler = Sampler::new(100);
        for second in 1..5u64 {
            let kept: Vec<u64> =
                (0..1000).filter(|n| sampler.admit(Kind::Plain, second * SECOND_US + n * 1000).0).collect();
            assert!((90..=100).contains(&kept.len()), "{}", kept.len());
            let is_spread = kept.last().is_some_and(|last| *last > 900);
            assert_eq!(is_spread, second > 1, "the first second could not know");
        }
        assert_eq!(sampler.rest().map(|left| left.succeeded), Some(900));
    }

    #[test]
    fn failures_and_slow_ones_have_lines_where_plain_ones_have_none_left() {
        let mut sampler = Sampler::new(1);
        let mut is_kept = |kind| sampler.admit(kind, SECOND_US).0;
        assert!(is_kept(Kind::Plain) && !is_kept(Kind::Plain));
        assert!([Kind::Failed, Kind::Slow, Kind::Failed, Kind::Slow].into_iter().all(&mut is_kept));
        assert!(!is_kept(Kind::Failed) && !is_kept(Kind::Slow));
        sampler.refused();
        let left_out = LeftOut { succeeded: 1, slow: 1, failed: 1, no_room: 1 };
        assert_eq!(sampler.over(2 * SECOND_US - 1), None, "the second is not over");
        assert_eq!(sampler.over(2 * SECOND_US), Some(left_out));
        assert_eq!((sampler.over(9 * SECOND_US), sampler.rest()), (None, None), "told once");
        let told = left_out.to_string();
        assert!(
            told.starts_with("4 requests") && told.contains("1 succeeded, 1 succeeded slowly, 1 failed, 1 "),
            "{told}"
        );
    }

    proptest! {
        #[test]
        fn kept_and_left_out_are_all_and_no_second_has_more_than_its_bound(
            most in 1..20u64,
            steps in prop::collection::vec((0..3u8, 0..400_000u64, any::<bool>()), 0..500),
        ) {
            let mut sampler = Sampler::new(most);
            let (mut now, mut told) = (0, LeftOut::default());
            let mut kept = std::collections::BTreeMap::<(u64, bool), u64>::new();
            let mut no_room = 0;
            for (kind, pause, has_room) in &steps {
                // Most come close together.
                now += if pause % 7 == 0 { *pause * 10 } else { pause / 100 };
                let kind = [Kind::Plain, Kind::Slow, Kind::Failed][*kind as usize];
                let (is_kept, left_out) = sampler.admit(kind, now);
                match left_out {
                    Some(left_out) if !has_room => sampler.untold(left_out),
                    left_out => told += left_out.unwrap_or_default(),
                }
                if is_kept && !has_room {
                    sampler.refused();
                    no_room += 1;
                }
                *kept.entry((now / SECOND_US, kind == Kind::Plain)).or_default() += u64::from(is_kept);
            }
            told += sampler.rest().unwrap_or_default();
            prop_assert_eq!(told, sampler.total());
            prop_assert_eq!(told.no_room, no_room);
            prop_assert_eq!(kept.values().sum::<u64>() - no_room + told.sum(), steps.len() as u64);
            for ((_, is_plain), count) in kept {
                let bound = if is_plain { most } else { most * FAVOUR };
                prop_assert!(count <= bound);
            }
        }
    }
}
