//! What a request does after a failed attempt: again, or not, in what time, and what it tells in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::scope;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::gateway::CallOptions;
use sluicegate::model::Operation;
use sluicegate::sync::{CancelReason, CancelToken};
use sluicegate::time::now;
use sluicegate::transport::{Body, Incoming, MemoryTransport, TransportErrorKind as Kind};
use sluicegate::wire::openai::ChatRequest;
use sluicegate::{Code, Error};

use crate::house::{Arrived, DONE, FUSE, Gate, House, Piece, STOP, code, eventually, feed, ms, number, provider, word};

/// A provider whose failed attempts are made again twice, after pauses of a millisecond at most.
fn patient(change: Value) -> Value {
    let mut network = json!({
        "base_url": "http://127.0.0.1:1", "max_retries": 2, "retry_backoff_initial": "1ms", "retry_backoff_max": "1ms",
    });
    network.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
    provider(json!({ "network_config": network }))
}

fn fails(arrived: Arrived, status: u16) {
    arrived.respond(status, &[], json!({ "error": { "message": format!("no {status}") } }).to_string());
}

fn outcomes(error: &Error) -> Vec<(&'static str, Option<u16>)> {
    error.attempts().iter().map(|attempt| (attempt.outcome, attempt.status)).collect()
}

/// Asks once while `play` answers, and gives what came of it.
fn ask(house: &House, options: &CallOptions, play: impl FnOnce()) -> sluicegate::Result<sluicegate::model::Answer> {
    scope(|scope| {
        let call = scope.spawn(|| house.ask_with(options));
        play();
        call.join().expect("no panic")
    })
}

#[test]
fn a_failed_attempt_is_made_again_and_the_answer_tells_of_all() {
    let (house, gate) = House::gated(patient(json!({})));
    let answer = ask(&house, &CallOptions::default(), || {
        fails(gate.next(), 500);
        gate.next().fail(Kind::Refused);
        gate.next().answer();
    });
    let served = answer.expect("the third try succeeds").served;
    assert_eq!((served.attempts, served.fallbacks), (3, 0));
    let stats = house.at_rest();
    let p = |path: &str| number(&stats, &format!("/providers/p/{path}"));
    assert_eq!((p("jobs/retries_total"), p("jobs/fallbacks_total"), p("queue/submitted_total")), (2, 0, 3));
    assert_eq!((p("jobs/succeeded_total"), p("jobs/failed_total")), (1, 2));
    assert_eq!((number(&stats, "/requests/received_total"), number(&stats, "/requests/succeeded_total")), (1, 1));
}

#[test]
fn three_tries_are_made_and_the_last_word_of_upstream_is_told_with_every_attempt() {
    let (house, gate) = House::gated(patient(json!({})));
    let error = ask(&house, &CallOptions::default(), || {
        fails(gate.next(), 500);
        fails(gate.next(), 503);
        fails(gate.next(), 502);
    });
    let error = error.expect_err("it fails thrice");
    assert_eq!((error.code(), error.status(), error.message()), (Code::UpstreamError, 502, "no 502"));
    let tried = [500, 503, 502].map(|status| ("upstream_error", Some(status)));
    assert_eq!(outcomes(&error), tried);
    assert!(gate.is_empty(), "no fourth try");
}

#[test]
fn what_trying_again_cannot_mend_is_told_at_once() {
    let (house, gate) = House::gated(patient(json!({})));
    for status in [400, 402, 404, 405, 409, 413, 415, 422] {
        let error = ask(&house, &CallOptions::default(), || fails(gate.next(), status)).expect_err("it fails");
        assert_eq!((error.status(), error.attempts().len()), (status, 1));
    }
    let error = ask(&house, &CallOptions::default(), || gate.next().fail(Kind::Timeout)).expect_err("it is late");
    assert_eq!((error.code(), error.attempts().len()), (Code::UpstreamTimeout, 1), "a silent route is not asked again");
    let error = ask(&house, &CallOptions::default(), || gate.next().panic()).expect_err("its worker panics");
    assert_eq!((error.code(), error.attempts().len()), (Code::Internal, 1));
}

