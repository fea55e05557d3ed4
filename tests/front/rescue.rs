//! Streams that are held until their end: what fails is made again unseen, bounded in bytes and time, with a client that may
//! leave, read slowly, or be kept alive meanwhile.

use std::any::Any;
use std::sync::{Arc, Mutex};
use std::thread::scope;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::config::StreamRecovery;
use sluicegate::gateway::{CallOptions, Handled};
use sluicegate::model::{Sink, SinkError, StreamEnd, StreamHead};
use sluicegate::time::now;
use sluicegate::transport::TransportErrorKind as Kind;
use sluicegate::wire::openai::{ChatRequest, parse_chat};

use super::{Client, Station, timed};
use crate::house::{DONE, FUSE, Gate, House, Piece, SLACK, STOP, chat, eventually, feed, ms, number, provider, word};

const BUFFER: &str = "x-sluicegate-stream-recovery: buffer";

/// A provider that holds its streams, and tries again at once.
fn holding(change: Value) -> (Station, Gate) {
    let mut settings = json!({
        "stream_recovery": "buffer",
        "network_config": { "max_retries": 2, "retry_backoff_initial": 0, "retry_backoff_max": 0 },
    });
    for (key, value) in change.as_object().expect("an object") {
        settings[key] = value.clone();
    }
    Station::gated(settings, json!({}))
}

/// Plays a whole stream, as much of it as is read.
fn play(gate: &Gate, texts: &[&str]) {
    let pieces = gate.next().stream();
    for text in texts {
        let _ = pieces.send_timeout(Piece::Bytes((*text).into()), FUSE);
    }
}

#[test]
fn what_fails_before_its_end_is_made_again_unseen() {
    let (station, gate) = holding(json!({ "stream_garbage": "fail" }));
    let error = "data: {\"error\":{\"message\":\"sorry\",\"code\":500}}\n\n";
    for (texts, fails) in [
        (&[][..], Kind::Cut),
        (&["one"], Kind::Cut),
        (&["one", "two"], Kind::Protocol),
        (&["one", "garbage"], Kind::Cut),
        (&["one", "error"], Kind::Cut),
    ] {
        let mut client = station.client();
        client.chat(&[], &chat("p/m", true));
        let pieces = gate.next().stream();
        for text in texts {
            match *text {
                "garbage" => feed(&pieces, "data: {\n\n"),
                "error" => feed(&pieces, error),
                text => feed(&pieces, &word(text)),
            }
        }
        let _ = pieces.send_timeout(Piece::Fail(fails), FUSE);
        drop(pieces);
        play(&gate, &[&word("whole"), STOP, DONE]);
        let answer = client.answer();
        assert_eq!((answer.status, answer.complete), (200, true), "{texts:?}: {}", answer.text());
        assert_eq!(answer.text(), [&word("whole"), STOP, DONE].concat(), "{texts:?}");
        assert_eq!(answer.header("x-sluicegate-attempts"), Some("2"), "{texts:?}");
        assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    }
    let stats = station.house.at_rest();
    assert_eq!((number(&stats, "/requests/succeeded_total"), &stats["errors"]), (5, &json!({})));
    assert_eq!(number(&stats, "/providers/p/jobs/failed_total"), 5);
    assert_eq!(number(&stats, "/providers/p/jobs/retries_total"), 5);
    assert_eq!(number(&stats, "/providers/p/jobs/first_token_us/count"), 9, "that of each stream that had one");
}

#[test]
fn a_stream_that_fails_each_time_is_an_answer_with_a_status() {
    let station = Station::sim_with(json!({ "network_config": {
        "max_retries": 1, "retry_backoff_initial": 0, "retry_backoff_max": 0, "stream_idle_timeout_in_seconds": "300ms",
    } }));
    for (model, status, code, attempts) in [
        ("sim/lorem-9+cut-3", 502, "stream_cut", 2),
        ("sim/lorem-9+cut-0", 502, "upstream_connect_error", 2),
        // A provider that says nothing is not waited for again.
        ("sim/lorem-9+stall-3", 504, "stream_idle_timeout", 1),
        ("sim/error-in-200", 502, "upstream_error", 2),
        ("sim/fail-400", 400, "upstream_error", 1),
    ] {
        let answer = station.client().chat(&[BUFFER], &chat(model, true)).answer();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{model}: {}", answer.text());
        assert!(answer.complete && answer.header("content-type") == Some("application/json"), "{model}");
        let told = answer.json()["sluicegate"]["attempts"].as_array().map(Vec::len);
        assert_eq!(told, Some(attempts), "{model}");
    }
    let answer = station.client().chat(&[BUFFER], &chat("sim/lorem-3", true)).answer();
    assert!(answer.complete && answer.words() == "lorem ipsum dolor");
}

