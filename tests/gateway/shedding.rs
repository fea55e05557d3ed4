//! Policy `drop_oldest`: who is shed, in which order, what they are told, and that no place is lost on the way.

use std::thread::scope;
use std::time::Duration;

use serde_json::json;
use sluicegate::Code;
use sluicegate::model::{Operation, Priority};
use sluicegate::time::Deadline;
use sluicegate::wire::openai::ChatRequest;

use crate::house::{FUSE, House, batch, cancellable, chat, code, eventually, number, provider, sim, sized, within};

#[test]
fn the_oldest_waiting_of_both_lanes_is_shed_for_each_newcomer_and_its_place_is_the_newcomers() {
    let (house, gate) = House::gated(sized(1, 3, "drop_oldest"));
    scope(|scope| {
        let ask = |name: &str, is_batch: bool| {
            let body = chat(&format!("p/{name}"), false).into_bytes();
            let options = if is_batch { batch() } else { Default::default() };
            let house = &house;
            scope.spawn(move || house.gateway().with(&options).raw(Operation::ChatCompletions, body))
        };
        let running = ask("running", false);
        let held = gate.next();
        let mut waiting = Vec::new();
        for (depth, (name, is_batch)) in [("a", false), ("b", true), ("c", false)].into_iter().enumerate() {
            waiting.push(ask(name, is_batch));
            house.queued(depth as u64 + 1);
        }
        // Each newcomer sheds exactly the one that has waited longest, whichever lane that stands in.
        for (shed, (name, is_batch)) in [("d", true), ("e", false), ("f", false)].into_iter().enumerate() {
            waiting.push(ask(name, is_batch));
            let error = waiting.remove(0).join().expect("no panic").expect_err("it is shed");
            assert_eq!((error.code(), error.status(), error.provider()), (Code::RequestDropped, 503, Some("p")));
            assert!(error.retry_after().is_some());
            assert!(error.spent().is_some_and(|spent| spent.upstream.is_zero() && !spent.queue.is_zero()));
            house.queued(3);
            assert_eq!(house.p("queue/dropped_total"), shed as u64 + 1);
            assert_eq!(house.p("queue/places_taken"), 4, "the place went from one to the other");
        }
        held.answer();
        let order: Vec<_> = (0..3)
            .map(|_| {
                let arrived = gate.next();
                let name = arrived.json()["model"].as_str().expect("a name").to_owned();
                arrived.answer();
                name
            })
            .collect();
        assert_eq!(order, ["e", "f", "d"], "who is left is served as ever: interactive first");
        waiting.into_iter().chain([running]).for_each(|call| assert!(call.join().expect("no panic").is_ok()));
    });
    let stats = house.at_rest();
    for (counter, count) in [("submitted", 7), ("accepted", 7), ("dropped", 3), ("completed", 4), ("blocked", 0)] {
        assert_eq!(number(&stats, &format!("/providers/p/queue/{counter}_total")), count, "{counter}");
    }
    assert_eq!(stats["errors"], json!({ "request_dropped": 3 }));
}

#[test]
fn a_stream_that_is_shed_is_an_error_of_the_call_and_a_running_one_is_never_shed() {
    let (house, gate) = House::gated(sized(1, 1, "drop_oldest"));
    let (mut running, pieces) = super::streams::open(&house, &gate);
    scope(|scope| {
        let shed = scope.spawn(|| house.gateway().chat_stream(&ChatRequest::new("p/m", "hi")));
        house.queued(1);
        let last = scope.spawn(|| house.gateway().chat_stream(&ChatRequest::new("p/m", "hi")));
        assert_eq!(code(&shed.join().expect("no panic")), Code::RequestDropped);
        house.queued(1);
        assert!(running.next().expect("a chunk").is_ok());
        crate::house::feed(&pieces, &format!("{}{}", crate::house::STOP, crate::house::DONE));
        drop(pieces);
        assert!(running.all(|chunk| chunk.is_ok()));
        let pieces = gate.next().stream();
        crate::house::feed(
            &pieces,
            &format!("{}{}{}", crate::house::word("x"), crate::house::STOP, crate::house::DONE),
        );
        assert!(last.join().expect("no panic").expect("it began").all(|chunk| chunk.is_ok()));
    });
    assert_eq!(number(&house.at_rest(), "/providers/p/queue/dropped_total"), 1);
}

/// Who has left stands in the lane as a tombstone, and is not shed in place of somebody who waits.
#[test]
fn who_has_left_is_not_shed_and_its_place_is_free() {
    let (house, gate) = House::gated(sized(1, 2, "drop_oldest"));
    scope(|scope| {
        let running = scope.spawn(|| house.ask());
        let held = gate.next();
        let (options, token) = cancellable();
        let left = scope.spawn({
            let house = &house;
            move || house.ask_with(&options)
        });
        house.queued(1);
        let stays = scope.spawn(|| house.ask());
        house.queued(2);
        token.cancel();
        assert_eq!(code(&left.join().expect("no panic")), Code::ClientClosed);
        let newcomer = scope.spawn(|| house.ask());
        house.queued(2);
        assert_eq!(house.p("queue/dropped_total"), 0, "a place was free");
        let sheds = scope.spawn(|| house.ask());
        assert_eq!(code(&stays.join().expect("no panic")), Code::RequestDropped);
        held.answer();
        (0..2).for_each(|_| gate.next().answer());
        [running, newcomer, sheds].into_iter().for_each(|call| assert!(call.join().expect("no panic").is_ok()));
    });
    assert_eq!(number(&house.at_rest(), "/providers/p/queue/dropped_total"), 1);
}