#[test]
fn a_providers_word_on_when_to_come_again_is_kept() {
    let (house, gate) = House::gated(patient(json!({ "retry_after_patience": "2s" })));
    for (status, header, least) in [(503, ("retry-after-ms", "60"), 60), (429, ("retry-after-ms", "80"), 80)] {
        let begun = now();
        let answer = ask(&house, &CallOptions::default(), || {
            gate.next().respond(status, &[header], "{}");
            let again = gate.next();
            assert!(
                now().saturating_duration_since(begun) >= ms(least),
                "{:?} after {header:?}",
                now().saturating_duration_since(begun)
            );
            again.answer();
        });
        let timing = answer.expect("it is answered").served.timing;
        // A key's rest runs from the worker's end on.
        assert!(timing.backoff >= ms(least / 2), "{timing:?}");
    }
    // Longer than anybody here is patient for.
    for status in [503, 429] {
        let error = ask(&house, &CallOptions::default(), || gate.next().respond(status, &[("retry-after", "3")], "{}"));
        let error = error.expect_err("it is not waited for");
        assert_eq!((error.status(), error.retry_after()), (status, Some(Duration::from_secs(3))));
        assert_eq!(error.attempts().len(), 1);
    }
}

#[test]
fn a_pause_holds_no_worker_and_ends_with_the_request() {
    let (house, gate) = House::gated(patient(json!({ "retry_after_patience": "1h" })));
    let cancel = CancelToken::new();
    let options = CallOptions::new().cancel(cancel.clone());
    let error = ask(&house, &options, || {
        gate.next().respond(503, &[("retry-after", "30")], "{}");
        // There is one worker, and it serves another meanwhile.
        ask(&house, &CallOptions::default(), || gate.next().answer()).expect("the worker is free");
        eventually("worker and place are free", || (house.p("workers/busy"), house.p("queue/places_taken")) == (0, 0));
        cancel.cancel();
    });
    let error = error.expect_err("it was cancelled");
    assert_eq!((error.code(), error.attempts().len()), (Code::ClientClosed, 1));
    assert_eq!(number(&house.at_rest(), "/requests/cancelled_total"), 1);
}

#[test]
fn a_pause_that_would_outlast_the_deadline_is_not_begun() {
    let (house, gate) = House::gated(patient(json!({ "retry_after_patience": "1h" })));
    let options = CallOptions::new().deadline(FUSE);
    let error = ask(&house, &options, || gate.next().respond(503, &[("retry-after", "30")], "{}"));
    assert_eq!(error.expect_err("no time is left").attempts().len(), 1);
}

#[test]
fn a_stream_is_tried_again_up_to_its_first_event_and_never_after_it() {
    let (house, gate) = House::gated(patient(json!({})));
    let request = ChatRequest::new("p/m", "x");
    let chunks: Vec<_> = scope(|scope| {
        let call = scope.spawn(|| house.gateway().chat_stream(&request).map(|stream| stream.collect::<Vec<_>>()));
        fails(gate.next(), 500);
        drop(gate.next().stream());
        let error = json!({ "error": { "message": "overloaded", "type": "overloaded_error" } });
        feed(&gate.next().stream(), &format!("data: {error}\n\n"));
        call.join().expect("no panic")
    })
    .expect_err("it fails thrice before its first event")
    .attempts()
    .iter()
    .map(|attempt| attempt.outcome)
    .collect();
    assert_eq!(chunks, ["upstream_error", "upstream_bad_response", "upstream_error"]);

    let (good, then) = scope(|scope| {
        let call = scope.spawn(|| house.gateway().chat_stream(&request).map(|stream| stream.collect::<Vec<_>>()));
        gate.next().fail(Kind::Refused);
        let pieces = gate.next().stream();
        feed(&pieces, &word("one"));
        let _ = pieces.send_timeout(Piece::Fail(Kind::Cut), FUSE);
        let mut chunks = call.join().expect("no panic").expect("it begins");
        let last = chunks.pop().expect("an end").expect_err("it was cut");
        (chunks.len(), last)
    });
    assert_eq!((good, then.code()), (1, Code::StreamCut));
    let tried: Vec<_> = then.attempts().iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(tried, ["upstream_connect_error", "stream_cut"], "the attempts before it are listed, too");
    assert!(gate.is_empty(), "nothing is tried again once something was delivered");

    let served = scope(|scope| {
        let call = scope.spawn(|| {
            let mut stream = house.gateway().chat_stream(&request).expect("it begins");
            let whole = stream.by_ref().all(|chunk| chunk.is_ok());
            (whole, stream.served().expect("a head").clone())
        });
        fails(gate.next(), 503);
        let pieces = gate.next().stream();
        for text in [&word("one"), STOP, DONE] {
            feed(&pieces, text);
        }
        drop(pieces);
        call.join().expect("no panic")
    });
    assert!(served.0 && served.1.attempts == 2, "{served:?}");
}

