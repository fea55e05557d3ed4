//! The registry as its users see it.

use std::collections::HashSet;

use super::*;
use crate::sync::locks::Ranked;
use crate::time::Deadline;

const FUSE: Duration = Duration::from_secs(5);

fn threads(limit: u64) -> Threads {
    Threads::new(limit, 256 * 1024)
}

#[test]
fn past_the_limit_a_spawn_is_an_error_and_the_place_comes_back() {
    let threads = threads(1);
    let (hold, held) = bounded::<()>(0);
    let first = threads.spawn(Role::Conn, "first", move || assert!(held.recv().is_err())).expect("room for one");
    assert!(matches!(
        threads.spawn(Role::Conn, "second", || ()),
        Err(SpawnError::Limit { limit: 1, set_by: "threads.max" })
    ));
    drop(hold);
    first.join(Deadline::after(FUSE)).expect("it ends");
    threads.spawn(Role::Conn, "third", || ()).expect("room again").join(Deadline::after(FUSE)).expect("it ends");
    let stats = threads.stats();
    assert_eq!(
        (stats.active, stats.peak, stats.spawned_total, stats.finished_total, stats.refused_total),
        (0, 1, 2, 2, 1)
    );
}

#[test]
fn a_panic_is_caught_counted_and_told_to_the_owner() {
    let threads = threads(4);
    let (tell, told) = bounded(4);
    let thread = threads.spawn_owned(Role::Worker, "dies", tell, || panic!("of its own accord")).expect("room");
    let id = thread.id();
    thread.join(Deadline::after(FUSE)).expect("it ends");
    assert_eq!(told.recv_timeout(FUSE), Ok(ThreadEvent::Spawned(id)));
    assert_eq!(told.recv_timeout(FUSE), Ok(ThreadEvent::Ended { id, panicked: true }));
    assert_eq!(threads.stats().panics_total, 1);
    assert!(threads.stats().ended[0].panicked);
}

#[test]
fn an_owner_that_hears_of_an_end_finds_the_thread_done() {
    let threads = threads(4);
    for _ in 0..500 {
        let (tell, told) = bounded(4);
        let thread = threads.spawn_owned(Role::Worker, "brief", tell, || ()).expect("room");
        while !matches!(told.recv_timeout(FUSE).expect("it is told"), ThreadEvent::Ended { .. }) {}
        assert_eq!(thread.done().try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected));
    }
}

/// Starts threads of each role, one after the other, which must fit exactly; all end afterwards.
fn fit_exactly(threads: &Threads, roles: &[(Role, usize)]) {
    let (hold, held) = bounded::<Infallible>(0);
    let start = |role| {
        let held = held.clone();
        threads.spawn(role, "held", move || assert!(held.recv().is_err()))
    };
    let running: Vec<_> = roles
        .iter()
        .flat_map(|(role, fit)| {
            let running: Vec<_> = (0..*fit).map(|_| start(*role).expect("its share")).collect();
            assert!(matches!(start(*role), Err(SpawnError::Limit { .. })), "{role:?}");
            running
        })
        .collect();
    drop(hold);
    running.into_iter().for_each(|thread| thread.join(Deadline::after(FUSE)).expect("it ends"));
}

#[test]
fn connections_leave_threads_to_workers_and_both_to_the_rest() {
    let threads = threads(16);
    for _ in 0..2 {
        fit_exactly(&threads, &[(Role::Conn, 14), (Role::Worker, 1), (Role::Admin, 1)]);
        // That somebody is served takes nothing from those who come first.
        threads.keep_for(Role::Conn);
    }
}

#[test]
fn workers_leave_threads_to_connections_once_somebody_is_served_there() {
    let threads = threads(32);
    fit_exactly(&threads, &[(Role::Worker, 30), (Role::Conn, 0), (Role::Admin, 2)]);
    threads.keep_for(Role::Conn);
    fit_exactly(&threads, &[(Role::Worker, 26), (Role::Conn, 4), (Role::Worker, 0), (Role::Admin, 2)]);
    threads.keep_for(Role::Sim);
    fit_exactly(&threads, &[(Role::Worker, 24), (Role::Conn, 4), (Role::Sim, 2), (Role::Worker, 0), (Role::Admin, 2)]);
}

