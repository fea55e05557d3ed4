//! Streams over a socket: SSE as the provider sent it, `[DONE]` at a complete end and only there, an error event otherwise.

use std::thread::scope;

use serde_json::json;
use sluicegate::transport::TransportErrorKind;

use super::{Station, timed};
use crate::house::{DONE, FUSE, Piece, SLACK, STOP, USAGE, chat, eventually, feed, ms, number, word};

/// Committing the 200 early changes nothing about how long the first event may take.
#[test]
fn an_early_keep_alive_does_not_lengthen_the_wait_for_the_first_event() {
    let (station, gate) = Station::gated(
        json!({ "early_keepalive": true, "network_config": { "first_token_timeout": "400ms" } }),
        json!({}),
    );
    let mut client = station.client();
    client.chat(&[], &chat("p/m", true));
    let pieces = gate.next().stream();
    let quiet = || pieces.send_timeout(Piece::Fail(TransportErrorKind::Timeout), FUSE);
    // What the transport says when a read's time is over: the first time, that of the early comment.
    quiet().map_err(drop).expect("a worker reads");
    client.wait_for(": keep-alive");
    let (answer, took) = timed(|| {
        feed(&pieces, ": ping\n\n");
        while quiet().is_ok() {
            std::thread::park_timeout(ms(5));
        }
        client.answer()
    });
    assert_eq!((answer.status, answer.complete, answer.last_error().as_str()), (200, false, "first_token_timeout"));
    assert!(took < ms(400) * SLACK, "{took:?}");
    assert_eq!(number(&station.house.at_rest(), "/providers/p/jobs/timed_out_total"), 1);
}

#[test]
fn events_come_untouched_and_the_usage_that_nobody_asked_for_stays_out() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    let asks =
        chat("p/m", true).replace("\"stream\":true", "\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    for (body, asked) in [(chat("p/m", true), false), (asks, true)] {
        client.chat(&["x-request-id: s-1"], &body);
        let arrived = gate.next();
        assert_eq!(arrived.json()["stream_options"]["include_usage"], true);
        assert!(arrived.headers.iter().any(|(name, value)| name == "accept" && value == "text/event-stream"));
        let pieces = arrived.stream();
        let odd =
            "event: odd\r\ndata:{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\u00e9\"}}], \"x\":1}\r\n\r\n";
        let good = format!(": a comment\n\n{}{odd}{STOP}", word("one "));
        feed(&pieces, &good[..40]);
        feed(&pieces, &good[40..]);
        feed(&pieces, USAGE);
        feed(&pieces, DONE);
        drop(pieces);
        let answer = client.answer();
        assert_eq!((answer.status, answer.complete), (200, true));
        let usage = if asked { USAGE } else { "" };
        // What came before the first event need not be there.
        assert_eq!(answer.text().trim_start_matches(": a comment\n\n"), format!("{}{usage}{DONE}", &good[13..]));
        assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        assert_eq!(answer.header("x-request-id"), Some("s-1"));
        assert_eq!(answer.header("x-sluicegate-provider"), Some("p"));
        assert_eq!(answer.header("x-sluicegate-attempts"), Some("1"));
    }
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/providers/p/jobs/tokens_out_total"), 4, "counted whoever asked");
}

/// Each event is on its way before the next one comes.
#[test]
fn events_are_not_held_back() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    client.chat(&[], &chat("p/m", true));
    let pieces = gate.next().stream();
    for text in ["one", "two", "three"] {
        feed(&pieces, &word(text));
        client.wait_for(text);
    }
    feed(&pieces, STOP);
    drop(pieces);
    let answer = client.answer();
    assert!(answer.complete && answer.words() == "onetwothree" && answer.text().ends_with(DONE));
}

#[test]
fn done_is_supplied_where_the_provider_forgot_it_and_only_after_an_end() {
    let station = Station::sim();
    let mut client = station.client();
    let answer = client.chat(&[], &chat("sim/lorem-3+no-done", true)).answer();
    assert!(answer.complete && answer.text().ends_with(DONE), "{}", answer.text());
    assert_eq!(answer.words(), "lorem ipsum dolor");
    assert_eq!(answer.text().matches("[DONE]").count(), 1);

    let answer = client.chat(&[], &chat("sim/lorem-9+cut-3", true)).answer();
    assert_eq!((answer.status, answer.complete), (200, false), "{}", answer.text());
    assert_eq!(answer.words().split_whitespace().count(), 3);
    assert_eq!(answer.last_error(), "stream_cut");
    assert!(!answer.text().contains("[DONE]"));
    assert!(client.is_closed());
    let stats = station.house.at_rest();
    assert_eq!((&stats["errors"], number(&stats, "/requests/succeeded_total")), (&json!({ "stream_cut": 1 }), 1));
}

