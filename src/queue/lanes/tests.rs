//! The lanes' promises: order, share, no job lost or left lying, tombstones thrown out.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;
use crate::sync::{Quit, Slot, locks::classes::TEST_LEAF};

type Job = Arc<Entry>;

#[derive(Debug)]
struct Entry {
    slot: Slot<u32>,
    priority: Priority,
    since: Instant,
}

impl Entry {
    fn take(&self) -> Option<u32> {
        self.slot.take()
    }
}

impl Queued for Job {
    fn is_tombstone(&self) -> bool {
        !self.slot.is_held()
    }

    fn priority(&self) -> Priority {
        self.priority
    }

    fn since(&self) -> Option<Instant> {
        self.slot.is_held().then_some(self.since)
    }
}

const TICK: Duration = Duration::from_millis(1);

fn entry(number: u32, priority: Priority) -> Job {
    Arc::new(Entry { slot: Slot::new(&TEST_LEAF, number), priority, since: now() })
}

fn job(number: u32) -> Job {
    entry(number, Priority::Interactive)
}

fn batch(number: u32) -> Job {
    entry(number, Priority::Batch)
}

fn next(lanes: &Lanes<Job>, shift: &mut Shift, quit: &Quit) -> Option<u32> {
    match lanes.take(&lanes.seat(), shift, &quit.watch(), TICK) {
        Taken::Job(job) => job.take(),
        Taken::Tick | Taken::Quit => None,
    }
}

#[test]
fn batch_gets_its_share_and_all_that_is_left() {
    let lanes = Lanes::new(64, 0.25);
    for number in 0..16 {
        lanes.push(job(number)).expect("room");
        lanes.push(batch(100 + number)).expect("room");
    }
    let (mut shift, quit) = (Shift::default(), Quit::new());
    let order: Vec<u32> = std::iter::from_fn(|| next(&lanes, &mut shift, &quit)).collect();
    assert_eq!(order.len(), 32);
    assert_eq!(order[..16].iter().filter(|number| **number >= 100).count(), 4, "one take in four: {order:?}");
    let sorted = |lane: &dyn Fn(&&u32) -> bool| order.iter().filter(lane).is_sorted();
    assert!(sorted(&|n| **n < 100) && sorted(&|n| **n >= 100), "each lane keeps its order");
}

/// Neither lane is shut out by a share between a half and all, however many takes it does not divide.
#[test]
fn each_lane_gets_its_share_whatever_the_share_is() {
    const TAKES: u32 = 200;
    for share in [0.0, 0.01, 0.1, 0.125, 0.3, 0.5, 0.6, 0.75, 0.9, 0.99, 1.0] {
        let lanes = Lanes::new(2 * TAKES as usize, share);
        for number in 0..TAKES {
            lanes.push(job(number)).expect("room");
            lanes.push(batch(TAKES + number)).expect("room");
        }
        let (mut shift, quit) = (Shift::default(), Quit::new());
        let taken = (0..TAKES).map(|_| next(&lanes, &mut shift, &quit).expect("both lanes stand"));
        let of_batch = taken.filter(|number| *number >= TAKES).count();
        assert_eq!(of_batch as u32, (share * f64::from(TAKES)).round() as u32, "{share}");
    }
}

/// Of any few workers that came one after the other, batch has its share at their first takes already.
#[test]
fn batch_does_not_wait_for_its_share_until_each_worker_has_made_many_takes() {
    let (lanes, quit) = (Lanes::new(128, 0.125), Quit::new());
    for number in 0..128 {
        lanes.push(job(number)).expect("room");
        lanes.push(batch(1000 + number)).expect("room");
    }
    for round in 1..=4 {
        let first_take = |_| {
            let seat = lanes.seat();
            match lanes.take(&seat, &mut Shift::at(&seat), &quit.watch(), TICK) {
                Taken::Job(job) => job.take().expect("taken once"),
                other => panic!("both lanes stand: {other:?}"),
            }
        };
        let of_batch = (0..24).map(first_take).filter(|number| *number >= 1000).count();
        assert!((2..=4).contains(&of_batch), "an eighth of 24 is batch's, not {of_batch}, of round {round}");
    }
}

