//! The idle set against a plain vector, and what is counted, sampled, swept and told of it.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::recycle::FEWEST;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Thing {
    dirt: u32,
    stubborn: bool,
}

impl Recycle for Thing {
    fn make() -> Self {
        Self { dirt: 0, stubborn: false }
    }
    fn reset(&mut self) -> bool {
        self.dirt = 0;
        !self.stubborn
    }
    fn bytes(&self) -> u64 {
        8
    }
}

fn pool(initial: usize, max_idle: usize) -> Pool<Thing> {
    Pool::new(Limits { initial, max_idle, idle_max_age: MINUTE, alert_below: 0.85 })
}

#[test]
fn what_is_given_back_is_used_again_and_clean() {
    let pool = pool(0, 4);
    let mut thing = pool.acquire();
    thing.dirt = 9;
    thing.give_back();
    assert_eq!(pool.acquire().dirt, 0);
    let stats = pool.stats();
    assert_eq!((stats.acquired_total, stats.hits_total, stats.misses_total, stats.created_total), (2, 1, 1, 1));
    assert_eq!((stats.returned_total, stats.discarded_total, stats.live, stats.bytes_reused_total), (1, 1, 0, 8));
}

#[test]
fn what_is_dropped_marked_or_cannot_be_reset_is_discarded() {
    let pool = pool(0, 4);
    drop(pool.acquire());
    let mut thing = pool.acquire();
    thing.stubborn = true;
    thing.give_back();
    let mut thing = pool.acquire();
    thing.use_once();
    thing.give_back();
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.live, stats.discarded_total, stats.returned_total), (0, 0, 3, 0));
}

#[test]
fn an_object_keeps_its_id_and_its_times_move_on() {
    let pool = pool(0, 4);
    let first = pool.acquire();
    let made = *first.tag();
    assert_eq!((made.created, made.returned), (made.acquired, made.acquired));
    first.give_back();
    // A tick of the coarse clock, which is what times are written down in.
    let start = now();
    while Stamp::now() == made.created {
        assert!(now().saturating_duration_since(start) < Duration::from_secs(5), "the clock stands still");
    }
    let again = pool.acquire();
    let tag = *again.tag();
    assert_eq!((tag.id, tag.created), (made.id, made.created));
    assert!(tag.acquired > made.acquired && tag.returned >= made.acquired, "{tag:?}");
    assert_ne!(pool.acquire().tag().id, tag.id);
}

#[test]
fn idle_objects_are_bounded_in_number_and_age() {
    let pool = pool(2, 2);
    let leases: Vec<_> = (0..5).map(|_| pool.acquire()).collect();
    leases.into_iter().for_each(Lease::give_back);
    assert_eq!(pool.stats().idle, 2);
    let _ = pool.tend(now());
    assert_eq!(pool.stats().idle, 2, "nothing is a minute old");
    let _ = pool.tend(now() + MINUTE + Duration::from_secs(1));
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.live, stats.evicted_total, stats.sweeps_total, stats.bytes_held), (0, 0, 2, 2, 0));
}

#[test]
fn one_use_in_sixty_four_is_timed() {
    let pool = pool(1, 1);
    (0..64 * 3).for_each(|_| pool.acquire().give_back());
    let stats = pool.stats();
    assert_eq!((stats.acquire_ns.count, stats.reset_ns.count, stats.return_ns.count), (3, 3, 3));
}

#[test]
fn what_is_held_in_use_and_used_again_is_told() {
    let pool = pool(0, 4);
    assert_eq!(pool.stats().utilisation, None, "of none it is unknown");
    let mut out: Vec<_> = (0..4).map(|_| pool.acquire()).collect();
    let stats = pool.stats();
    assert_eq!((stats.utilisation, stats.bytes_held, stats.bytes_reused_total), (Some(1.0), 0, 0));
    out.drain(1..).for_each(Lease::give_back);
    let stats = pool.stats();
    assert_eq!((stats.live, stats.utilisation, stats.bytes_held), (4, Some(0.25), 24), "eight bytes each");
    out.extend((0..3).map(|_| pool.acquire()));
    let stats = pool.stats();
    assert_eq!((stats.utilisation, stats.bytes_held, stats.bytes_reused_total), (Some(1.0), 0, 24));
}