#[test]
fn retries_stay_within_the_providers_budget() {
    const REQUESTS: u64 = 100;
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let transport = MemoryTransport::new(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(Incoming { status: 500, headers: Vec::new(), body: Body::from_bytes(b"{}".to_vec()) })
    });
    let house = House::answered(patient(json!({})), transport);
    let begun = now();
    for _ in 0..REQUESTS {
        assert_eq!(code(&house.ask()), Code::UpstreamError);
    }
    // A fifth of the traffic, ten a second, and the first second's ten.
    let most = REQUESTS / 5 + 10 + (now().saturating_duration_since(begun).as_secs_f64() * 10.0).ceil() as u64;
    let retries = asked.load(Ordering::Relaxed) - REQUESTS;
    assert!((10..=most).contains(&retries), "{retries} retries, of {most} at most");
    assert_eq!(house.p("jobs/retries_total"), retries);
}

#[test]
fn each_provider_has_a_budget_and_a_pause_of_its_own() {
    let (one, other) = (Gate::new(), Gate::new());
    let providers = json!({ "p": patient(json!({ "retry_after_patience": "1h" })), "q": patient(json!({})) });
    let house = House::new(providers, &[("p", &one), ("q", &other)]);
    let cancel = CancelToken::new();
    let options = CallOptions::new().cancel(cancel.clone());
    let _ = ask(&house, &options, || {
        one.next().respond(429, &[("retry-after", "30")], "{}");
        let body = crate::house::chat("q/m", false).into_bytes();
        scope(|scope| {
            let call = scope.spawn(|| house.gateway().raw(Operation::ChatCompletions, body));
            other.next().answer();
            call.join().expect("no panic").expect("it is answered");
        });
        cancel.cancel();
    });
}

/// The client's leaving and the provider's error cross, now the one being first and now the other: each request ends once, as
/// one that was cancelled.
#[test]
fn a_caller_who_leaves_as_the_attempt_fails_is_counted_as_one_who_left() {
    const TIMES: u64 = 200;
    let transport = MemoryTransport::new(|_, control| {
        let token = control.cancel.clone();
        let mut body = Some(b"{}".to_vec());
        let pieces = std::iter::from_fn(move || {
            let piece = body.take();
            if piece.is_none() {
                token.cancel_for(CancelReason::ClientGone);
            }
            piece.map(Ok)
        });
        Ok(Incoming { status: 503, headers: Vec::new(), body: Body::from_pieces(pieces) })
    });
    let house = House::answered(patient(json!({})), transport);
    (0..TIMES).for_each(|_| assert_eq!(code(&house.ask()), Code::ClientClosed));
    let stats = house.at_rest();
    let requests = ["cancelled", "failed"].map(|end| number(&stats, &format!("/requests/{end}_total")));
    assert_eq!((requests, number(&stats, "/providers/p/queue/submitted_total")), ([TIMES, 0], TIMES));
}

#[test]
fn a_pause_ends_with_the_gateway_and_its_request_is_told_so() {
    let (house, gate) = House::gated(patient(json!({ "retry_after_patience": "1h" })));
    let error = ask(&house, &CallOptions::default(), || {
        gate.next().respond(503, &[("retry-after", "30")], "{}");
        eventually("it pauses", || house.p("workers/busy") == 0 && house.p("jobs/failed_total") == 1);
        let report = house.shutdown(ms(50));
        assert_eq!((report.finished, report.cut, report.stragglers.len()), (0, 1, 0), "{report:?}");
    });
    let error = error.expect_err("nothing is waited for any more");
    assert_eq!((error.code(), error.attempts().len()), (Code::ShuttingDown, 1));
}