#[test]
fn turning_over_drops_tombstones_and_keeps_the_order() {
    let lanes = Lanes::new(8, 0.0);
    let jobs: Vec<Job> = (0..16).map(job).collect();
    jobs.iter().for_each(|job| lanes.push(Arc::clone(job)).expect("room"));
    for left in jobs.iter().step_by(2) {
        left.take().expect("still there");
        lanes.bury(Priority::Interactive);
    }
    assert!(lanes.interactive.receiver.len() < 16, "tombstones were thrown out");
    let (mut shift, quit) = (Shift::default(), Quit::new());
    let mut order = Vec::new();
    while let Taken::Job(job) = lanes.take(&lanes.seat(), &mut shift, &quit.watch(), TICK) {
        order.extend(job.take());
    }
    assert_eq!(order, [1, 3, 5, 7, 9, 11, 13, 15]);
}

#[test]
fn a_lane_full_of_tombstones_takes_a_live_job() {
    let lanes = Lanes::new(2, 0.0);
    for number in 0..4 {
        let dead = job(number);
        assert!(dead.take().is_some());
        lanes.push(dead).expect("room");
    }
    lanes.push(job(7)).expect("turning over makes room");
    assert_eq!(next(&lanes, &mut Shift::default(), &Quit::new()), Some(7));
}

#[test]
fn quit_goes_before_jobs() {
    let lanes = Lanes::new(2, 0.0);
    lanes.push(job(1)).expect("room");
    let quit = Quit::new();
    let watch = quit.watch();
    drop(quit);
    assert!(matches!(lanes.take(&lanes.seat(), &mut Shift::default(), &watch, TICK), Taken::Quit));
    assert_eq!(lanes.sweep().count(), 1);
}

/// A job handed over while its worker finds another one in a lane must reach somebody.
#[test]
fn no_job_waits_while_a_worker_is_idle() {
    const ROUNDS: u32 = if cfg!(miri) { 20 } else { 4000 };
    let lanes = Lanes::<Job>::new(64, 0.125);
    let quit = Quit::new();
    let (done, is_done) = bounded(64);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (lanes, watch, done) = (&lanes, quit.watch(), done.clone());
            scope.spawn(move || {
                let (seat, mut shift) = (lanes.seat(), Shift::default());
                // A tick so long that a job left lying is seen as a hang, not found by it.
                while let Taken::Job(job) = lanes.take(&seat, &mut shift, &watch, Duration::from_secs(60)) {
                    done.send(job.take().expect("taken once")).expect("the test listens");
                }
            });
        }
        for round in 0..ROUNDS {
            let burst = 1 + round % 5;
            for number in 0..burst {
                lanes.push(if number % 2 == 0 { job(number) } else { batch(number) }).expect("room");
            }
            for _ in 0..burst {
                is_done.recv_timeout(Duration::from_secs(5)).expect("no job is left lying");
            }
        }
        drop(quit);
    });
}

/// Two jobs are pushed while two workers go idle. The first worker finds one of them itself, and is told of the other in
/// that moment: the second worker, who looked before, must hear of it.
#[test]
fn word_of_a_job_reaches_somebody_idle_when_its_first_hearer_is_busy_already() {
    let lanes = Lanes::<Job>::new(64, 0.0);
    let (first, second) = (lanes.seat(), lanes.seat());
    lanes.idle.enter(&first);
    lanes.idle.enter(&second);
    assert!(lanes.look(&mut Shift::default()).is_none(), "the second worker has looked, and waits");
    lanes.interactive.push(job(1)).expect("room");
    assert_eq!(lanes.look(&mut Shift::default()).and_then(|job| job.take()), Some(1), "the first one finds a job");
    lanes.interactive.push(job(2)).expect("room");
    lanes.idle.look();
    lanes.leave_served(&first);
    assert!(matches!(second.receiver().try_recv(), Ok(Handed::Look)), "nobody would take the second job");
}

