//! Who is let in: policies exact at `concurrency + buffer_size`, tombstones that hold no place, batch in its share.

use std::thread::{ScopedJoinHandle, scope};

use serde_json::json;
use sluicegate::model::{Answer, Operation};
use sluicegate::{Code, Result};

use crate::house::{Gate, House, batch, cancellable, code, eventually, ms, number, provider, sized};

/// Fills the house: so many at the gate, so many queued.
fn fill<'s, 'e: 's>(
    scope: &'s std::thread::Scope<'s, 'e>,
    house: &'e House,
    gate: &Gate,
    running: usize,
    queued: usize,
) -> (Vec<crate::house::Arrived>, Vec<ScopedJoinHandle<'s, Result<Answer>>>) {
    let calls: Vec<_> = (0..running + queued).map(|_| scope.spawn(|| house.ask())).collect();
    let held: Vec<_> = (0..running).map(|_| gate.next()).collect();
    house.queued(queued as u64);
    (held, calls)
}

#[test]
fn a_full_house_refuses_exactly_the_next_one_and_takes_one_more_for_each_that_leaves() {
    for (policy, refused, counter) in
        [("error", Code::QueueFull, "queue/rejected_total"), ("drop", Code::RequestDropped, "queue/dropped_total")]
    {
        let (house, gate) = House::gated(sized(2, 3, policy));
        scope(|scope| {
            let (mut held, mut calls) = fill(scope, &house, &gate, 2, 3);
            for round in 1..=4 {
                let error = house.ask().expect_err("the house is full");
                assert_eq!(error.code(), refused);
                assert_eq!(error.retry_after(), Some(ms(1000)));
                assert_eq!(error.provider(), Some("p"));
                assert_eq!(house.p(counter), round, "{policy}");
                // One leaves, the longest waiting takes its worker, and exactly one place is free.
                held.remove(0).answer();
                held.push(gate.next());
                house.queued(2);
                calls.push(scope.spawn(|| house.ask()));
                house.queued(3);
            }
            held.into_iter().for_each(crate::house::Arrived::answer);
            (0..3).for_each(|_| gate.next().answer());
            calls.into_iter().for_each(|call| assert!(call.join().expect("no panic").is_ok()));
        });
        let stats = house.at_rest();
        assert_eq!(number(&stats, "/providers/p/queue/submitted_total"), 13);
        assert_eq!(number(&stats, "/providers/p/queue/accepted_total"), 9);
        assert_eq!(number(&stats, "/providers/p/queue/completed_total"), 9);
        assert_eq!(stats["errors"][refused.as_str()], 4);
    }
}

#[test]
fn under_block_the_next_one_waits_and_is_served() {
    let (house, gate) = House::gated(sized(2, 3, "block"));
    scope(|scope| {
        let (held, calls) = fill(scope, &house, &gate, 2, 3);
        let waiting = scope.spawn(|| house.ask());
        eventually("it waits for a place", || house.p("queue/blocked_total") == 1);
        assert_eq!(house.p("queue/accepted_total"), 5, "it has no place yet");
        held.into_iter().for_each(crate::house::Arrived::answer);
        (0..4).for_each(|_| gate.next().answer());
        calls.into_iter().for_each(|call| assert!(call.join().expect("no panic").is_ok()));
        assert!(waiting.join().expect("no panic").is_ok());
    });
}

#[test]
fn excess_requests_are_dropped_where_the_client_section_says_so() {
    let gate = Gate::new();
    let settings = provider(json!({ "concurrency_and_buffer_size": { "concurrency": 1, "buffer_size": 1 } }));
    let config = json!({ "client": { "drop_excess_requests": true }, "providers": { "p": settings } });
    let house = House::with(config, &[("p", &gate)]);
    scope(|scope| {
        let (held, calls) = fill(scope, &house, &gate, 1, 1);
        assert_eq!(code(&house.ask()), Code::RequestDropped);
        held.into_iter().for_each(crate::house::Arrived::answer);
        gate.next().answer();
        calls.into_iter().for_each(|call| assert!(call.join().expect("no panic").is_ok()));
    });
}

