//! A pool whose workers come and go under load, and what becomes of a decision that cannot be carried out as it was made.

use std::sync::atomic::AtomicBool;

use crossbeam_channel::bounded;

use super::*;
use crate::config::Pools;
use crate::events::Events;
use crate::gateway::CallOptions;
use crate::model::Call;
use crate::provider::roster::Roster;
use crate::provider::{AttemptSettings, Progress, Provider, Stock};
use crate::queue::ByteBudget;
use crate::recycle::Limits;
use crate::sync::{LockTimes, Role, Threads};
use crate::time::{Deadline, now};
use crate::transport::{Body, Incoming, MemoryTransport};
use crate::wire::openai;

const FUSE: Duration = Duration::from_secs(5);

fn provider(threads: &Threads) -> Provider {
    provider_with(threads, LockTimes::DEFAULT, || ())
}

/// A provider of 1 to 12 workers whose every answer comes when `wait` is over.
fn provider_with(threads: &Threads, locks: LockTimes, wait: impl Fn() + Send + Sync + 'static) -> Provider {
    let minute = Duration::from_secs(60);
    let settings = PoolSettings { min_concurrency: 1, locks, ..PoolSettings::fixed("p", 12, 100) };
    let attempt = AttemptSettings::within(minute);
    let transport = MemoryTransport::new(move |_, _| {
        wait();
        Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_bytes(&br#"{"choices":[]}"#[..]) })
    });
    let limits = Limits { initial: 8, max_idle: 64, idle_max_age: minute, alert_below: 0.0 };
    let stock = Stock::new(&Pools::alike(limits));
    let (transport, bytes) = (Arc::new(transport), ByteBudget::new(1 << 20));
    Provider::start(None, settings, attempt, transport, threads, Events::new(), stock, bytes, Duration::ZERO)
        .expect("it starts")
}

fn call() -> Arc<Call> {
    let body = br#"{"model":"m","messages":[]}"#.to_vec();
    let fields = openai::parse_chat(&body).expect("a request");
    Arc::new(CallOptions::new().call(body, fields, now()).expect("good"))
}

/// Has the pool shrink by `by`, as if the scaler had said so.
fn shrink(roster: &Roster, by: usize) {
    let mut control = roster.staffing.control.lock(SCALING_WAIT).expect("it is had");
    let from = roster.staffing.wanted();
    let to = from.saturating_sub(by).max(1);
    if to < from {
        let change = Change { direction: Direction::Down, from, to, reason: Reason::Utilisation };
        roster.staffing.carry_out(roster, &mut control, now(), change, &mut false);
    }
}

#[test]
fn no_job_is_lost_while_workers_retire_and_come_under_load() {
    const CALLERS: u64 = 6;
    const JOBS: u32 = 400;
    let threads = Threads::new(64, 512 << 10);
    let provider = provider(&threads);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|seed| {
                let provider = &provider;
                scope.spawn(move || {
                    let (mut random, model) = (fastrand::Rng::with_seed(seed), "m".into());
                    for _ in 0..JOBS {
                        let outcome = provider.attempt(&call(), &model, &Progress::default(), None);
                        outcome.result.expect("it is answered");
                        if random.u8(0..4) == 0 {
                            std::thread::park_timeout(Duration::from_micros(random.u64(0..500)));
                        }
                    }
                })
            })
            .collect();
        let (provider, over) = (&provider, &over);
        scope.spawn(move || {
            while !over.load(Ordering::SeqCst) {
                shrink(&provider.pool.roster, 3);
                std::thread::park_timeout(Duration::from_micros(200));
            }
        });
        let ended: Vec<_> = callers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::SeqCst);
        assert!(ended.iter().all(Result::is_ok), "a job was lost");
    });
    let stats = provider.stats();
    assert_eq!(stats.jobs.succeeded_total, CALLERS * u64::from(JOBS));
    assert!(stats.scaling.down_total > 0 && stats.scaling.up_total > 0, "{:?}", stats.scaling);
    // Whoever waited for a worker waited for its thread to start, not for a look.
    assert!(stats.queue.wait_us.p999 < 250_000 * 5, "{:?}", stats.queue.wait_us);
    let providers = [Arc::new(provider)];
    for halt in Provider::halt_all(&providers) {
        let end = halt.join(Deadline::after(FUSE));
        assert!(end.stragglers.is_empty(), "{end:?}");
    }
    assert_eq!(threads.active(), 0);
}