#[test]
fn a_factory_or_a_reset_that_panics_leaves_the_counts_balanced() {
    struct Brittle(bool);
    static FAILS: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    impl Recycle for Brittle {
        fn make() -> Self {
            assert!(!FAILS.load(Ordering::SeqCst), "on purpose");
            Self(false)
        }
        fn reset(&mut self) -> bool {
            assert!(!self.0, "on purpose");
            true
        }
        fn bytes(&self) -> u64 {
            1
        }
    }
    let pool = Pool::<Brittle>::new(Limits { initial: 0, max_idle: 4, idle_max_age: MINUTE, alert_below: 0.5 });
    let mut brittle = pool.acquire();
    brittle.0 = true;
    assert!(catch_unwind(AssertUnwindSafe(|| brittle.give_back())).is_err());
    FAILS.store(true, Ordering::SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| pool.acquire())).is_err());
    let stats = pool.stats();
    assert_eq!((stats.acquired_total, stats.created_total, stats.discarded_total, stats.live), (2, 2, 2, 0));
}

/// Uses an object `n` times, one after the other.
fn steady(pool: &Pool<Thing>, n: u64) {
    (0..n).for_each(|_| pool.acquire().give_back());
}

#[test]
fn a_starved_pool_raises_its_alert_and_clears_it_once_the_load_is_steady() {
    let (pool, start) = (pool(0, 1), now());
    let at = |s: u64| start + Duration::from_secs(s);
    // Ten at a time with room for one: nine of ten miss.
    for second in 1..=20 {
        let burst: Vec<_> = (0..10).map(|_| pool.acquire()).collect();
        burst.into_iter().for_each(Lease::give_back);
        let alert = pool.tend(at(second));
        assert_eq!(alert.is_some(), second * 10 >= FEWEST, "{second} s: {alert:?}");
    }
    let stats = pool.stats();
    assert!(stats.alert && stats.hit_ratio < Some(0.15), "{stats:?}");
    // One at a time: all hit, and within a minute the misses are out of the window.
    let cleared = (21..=90).find(|second| {
        steady(&pool, 10);
        pool.tend(at(*second)).is_none()
    });
    let cleared = cleared.expect("it is cleared");
    assert!((60..=81).contains(&cleared), "{cleared}: the ratio is of the last minute");
    assert!(!pool.stats().alert);
}

#[test]
fn a_few_misses_or_a_silent_pool_are_no_alert() {
    let (pool, start) = (pool(0, 0), now());
    let at = |s: u64| start + Duration::from_secs(s);
    steady(&pool, FEWEST - 1);
    assert_eq!(pool.tend(at(1)), None, "too few to judge by");
    steady(&pool, 1);
    let words = pool.tend(at(2)).expect("enough now");
    assert!(words.contains("0 of 50") && words.contains("alert_below 0.85"), "{words}");
    assert!(pool.tend(at(3)).is_some(), "it stands while the minute lasts");
    assert_eq!(pool.tend(at(70)), None, "nobody has acquired anything for a minute");
}

#[test]
fn a_burst_after_a_quiet_night_and_a_load_that_grows_are_no_alert() {
    let (pool, start) = (pool(100, 1000), now());
    let at = |s: u64| start + Duration::from_secs(s);
    assert_eq!(pool.tend(at(100)), None);
    assert_eq!(pool.stats().idle, 0, "nothing that was made beforehand is left in the morning");
    let mut out = Vec::new();
    for second in 200..260 {
        out.extend((0..10).map(|_| pool.acquire()));
        assert_eq!(pool.tend(at(second)), None, "each miss finds all others in use");
    }
    assert_eq!(pool.stats().hit_ratio, Some(0.0));
}

#[test]
fn a_ratio_at_its_bound_does_not_flicker() {
    let (pool, start) = (pool(0, 1), now());
    let at = |s: u64| start + Duration::from_secs(s);
    // Exactly 85 of a hundred hit, then one fewer: low; then back at the bound: still low; only above it is it over.
    let round = |misses: u64| {
        let held = pool.acquire();
        (0..misses).for_each(|_| drop(pool.acquire()));
        held.give_back();
        steady(&pool, 99 - misses);
    };
    steady(&pool, 1);
    let judged: Vec<_> = [15, 16, 16, 0, 0, 0]
        .into_iter()
        .zip(1..)
        .map(|(misses, second)| {
            round(misses);
            pool.tend(at(second)).is_some()
        })
        .collect();
    let (mut changes, mut before) = (0, false);
    for now in judged {
        changes += u32::from(now != before);
        before = now;
    }
    assert!(changes <= 2 && !before, "it comes once and goes once");
}

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    GiveBack(usize),
    Drop(usize),
    UseOnce(usize),
    Stain(usize),
    Tend(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Acquire),
        3 => any::<usize>().prop_map(Step::GiveBack),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => any::<usize>().prop_map(Step::UseOnce),
        1 => any::<usize>().prop_map(Step::Stain),
        1 => (0u64..90).prop_map(Step::Tend),
    ]
}