/// Newcomers, workers, and those who leave race for the same jobs, while somebody polls: each call ends once, no place is
/// lost, and there are never more than there are.
#[test]
fn in_a_crowd_every_call_ends_once_and_no_place_is_lost() {
    const CALLERS: u64 = 12;
    const CALLS: u64 = 120;
    let settings = json!({
        "concurrency_and_buffer_size": { "concurrency": 2, "buffer_size": 3 },
        "queue": { "policy": "drop_oldest" },
    });
    let house = House::new(json!({ "p": sim(settings) }), &[]);
    let (over, is_over) = crossbeam_channel::bounded::<()>(0);
    let ended: u64 = scope(|scope| {
        let house = &house;
        scope.spawn(move || {
            while is_over.try_recv() != Err(crossbeam_channel::TryRecvError::Disconnected) {
                let stats = house.stats();
                let p = |what: &str| number(&stats, &format!("/providers/p/queue/{what}"));
                assert!(p("places_taken") <= 5 && p("depth") <= 5 && p("high_water") <= 5, "{stats:#}");
                std::thread::park_timeout(Duration::from_micros(300));
            }
        });
        let callers: Vec<_> = (0..CALLERS)
            .map(|seed| {
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    (0..CALLS)
                        .filter(|_| {
                            let (mut options, token) = cancellable();
                            if random.bool() {
                                options = options.priority(Priority::Batch);
                            }
                            if random.u8(..8) == 0 {
                                options = options.deadline(Duration::from_micros(random.u64(..2000)));
                            }
                            if random.u8(..8) == 0 {
                                token.cancel();
                            }
                            let model = if random.bool() { "p/echo" } else { "p/echo+slow-1ms" };
                            let body = chat(model, false).into_bytes();
                            match house.gateway().with(&options).raw(Operation::ChatCompletions, body) {
                                Ok(_) => true,
                                Err(error) => matches!(
                                    error.code(),
                                    Code::RequestDropped
                                        | Code::ClientClosed
                                        | Code::QueueTimeout
                                        | Code::UpstreamTimeout
                                ),
                            }
                        })
                        .count() as u64
                })
            })
            .collect();
        let ended = callers.into_iter().map(|caller| caller.join().expect("no panic")).sum();
        drop(over);
        ended
    });
    assert_eq!(ended, CALLERS * CALLS);
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/requests/received_total"), CALLERS * CALLS);
    assert!(number(&stats, "/providers/p/queue/dropped_total") > 0, "{stats:#}");
    // Every place is there still: so many run and wait, and the next one sheds.
    scope(|scope| {
        let body = || chat("p/hang", false).into_bytes();
        let calls: Vec<_> = (0..5)
            .map(|_| {
                let (options, token) = cancellable();
                let (house, body) = (&house, body());
                (scope.spawn(move || house.gateway().with(&options).raw(Operation::ChatCompletions, body)), token)
            })
            .collect();
        eventually("the house is full", || house.p("queue/places_taken") == 5 && house.p("queue/depth") == 3);
        calls.iter().for_each(|(_, token)| assert!(token.cancel()));
        calls.into_iter().for_each(|(call, _)| assert_eq!(code(&call.join().expect("no panic")), Code::ClientClosed));
    });
}

#[test]
fn a_refusal_says_when_to_come_again_by_how_fast_places_come_free() {
    let (house, gate) = House::gated(provider(json!({
        "concurrency_and_buffer_size": { "concurrency": 1, "buffer_size": 8 },
        "queue": { "policy": "error", "wait_timeout": "60s" },
    })));
    scope(|scope| {
        let mut calls: Vec<_> = (0..9).map(|_| scope.spawn(|| house.ask())).collect();
        let mut held = gate.next();
        house.queued(8);
        let refusal = || house.ask().expect_err("the house is full").retry_after().expect("it says when");
        assert_eq!(refusal(), Duration::from_secs(1), "nothing is measured yet");
        let fuse = Deadline::after(FUSE);
        // One goes and one comes, three or four a second at the most: eight in front take two seconds or more.
        let mut after = refusal();
        while after <= Duration::from_millis(1500) {
            assert!(!fuse.passed(), "it still says {after:?}");
            std::thread::park_timeout(Duration::from_millis(280));
            held.answer();
            held = gate.next();
            house.queued(7);
            calls.push(scope.spawn(|| house.ask()));
            house.queued(8);
            after = refusal();
        }
        assert!(after <= Duration::from_secs(60), "{after:?}");
        held.answer();
        (0..8).for_each(|_| gate.next().answer());
        calls.into_iter().for_each(|call| assert!(call.join().expect("no panic").is_ok()));
    });
}

/// A place is free the moment that its waiter's own time is over, not when a worker finds the shell.
#[test]
fn those_whose_time_is_over_hold_no_place() {
    let (house, gate) = House::gated(sized(1, 2, "error"));
    scope(|scope| {
        let running = scope.spawn(|| house.ask());
        let held = gate.next();
        for _ in 0..3 {
            let late: Vec<_> =
                (0..2).map(|_| scope.spawn(|| house.ask_with(&within(Duration::from_millis(40))))).collect();
            late.into_iter().for_each(|call| assert_eq!(code(&call.join().expect("no panic")), Code::QueueTimeout));
            assert_eq!((house.p("queue/places_taken"), house.p("queue/depth")), (1, 0));
        }
        held.answer();
        assert!(running.join().expect("no panic").is_ok());
    });
    assert!(gate.is_empty(), "nobody whose time was over is sent");
}