/// Whoever hands a job over may get no processor, or stand still with the whole process, between taking a worker out of the
/// set and sending to it. The worker must not go on meanwhile: the job would lie at its seat behind another one.
#[test]
fn a_worker_waits_for_what_it_is_owed_however_long_it_takes() {
    let lanes = Lanes::<Job>::new(8, 0.0);
    let (taken, is_taken) = bounded(1);
    std::thread::scope(|scope| {
        let (lanes, quit) = (&lanes, Quit::new());
        let watch = quit.watch();
        scope.spawn(move || {
            let (seat, mut shift) = (lanes.seat(), Shift::default());
            loop {
                match lanes.take(&seat, &mut shift, &watch, TICK) {
                    Taken::Tick => {}
                    Taken::Job(job) => return taken.send(job.take()).expect("the test listens"),
                    Taken::Quit => return,
                }
            }
        });
        let owed = loop {
            if let Some(owed) = lanes.idle.take_out() {
                break owed;
            }
            std::thread::yield_now();
        };
        let late = HAND_OVER * 5 / 4;
        assert!(is_taken.recv_timeout(late).is_err() && lanes.idle.len() == 0, "it went on with a message owed to it");
        owed.try_send(Handed::Job(job(7))).expect("its seat is free");
        assert_eq!(is_taken.recv_timeout(Duration::from_secs(5)), Ok(Some(7)));
        drop(quit);
    });
}

/// A worker that looks while somebody has the jobs in hand finds none; it must hear of them when they are back.
#[test]
fn who_goes_idle_while_a_lane_is_turned_over_hears_of_what_is_put_back() {
    let lanes = Lanes::new(8, 0.0);
    let jobs: Vec<Job> = (0..6).map(job).collect();
    jobs.iter().for_each(|job| lanes.push(Arc::clone(job)).expect("room"));
    let seat = lanes.seat();
    lanes.idle.enter(&seat);
    for left in &jobs[..5] {
        left.take().expect("still there");
        lanes.bury(Priority::Interactive);
    }
    assert_eq!(lanes.interactive.receiver.len(), 1, "the lane was turned over");
    assert!(matches!(seat.receiver().try_recv(), Ok(Handed::Look)), "the job would lie while a worker is idle");
}

/// Waiters who leave turn the lanes over again and again while workers go idle and wake: who stays is served.
#[test]
fn nobody_who_stays_waits_while_a_worker_is_idle() {
    let lanes = Lanes::<Job>::new(4, 0.125);
    let quit = Quit::new();
    let (done, is_done): (Vec<_>, Vec<_>) = (0..4).map(|_| bounded(1)).unzip();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (lanes, watch, done) = (&lanes, quit.watch(), &done);
            scope.spawn(move || {
                let (seat, mut shift) = (lanes.seat(), Shift::default());
                while let Taken::Job(job) = lanes.take(&seat, &mut shift, &watch, Duration::from_secs(60)) {
                    match job.take() {
                        Some(owner) => done[owner as usize].send(()).expect("it is waited for"),
                        None => lanes.unbury(Priority::Interactive),
                    }
                }
            });
        }
        let waiters: Vec<_> = is_done
            .iter()
            .zip(0..)
            .map(|(is_done, owner)| {
                let lanes = &lanes;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(owner.into());
                    for _ in 0..if cfg!(miri) { 20 } else { 3000 } {
                        let mine = job(owner);
                        lanes.push(Arc::clone(&mine)).expect("room");
                        (0..random.u32(..200)).for_each(|_| std::hint::spin_loop());
                        if random.bool() && mine.take().is_some() {
                            lanes.bury(Priority::Interactive);
                        } else {
                            is_done.recv_timeout(Duration::from_secs(5)).expect("no job is left lying");
                        }
                    }
                })
            })
            .collect();
        waiters.into_iter().for_each(|waiter| waiter.join().expect("no panic"));
        drop(quit);
    });
}

