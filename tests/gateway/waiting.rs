//! How long a request waits, and how it stops waiting: time-outs, deadlines, and callers who leave, in every stage.

use std::thread::scope;
use std::time::Duration;

use serde_json::json;
use sluicegate::model::Operation;
use sluicegate::time::now;
use sluicegate::{Code, Result};

use crate::house::{House, SLACK, cancellable, code, eventually, ms, number, provider, within};

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = now();
    (work(), now() - start)
}

fn waits(concurrency: usize, buffer_size: usize, wait_timeout: &str) -> serde_json::Value {
    provider(json!({
        "concurrency_and_buffer_size": { "concurrency": concurrency, "buffer_size": buffer_size },
        "queue": { "wait_timeout": wait_timeout },
    }))
}

/// Checks a failure's code, the wait it names, and that it has a `Retry-After`.
fn timed_out<T: std::fmt::Debug>(result: &Result<T>, phase: &str) {
    let error = result.as_ref().expect_err("its time is over");
    assert_eq!((error.code(), error.status(), error.phase()), (Code::QueueTimeout, 504, Some(phase)));
    assert!(error.retry_after().is_some());
}

#[test]
fn a_wait_times_out_and_says_whether_a_place_or_a_worker_was_missing() {
    let (house, gate) = House::gated(waits(1, 1, "100ms"));
    scope(|scope| {
        let running = scope.spawn(|| house.ask());
        let held = gate.next();
        let queued = scope.spawn(|| timed(|| house.ask()));
        house.queued(1);
        let ahead = scope.spawn(|| timed(|| house.ask()));
        let (result, took) = ahead.join().expect("no panic");
        // Whether its neighbour's place came free before its own time was over is a matter of microseconds.
        let phase = result.as_ref().expect_err("late").phase().expect("a phase");
        timed_out(&result, phase);
        assert!(took >= ms(100) && took < ms(100) * SLACK, "{took:?}");
        let (result, took) = queued.join().expect("no panic");
        timed_out(&result, "worker");
        assert!(took >= ms(100) && took < ms(100) * SLACK, "{took:?}");
        held.answer();
        assert!(running.join().expect("no panic").is_ok(), "a running job has nothing to do with it");
    });
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/queue/timed_out_total"), 2);
    assert!(gate.is_empty(), "nobody who left is sent");
}

#[test]
fn a_wait_for_a_place_times_out_by_itself() {
    let (house, gate) = House::gated(waits(1, 1, "10s"));
    let deadline = within(ms(80));
    scope(|scope| {
        let calls: Vec<_> = (0..2).map(|_| scope.spawn(|| house.ask())).collect();
        let held = gate.next();
        house.queued(1);
        let (result, took) = timed(|| house.ask_with(&deadline));
        timed_out(&result, "space");
        assert!(took < ms(80) * SLACK, "{took:?}");
        held.answer();
        gate.next().answer();
        calls.into_iter().for_each(|call| assert!(call.join().expect("no panic").is_ok()));
    });
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/queue/abandoned_total"), 1, "a deadline is the caller's own");
    assert_eq!(number(&stats, "/providers/p/queue/timed_out_total"), 0);
    assert_eq!(stats["errors"]["queue_timeout"], 1);
}

/// `wait_timeout` runs from submission over both waits: the time spent waiting for a place is not given back.
#[test]
fn one_time_limit_goes_for_both_waits() {
    let (house, gate) = House::gated(waits(1, 1, "1s"));
    scope(|scope| {
        let first = scope.spawn(|| house.ask());
        let held = gate.next();
        let second = scope.spawn(|| house.ask());
        house.queued(1);
        let third = scope.spawn(|| timed(|| house.ask()));
        eventually("the third waits for a place", || house.p("queue/blocked_total") == 1);
        let begun = now();
        eventually("most of its time is over", || now() - begun > ms(700));
        held.answer();
        let held = gate.next();
        let (result, took) = third.join().expect("no panic");
        timed_out(&result, "worker");
        assert!(took >= ms(1000) && took < ms(1600), "{took:?}");
        held.answer();
        assert!(first.join().expect("no panic").is_ok() && second.join().expect("no panic").is_ok());
    });
    assert_eq!(number(&house.at_rest(), "/providers/p/queue/timed_out_worker_total"), 1);
}

