//! The wait-for graph, pure: who waits for what while holding what, which of them wait for one another, and who gives way.
//!
//! A waiter waits for one lock and a lock has one holder, so each waiter waits for at most one other: the graph is a
//! function, its cycles are disjoint, and following each waiter once finds them all. It knows no clock, thread or lock.

use std::collections::HashMap;

use super::held::LockId;

/// One that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    /// Which lock it waits for.
    pub(super) wants: LockId,
    /// That lock's rank.
    pub(super) rank: u16,
    /// The locks that it holds meanwhile, with their ranks.
    pub(super) holds: Vec<(LockId, u16)>,
    /// Whether it can be told to give way.
    pub(super) can_leave: bool,
}

/// Waiters that wait for one another in a ring, so that none of them ever goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cycle {
    /// Their places in the list, each followed by the one that it waits for.
    pub(super) members: Vec<usize>,
    /// The place among them of the one to give way: of those whose request goes against the order of ranks the youngest,
    /// else the youngest; none if nobody can leave.
    pub(super) victim: Option<usize>,
}

/// Every cycle among `waiters`, which stand in the order in which they began to wait, oldest first.
pub(super) fn cycles(waiters: &[Waiter]) -> Vec<Cycle> {
    let next = successors(waiters);
    // 0: not seen; else the number of the walk that saw it first.
    let mut seen = vec![0; waiters.len()];
    let mut found = Vec::new();
    for start in 0..waiters.len() {
        let (walk, mut at) = (start + 1, start);
        while seen[at] == 0 {
            seen[at] = walk;
            match next[at] {
                Some(following) => at = following,
                None => break,
            }
        }
        // A walk that comes to what it saw itself has gone round, and stands in the ring.
        if next[at].is_some() && seen[at] == walk {
            found.push(cycle_through(waiters, &next, at));
        }
    }
    found
}

/// For each waiter the one that holds what it waits for.
fn successors(waiters: &[Waiter]) -> Vec<Option<usize>> {
    let holders: HashMap<LockId, usize> =
        waiters.iter().enumerate().flat_map(|(at, waiter)| waiter.holds.iter().map(move |(id, _)| (*id, at))).collect();
    waiters.iter().map(|waiter| holders.get(&waiter.wants).copied()).collect()
}

fn cycle_through(waiters: &[Waiter], next: &[Option<usize>], start: usize) -> Cycle {
    let mut members = vec![start];
    while let Some(following) = members.last().and_then(|last| next[*last]).filter(|following| *following != start) {
        members.push(following);
    }
    let places = || (0..members.len()).filter(|place| waiters[members[*place]].can_leave);
    let goes_against = |place: &usize| against_order(waiters, &members, *place);
    let victim = places().filter(goes_against).max_by_key(|place| members[*place]);
    let victim = victim.or_else(|| places().max_by_key(|place| members[*place]));
    Cycle { victim, members }
}

/// Whether a member holds what it is waited for of no smaller rank than what it asks for.
fn against_order(waiters: &[Waiter], members: &[usize], place: usize) -> bool {
    let (member, held) = (&waiters[members[place]], held_by(waiters, members, place));
    member.holds.iter().any(|(id, rank)| *id == held && *rank >= member.rank)
}