#[test]
fn growth_on_demand_that_goes_on_is_one_decision_until_it_is_told() {
    let threads = Threads::new(64, 512 << 10);
    let provider = provider(&threads);
    let roster = &provider.pool.roster;
    let (before, told) = (provider.stats().scaling, || roster.shared.events.list().len());
    let mut control = roster.staffing.control.lock(SCALING_WAIT).expect("it is had");
    let events = told();
    for (from, to) in [(1, 3), (3, 4), (4, 9)] {
        let change = Change { direction: Direction::Up, from, to, reason: Reason::Demand };
        roster.staffing.record(&mut control, now(), change);
    }
    assert_eq!(told(), events, "it goes on");
    let scaling = provider.stats().scaling;
    assert_eq!(scaling.up_total - before.up_total, 1);
    assert_eq!(scaling.workers_added_total - before.workers_added_total, 8);
    assert_eq!(scaling.last.map(|last| (last.change.from, last.change.to)), Some((1, 9)));
    let down = Change { direction: Direction::Down, from: 9, to: 5, reason: Reason::LoadEnded };
    roster.staffing.record(&mut control, now(), down);
    let messages: Vec<_> = roster.shared.events.list().into_iter().skip(events).map(|event| event.message).collect();
    assert_eq!(messages, ["1 -> 9 workers (demand)", "9 -> 5 workers (load_ended)"]);
}

#[test]
fn a_roster_that_is_stuck_for_a_while_is_no_reason_to_think_that_less_was_done() {
    let threads = Threads::new(64, 512 << 10);
    let short = Duration::from_millis(20);
    let provider = provider_with(&threads, LockTimes { default_timeout: short, max_timeout: FUSE }, || ());
    let (roster, model) = (&provider.pool.roster, "m".into());
    for _ in 0..20 {
        provider.attempt(&call(), &model, &Progress::default(), None).result.expect("it is answered");
    }
    // What is compared with: a sample that nothing older stands before.
    let later = now() + OBSERVED + SAMPLE_EVERY;
    roster.tend(later, true);
    let (is_held, held) = bounded::<()>(0);
    let (let_go, until) = bounded::<()>(0);
    let evaluations = std::thread::scope(|scope| {
        scope.spawn(move || {
            let _held = roster.workers.lock(FUSE).expect("it is had");
            drop(is_held);
            let _ = until.recv_timeout(FUSE);
        });
        let _ = held.recv_timeout(FUSE);
        // An evaluation that had counted before is over.
        drop(roster.staffing.control.lock(SCALING_WAIT).expect("it is had"));
        let before = roster.staffing.scaling_stats(later).evaluations_total;
        roster.tend(later + SAMPLE_EVERY, true);
        let evaluations = roster.staffing.scaling_stats(later).evaluations_total - before;
        drop(let_go);
        evaluations
    });
    assert_eq!(evaluations, 0, "nothing is decided by what is not known");
    provider.attempt(&call(), &model, &Progress::default(), None).result.expect("it is answered");
}

#[test]
fn a_decision_to_grow_that_leaves_fewer_than_there_were_counts_nobody_as_added() {
    // Room for the supervisor and one worker.
    let threads = Threads::new(2, 512 << 10);
    let provider = provider(&threads);
    let roster = &provider.pool.roster;
    let mut control = roster.staffing.control.lock(SCALING_WAIT).expect("it is had");
    // As if four had just ended by a panic.
    roster.staffing.wanted.store(5, Ordering::SeqCst);
    let change = Change { direction: Direction::Up, from: 5, to: 8, reason: Reason::Demand };
    roster.staffing.carry_out(&**roster, &mut control, now(), change, &mut true);
    let scaling = provider.stats().scaling;
    assert_eq!((scaling.workers_added_total, scaling.up_total), (0, 0), "{scaling:?}");
    assert!(scaling.held_total["thread_limit"] > 0 && roster.staffing.wanted() == 1, "{scaling:?}");
}