/// The request's word goes before the provider's, and neither concerns what is no stream.
#[test]
fn the_request_says_whether_its_stream_is_held_and_else_the_provider_does() {
    for (configured, asked, is_held) in [
        ("off", None, false),
        ("off", Some("off"), false),
        ("off", Some("buffer"), true),
        ("buffer", None, true),
        ("buffer", Some("buffer"), true),
        ("buffer", Some("off"), false),
    ] {
        let (station, gate) = holding(json!({ "stream_recovery": configured }));
        let line = asked.map(|asked| format!("x-sluicegate-stream-recovery: {asked}"));
        let mut client = station.client();
        client.chat(line.as_deref().as_slice(), &chat("p/m", true));
        let pieces = gate.next().stream();
        feed(&pieces, &word("one"));
        if !is_held {
            client.wait_for("one");
        }
        pieces.send_timeout(Piece::Fail(Kind::Cut), FUSE).map_err(drop).expect("it is read");
        drop(pieces);
        if is_held {
            play(&gate, &[&word("whole"), STOP]);
        }
        assert_eq!(client.answer().complete, is_held, "{configured} {asked:?}");
        let mut whole = station.client();
        whole.chat(line.as_deref().as_slice(), &chat("p/m", false));
        gate.next().answer();
        assert_eq!(whole.answer().status, 200);
    }
}

#[test]
fn a_held_stream_takes_its_worker_and_comes_with_the_times_up_to_its_end() {
    let limits =
        json!({ "network_config": { "first_token_timeout": "200ms", "default_request_timeout_in_seconds": "200ms" } });
    let (station, gate) = holding(limits);
    let mut client = station.client();
    client.chat(&[], &chat("p/m", true));
    let pieces = gate.next().stream();
    feed(&pieces, &word("one"));
    let began = now();
    eventually("past what bounds its first event", || now() - began > ms(600));
    assert_eq!(station.house.p("workers/busy"), 1);
    feed(&pieces, STOP);
    drop(pieces);
    let answer = client.answer();
    assert!(answer.complete, "{}", answer.text());
    let upstream: u64 = answer.header("x-sluicegate-upstream-us").expect("a time").parse().expect("a number");
    let overhead: u64 = answer.header("x-sluicegate-overhead-us").expect("a time").parse().expect("a number");
    assert!(upstream >= 600_000 && overhead < upstream, "{upstream} {overhead}");
    let again = client.chat(&["x-sluicegate-stream-recovery: off"], &chat("p/m", true));
    play(&gate, &[STOP, DONE]);
    assert!(again.answer().complete, "the connection serves on");
}

#[test]
fn silence_length_and_the_requests_own_time_end_a_held_stream_in_time() {
    let station = Station::sim_with(json!({ "stream_recovery": "buffer", "network_config": {
        "max_retries": 0, "stream_idle_timeout_in_seconds": "400ms", "stream_max_duration": "800ms",
        "first_token_timeout": "500ms",
    } }));
    for (model, headers, code, least) in [
        ("sim/lorem-9+stall-3", &[][..], "stream_idle_timeout", 400),
        ("sim/lorem-1000+gap-20ms", &[], "stream_too_long", 800),
        ("sim/lorem-1000+gap-20ms", &["x-sluicegate-timeout: 600ms"], "stream_too_long", 600),
        ("sim/lorem-9+ttft-30s", &[], "first_token_timeout", 500),
        ("sim/lorem-9+ttft-30s", &["x-sluicegate-timeout: 400ms"], "first_token_timeout", 400),
    ] {
        let (answer, took) = timed(|| station.client().chat(headers, &chat(model, true)).answer());
        assert_eq!((answer.status, answer.code().as_str()), (504, code), "{model}: {}", answer.text());
        assert!(took >= ms(least) && took < ms(least) * SLACK, "{model}: {took:?}");
    }
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/providers/sim/jobs/timed_out_total"), 5);
}

#[test]
fn a_client_that_leaves_ends_its_held_stream_upstream() {
    let (station, gate) = holding(json!({}));
    for leaves_late in [false, true] {
        let mut client = station.client();
        client.chat(&[], &chat("p/m", true));
        let pieces = gate.next().stream();
        feed(&pieces, &word("one"));
        if leaves_late {
            std::thread::park_timeout(ms(120));
        }
        let left = now();
        drop(client);
        eventually("the provider is left", || {
            pieces.try_send(Piece::Bytes(Vec::new())).is_err_and(|error| error.is_disconnected())
        });
        eventually("the worker is free", || station.house.p("workers/busy") == 0);
        assert!(now() - left < ms(100) * SLACK, "{:?}", now() - left);
    }
    let stats = station.house.at_rest();
    assert_eq!(stats["errors"], json!({ "client_closed": 2 }));
    assert_eq!(number(&stats, "/providers/p/jobs/cancelled_total"), 2);
    assert!(gate.is_empty(), "nobody is left to try again for");
}