/// The lock that the member at `place` holds and the one before it waits for.
pub(super) fn held_by(waiters: &[Waiter], members: &[usize], place: usize) -> LockId {
    let before = if place == 0 { members.len() - 1 } else { place - 1 };
    waiters[members[before]].wants
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// A waiter that wants a lock and holds others, each lock's rank being its number.
    fn waiter(wants: usize, holds: &[usize]) -> Waiter {
        let holds = holds.iter().map(|id| (LockId(*id), *id as u16)).collect();
        Waiter { wants: LockId(wants), rank: wants as u16, holds, can_leave: true }
    }

    fn victim(waiters: &[Waiter]) -> Option<usize> {
        let found = cycles(waiters);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].victim.map(|place| found[0].members[place])
    }

    #[test]
    fn a_chain_of_waiters_is_no_cycle() {
        assert_eq!(cycles(&[waiter(1, &[]), waiter(2, &[1]), waiter(3, &[2])]), []);
        assert_eq!(cycles(&[waiter(1, &[2]), waiter(1, &[3]), waiter(1, &[4])]), [], "held by one who does not wait");
        assert_eq!(cycles(&[]), []);
    }

    #[test]
    fn who_asks_against_the_order_gives_way_whether_it_came_first_or_last() {
        assert_eq!(victim(&[waiter(1, &[2]), waiter(2, &[1])]), Some(0));
        assert_eq!(victim(&[waiter(2, &[1]), waiter(1, &[2])]), Some(1));
    }

    #[test]
    fn of_equals_the_youngest_gives_way() {
        let equal = |wants, holds| Waiter { rank: 5, holds: vec![(LockId(holds), 5)], ..waiter(wants, &[]) };
        assert_eq!(victim(&[equal(1, 2), equal(2, 3), equal(3, 1)]), Some(2));
    }

    #[test]
    fn one_that_waits_for_itself_is_a_cycle_and_its_own_victim() {
        assert_eq!(victim(&[waiter(9, &[8]), waiter(1, &[1])]), Some(1));
    }

    #[test]
    fn who_cannot_leave_is_never_chosen() {
        let stays = |waiter| Waiter { can_leave: false, ..waiter };
        assert_eq!(victim(&[stays(waiter(1, &[2])), waiter(2, &[1])]), Some(1));
        assert_eq!(victim(&[stays(waiter(1, &[2])), stays(waiter(2, &[1]))]), None);
    }

    /// Waiters over a few locks, each lock held by one at most.
    fn crowd() -> impl Strategy<Value = Vec<Waiter>> {
        let locks = 1..12usize;
        locks.prop_flat_map(|locks| {
            let one = (0..locks, prop::bool::weighted(0.8));
            (prop::collection::vec(one, 1..12), prop::collection::vec(0..12usize, locks)).prop_map(
                |(waiters, owners)| {
                    let held = |at: usize, count: usize| -> Vec<usize> {
                        owners
                            .iter()
                            .enumerate()
                            .filter(|(_, owner)| **owner % (count + 1) == at)
                            .map(|(id, _)| id)
                            .collect()
                    };
                    let count = waiters.len();
                    let made = waiters.iter().enumerate();
                    made.map(|(at, (wants, can_leave))| Waiter {
                        can_leave: *can_leave,
                        ..waiter(*wants, &held(at, count))
                    })
                    .collect()
                },
            )
        })
    }

    /// Every waiter that comes back to itself, found by walking from each as far as there are waiters.
    fn naive(waiters: &[Waiter]) -> BTreeSet<usize> {
        let next = |at: usize| waiters.iter().position(|w| w.holds.iter().any(|(id, _)| *id == waiters[at].wants));
        let returns = |start: &usize| {
            let walk = std::iter::successors(next(*start), |at| next(*at));
            walk.take(waiters.len()).any(|at| at == *start)
        };
        (0..waiters.len()).filter(returns).collect()
    }

    proptest! {
        #[test]
        fn the_members_of_cycles_are_those_that_a_naive_walk_finds(waiters in crowd()) {
            let found = cycles(&waiters);
            let members: Vec<_> = found.iter().flat_map(|cycle| cycle.members.iter().copied()).collect();
            let distinct: BTreeSet<_> = members.iter().copied().collect();
            prop_assert_eq!(distinct.len(), members.len(), "cycles are disjoint");
            prop_assert_eq!(distinct, naive(&waiters));
        }

        #[test]
        fn when_every_victim_has_given_way_no_cycle_is_left(waiters in crowd()) {
            let all_can = waiters.into_iter().map(|waiter| Waiter { can_leave: true, ..waiter }).collect::<Vec<_>>();
            let mut left: BTreeMap<_, _> = all_can.iter().cloned().enumerate().collect();
            for cycle in cycles(&all_can) {
                left.remove(&cycle.members[cycle.victim.expect("all can leave")]);
            }
            prop_assert_eq!(cycles(&left.into_values().collect::<Vec<_>>()), []);
        }
    }
}