#[test]
fn idle_workers_take_turns() {
    const ROUNDS: u32 = if cfg!(miri) { 16 } else { 400 };
    let lanes = Lanes::<Job>::new(64, 0.0);
    let quit = Quit::new();
    let (done, is_done) = bounded(1);
    std::thread::scope(|scope| {
        for worker in 0..4usize {
            let (lanes, watch, done) = (&lanes, quit.watch(), done.clone());
            scope.spawn(move || {
                let (seat, mut shift) = (lanes.seat(), Shift::default());
                while let Taken::Job(_) = lanes.take(&seat, &mut shift, &watch, Duration::from_secs(60)) {
                    done.send(worker).expect("the test listens");
                }
            });
        }
        let all_idle = || lanes.idle.len() == 4;
        let mut jobs = [0; 4];
        for number in 0..ROUNDS {
            let fuse = crate::time::Deadline::after(Duration::from_secs(5));
            while !all_idle() {
                assert!(!fuse.passed(), "a worker does not come back");
                std::thread::yield_now();
            }
            lanes.push(job(number)).expect("room");
            jobs[is_done.recv_timeout(Duration::from_secs(5)).expect("somebody takes it")] += 1;
        }
        assert_eq!(jobs, [ROUNDS / 4; 4]);
        drop(quit);
    });
}

/// Whoever leaves while the lanes are swept may turn one over: what it has in hand must not be put back behind the sweep.
#[test]
fn a_sweep_finds_what_somebody_is_turning_over() {
    for _ in 0..if cfg!(miri) { 3 } else { 100 } {
        let lanes = Lanes::<Job>::new(64, 0.0);
        (0..64).for_each(|number| lanes.push(job(number)).expect("room"));
        let swept = AtomicUsize::new(0);
        let (started, is_started) = bounded(0);
        std::thread::scope(|scope| {
            let (lanes, swept) = (&lanes, &swept);
            scope.spawn(move || {
                started.send(()).expect("it is waited for");
                while swept.load(Ordering::SeqCst) == 0 {
                    lanes.interactive.turn_over();
                    // The sweep waits for its turn by yielding; a loop without a gap would starve it for whole time slices.
                    std::thread::yield_now();
                }
            });
            is_started.recv().expect("it starts");
            swept.store(lanes.sweep().count(), Ordering::SeqCst);
        });
        assert_eq!(swept.into_inner(), 64);
    }
}

/// Producers that take half of their jobs back race with workers: each job is had by exactly one side.
#[test]
fn every_job_is_taken_once_while_lanes_turn_over() {
    const PER_PRODUCER: usize = if cfg!(miri) { 20 } else { 3000 };
    let lanes = Lanes::<Job>::new(16, 0.125);
    let permits = crate::queue::Permits::new(16);
    let (worked, taken_back) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let quit = Quit::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (lanes, worked, watch) = (&lanes, &worked, quit.watch());
            scope.spawn(move || {
                let (seat, mut shift) = (lanes.seat(), Shift::default());
                loop {
                    match lanes.take(&seat, &mut shift, &watch, TICK) {
                        Taken::Job(job) if job.take().is_some() => {
                            worked.fetch_add(1, Ordering::SeqCst);
                        }
                        Taken::Job(_) => lanes.unbury(Priority::Interactive),
                        Taken::Tick => {}
                        Taken::Quit => break,
                    }
                }
            });
        }
        let producers: Vec<_> = (0..3)
            .map(|_| {
                let (lanes, taken_back, permits) = (&lanes, &taken_back, &permits);
                scope.spawn(move || {
                    for number in 0..PER_PRODUCER {
                        let permit = loop {
                            if let Ok(permit) = permits.try_take() {
                                break permit;
                            }
                            std::thread::yield_now();
                        };
                        let mine = job(0);
                        lanes.push(Arc::clone(&mine)).expect("a permit means a slot");
                        if number % 2 == 0 {
                            std::thread::yield_now();
                        }
                        if mine.take().is_some() {
                            taken_back.fetch_add(1, Ordering::SeqCst);
                            lanes.bury(Priority::Interactive);
                        }
                        drop(permit);
                    }
                })
            })
            .collect();
        producers.into_iter().for_each(|producer| producer.join().expect("no panic"));
        drop(quit);
    });
    let swept = lanes.sweep().filter(|job| job.take().is_some()).count();
    assert_eq!(worked.into_inner() + taken_back.into_inner() + swept, 3 * PER_PRODUCER);
}