#[test]
fn a_held_stream_that_the_gateways_end_cuts_is_answered_with_a_status() {
    let (station, gate) = holding(json!({}));
    let mut client = station.client();
    client.chat(&[], &chat("p/m", true));
    let pieces = gate.next().stream();
    feed(&pieces, &word("one"));
    let report = station.house.shutdown(ms(50));
    assert_eq!(report.cut, 1, "{report:?}");
    let answer = client.answer();
    assert_eq!((answer.status, answer.code().as_str()), (503, "shutting_down"));
    assert!(gate.is_empty());
}

/// I4: what is held is of the budget, and comes back whatever becomes of it.
#[test]
fn what_is_held_is_of_the_gateways_budget() {
    let gate = Gate::new();
    let settings = provider(json!({
        "stream_recovery": "buffer", "network_config": { "max_retries": 0 },
        "concurrency_and_buffer_size": { "concurrency": 2, "buffer_size": 4 },
    }));
    let config = json!({ "server": { "max_buffered_bytes": 1 << 20, "max_body_bytes": 1 << 20 }, "providers": { "p": settings } });
    let station = Station::on(House::with(config, &[("p", &gate)]));
    let held = || number(&station.house.stats(), "/requests/buffered_bytes");
    let (mut first, mut second) = (station.client(), station.client());
    first.chat(&[], &chat("p/m", true));
    let pieces = gate.next().stream();
    for _ in 0..6 {
        feed(&pieces, &word(&"x".repeat(100_000)));
    }
    eventually("it holds much of the budget", || held() > 500_000);
    second.chat(&[], &chat("p/m", true));
    let (answer, took) = timed(|| {
        play(&gate, &[&word(&"x".repeat(600_000)), STOP]);
        second.answer()
    });
    assert_eq!((answer.status, answer.code().as_str()), (503, "resource_timeout"), "{}", answer.text());
    assert!(took >= ms(1000) && took < ms(1000) * SLACK && answer.header("retry-after").is_some(), "{took:?}");
    feed(&pieces, STOP);
    drop(pieces);
    let answer = first.answer();
    assert!(answer.complete && answer.body.len() > 600_000);
    assert_eq!(held(), 0, "given back before the last byte is written");
    second.chat(&[], &chat("p/m", true));
    let pieces = gate.next().stream();
    feed(&pieces, &word(&"x".repeat(200_000)));
    eventually("it is held", || held() > 100_000);
    pieces.send_timeout(Piece::Panic, FUSE).map_err(drop).expect("it is read");
    assert_eq!(second.answer().code(), "internal");
    eventually("all came back", || held() == 0);
}

#[test]
fn a_stream_larger_than_any_answer_is_none() {
    let (station, gate) = holding(json!({ "network_config": { "max_retries": 0 } }));
    let mut client = station.client();
    client.chat(&[], &chat("p/m", true));
    let pieces = gate.next().stream();
    feed(&pieces, &word("one"));
    let comment = format!(": {}\n\n", "x".repeat(1 << 20));
    let taken = std::iter::repeat_with(|| pieces.send_timeout(Piece::Bytes(comment.clone().into()), FUSE).is_ok());
    let taken = taken.take_while(|taken| *taken).take(80).count();
    assert!((63..=65).contains(&taken), "{taken} MiB");
    let answer = client.answer();
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_bad_response"));
}

/// What was held is delivered by the thread that waited for it: the worker has long gone on.
#[test]
fn a_client_that_reads_slowly_holds_no_worker() {
    let gate = Gate::new();
    let settings = provider(json!({ "stream_recovery": "buffer" }));
    let config = json!({ "server": { "write_timeout": "1500ms" }, "providers": { "p": settings } });
    let station = Station::on(House::with(config, &[("p", &gate)]));
    let mut slow = Client::small_window(station.addr);
    slow.chat(&[], &chat("p/m", true));
    let big = word(&"x".repeat(1 << 20));
    play(&gate, &[&big, &big, &big, &big, &big, &big, &big, &big, STOP, DONE]);
    let mut fast = station.client();
    let (_, took) = timed(|| {
        fast.chat(&[], &chat("p/m", true));
        play(&gate, &[&word("one"), STOP]);
        assert!(fast.answer().complete);
    });
    assert!(took < ms(1500), "the only worker was free: {took:?}");
    let stats = station.house.at_rest();
    assert_eq!(stats["errors"], json!({ "client_too_slow": 1 }));
    assert_eq!(number(&stats, "/requests/cancelled_total"), 1);
    assert_eq!(number(&stats, "/providers/p/jobs/succeeded_total"), 2, "the provider did all that it was asked for");
}

