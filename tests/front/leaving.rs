//! Clients who leave: in the queue, outside it, while their answer is made, in mid-stream. Upstream hears of it, and the
//! worker is free.

use serde_json::json;
use sluicegate::time::now;

use super::Station;
use crate::house::{FUSE, Piece, SLACK, chat, eventually, feed, ms, number, word};

/// By when a leaving must have reached the provider: 100 ms, and 150 ms after arrival for one who leaves at once.
const HEARD: std::time::Duration = std::time::Duration::from_millis(150);

#[test]
fn upstream_sees_the_close_of_who_waits_for_a_whole_answer() {
    let station = Station::sim();
    for (round, model) in ["sim/hang", "sim/echo+slow-20s", "sim/lorem-9+stall-2"].into_iter().enumerate() {
        let mut client = station.client();
        client.chat(&[], &chat(model, false));
        eventually("it is under way", || station.house.stats()["providers"]["sim"]["workers"]["busy"] == 1);
        let began = now();
        drop(client);
        eventually("upstream has noticed", || station.aborted() == round as u64 + 1);
        eventually("the worker is free", || station.house.stats()["providers"]["sim"]["workers"]["busy"] == 0);
        assert!(now() - began < HEARD * SLACK, "{model}: {:?}", now() - began);
    }
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/requests/cancelled_total"), 3);
    assert_eq!(number(&stats, "/providers/sim/jobs/cancelled_total"), 3);
    assert_eq!(stats["errors"], json!({ "client_closed": 3 }));
}

#[test]
fn upstream_sees_the_close_of_who_reads_a_stream() {
    let station = Station::sim();
    for (round, model) in
        ["sim/lorem-5000+gap-20ms", "sim/lorem-9+stall-2", "sim/lorem-9+ttft-20s", "sim/hang"].into_iter().enumerate()
    {
        let mut client = station.client();
        client.chat(&[], &chat(model, true));
        if round < 2 {
            client.wait_for("lorem");
        }
        eventually("it is under way", || station.house.stats()["providers"]["sim"]["workers"]["busy"] == 1);
        let began = now();
        drop(client);
        eventually("upstream has noticed", || station.aborted() == round as u64 + 1);
        eventually("the worker is free", || station.house.stats()["providers"]["sim"]["workers"]["busy"] == 0);
        assert!(now() - began < HEARD * SLACK, "{model}: {:?}", now() - began);
    }
    assert_eq!(number(&station.house.at_rest(), "/requests/cancelled_total"), 4);
}

#[test]
fn who_leaves_the_queue_is_never_sent_and_holds_no_place() {
    let (station, gate) = Station::gated(
        json!({ "concurrency_and_buffer_size": { "buffer_size": 2 }, "queue": { "policy": "block" } }),
        json!({}),
    );
    let mut running = station.client();
    running.chat(&[], &chat("p/m", false));
    let held = gate.next();
    for stream in [false, true, false] {
        let queued: Vec<_> = (0..2)
            .map(|_| {
                let mut client = station.client();
                client.chat(&[], &chat("p/m", stream));
                client
            })
            .collect();
        station.house.queued(2);
        let before = station.house.p("queue/blocked_total");
        let mut outside = station.client();
        outside.chat(&[], &chat("p/m", stream));
        eventually("one waits for a place", || station.house.p("queue/blocked_total") == before + 1);
        let began = now();
        drop(outside);
        drop(queued);
        eventually("nobody is left", || {
            station.house.p("queue/depth") == 0 && station.house.stats()["requests"]["in_flight"] == 1
        });
        assert!(now() - began < HEARD * SLACK, "{:?}", now() - began);
    }
    held.answer();
    assert_eq!(running.answer().status, 200);
    assert!(gate.is_empty());
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/providers/p/queue/abandoned_total"), 9);
    assert_eq!(number(&stats, "/requests/cancelled_total"), 9);
}

/// A client may leave at any moment of a stream's beginning, when the connection changes hands; nothing is lost or doubled.
#[test]
fn leaving_while_the_stream_changes_hands_leaves_nothing_behind() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..60 {
        let mut client = station.client();
        client.chat(&[], &chat("p/m", true));
        let pieces = gate.next().stream();
        let patience = ms(random.u64(0..2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::park_timeout(patience);
                drop(client);
            });
            // It may be cancelled at any of these.
            let text = word(&"x".repeat(1 << (round % 17)));
            while pieces.send_timeout(Piece::Bytes(text.clone().into()), FUSE).is_ok() {}
        });
    }
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/requests/cancelled_total"), 60);
    assert_eq!(number(&stats, "/providers/p/jobs/cancelled_total"), 60);
}

/// A keep-alive connection whose first request was cancelled by a time limit serves the next unharmed.
#[test]
fn a_late_cancel_never_hits_the_next_request() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    for _ in 0..20 {
        client.chat(&["x-sluicegate-timeout: 70ms"], &chat("p/m", false));
        gate.next().wait_over();
        assert_eq!(client.answer().status, 504);
        client.chat(&[], &chat("p/m", true));
        let pieces = gate.next().stream();
        feed(&pieces, &word("one"));
        feed(&pieces, crate::house::STOP);
        drop(pieces);
        assert!(client.answer().complete);
    }
}

/// The last one to hold the gateway may be a connection that the watcher lets go.
#[test]
fn the_last_handle_may_be_dropped_on_the_watchers_thread() {
    let mut station = Station::sim();
    let mut client = station.client();
    // Refused before its body: the connection is kept for the moment in which the client may still be sending.
    client.send("POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nsome of it");
    assert_eq!(client.answer().status, 404);
    drop(station.front.take());
    drop(station.house.take());
    drop(client);
    // The house's own drop sees every thread end.
    drop(station);
}

/// A stream's client may hold the last handle of the gateway: its worker ends it then, and itself.
#[test]
fn the_last_handle_may_be_a_streams_connection() {
    let (mut station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    client.chat(&[], &chat("p/m", true));
    let pieces = gate.next().stream();
    feed(&pieces, &word("one"));
    client.wait_for("one");
    drop(station.front.take());
    drop(station.house.take());
    feed(&pieces, crate::house::STOP);
    drop(pieces);
    let answer = client.answer();
    assert!(answer.complete && answer.text().ends_with(crate::house::DONE), "{}", answer.text());
    let began = now();
    drop(station);
    assert!(now() - began < ms(3000), "{:?}", now() - began);
}