#[test]
fn an_event_that_is_no_json_is_left_out_with_a_word_or_ends_the_stream() {
    let station = Station::sim();
    for event in [1, 2, 3] {
        let answer = station.client().chat(&[], &chat(&format!("sim/lorem-2+garbage-{event}"), true)).answer();
        assert!(answer.complete, "garbage-{event}: {}", answer.text());
        assert_eq!(answer.words(), "lorem ipsum");
        let comments = answer.text().lines().filter(|line| line.starts_with(": ")).count();
        assert_eq!(comments, 1, "garbage-{event}: {}", answer.text());
        let events = answer.events();
        let (last, rest) = events.split_last().expect("events");
        assert_eq!(*last, "[DONE]");
        assert!(rest.iter().all(|data| serde_json::from_str::<serde_json::Value>(data).is_ok()), "{events:?}");
    }
    let strict = Station::sim_with(json!({ "stream_garbage": "fail" }));
    let answer = strict.client().chat(&[], &chat("sim/lorem-2+garbage-3", true)).answer();
    assert!(!answer.complete && answer.last_error() == "upstream_bad_response" && !answer.text().contains("[DONE]"));
    let answer = strict.client().chat(&[], &chat("sim/lorem-2+garbage-1", true)).answer();
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_bad_response"));
}

#[test]
fn an_error_before_the_first_event_has_its_status_and_one_after_it_an_event() {
    let station = Station::sim();
    let mut client = station.client();
    for (model, status, code) in [
        ("sim/fail-503", 503, "upstream_error"),
        ("sim/fail-429", 429, "upstream_error"),
        ("sim/error-in-200", 502, "upstream_error"),
        ("sim/reset", 502, "upstream_connect_error"),
        ("sim/panic", 500, "internal"),
        ("sim/lorem-3+cut-0", 502, "upstream_connect_error"),
    ] {
        let answer = client.chat(&[], &chat(model, true)).answer();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{model}");
        assert!(answer.complete && answer.header("content-type") == Some("application/json"));
    }
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    client.chat(&["x-request-id: mid"], &chat("p/m", true));
    let pieces = gate.next().stream();
    feed(&pieces, &word("one"));
    client.wait_for("one");
    feed(&pieces, "data: {\"error\":{\"message\":\"overloaded\",\"code\":\"x\"}}\n\n");
    let answer = client.answer();
    assert!(!answer.complete && answer.last_error() == "upstream_error");
    let last: serde_json::Value = serde_json::from_str(answer.events().last().expect("events")).expect("JSON");
    assert_eq!((&last["error"]["message"], &last["error"]["code"]), (&json!("overloaded"), &json!("x")));
    assert_eq!((&last["sluicegate"]["request_id"], &last["sluicegate"]["provider"]), (&json!("mid"), &json!("p")));
}

#[test]
fn a_panic_in_the_middle_of_a_stream_is_an_error_event_and_a_cut() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    for _ in 0..3 {
        let mut client = station.client();
        client.chat(&["x-request-id: boom"], &chat("p/m", true));
        let pieces = gate.next().stream();
        feed(&pieces, &word("one"));
        client.wait_for("one");
        pieces.send_timeout(Piece::Panic, FUSE).map_err(drop).expect("a worker reads");
        let answer = client.answer();
        assert!(!answer.complete && answer.last_error() == "internal", "{}", answer.text());
        assert!(answer.text().contains("boom") && !answer.text().contains("[DONE]"));
        let mut next = station.client();
        next.chat(&[], &chat("p/m", false));
        gate.next().answer();
        assert_eq!(next.answer().status, 200);
    }
    assert_eq!(number(&station.house.at_rest(), "/providers/p/workers/panics_total"), 3);
}

#[test]
fn a_client_too_slow_is_counted_and_holds_its_worker_no_longer_than_write_timeout() {
    let (station, gate) = Station::gated(json!({}), json!({ "write_timeout": "400ms" }));
    let mut client = super::Client::small_window(station.addr);
    client.chat(&[], &chat("p/m", true));
    let pieces = gate.next().stream();
    let big = word(&"x".repeat(256 << 10));
    let (fed, took) = timed(|| {
        let pieces = std::iter::repeat_with(|| pieces.send_timeout(Piece::Bytes(big.clone().into()), FUSE).is_ok());
        pieces.take_while(|taken| *taken).take(400).count()
    });
    assert!(fed < 400 && took < ms(400) * SLACK, "{fed} pieces in {took:?}");
    let stats = station.house.at_rest();
    assert_eq!(stats["errors"], json!({ "client_too_slow": 1 }));
    assert_eq!(number(&stats, "/requests/cancelled_total"), 1);
    assert_eq!(number(&stats, "/providers/p/jobs/cancelled_total"), 1);
}