proptest! {
    #[test]
    fn it_is_a_bounded_stack_whose_counts_balance(
        initial in 0usize..4,
        max_idle in 0usize..6,
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let (pool, start) = (pool(initial, max_idle), now());
        // The model: the ids that are idle, oldest first, and those that are out.
        let mut idle: Vec<u64> = (1..=initial.min(max_idle) as u64).collect();
        let mut out: Vec<Lease<Thing>> = Vec::new();
        let (mut seen, mut acquired, mut hits, mut returned, mut discarded, mut evicted) = (HashSet::new(), 0, 0, 0, 0, 0);
        for step in steps {
            let at = |index: usize, out: &[Lease<Thing>]| index.checked_rem(out.len());
            match step {
                Step::Acquire => {
                    let lease = pool.acquire();
                    acquired += 1;
                    prop_assert!(lease.dirt == 0 && !lease.stubborn, "what comes is clean");
                    prop_assert!(out.iter().all(|other| other.tag().id != lease.tag().id), "two holders of one object");
                    match idle.pop() {
                        Some(id) => {
                            hits += 1;
                            prop_assert_eq!(lease.tag().id, id, "the last returned comes first");
                        }
                        None => prop_assert!(seen.insert(lease.tag().id), "an id came twice"),
                    }
                    seen.insert(lease.tag().id);
                    out.push(lease);
                }
                Step::GiveBack(index) => if let Some(index) = at(index, &out) {
                    let lease = out.swap_remove(index);
                    let (id, keeps) = (lease.tag().id, lease.tag().reusable && !lease.stubborn && idle.len() < max_idle);
                    lease.give_back();
                    if keeps {
                        returned += 1;
                        idle.push(id);
                    } else {
                        discarded += 1;
                    }
                },
                Step::Drop(index) => if let Some(index) = at(index, &out) {
                    drop(out.swap_remove(index));
                    discarded += 1;
                },
                Step::UseOnce(index) => if let Some(index) = at(index, &out) {
                    out[index].use_once();
                },
                Step::Stain(index) => if let Some(index) = at(index, &out) {
                    out[index].dirt = 7;
                    out[index].stubborn = index % 2 == 0;
                },
                // Everything here happens within a few seconds of `start`, so a sweep takes all or nothing.
                Step::Tend(seconds) if !(55..65).contains(&seconds) => {
                    let _ = pool.tend(start + Duration::from_secs(seconds));
                    if seconds >= 65 {
                        evicted += idle.drain(..).count() as u64;
                    }
                }
                Step::Tend(_) => {}
            }
            let stats = pool.stats();
            prop_assert!(stats.idle <= max_idle as u64);
            prop_assert_eq!((stats.idle, stats.bytes_held), (idle.len() as u64, 8 * idle.len() as u64));
            prop_assert_eq!((stats.acquired_total, stats.hits_total), (acquired, hits));
            prop_assert_eq!(stats.acquired_total, stats.hits_total + stats.misses_total);
            prop_assert_eq!((stats.returned_total, stats.discarded_total, stats.evicted_total), (returned, discarded, evicted));
            prop_assert_eq!(stats.created_total, stats.live + stats.discarded_total + stats.evicted_total);
            prop_assert_eq!(stats.live, stats.idle + out.len() as u64);
            prop_assert_eq!(stats.acquired_total, stats.returned_total + stats.discarded_total + out.len() as u64);
        }
    }
}

#[test]
fn many_threads_never_share_an_object_and_the_counts_balance() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 2000;
    let pool = pool(0, 3);
    let held = parking_lot::Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (pool, held) = (&pool, &held);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let lease = pool.acquire();
                    let id = lease.tag().id;
                    assert!(held.lock().insert(id), "{id} has two holders");
                    assert!(held.lock().remove(&id));
                    if (thread + round).is_multiple_of(5) { drop(lease) } else { lease.give_back() }
                }
            });
        }
    });
    let stats = pool.stats();
    assert_eq!(stats.acquired_total, THREADS * ROUNDS);
    assert_eq!(stats.returned_total + stats.discarded_total, THREADS * ROUNDS);
    assert_eq!(stats.created_total, stats.live + stats.discarded_total);
    assert!(stats.live == stats.idle && stats.idle <= 3, "{stats:?}");
}