/// A place comes free the moment its waiter leaves, whatever still stands in the lane; often enough to turn it over.
#[test]
fn those_who_left_the_queue_hold_no_place() {
    let (house, gate) = House::gated(sized(1, 3, "error"));
    scope(|scope| {
        let (held, calls) = fill(scope, &house, &gate, 1, 0);
        for _ in 0..40 {
            let leaving: Vec<_> = (0..3)
                .map(|_| {
                    let (options, token) = cancellable();
                    let house = &house;
                    (scope.spawn(move || house.ask_with(&options)), token)
                })
                .collect();
            house.queued(3);
            assert_eq!(code(&house.ask()), Code::QueueFull);
            for (call, token) in leaving {
                token.cancel();
                assert_eq!(code(&call.join().expect("no panic")), Code::ClientClosed);
            }
            assert_eq!(house.p("queue/depth"), 0);
        }
        let last: Vec<_> = (0..3).map(|_| scope.spawn(|| house.ask())).collect();
        house.queued(3);
        held.into_iter().for_each(crate::house::Arrived::answer);
        (0..3).for_each(|_| gate.next().answer());
        calls.into_iter().chain(last).for_each(|call| assert!(call.join().expect("no panic").is_ok()));
        assert!(gate.is_empty(), "nobody who left is sent");
    });
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/queue/abandoned_total"), 120);
    assert_eq!(number(&stats, "/requests/cancelled_total"), 120);
}

#[test]
fn batch_has_its_share_while_both_wait_and_the_rest_when_nobody_else_does() {
    let (house, gate) = House::gated(provider(json!({
        "concurrency_and_buffer_size": { "concurrency": 1, "buffer_size": 64 },
        "queue": { "batch_share": 0.25 },
    })));
    scope(|scope| {
        let (held, first) = fill(scope, &house, &gate, 1, 0);
        let mut calls: Vec<_> = (0..16).map(|_| scope.spawn(|| house.ask())).collect();
        house.queued(16);
        calls.extend((0..16).map(|_| {
            scope.spawn(|| {
                let body = json!({ "model": "p/batch", "messages": [] }).to_string();
                house.gateway().with(batch()).raw(Operation::ChatCompletions, body.into_bytes())
            })
        }));
        house.queued(32);
        held.into_iter().for_each(crate::house::Arrived::answer);
        let order: Vec<bool> = (0..32)
            .map(|_| {
                let arrived = gate.next();
                let is_batch = arrived.json()["model"] == "batch";
                arrived.answer();
                is_batch
            })
            .collect();
        assert_eq!(order[..16].iter().filter(|is_batch| **is_batch).count(), 4, "{order:?}");
        assert!(order[22..].iter().all(|is_batch| *is_batch), "{order:?}");
        calls.into_iter().chain(first).for_each(|call| assert!(call.join().expect("no panic").is_ok()));
    });
}

#[test]
fn a_stuck_provider_with_a_full_queue_leaves_anothers_requests_as_they_are() {
    let gate = Gate::new();
    let providers = json!({
        "p": sized(2, 2, "block"),
        "sim": crate::house::sim(json!({})),
    });
    let house = House::new(providers, &[("p", &gate)]);
    scope(|scope| {
        let (held, mut calls) = fill(scope, &house, &gate, 2, 2);
        calls.extend((0..8).map(|_| scope.spawn(|| house.ask())));
        eventually("eight wait for a place", || house.p("queue/blocked_total") == 8);
        for _ in 0..200 {
            assert_eq!(house.gateway().ask("sim/echo", "hello").expect("it is served"), "hello");
        }
        let sim = house.stats()["providers"]["sim"]["queue"].clone();
        assert!(sim["wait_us"]["p90"].as_f64().expect("a number") < 50_000.0 * f64::from(crate::house::SLACK), "{sim}");
        held.into_iter().for_each(crate::house::Arrived::answer);
        (0..10).for_each(|_| gate.next().answer());
        calls.into_iter().for_each(|call| assert!(call.join().expect("no panic").is_ok()));
    });
}