#[test]
fn the_bell_rings_for_a_job_that_finds_nobody_idle_and_only_then() {
    let lanes = Lanes::new(8, 0.0);
    lanes.push(job(1)).expect("room");
    assert!(lanes.bell().channel().is_empty(), "it is not armed");
    let _ = lanes.bell().arm(true);
    (2..4).for_each(|number| lanes.push(job(number)).expect("room"));
    assert_eq!((lanes.bell().channel().len(), lanes.standing()), (1, 3));
    assert!(lanes.bell().channel().try_recv().is_ok());
    let seat = lanes.seat();
    lanes.idle.enter(&seat);
    lanes.push(job(4)).expect("room");
    assert!(lanes.bell().channel().is_empty(), "somebody was idle");
}

/// A retiring worker that was told of a job passes the word on; with nobody idle, it must be heard by who hires.
#[test]
fn word_that_a_leaving_worker_passes_on_to_nobody_rings_the_bell() {
    let lanes = Lanes::<Job>::new(8, 0.0);
    let _ = lanes.bell().arm(true);
    let seat = lanes.seat();
    lanes.idle.enter(&seat);
    lanes.interactive.push(job(1)).expect("room");
    assert!(lanes.idle.look());
    lanes.leave_served(&seat);
    assert_eq!(lanes.bell().channel().len(), 1);
}

#[test]
fn the_fewest_idle_between_two_looks_are_remembered() {
    let lanes = Lanes::<Job>::new(8, 0.0);
    let seats: Vec<_> = (0..3).map(|_| lanes.seat()).collect();
    seats.iter().for_each(|seat| lanes.idle.enter(seat));
    let _ = lanes.fewest_idle();
    (0..2).for_each(|number| lanes.push(job(number)).expect("somebody is idle"));
    seats[..2].iter().for_each(|seat| lanes.idle.enter(seat));
    assert_eq!((lanes.fewest_idle(), lanes.fewest_idle()), (1, 3));
}

#[test]
fn the_oldest_of_both_lanes_comes_out_first_whoever_left_in_between() {
    let lanes = Lanes::new(8, 0.125);
    let jobs: Vec<Job> = (0..12).map(|n| if n % 3 == 0 { batch(n) } else { job(n) }).collect();
    jobs.iter().for_each(|job| lanes.push(Arc::clone(job)).expect("room"));
    // Enough leave for the interactive lane to be turned over, and one of the batch lane stays as a tombstone.
    for left in [1, 2, 4, 5, 7, 3] {
        jobs[left].take().expect("still there");
        lanes.bury(jobs[left].priority);
    }
    let mut order = Vec::new();
    while let Some(oldest) = lanes.take_oldest() {
        order.extend(oldest.take());
    }
    assert_eq!(order, [0, 6, 8, 9, 10, 11]);
    assert_eq!(lanes.oldest_wait(now()), None);
}

#[test]
fn the_heads_age_is_that_of_who_still_waits_once_the_dead_are_thrown_out() {
    let lanes = Lanes::new(64, 0.125);
    let start = now();
    let aged = |number, ms| {
        let since = start + Duration::from_millis(ms);
        Arc::new(Entry { slot: Slot::new(&TEST_LEAF, number), priority: Priority::Interactive, since })
    };
    let (first, second) = (aged(1, 10), aged(2, 300));
    [&first, &second].into_iter().for_each(|job| lanes.push(Arc::clone(job)).expect("room"));
    let at = start + Duration::from_secs(1);
    assert_eq!(lanes.oldest_wait(at), Some(Duration::from_millis(990)));
    first.take().expect("it leaves");
    lanes.bury(Priority::Interactive);
    lanes.compact();
    assert_eq!(lanes.oldest_wait(at), Some(Duration::from_millis(700)));
}