#[test]
fn a_thread_that_comes_free_after_a_refusal_is_had_at_once_and_not_at_the_next_look() {
    // Room for the supervisor, a worker and another thread.
    let threads = Threads::new(3, 512 << 10);
    let (open, opened) = bounded::<()>(0);
    let wait = move || assert!(opened.recv_timeout(FUSE).is_err());
    let provider = provider_with(&threads, LockTimes::DEFAULT, wait);
    let roster = &provider.pool.roster;
    let supervisor = provider.pool.supervisor.take().expect("it runs");
    let other = supervisor.0.watch();
    let other = threads.spawn(Role::Resolver, "other", move || assert!(other.channel().recv_timeout(FUSE).is_err()));
    let other = other.expect("there is room");
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| provider.attempt(&call(), &"m".into(), &Progress::default(), None)))
            .collect();
        let fuse = Deadline::after(FUSE);
        while provider.stats().workers.busy == 0 || roster.shared.lanes.standing() == 0 {
            assert!(!fuse.passed(), "one runs and one waits");
            std::thread::yield_now();
        }
        // The worker is busy a moment before it stops to count as starting, and the supervisor may be asking, too.
        while provider.stats().scaling.held_total["thread_limit"] == 0 || roster.staffing.wanted() != 1 {
            assert!(!fuse.passed(), "nobody was refused: {:?}", provider.stats().scaling);
            roster.tend(now(), false);
        }
        // Whoever would look by itself ends, and the other thread with it.
        drop(supervisor.0);
        for thread in [supervisor.1, other] {
            thread.join(Deadline::after(FUSE)).expect("it ends");
        }
        roster.tend(now(), false);
        assert_eq!(roster.staffing.wanted(), 2, "{:?}", provider.stats().scaling);
        drop(open);
        asked.into_iter().for_each(|asked| assert!(asked.join().expect("no panic").result.is_ok()));
    });
}

#[test]
fn when_there_may_be_fewer_busy_workers_go_too_and_each_answers_first() {
    const BUSY: usize = 6;
    let threads = Threads::new(64, 512 << 10);
    let (open, opened) = bounded::<()>(0);
    let wait = move || assert!(opened.recv_timeout(FUSE).is_err());
    let provider = provider_with(&threads, LockTimes::DEFAULT, wait);
    let roster = &provider.pool.roster;
    let workers = || provider.stats().workers;
    let eventually = |what: &str, holds: &dyn Fn() -> bool| {
        let fuse = Deadline::after(FUSE);
        while !holds() {
            assert!(!fuse.passed(), "it never came to pass: {what}: {:?}", workers());
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..BUSY)
            .map(|_| scope.spawn(|| provider.attempt(&call(), &"m".into(), &Progress::default(), None)))
            .collect();
        eventually("all are busy", &|| workers().busy == BUSY as u64);
        let mut control = roster.staffing.control.lock(SCALING_WAIT).expect("it is had");
        let change = Change { direction: Direction::Down, from: BUSY, to: 2, reason: Reason::Utilisation };
        roster.staffing.carry_out(&**roster, &mut control, now(), change, &mut false);
        assert_eq!(roster.staffing.wanted(), BUSY, "nobody is idle");
        roster.staffing.carry_out(
            &**roster,
            &mut control,
            now(),
            Change { reason: Reason::Limits, ..change },
            &mut false,
        );
        assert_eq!((roster.staffing.wanted(), workers().busy), (2, BUSY as u64), "they are told, and go on");
        drop((control, open));
        asked.into_iter().for_each(|asked| assert!(asked.join().expect("no panic").result.is_ok()));
    });
    eventually("two are left", &|| workers().active == 2);
}

#[test]
fn while_one_decision_is_made_nobody_makes_another() {
    let threads = Threads::new(64, 512 << 10);
    let short = Duration::from_millis(100);
    let provider = provider_with(&threads, LockTimes { default_timeout: short, max_timeout: short }, || ());
    let roster = &provider.pool.roster;
    let control = roster.staffing.control.lock(SCALING_WAIT).expect("it is had");
    let before = provider.stats().scaling.evaluations_total;
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..3).map(|_| scope.spawn(|| roster.tend(now(), true))).collect();
        callers.into_iter().for_each(|caller| caller.join().expect("it gives up in time"));
    });
    assert_eq!(provider.stats().scaling.evaluations_total, before);
    drop(control);
    roster.tend(now(), true);
    assert!(provider.stats().scaling.evaluations_total > before);
}
