//! What locks promise, tried on threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::Duration;

use crossbeam_channel::{never, select, tick};

use super::classes::{ROSTER, SCALING, TEST_INNER, TEST_LEAF, TEST_OUTER, TEST_PEER, TEST_TWIN};
use super::*;
use crate::sync::{CancelReason, CancelToken};
use crate::time::{Deadline, now};

const FUSE: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(20);

fn read(leaf: &Leaf<i32>) -> i32 {
    *leaf.lock()
}

/// The words of a panic.
fn panics(f: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(f)).err()?;
    Some(crate::sync::threads::panic_text(&*panic).to_owned())
}

/// Looks again and again until it holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let (fuse, ticks) = (Deadline::after(FUSE), tick(Duration::from_millis(1)));
    while !holds() {
        assert!(!fuse.passed(), "not within {FUSE:?}: {what}");
        ticks.recv().expect("a tick");
    }
}

/// How a wait for a ranked lock ended, without its guard.
type End = Result<(), LockErrorKind>;

fn end<T>(result: Result<T, LockError>) -> End {
    result.map(drop).map_err(|error| error.kind)
}

/// Runs `work` while somebody looks for deadlocks every millisecond.
fn watched<R>(work: impl FnOnce() -> R) -> R {
    let over = AtomicBool::new(false);
    scope(|scope| {
        scope.spawn(|| {
            let (mut detector, ticks) = (Detector::new(), tick(Duration::from_millis(1)));
            while !over.load(Ordering::SeqCst) {
                detector.look(now());
                ticks.recv().expect("a tick");
            }
        });
        let result = catch_unwind(AssertUnwindSafe(work));
        over.store(true, Ordering::SeqCst);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A ring of threads, each of which holds a lock and asks for the next one's: how each one's wait ended.
fn ring(locks: &[&Ranked<()>]) -> Vec<End> {
    let all_hold = Barrier::new(locks.len());
    scope(|scope| {
        let threads: Vec<_> = (0..locks.len())
            .map(|at| {
                let (all_hold, next) = (&all_hold, locks[(at + 1) % locks.len()]);
                scope.spawn(move || {
                    let _unordered = unordered();
                    let _held = locks[at].lock(FUSE).expect("free");
                    all_hold.wait();
                    end(next.lock(FUSE))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

fn is_deadlock(end: &End) -> bool {
    matches!(end, Err(LockErrorKind::Deadlock(_)))
}

#[test]
fn under_a_leaf_nothing_is_locked() {
    let (first, second) = (Leaf::new(&TEST_LEAF, 1), Leaf::new(&TEST_LEAF, 2));
    let told = panics(|| {
        let _held = first.lock();
        let _ = second.lock();
    });
    let told = told.expect("it must panic");
    assert_eq!(told.matches(file!()).count(), 2, "both sites are named: {told}");
    let (one, two) = (read(&first), read(&second));
    assert_eq!(one + two, 3, "one after the other both can be had");
}

#[test]
fn ranks_are_taken_in_order() {
    let (outer, inner) = (Ranked::new(&TEST_OUTER, ()), Ranked::new(&TEST_INNER, ()));
    {
        let _outer = outer.lock(FUSE).expect("free");
        let _inner = inner.lock(FUSE).expect("free");
    }
    let told = panics(|| {
        let _inner = inner.lock(FUSE).expect("free");
        let _ = outer.lock(FUSE);
    });
    let told = told.expect("it must panic");
    assert!(told.contains("test.outer") && told.matches(file!()).count() == 2, "both sites are named: {told}");
    assert!(outer.lock(FUSE).is_ok(), "what the panic held was given back");
    let same = Ranked::new(&TEST_OUTER, ());
    assert!(panics(|| drop((outer.lock(FUSE), same.lock(FUSE)))).is_some(), "two of one class, one by one");
}

#[test]
fn an_order_is_entered_once_with_the_sites_of_its_first_observation() {
    let (outer, leaf) = (Ranked::new(&TEST_INNER, ()), Leaf::new(&TEST_LEAF, 0));
    let mine = || edges().into_iter().filter(|edge| (edge.outer, edge.inner) == ("test.inner", "test.leaf"));
    for _ in 0..3 {
        let _outer = outer.lock(FUSE).expect("free");
        let _leaf = leaf.lock();
    }
    let found: Vec<_> = mine().collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].outer_site.contains("tests.rs") && found[0].inner_site.contains("tests.rs"), "{found:?}");
    let _outer = outer.lock(FUSE).expect("free");
    let _leaf = leaf.lock();
    assert_eq!(mine().collect::<Vec<_>>(), found, "another site changes nothing");
}

#[test]
fn of_two_classes_of_one_rank_the_order_seen_first_goes_from_then_on() {
    let (peer, twin) = (Ranked::new(&TEST_PEER, ()), Ranked::new(&TEST_TWIN, ()));
    drop((peer.lock(FUSE).expect("free"), twin.lock(FUSE).expect("free")));
    {
        let _peer = peer.lock(FUSE).expect("free");
        let _twin = twin.lock(FUSE).expect("no order so far");
    }
    let told = panics(|| {
        let _twin = twin.lock(FUSE).expect("free");
        let _ = peer.lock(FUSE);
    });
    assert!(told.expect("it must panic").contains("close a cycle"));
    assert!(!edges().iter().any(|edge| (edge.outer, edge.inner) == ("test.twin", "test.peer")), "it is not entered");
}

#[test]
fn a_ranked_lock_not_had_names_its_holder() {
    let lock = Ranked::new(&TEST_OUTER, ());
    let _held = lock.lock(FUSE).expect("free");
    let error = scope(|scope| scope.spawn(|| lock.lock(SHORT).map(drop)).join().expect("no panic"));
    let error = error.expect_err("it is held");
    assert_eq!((error.lock, &error.kind), ("test.outer", &LockErrorKind::TimedOut));
    assert_eq!(error.holder.as_deref(), std::thread::current().name());
    assert!(error.waited >= SHORT);
}

#[test]
fn who_says_nothing_waits_by_default_and_nobody_beyond_the_most() {
    let times = LockTimes { default_timeout: SHORT, max_timeout: SHORT * 2 };
    let lock = Ranked::timed(&TEST_OUTER, times, ());
    let _held = lock.lock(Wait::DEFAULT).expect("free");
    let waited = |wait: Wait<'static>| {
        let error = scope(|scope| scope.spawn(|| lock.lock(wait).map(drop)).join().expect("no panic"));
        error.expect_err("it is held").waited
    };
    let (by_default, at_most) = (waited(Wait::DEFAULT), waited(FUSE.into()));
    assert!(by_default >= SHORT && at_most >= SHORT * 2, "{by_default:?}, {at_most:?}");
    assert!(at_most < FUSE, "{at_most:?}");
    assert!(waited(Deadline::after(FUSE).into()) < FUSE, "a deadline far ahead is cut, too");
}

#[test]
fn a_cancel_ends_the_wait_for_either_kind_of_lock() {
    let (ranked, channel) = (Ranked::new(&TEST_OUTER, ()), ChannelLock::new(&TEST_INNER, LockTimes::DEFAULT, ()));
    let (_held, _token) = (ranked.lock(FUSE).expect("free"), channel.lock(FUSE).expect("free"));
    let token = CancelToken::new();
    let wait = || Wait::from(FUSE).or_cancelled(&token);
    scope(|scope| {
        let on_ranked = scope.spawn(|| end(ranked.lock(wait())));
        let on_channel = scope.spawn(|| end(channel.lock(wait())));
        eventually("both wait", || stats().waiting >= 2);
        token.cancel_for(CancelReason::ClientGone);
        let cancelled = Err(LockErrorKind::Cancelled(CancelReason::ClientGone));
        assert_eq!(on_ranked.join().expect("no panic"), cancelled);
        assert_eq!(on_channel.join().expect("no panic"), cancelled);
    });
}

#[test]
fn a_channel_lock_is_taken_in_a_select_and_given_back_whatever_happens() {
    let lock = ChannelLock::new(&TEST_OUTER, LockTimes::DEFAULT, 1);
    let other = never::<()>();
    select! {
        recv(lock.token().expect("not refused")) -> token => *lock.claim(token.expect("a token")) += 1,
        recv(other) -> _ => panic!("nothing is sent there"),
        default(FUSE) => panic!("it is free"),
    }
    let unclaimed = lock.token().expect("not refused").try_recv().expect("free");
    assert!(lock.try_lock().is_none(), "it is out");
    drop(unclaimed);
    assert!(
        panics(|| {
            let _held = lock.lock(FUSE).expect("free");
            panic!("while it is held");
        })
        .is_some()
    );
    assert_eq!(*lock.lock(FUSE).expect("given back"), 2);
}

#[test]
fn a_channel_lock_not_had_in_time_names_its_holder_and_is_checked_like_the_others() {
    let (lock, outer) = (ChannelLock::new(&TEST_INNER, LockTimes::DEFAULT, ()), Ranked::new(&TEST_OUTER, ()));
    let held = lock.lock(FUSE).expect("free");
    let error = scope(|scope| scope.spawn(|| lock.lock(SHORT).map(drop)).join().expect("no panic"));
    let error = error.expect_err("it is held");
    assert_eq!((error.lock, error.kind), ("test.inner", LockErrorKind::TimedOut));
    assert_eq!(error.holder.as_deref(), std::thread::current().name());
    assert!(panics(|| drop(outer.lock(FUSE))).is_some(), "an outer one is not taken under it");
    drop(held);
    assert!(outer.lock(FUSE).is_ok() && lock.lock(FUSE).is_ok());
}

#[test]
fn several_are_taken_in_order_whatever_order_they_are_named_in() {
    let locks: Vec<_> =
        [&TEST_INNER, &TEST_OUTER, &TEST_INNER, &TEST_OUTER].map(|class| Ranked::new(class, 0)).into_iter().collect();
    for reversed in [false, true] {
        let named: Vec<_> = if reversed { locks.iter().rev().collect() } else { locks.iter().collect() };
        let mut all = lock_all(named.iter().copied(), FUSE).expect("free");
        all.iter_mut().enumerate().for_each(|(place, value)| *value = place);
        drop(all);
        let values: Vec<_> = named.iter().map(|lock| *lock.lock(FUSE).expect("given back")).collect();
        assert_eq!(values, [0, 1, 2, 3], "the values stand in the caller's order");
    }
    assert!(panics(|| drop(lock_all([&locks[0], &locks[0]], FUSE))).is_some(), "one named twice");
}

#[test]
fn if_one_of_several_is_not_had_none_is_kept_and_the_error_says_which() {
    let (outer, inner) = (Ranked::new(&TEST_OUTER, ()), Ranked::new(&TEST_INNER, ()));
    let held = inner.lock(FUSE).expect("free");
    let token = CancelToken::new();
    scope(|scope| {
        let in_time = scope.spawn(|| lock_all([&inner, &outer], SHORT).map(drop)).join().expect("no panic");
        assert_eq!(in_time.expect_err("one is held").lock, "test.inner");
        assert!(scope.spawn(|| end(outer.lock(FUSE))).join().expect("no panic").is_ok(), "the other was given back");
        token.cancel_for(CancelReason::Shutdown);
        let cancelled = scope.spawn(|| end(lock_all([&inner, &outer], Wait::DEFAULT.or_cancelled(&token))));
        assert_eq!(cancelled.join().expect("no panic"), Err(LockErrorKind::Cancelled(CancelReason::Shutdown)));
    });
    drop(held);
    assert!(lock_all([&inner, &outer], FUSE).is_ok());
}

#[test]
fn several_threads_that_take_several_locks_never_stand_in_each_others_way() {
    let locks: Vec<_> = (0..6).map(|n| Ranked::new(if n % 2 == 0 { &TEST_OUTER } else { &TEST_INNER }, 0u32)).collect();
    const ROUNDS: u32 = 200;
    watched(|| {
        scope(|scope| {
            for seed in 0..8 {
                let locks = &locks;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..ROUNDS {
                        let mut pair = random.choose_multiple(0..locks.len(), 2);
                        random.shuffle(&mut pair);
                        let named = pair.iter().map(|at| &locks[*at]);
                        lock_all(named, FUSE).expect("no deadlock, and in time").iter_mut().for_each(|n| *n += 1);
                    }
                });
            }
        });
    });
    let sum: u32 = locks.iter().map(|lock| *lock.lock(FUSE).expect("free")).sum();
    assert_eq!(sum, 8 * ROUNDS * 2);
}

#[test]
fn on_two_production_locks_with_ranks_swapped_a_deadlock_is_ended_learned_and_refused_the_third_time() {
    let (scaling, roster) = (Ranked::new(&SCALING, ()), Ranked::new(&ROSTER, ()));
    let edge = "provider.roster -> provider.scaling";
    let pattern = || stats().patterns.into_iter().find(|pattern| pattern.edge == edge);
    let mut detector = Detector::new();
    for round in 1..=2 {
        let before = stats();
        let ends = watched(|| ring(&[&scaling, &roster]));
        assert!(ends[0].is_ok(), "who keeps to the order goes on: {ends:?}");
        let Err(LockErrorKind::Deadlock(deadlock)) = &ends[1] else { panic!("the other gives way: {ends:?}") };
        assert_eq!((deadlock.edge.as_str(), deadlock.members.len()), (edge, 2));
        assert!(detector.look(now()).deadlocks.contains(deadlock), "whoever else looks is told of it, too");
        assert!(!detector.look(now()).deadlocks.contains(deadlock), "once");
        let after = stats();
        assert!(after.deadlocks_detected_total > before.deadlocks_detected_total);
        assert!(after.deadlocks_resolved_total > before.deadlocks_resolved_total);
        let pattern = pattern().expect("it is kept");
        assert_eq!(pattern.count, round);
        assert!(pattern.first_site.contains("tests.rs") && pattern.second_site.contains("tests.rs"), "{pattern:?}");
    }
    // Nobody else is there, so that it is no wait that is refused; and nobody looks.
    let _unordered = unordered();
    let held = roster.lock(FUSE).expect("free");
    assert_eq!(end(scaling.lock(FUSE)), Err(LockErrorKind::Refused(edge.to_owned())));
    drop(held);
    let _scaling = scaling.lock(FUSE).expect("free");
    assert!(roster.lock(FUSE).is_ok(), "the right order is not refused");
}

#[test]
fn a_ring_of_any_length_is_found_by_the_first_look_and_costs_one_wait() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..12 {
        let length = random.usize(2..6);
        let mut locks: Vec<_> = (0..length).map(|_| Ranked::new(&TEST_PEER, ())).collect();
        random.shuffle(&mut locks);
        // Of one class, so that each request goes against the order.
        patterns::forget(&TEST_PEER, &TEST_PEER);
        let mut detector = Detector::new();
        let ids: Vec<_> = locks.iter().map(Ranked::id).collect();
        let ends = scope(|scope| {
            let ring = scope.spawn(|| ring(&locks.iter().collect::<Vec<_>>()));
            // Another test's look may come first; this one's is told of what it found.
            eventually("all wait", || detector::waiting_for(&ids) == length || ring.is_finished());
            let found = detector.look(now()).deadlocks;
            assert!(found.iter().any(|one| one.edge == "test.peer -> test.peer" && one.members.len() == length));
            ring.join().expect("no panic")
        });
        assert_eq!(ends.iter().filter(|end| is_deadlock(end)).count(), 1, "{ends:?}");
        assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), length - 1, "the rest go on: {ends:?}");
    }
    patterns::forget(&TEST_PEER, &TEST_PEER);
}

#[test]
fn a_ring_through_a_channel_lock_is_ended_like_any_other() {
    let (ranked, channel) = (Ranked::new(&TEST_OUTER, ()), ChannelLock::new(&TEST_TWIN, LockTimes::DEFAULT, ()));
    let both_hold = Barrier::new(2);
    let (on_channel, on_ranked) = watched(|| {
        scope(|scope| {
            let first = scope.spawn(|| {
                let _held = ranked.lock(FUSE).expect("free");
                both_hold.wait();
                end(channel.lock(FUSE))
            });
            let second = scope.spawn(|| {
                let _unordered = unordered();
                let _held = channel.lock(FUSE).expect("free");
                both_hold.wait();
                end(ranked.lock(FUSE))
            });
            (first.join().expect("no panic"), second.join().expect("no panic"))
        })
    });
    assert!(on_channel.is_ok() && is_deadlock(&on_ranked), "{on_channel:?}, {on_ranked:?}");
}

#[test]
fn threads_that_lock_at_random_all_come_to_an_end_without_a_time_out() {
    let locks: Vec<_> = (0..4).map(|_| Ranked::new(&TEST_OUTER, ())).collect();
    const ROUNDS: usize = 100;
    let ends: Vec<End> = watched(|| {
        scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|seed| {
                    let locks = &locks;
                    scope.spawn(move || {
                        let _unordered = unordered();
                        let mut random = fastrand::Rng::with_seed(seed);
                        let mut once = || {
                            let pair = random.choose_multiple(0..locks.len(), 2);
                            let first = locks[pair[0]].lock(FUSE);
                            let second = end(locks[pair[1]].lock(FUSE));
                            end(first).and(second)
                        };
                        (0..ROUNDS).map(|_| once()).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
        })
    });
    assert_eq!(ends.len(), 8 * ROUNDS);
    let wrong: Vec<_> = ends
        .iter()
        .filter(|end| !matches!(end, Ok(()) | Err(LockErrorKind::Deadlock(_) | LockErrorKind::Refused(_))))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn a_lock_held_while_somebody_waits_is_seen_to_be_held_and_told_when_it_lasts() {
    let leaf = Leaf::new(&TEST_LEAF, 0);
    let held = leaf.lock();
    let mut detector = Detector::new();
    scope(|scope| {
        let waiter = scope.spawn(|| *leaf.lock());
        let ids = [held::LockId::of(&leaf)];
        eventually("it waits", || detector::waiting_for(&ids) == 1);
        let later = now() + LASTING;
        let look = detector.look(later);
        let lasting = look.lasting.iter().find(|one| one.lock == "test.leaf").expect("it lasts");
        assert_eq!(lasting.holder.as_deref(), std::thread::current().name());
        eventually("seen to be held", || stats().held_longest_us >= 5_000);
        drop(held);
        assert_eq!(waiter.join().expect("no panic"), 0);
    });
    assert_eq!(detector::waiting_for(&[held::LockId::of(&leaf)]), 0);
}

#[test]
fn a_thread_of_ours_that_waits_for_a_lock_says_so() {
    use crate::sync::threads::{Role, State, Threads};
    let threads = Threads::new(64, 1 << 20);
    let lock = std::sync::Arc::new(Ranked::new(&TEST_OUTER, ()));
    let held = lock.lock(FUSE).expect("free");
    let theirs = std::sync::Arc::clone(&lock);
    let thread = threads.spawn(Role::Worker, "locker", move || drop(theirs.lock(FUSE))).expect("a thread");
    let state = || threads.list().into_iter().find(|row| &*row.name == "locker").map(|row| row.state);
    eventually("it waits for a lock", || state() == Some(State::WaitingLock));
    drop(held);
    assert!(thread.join(Deadline::after(FUSE)).is_ok());
}
