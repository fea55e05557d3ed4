//! One budget of bytes: bodies of library calls and answers held whole, what a worker is told that gets no room, and that
//! all of it comes back.

use std::thread::scope;

use serde_json::json;
use sluicegate::Code;
use sluicegate::model::Operation;
use sluicegate::sync::CancelReason;
use sluicegate::time::now;

use crate::house::{Gate, House, SLACK, cancellable, chat, code, eventually, feed, ms, number, provider, reply};

/// A gateway of two workers that holds a mebibyte at the most.
fn small() -> (House, Gate) {
    let gate = Gate::new();
    let settings = provider(json!({ "concurrency_and_buffer_size": { "concurrency": 2, "buffer_size": 4 } }));
    let config = json!({ "server": { "max_buffered_bytes": 1 << 20, "max_body_bytes": 1 << 20 }, "providers": { "p": settings } });
    (House::with(config, &[("p", &gate)]), gate)
}

/// A good answer of so many bytes, more or less.
fn long(bytes: usize) -> String {
    reply(&"x".repeat(bytes))
}

fn held(house: &House) -> u64 {
    number(&house.stats(), "/requests/buffered_bytes")
}

#[test]
fn a_library_callers_body_counts_while_its_request_is_under_way() {
    let (house, gate) = small();
    let body = |bytes: usize| chat("p/m", false).replace("one two", &"x".repeat(bytes)).into_bytes();
    scope(|scope| {
        let call = scope.spawn(|| house.gateway().raw(Operation::ChatCompletions, body(900_000)));
        let arrived = gate.next();
        assert!(held(&house) >= 900_000, "{}", held(&house));
        let error = house.gateway().raw(Operation::ChatCompletions, body(200_000)).expect_err("no room");
        assert_eq!((error.code(), error.status()), (Code::Overloaded, 503));
        assert!(error.retry_after().is_some());
        arrived.answer();
        assert!(call.join().expect("no panic").is_ok());
    });
    let stats = house.at_rest();
    assert_eq!((held(&house), &stats["errors"]), (0, &json!({ "overloaded": 1 })));
    assert_eq!(number(&stats, "/providers/p/queue/submitted_total"), 1, "what is refused is not handed in");
}

#[test]
fn a_worker_that_gets_no_room_for_an_answer_ends_in_time_and_one_that_waits_gets_what_comes_free() {
    let (house, gate) = small();
    let answer = long(700_000);
    let (begun, rest) = answer.split_at(690_000);
    scope(|scope| {
        // Held whole, though it comes in pieces: the request asked for no stream.
        let first = scope.spawn(|| house.ask());
        let first_pieces = gate.next().stream();
        feed(&first_pieces, begun);
        eventually("it holds most of the budget", || held(&house) > 690_000);

        let start = now();
        let refused = scope.spawn(|| house.ask());
        gate.next().respond(200, &[], long(300_000));
        let error = refused.join().expect("no panic").expect_err("no room");
        let took = now() - start;
        assert_eq!((error.code(), error.status()), (Code::ResourceTimeout, 503));
        assert!(error.retry_after().is_some() && error.provider() == Some("p"), "{error}");
        assert!(took >= ms(1000) && took < ms(1000) * SLACK, "{took:?}");

        // What fits into a worker's own share waits for nobody.
        let little = scope.spawn(|| house.ask());
        gate.next().respond(200, &[], long(50_000));
        assert!(little.join().expect("no panic").is_ok());

        let patient = scope.spawn(|| house.ask());
        gate.next().respond(200, &[], long(300_000));
        feed(&first_pieces, rest);
        drop(first_pieces);
        assert_eq!(first.join().expect("no panic").expect("whole").body.len(), answer.len());
        assert!(patient.join().expect("no panic").expect("it got room").body.len() > 300_000);
    });
    let stats = house.at_rest();
    assert_eq!(held(&house), 0);
    assert_eq!(stats["errors"], json!({ "resource_timeout": 1 }));
    assert_eq!(number(&stats, "/providers/p/jobs/failed_total"), 1);
}

#[test]
fn whoever_leaves_or_fails_in_the_middle_of_an_answer_gives_its_bytes_back() {
    let (house, gate) = small();
    scope(|scope| {
        let (options, token) = cancellable();
        let leaves = scope.spawn({
            let house = &house;
            move || house.ask_with(&options)
        });
        let pieces = gate.next().stream();
        feed(&pieces, &long(400_000)[..350_000]);
        eventually("it holds a part", || held(&house) > 300_000);
        token.cancel_for(CancelReason::ClientGone);
        assert_eq!(code(&leaves.join().expect("no panic")), Code::ClientClosed);
        eventually("all came back", || held(&house) == 0);

        for piece in
            [crate::house::Piece::Panic, crate::house::Piece::Fail(sluicegate::transport::TransportErrorKind::Cut)]
        {
            let fails = scope.spawn(|| house.ask());
            let pieces = gate.next().stream();
            feed(&pieces, &long(400_000)[..350_000]);
            eventually("it holds a part", || held(&house) > 300_000);
            pieces.send(piece).map_err(drop).expect("a worker reads");
            assert!(fails.join().expect("no panic").is_err());
            eventually("all came back", || held(&house) == 0);
        }
    });
}