#[test]
fn a_service_goes_on_after_a_panic() {
    let threads = threads(4);
    let mut round = 0;
    let thread = threads
        .service(Role::Stats, "stubborn", move || {
            round += 1;
            assert!(round >= 3, "not yet");
        })
        .expect("room");
    thread.join(Deadline::after(FUSE)).expect("it ends in its third round");
    assert_eq!(threads.stats().panics_total, 2);
}

#[test]
fn a_straggler_is_reported_by_name() {
    let threads = threads(4);
    let (hold, held) = bounded::<()>(0);
    let thread = threads.spawn(Role::Worker, "sim-worker-1", move || assert!(held.recv().is_err())).expect("room");
    let thread = thread.join(Deadline::after(Duration::from_millis(5))).expect_err("it still runs");
    assert_eq!(thread.name(), "sim-worker-1");
    drop(hold);
    thread.join(Deadline::after(FUSE)).expect("it ends");
}

#[test]
fn the_list_shows_what_each_thread_does() {
    let threads = threads(4);
    let (hold, held) = bounded::<()>(0);
    let (ready, is_ready) = bounded::<()>(1);
    let thread = threads
        .spawn(Role::Worker, "waits", move || {
            let _state = enter(State::WaitingChannel);
            ready.send(()).expect("the test listens");
            assert!(held.recv().is_err());
        })
        .expect("room");
    is_ready.recv_timeout(FUSE).expect("it runs");
    assert_eq!(threads.list()[0].state, State::WaitingChannel);
    drop(hold);
    thread.join(Deadline::after(FUSE)).expect("it ends");
    assert!(threads.list().is_empty());
}

#[test]
fn a_thread_is_in_every_state_that_it_says_and_remembered_when_it_has_finished() {
    let threads = threads(4);
    let (step, steps) = bounded::<()>(0);
    let (at, is_at) = bounded::<()>(0);
    let lock = Arc::new(Ranked::new(&classes::TEST_OUTER, ()));
    let contended = Arc::clone(&lock);
    let next = move || {
        at.send(()).expect("the test listens");
        steps.recv_timeout(FUSE).expect("the test goes on");
    };
    let thread = threads
        .spawn(Role::Worker, "states", move || {
            next();
            for state in [State::WaitingChannel, State::Io] {
                let _state = enter(state);
                next();
            }
            next();
            drop(contended.lock(FUSE).expect("it comes free"));
            next();
        })
        .expect("room");
    let state = |expected: State| {
        is_at.recv_timeout(FUSE).expect("it goes on");
        assert_eq!(threads.list()[0].state, expected);
        step.send_timeout((), FUSE).expect("it waits");
    };
    [State::Running, State::WaitingChannel, State::Io].into_iter().for_each(state);
    is_at.recv_timeout(FUSE).expect("it goes on");
    let held = lock.lock(FUSE).expect("free");
    step.send_timeout((), FUSE).expect("it waits");
    let fuse = Deadline::after(FUSE);
    while threads.list()[0].state != State::WaitingLock {
        assert!(!fuse.passed(), "{:?}", threads.list());
        std::thread::yield_now();
    }
    drop(held);
    state(State::Running);
    thread.join(Deadline::after(FUSE)).expect("it ends");
    assert!(threads.list().is_empty());
    assert_eq!(&*threads.stats().ended[0].name, "states");
}