/// 64 readers take nothing, and their workers are held up by them: whoever comes meanwhile finds a worker, and waits for
/// nobody.
#[test]
fn sixty_four_slow_readers_leave_a_fast_one_alone() {
    const SLOW: usize = 64;
    let sizes = json!({ "concurrency_and_buffer_size": { "concurrency": SLOW + 1, "buffer_size": 4 } });
    let (station, gate) = Station::gated(sizes, json!({}));
    let big = word(&"x".repeat(256 << 10));
    let slow: Vec<_> = (0..SLOW)
        .map(|_| {
            let mut client = super::Client::small_window(station.addr);
            client.chat(&[], &chat("p/m", true));
            let pieces = gate.next().stream();
            feed(&pieces, &big);
            // Until the worker takes no more, since the one before is still on its way to the client.
            while pieces.send_timeout(Piece::Bytes(big.clone().into()), ms(20)).is_ok() {}
            (client, pieces)
        })
        .collect();
    assert_eq!(station.house.p("workers/busy"), SLOW as u64);
    for _ in 0..20 {
        let mut fast = station.client();
        fast.chat(&[], &chat("p/m", false));
        gate.next().answer();
        assert_eq!(fast.answer().status, 200);
    }
    // A worker that has answered is busy for another moment.
    eventually("only the held up are busy", || station.house.p("workers/busy") == SLOW as u64);
    assert_eq!(station.house.p("queue/depth"), 0);
    assert_eq!(station.house.p("queue/high_water"), 1, "nobody waited behind another");
    drop(slow);
    station.house.at_rest();
}

#[test]
fn a_drain_finishes_streams_and_its_deadline_ends_them_with_an_error_event() {
    for patience in [FUSE, ms(50)] {
        let (station, gate) =
            Station::gated(json!({ "concurrency_and_buffer_size": { "concurrency": 3, "buffer_size": 4 } }), json!({}));
        let streaming: Vec<_> = (0..2)
            .map(|_| {
                let mut client = station.client();
                client.chat(&[], &chat("p/m", true));
                let pieces = gate.next().stream();
                feed(&pieces, &word("one"));
                client.wait_for("one");
                (client, pieces)
            })
            .collect();
        let mut running = station.client();
        running.chat(&[], &chat("p/m", false));
        let held = gate.next();
        let mut queued: Vec<_> = (0..2).map(|_| station.client()).collect();
        queued.iter_mut().for_each(|client| {
            client.chat(&[], &chat("p/m", false));
        });
        station.house.queued(2);
        let lets_finish = patience == FUSE;
        scope(|scope| {
            let ending = scope.spawn(|| station.house.shutdown(patience));
            eventually("it drains", || !station.house.gateway().is_ready());
            let answer = station.client().chat(&[], &chat("p/m", true)).answer();
            assert_eq!((answer.status, answer.code().as_str()), (503, "shutting_down"));
            assert!(answer.header("retry-after").is_some());
            assert_eq!(station.client().get("/readyz").status, 503);
            assert_eq!(station.client().get("/livez").status, 200);
            if lets_finish {
                held.answer();
                (0..2).for_each(|_| gate.next().answer());
            }
            for (mut client, pieces) in streaming {
                if lets_finish {
                    feed(&pieces, &format!("{}{STOP}{DONE}", word("two")));
                }
                let answer = client.answer();
                drop(pieces);
                assert_eq!(answer.complete, lets_finish);
                assert_eq!(answer.text().contains("[DONE]"), lets_finish);
                assert!(lets_finish || answer.last_error() == "shutting_down", "{}", answer.text());
            }
            for mut client in queued.into_iter().chain([running]) {
                let answer = client.answer();
                assert_eq!(answer.status, if lets_finish { 200 } else { 503 }, "{}", answer.text());
                assert!(answer.complete && (lets_finish || answer.code() == "shutting_down"));
            }
            let report = ending.join().expect("no panic");
            let wanted = if lets_finish { (5, 0, 0) } else { (0, 3, 2) };
            assert_eq!((report.finished, report.cut, report.swept), wanted, "{report:?}");
        });
        station.house.at_rest();
    }
}
