//! The registry as its users see it.

use super::*;
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

#[test]
fn connections_leave_threads_to_workers_and_both_to_the_rest() {
    let threads = threads(16);
    let (hold, held) = bounded::<Infallible>(0);
    let start = |role| {
        let held = held.clone();
        threads.spawn(role, "held", move || assert!(held.recv().is_err()))
    };
    let running: Vec<_> = [(Role::Conn, 10), (Role::Worker, 2), (Role::Admin, 4)]
        .into_iter()
        .flat_map(|(role, fit)| {
            let running: Vec<_> = (0..fit).map(|_| start(role).expect("its share")).collect();
            assert!(matches!(start(role), Err(SpawnError::Limit { limit: 16, .. })), "{role:?}");
            running
        })
        .collect();
    drop(hold);
    running.into_iter().for_each(|thread| thread.join(Deadline::after(FUSE)).expect("it ends"));
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