#[test]
fn each_thread_has_an_id_and_a_name_and_its_lifetime_is_told_when_it_has_ended() {
    const THREADS: usize = 8;
    let threads = threads(THREADS as u64);
    let (hold, held) = bounded::<Infallible>(0);
    let begun = now();
    let running: Vec<_> = (0..THREADS)
        .map(|number| {
            let held = held.clone();
            threads
                .spawn(Role::Worker, &format!("worker-{number}"), move || assert!(held.recv().is_err()))
                .expect("room")
        })
        .collect();
    let all_run = now();
    let rows = threads.list();
    let ids: HashSet<_> = rows.iter().map(|row| row.id).collect();
    let names: HashSet<_> = rows.iter().map(|row| row.name.to_string()).collect();
    assert_eq!((rows.len(), ids.len(), names.len()), (THREADS, THREADS, THREADS));
    let least = micros_of(now().saturating_duration_since(all_run));
    drop(hold);
    running.into_iter().for_each(|thread| thread.join(Deadline::after(FUSE)).expect("it ends"));
    let stats = threads.stats();
    let most = micros_of(now().saturating_duration_since(begun));
    assert_eq!(stats.ended.iter().map(|ended| ended.id).collect::<HashSet<_>>(), ids, "the same ids, each once");
    for ended in &stats.ended {
        assert!((least..=most).contains(&ended.lifetime_us), "{ended:?}, of {least} to {most} µs");
        assert!(names.contains(&*ended.name) && ended.role == Role::Worker && !ended.panicked, "{ended:?}");
    }
    let workers = &stats.by_role[&Role::Worker];
    assert_eq!((workers.active, workers.lifetime_us.count), (0, THREADS as u64));
}

#[test]
fn the_last_ended_threads_are_remembered_and_no_more() {
    let threads = threads(4);
    for number in 0..ENDED_KEPT + 3 {
        let thread = threads.spawn(Role::Worker, &format!("worker-{number}"), || ()).expect("room");
        thread.join(Deadline::after(FUSE)).expect("it ends");
    }
    let ended = threads.stats().ended;
    assert_eq!(ended.len(), ENDED_KEPT);
    assert_eq!((&*ended[0].name, &*ended[ENDED_KEPT - 1].name), ("worker-3", "worker-258"));
}

#[test]
fn jobs_are_counted_by_role_whether_their_threads_run_or_have_ended() {
    let threads = threads(4);
    let (hold, held) = bounded::<()>(0);
    let (tell, told) = bounded::<()>(2);
    let mut running = Vec::new();
    for jobs in [2, 5] {
        let (held, tell) = (held.clone(), tell.clone());
        let work = move || {
            (0..jobs).for_each(|_| count_job());
            tell.send(()).expect("the test listens");
            assert!(held.recv_timeout(FUSE).is_err());
        };
        running.push(threads.spawn(Role::Worker, "counts", work).expect("room"));
    }
    (0..2).for_each(|_| told.recv_timeout(FUSE).expect("it has counted"));
    assert_eq!(threads.stats().by_role[&Role::Worker].jobs_total, 7);
    drop(hold);
    running.into_iter().for_each(|thread| thread.join(Deadline::after(FUSE)).expect("it ends"));
    assert_eq!(threads.stats().by_role[&Role::Worker].jobs_total, 7);
    assert_eq!(threads.stats().by_role[&Role::Conn].jobs_total, 0);
}

#[test]
fn a_panic_is_told_remembered_for_a_while_and_a_joined_service_ends_in_its_pause() {
    let threads = threads(4);
    let (tell, told) = bounded(64);
    threads.on_panic(move |note| tell.send((note.name.to_string(), note.text.clone())).expect("room"));
    let quit = super::super::quit::Quit::new();
    let signal = quit.watch();
    let thread = threads.service(Role::Watcher, "again", move || assert!(signal.given(), "and again")).expect("room");
    // The sixth pause is longer than the fuse of a test would like, and is cut short by the join.
    for _ in 0..6 {
        let (name, text) = told.recv_timeout(FUSE).expect("it is told");
        assert!(name == "again" && text.starts_with("and again; it goes on in "), "{text}");
    }
    drop(quit);
    thread.join(Deadline::after(FUSE)).expect("it ends");
    let recent = threads.recent_panics(now(), STEADY);
    assert!(recent.len() >= 6 && recent.iter().all(|note| note.role == Role::Watcher), "{recent:?}");
    assert!(threads.recent_panics(now() + STEADY, STEADY).is_empty());
    assert_eq!(threads.stats().panics_total, recent.len() as u64);
}