#[test]
fn a_library_caller_gets_a_held_stream_whole_or_an_error() {
    let settings = provider(json!({
        "concurrency_and_buffer_size": { "result_buffer": 1 },
        "network_config": { "max_retries": 1, "retry_backoff_initial": 0, "retry_backoff_max": 0 },
    }));
    let (house, gate) = House::gated(settings);
    let options = CallOptions::new().stream_recovery(StreamRecovery::Buffer);
    let request = ChatRequest::new("p/m", "hi");
    scope(|scope| {
        let call = scope.spawn(|| house.gateway().with(&options).chat_stream(&request));
        play(&gate, &[&word("half")]);
        let words: Vec<_> = (0..100).map(|n| word(&format!("{n} "))).collect();
        let big = word(&"x".repeat(3 << 20));
        let mut texts: Vec<&str> = words.iter().map(String::as_str).collect();
        texts.extend([&big, &big, STOP, DONE]);
        play(&gate, &texts);
        let mut stream = call.join().expect("no panic").expect("it was made again");
        let text: String = stream.by_ref().map(|chunk| chunk.expect("good").text().to_owned()).collect();
        assert!(text.starts_with("0 1 2 ") && text.len() > 6 << 20, "{} bytes", text.len());
        assert_eq!(stream.served().expect("known").attempts, 2);

        let call = scope.spawn(|| house.gateway().with(&options).chat_stream(&request));
        (0..2).for_each(|_| play(&gate, &[&word("half")]));
        let error = call.join().expect("no panic").expect_err("it was cut each time");
        assert_eq!((error.code(), error.attempts().len()), (sluicegate::Code::StreamCut, 2));
    });
}

/// What a sink was told.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().expect("no panic").push(text.into());
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }
}

impl Sink for Heard {
    fn begin(&mut self, head: StreamHead) -> Result<(), SinkError> {
        self.note(format!("head {}", head.served.attempts));
        Ok(())
    }

    fn event(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.note(std::str::from_utf8(bytes).expect("text"));
        Ok(())
    }

    fn finish(self: Box<Self>, end: StreamEnd) {
        self.note(match end {
            StreamEnd::Complete(_) => "complete".to_owned(),
            StreamEnd::Failed(error) => format!("failed {} after {}", error.code(), error.attempts().len()),
        });
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

/// What a client hears of a stream whose first comment is due as soon as it is asked for, while `play` plays the provider.
pub(super) fn overdue(station: &Station, play: impl FnOnce(&Heard)) -> Vec<String> {
    // Comments come every 15 seconds from the arrival.
    let arrived = now().checked_sub(Duration::from_millis(14_800)).expect("the machine runs for a while");
    let body = chat("p/m", true).into_bytes();
    let fields = parse_chat(&body).expect("a request");
    let call = Arc::new(CallOptions::new().call(body, fields, arrived).expect("good"));
    let heard = Heard::default();
    let ended = scope(|scope| {
        let waits = scope.spawn(|| {
            let gateway = station.house.gateway();
            gateway.handle(&call, gateway.begin(arrived), Some(Box::new(heard.clone())))
        });
        play(&heard);
        waits.join().expect("no panic")
    });
    assert!(matches!(ended, Handled::Streaming), "{ended:?}");
    heard.all()
}

/// A request that has waited for a while hears comments, which commit the status and nothing else: trying again stays
/// possible, and what fails in the end is an error event.
#[test]
fn with_early_keepalive_comments_are_heard_and_trying_again_stays_possible() {
    let (station, gate) = holding(json!({ "early_keepalive": true }));
    for recovers in [true, false] {
        let heard = overdue(&station, |heard| {
            let pieces = gate.next().stream();
            feed(&pieces, &word("half"));
            eventually("a comment is heard", || heard.all().len() == 2);
            drop(pieces);
            match recovers {
                true => play(&gate, &[&word("whole"), STOP]),
                false => (0..2).for_each(|_| play(&gate, &[&word("half")])),
            }
        });
        let comment = ": keep-alive\n\n".to_owned();
        let mut wanted = vec!["head 1".to_owned(), comment];
        match recovers {
            true => wanted.extend([[&word("whole"), STOP].concat(), "complete".to_owned()]),
            false => wanted.push("failed stream_cut after 3".to_owned()),
        }
        assert_eq!(heard, wanted);
    }
    let stats = station.house.at_rest();
    assert_eq!((number(&stats, "/requests/succeeded_total"), &stats["errors"]), (1, &json!({ "stream_cut": 1 })));
}