#[test]
fn a_deadline_ends_a_request_in_its_queue_and_at_work() {
    let (house, gate) = House::gated(waits(1, 4, "10s"));
    scope(|scope| {
        let running = scope.spawn(|| timed(|| house.ask_with(&within(ms(200)))));
        let held = gate.next();
        let (result, took) = timed(|| house.ask_with(&within(ms(60))));
        timed_out(&result, "worker");
        assert!(took >= ms(60) && took < ms(60) * SLACK, "{took:?}");
        held.wait_over();
        let (result, took) = running.join().expect("no panic");
        assert_eq!(code(&result), Code::UpstreamTimeout);
        assert!(took >= ms(190) && took < ms(200) * SLACK, "{took:?}");
        // The worker is free, and nothing of the late request is left.
        let next = scope.spawn(|| house.ask());
        gate.next().answer();
        assert!(next.join().expect("no panic").is_ok());
    });
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/queue/abandoned_total"), 1);
    assert_eq!(number(&stats, "/providers/p/jobs/timed_out_total"), 1);
}

#[test]
fn a_deadline_that_has_passed_is_never_sent() {
    let (house, gate) = House::gated(waits(1, 4, "10s"));
    for _ in 0..20 {
        timed_out(&house.ask_with(&within(Duration::ZERO)), "worker");
    }
    house.at_rest();
    assert!(gate.is_empty());
    assert_eq!(house.p("queue/abandoned_total"), 20);
}

#[test]
fn a_caller_who_leaves_is_answered_at_once_in_every_stage() {
    let (house, gate) = House::gated(waits(1, 1, "10s"));
    scope(|scope| {
        let ask = || {
            let (options, token) = cancellable();
            let house = &house;
            (scope.spawn(move || house.ask_with(&options)), token)
        };
        let (running, running_token) = ask();
        let held = gate.next();
        let (queued, queued_token) = ask();
        house.queued(1);
        let (outside, outside_token) = ask();
        eventually("one waits for a place", || house.p("queue/blocked_total") == 1);
        for (call, token) in [(outside, outside_token), (queued, queued_token), (running, running_token)] {
            let (result, took) = timed(|| {
                token.cancel();
                call.join().expect("no panic")
            });
            assert_eq!(code(&result), Code::ClientClosed);
            assert!(took < ms(100) * SLACK, "{took:?}");
        }
        held.wait_over();
        let next = scope.spawn(|| house.ask());
        gate.next().answer();
        assert!(next.join().expect("no panic").is_ok());
    });
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/queue/abandoned_total"), 2);
    assert_eq!(number(&stats, "/providers/p/jobs/cancelled_total"), 1);
    assert_eq!(number(&stats, "/requests/cancelled_total"), 3);
}

#[test]
fn a_caller_who_left_before_it_began_is_never_sent() {
    let (house, gate) = House::gated(waits(1, 4, "10s"));
    for _ in 0..20 {
        let (options, token) = cancellable();
        token.cancel();
        assert_eq!(code(&house.ask_with(&options)), Code::ClientClosed);
    }
    house.at_rest();
    assert!(gate.is_empty());
}

#[test]
fn an_attempt_that_takes_too_long_ends_by_its_own_limit() {
    let (house, gate) = House::gated(provider(json!({
        "network_config": { "default_request_timeout_in_seconds": "100ms" },
    })));
    scope(|scope| {
        let call = scope.spawn(|| timed(|| house.ask()));
        let held = gate.next();
        held.wait_over();
        let (result, took) = call.join().expect("no panic");
        assert_eq!(code(&result), Code::UpstreamTimeout);
        assert!(took >= ms(100) && took < ms(100) * SLACK, "{took:?}");
    });
}

/// Callers who leave race with workers who take and answer: each call ends once, and everything adds up.
#[test]
fn leaving_at_any_moment_loses_nothing() {
    let house = House::new(
        json!({ "sim": crate::house::sim(json!({ "concurrency_and_buffer_size": { "concurrency": 2, "buffer_size": 3 } })) }),
        &[],
    );
    let ended: usize = scope(|scope| {
        let callers: Vec<_> = (0..6u64)
            .map(|seed| {
                let house = &house;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    (0..150)
                        .filter(|_| {
                            let (options, token) = cancellable();
                            let patience = Duration::from_micros(random.u64(0..1500));
                            let result = std::thread::scope(|scope| {
                                scope.spawn(|| {
                                    std::thread::park_timeout(patience);
                                    token.cancel();
                                });
                                let body = crate::house::chat("sim/echo", false).into_bytes();
                                house.gateway().with(&options).raw(Operation::ChatCompletions, body)
                            });
                            result.is_ok() || code(&result) == Code::ClientClosed
                        })
                        .count()
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().expect("no panic")).sum()
    });
    assert_eq!(ended, 900);
    assert_eq!(number(&house.at_rest(), "/requests/received_total"), 900);
}