/// Ten thousand come and leave while nobody works: the shells they leave behind are bounded.
#[test]
fn shells_of_ten_thousand_who_left_are_a_quarter_of_a_lane_at_most() {
    let lanes = Lanes::<Job>::new(64, 0.125);
    let mut most = 0;
    for number in 0..10_000 {
        let mine = if number % 2 == 0 { job(number) } else { batch(number) };
        lanes.push(Arc::clone(&mine)).expect("room");
        mine.take().expect("nobody else takes it");
        lanes.bury(mine.priority);
        most = most.max(lanes.interactive.receiver.len() + lanes.batch.receiver.len());
    }
    assert!(most <= 2 * (128 / 4 + 1), "{most} shells stood in two lanes of 128 slots");
}

/// Shedders, workers and those who leave race for the same jobs: each job is had by exactly one, and none is left lying.
#[test]
fn every_job_is_had_once_while_the_oldest_are_shed() {
    const EACH: usize = 3000;
    let lanes = Lanes::<Job>::new(32, 0.125);
    let [worked, shed, left] = [0; 3].map(AtomicUsize::new);
    let quit = Quit::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (lanes, worked, watch) = (&lanes, &worked, quit.watch());
            scope.spawn(move || {
                let (seat, mut shift) = (lanes.seat(), Shift::default());
                while let Taken::Job(job) = lanes.take(&seat, &mut shift, &watch, Duration::from_secs(60)) {
                    match job.take() {
                        Some(_) => {
                            worked.fetch_add(1, Ordering::SeqCst);
                            // Long enough for a queue to build up.
                            (0..3).for_each(|_| std::thread::yield_now());
                        }
                        None => lanes.unbury(job.priority),
                    }
                }
            });
        }
        let producers: Vec<_> = (0..3u32)
            .map(|producer| {
                let (lanes, shed, left) = (&lanes, &shed, &left);
                scope.spawn(move || {
                    let mut mine = VecDeque::new();
                    for number in 0..EACH {
                        let new = if number % 3 == 0 { batch(producer) } else { job(producer) };
                        mine.push_back(Arc::clone(&new));
                        lanes.push(new).expect("room");
                        // As many as there are permits, in all, stand in the lanes at the most.
                        while mine.len() > 10 {
                            match lanes.take_oldest() {
                                Some(job) if job.take().is_some() => {
                                    shed.fetch_add(1, Ordering::SeqCst);
                                }
                                Some(job) => lanes.unbury(job.priority),
                                None => {}
                            }
                            if number % 7 == 0
                                && let Some(job) = mine.back()
                                && job.take().is_some()
                            {
                                left.fetch_add(1, Ordering::SeqCst);
                                lanes.bury(job.priority);
                            }
                            mine.retain(|job| job.slot.is_held());
                            std::thread::yield_now();
                        }
                    }
                    let fuse = crate::time::Deadline::after(Duration::from_secs(5));
                    while mine.iter().any(|job| job.slot.is_held()) {
                        assert!(!fuse.passed(), "a job is left lying");
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        producers.into_iter().for_each(|producer| producer.join().expect("no panic"));
        drop(quit);
    });
    let counts = [worked, shed, left].map(AtomicUsize::into_inner);
    assert_eq!(counts.iter().sum::<usize>(), 3 * EACH, "{counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert_eq!(lanes.interactive.tombstones.load(Ordering::SeqCst), lanes.interactive.receiver.len() as isize);
    assert_eq!(lanes.batch.tombstones.load(Ordering::SeqCst), lanes.batch.receiver.len() as isize);
}

/// What may happen to lanes, one thing after the other.
#[derive(Clone, Copy, Debug)]
enum Step {
    Push(Priority),
    Take,
    /// Of the waiters, the one at this place leaves.
    Leave(usize),
    TurnOver,
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Push(Priority::Interactive)),
        3 => Just(Step::Push(Priority::Batch)),
        4 => Just(Step::Take),
        3 => (0..8usize).prop_map(Step::Leave),
        1 => Just(Step::TurnOver),
        1 => Just(Step::Sweep),
    ]
}

/// The lanes as two lists: `None` is a tombstone.
#[derive(Default)]
struct Model {
    lanes: [VecDeque<Option<u32>>; 2],
    tombstones: [isize; 2],
    turn: u32,
}

impl Model {
    /// The next shell, batch first in one take of `every`.
    fn take(&mut self, every: u32) -> Option<(usize, Option<u32>)> {
        let batch_first = every > 0 && (self.turn + 1).is_multiple_of(every);
        let order = if batch_first { [1, 0] } else { [0, 1] };
        let found = order.into_iter().find_map(|lane| self.lanes[lane].pop_front().map(|shell| (lane, shell)))?;
        self.turn = (self.turn + 1) % every.max(1);
        Some(found)
    }

    fn turn_over(&mut self, lane: usize) {
        self.lanes[lane].retain(Option::is_some);
        self.tombstones[lane] = 0;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
    /// Lanes against two lists: the order of each, the share of batch, tombstones thrown out, and what a sweep finds.
    #[test]
    fn lanes_are_as_two_lists(every in 0..5u32, steps in proptest::collection::vec(step(), 0..80)) {
        const PERMITS: usize = 6;
        let share = if every == 0 { 0.0 } else { 1.0 / f64::from(every) };
        let lanes = Lanes::<Job>::new(PERMITS, share);
        let (seat, mut shift, quit) = (lanes.seat(), Shift::default(), Quit::new());
        let mut model = Model::default();
        let mut waiting: Vec<Job> = Vec::new();
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Push(_) if waiting.len() == PERMITS => {}
                Step::Push(priority) => {
                    let new = if priority == Priority::Batch { batch(number) } else { job(number) };
                    lanes.push(Arc::clone(&new)).expect("a permit means a slot");
                    model.lanes[priority as usize].push_back(Some(number));
                    waiting.push(new);
                }
                Step::Take => {
                    let taken = match lanes.take(&seat, &mut shift, &quit.watch(), Duration::ZERO) {
                        Taken::Job(job) => {
                            let content = job.take();
                            if content.is_none() {
                                lanes.unbury(job.priority);
                            }
                            waiting.retain(|other| !Arc::ptr_eq(other, &job));
                            Some((job.priority as usize, content))
                        }
                        Taken::Tick | Taken::Quit => None,
                    };
                    let expected = model.take(every);
                    if let Some((lane, None)) = expected {
                        model.tombstones[lane] -= 1;
                    }
                    prop_assert_eq!(taken, expected);
                }
                Step::Leave(at) if at < waiting.len() => {
                    let left = waiting.swap_remove(at);
                    let (lane, content) = (left.priority as usize, left.take());
                    prop_assert!(content.is_some(), "nobody else had it");
                    lanes.bury(left.priority);
                    model.lanes[lane].iter_mut().filter(|shell| **shell == content).for_each(|shell| *shell = None);
                    model.tombstones[lane] += 1;
                    // A quarter of a lane that is twice as deep as there are permits.
                    if model.tombstones[lane] > (2 * PERMITS / 4) as isize {
                        model.turn_over(lane);
                    }
                }
                Step::Leave(_) => {}
                Step::TurnOver => {
                    lanes.interactive.turn_over();
                    model.turn_over(0);
                }
                Step::Sweep => {
                    let found: Vec<_> = lanes.sweep().map(|job| (job.priority as usize, job.take())).collect();
                    let in_order = model.lanes.iter_mut().zip(0usize..);
                    let expected: Vec<_> =
                        in_order.flat_map(|(lane, at)| lane.drain(..).map(move |shell| (at, shell))).collect();
                    prop_assert_eq!(&found, &expected);
                    for (lane, _) in found.iter().filter(|(_, content)| content.is_none()) {
                        lanes.unbury(if *lane == 0 { Priority::Interactive } else { Priority::Batch });
                        model.tombstones[*lane] -= 1;
                    }
                    waiting.clear();
                }
            }
            prop_assert_eq!(lanes.interactive.receiver.len(), model.lanes[0].len());
            prop_assert_eq!(lanes.batch.receiver.len(), model.lanes[1].len());
        }
    }
}
