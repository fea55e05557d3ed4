//! Streams for library callers: in order, cancelled by a drop, bounded against a slow reader, honest about their end.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::scope;

use crossbeam_channel::{Sender, bounded};
use serde_json::json;
use sluicegate::Code;
use sluicegate::gateway::ChatStream;
use sluicegate::time::now;
use sluicegate::transport::TransportErrorKind as Kind;
use sluicegate::wire::openai::ChatRequest;

use crate::house::{
    DONE, FUSE, Gate, House, Piece, SLACK, STOP, USAGE, eventually, feed, ms, number, provider, sim, word,
};

/// Opens a stream at the gate and gives it its first word.
pub(super) fn open(house: &House, gate: &Gate) -> (ChatStream, Sender<Piece>) {
    scope(|scope| {
        let call = scope.spawn(|| house.gateway().chat_stream(&ChatRequest::new("p/m", "hi")));
        let pieces = gate.next().stream();
        feed(&pieces, &word("first"));
        (call.join().expect("no panic").expect("it began"), pieces)
    })
}

#[test]
fn a_stream_comes_in_order_with_the_usage_counted_and_left_out() {
    let (house, gate) = House::gated(provider(json!({})));
    let (text, chunks) = scope(|scope| {
        let call = scope.spawn(|| {
            let mut stream = house.gateway().chat_stream(&ChatRequest::new("p/m", "hi")).expect("it began");
            let chunks: Vec<_> = stream.by_ref().map(|chunk| chunk.expect("good")).collect();
            assert_eq!(&*stream.served().expect("known").provider, "p");
            chunks
        });
        let arrived = gate.next();
        assert_eq!(arrived.json()["stream_options"]["include_usage"], true, "we ask for the usage");
        assert_eq!(arrived.json()["stream"], true);
        let pieces = arrived.stream();
        // Cut at every odd place: what is relayed is whole events.
        let all = format!(": hello\r\n\r\n{}{}{}{USAGE}{DONE}", word("a"), word("b"), STOP);
        all.as_bytes().chunks(7).for_each(|bytes| {
            // After the end's mark nobody reads on.
            let _ = pieces.send_timeout(Piece::Bytes(bytes.to_vec()), FUSE);
        });
        let chunks = call.join().expect("no panic");
        (chunks.iter().map(|chunk| chunk.text()).collect::<String>(), chunks.len())
    });
    assert_eq!((text.as_str(), chunks), ("ab", 3));
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/jobs/tokens_out_total"), 2);
    assert_eq!(number(&stats, "/providers/p/jobs/first_token_us/count"), 1);
}

#[test]
fn an_end_that_the_provider_forgot_to_mark_is_an_end_and_a_cut_is_an_error() {
    let (house, gate) = House::gated(provider(json!({})));
    let (stream, pieces) = open(&house, &gate);
    feed(&pieces, STOP);
    drop(pieces);
    assert_eq!(stream.collect::<Result<Vec<_>, _>>().expect("good").len(), 2);

    for fails in [true, false] {
        let (mut stream, pieces) = open(&house, &gate);
        assert_eq!(stream.next().expect("a chunk").expect("good").text(), "first");
        if fails {
            pieces.send_timeout(Piece::Fail(Kind::Cut), FUSE).map_err(drop).expect("a worker reads");
        }
        drop(pieces);
        let error = stream.next().expect("a last word").expect_err("it was cut");
        assert_eq!((error.code(), error.provider()), (Code::StreamCut, Some("p")));
        assert_eq!(error.attempts().len(), 1);
        assert!(stream.next().is_none());
    }
    let stats = house.at_rest();
    assert_eq!(stats["errors"]["stream_cut"], 2);
    assert_eq!(number(&stats, "/providers/p/jobs/succeeded_total"), 1);
}

#[test]
fn what_fails_before_the_first_event_is_an_error_of_the_call() {
    let (house, gate) = House::gated(provider(json!({ "network_config": { "first_token_timeout": "800ms" } })));
    let fail = |play: &dyn Fn(crate::house::Arrived)| {
        scope(|scope| {
            let call = scope.spawn(|| house.gateway().chat_stream(&ChatRequest::new("p/m", "hi")));
            play(gate.next());
            call.join().expect("no panic").expect_err("it never began")
        })
    };
    assert_eq!(fail(&|arrived| drop(arrived.stream())).code(), Code::UpstreamBadResponse);
    assert_eq!(fail(&|arrived| arrived.fail(Kind::NoAnswer)).code(), Code::UpstreamConnectError);
    assert_eq!(fail(&|arrived| arrived.wait_over()).code(), Code::FirstTokenTimeout);
    let inside = fail(&|arrived| feed(&arrived.stream(), "data: {\"error\":{\"message\":\"sorry\"}}\n\n"));
    assert_eq!((inside.code(), inside.status(), inside.message()), (Code::UpstreamError, 502, "sorry"));
    assert_eq!(fail(&|arrived| arrived.respond(302, &[], word("no"))).code(), Code::UpstreamBadResponse);
    // The last of them: it cools the key.
    assert_eq!(fail(&|arrived| arrived.respond(429, &[], "{}")).status(), 429);
}

#[test]
fn dropping_a_stream_cancels_it_upstream_and_frees_its_worker() {
    let (house, gate) = House::gated(provider(json!({})));
    for taken in [0, 1] {
        let (mut stream, pieces) = open(&house, &gate);
        for _ in 0..taken {
            stream.next().expect("a chunk").expect("good");
        }
        let began = now();
        drop(stream);
        eventually("the worker is free", || house.p("workers/busy") == 0);
        assert!(now() - began < ms(100) * SLACK, "{:?}", now() - began);
        assert!(pieces.try_send(Piece::Panic).is_err(), "nobody reads any more");
    }
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/jobs/cancelled_total"), 2);
    assert_eq!(number(&stats, "/requests/cancelled_total"), 2);
}

#[test]
fn the_simulated_provider_sees_a_dropped_stream_close() {
    let house = House::new(json!({ "sim": sim(json!({})) }), &[]);
    for model in ["sim/lorem-1000+gap-20ms", "sim/lorem-9+stall-2"] {
        let mut stream = house.gateway().chat_stream(&ChatRequest::new(model, "x")).expect("it began");
        stream.next().expect("a chunk").expect("good");
        let aborted = |house: &House| house.gateway().sim_stats().expect("it runs")["aborted_by_peer"].clone();
        let (before, began) = (aborted(&house).as_u64().expect("a number"), now());
        drop(stream);
        eventually("the provider has noticed", || aborted(&house) == before + 1);
        assert!(now() - began < ms(100) * SLACK, "{:?}", now() - began);
    }
}

#[test]
fn cancelling_a_stream_says_so_to_its_reader() {
    let (house, gate) = House::gated(provider(json!({})));
    let (mut stream, pieces) = open(&house, &gate);
    stream.next().expect("a chunk").expect("good");
    stream.cancel();
    let error = stream.next().expect("a last word").expect_err("it was cancelled");
    assert_eq!(error.code(), Code::ClientClosed);
    assert!(stream.next().is_none());
    drop(pieces);
}

/// A caller that does not read holds a worker for `write_timeout` in all, and not once more to be told so.
#[test]
fn a_reader_too_slow_loses_its_stream_after_write_timeout_and_is_told() {
    let gate = Gate::new();
    let house = House::with(
        json!({
            "server": { "write_timeout": "600ms" },
            "providers": { "p": provider(json!({ "concurrency_and_buffer_size": { "result_buffer": 2 } })) },
        }),
        &[("p", &gate)],
    );
    let (stream, pieces) = open(&house, &gate);
    let began = now();
    while pieces.send_timeout(Piece::Bytes(word("more").into()), FUSE).is_ok() {}
    eventually("the worker is free", || house.p("workers/busy") == 0);
    let took = now() - began;
    assert!(took >= ms(590) && took < ms(1100), "{took:?}");
    let last = stream.last().expect("a last word").expect_err("it lost its stream");
    assert_eq!(last.code(), Code::ClientTooSlow);
    let stats = house.at_rest();
    assert_eq!(stats["errors"]["client_too_slow"], 1);
}

/// I4: what is held for a caller is bounded in bytes, too.
#[test]
fn what_is_held_for_a_slow_reader_is_bounded_in_bytes() {
    let gate = Gate::new();
    let house = House::with(
        json!({ "server": { "write_timeout": "700ms" }, "providers": { "p": provider(json!({})) } }),
        &[("p", &gate)],
    );
    let (stream, pieces) = open(&house, &gate);
    let big = word(&"x".repeat(1 << 20));
    let taken = std::iter::repeat_with(|| pieces.send_timeout(Piece::Bytes(big.clone().into()), FUSE).is_ok());
    let taken = taken.take_while(|taken| *taken).take(64).count();
    assert!((4..=6).contains(&taken), "{taken} MiB were taken for a caller who reads nothing");
    let chunks = stream.filter(|chunk| chunk.is_ok()).count();
    assert!((4..=6).contains(&chunks), "what was taken is there to be read: {chunks}");
}

/// With a reader who takes everything the bound in bytes only paces: nothing is lost, whatever the sizes.
#[test]
fn big_events_reach_a_reader_who_reads() {
    let (house, gate) = House::gated(provider(json!({})));
    let (stream, pieces) = open(&house, &gate);
    let total: usize = scope(|scope| {
        let reader = scope.spawn(|| stream.map(|chunk| chunk.expect("good").text().len()).sum());
        for size in [1, 3 << 20, 5, 3 << 20, 3 << 20, 7, 2 << 20, 0] {
            feed(&pieces, &word(&"x".repeat(size)));
        }
        feed(&pieces, STOP);
        drop(pieces);
        reader.join().expect("no panic")
    });
    assert_eq!(total, "first".len() + 1 + 5 + 7 + (11 << 20));
}

#[test]
fn silence_and_length_are_bounded_once_a_stream_runs() {
    let house = House::new(
        json!({ "sim": sim(json!({ "network_config": {
            "stream_idle_timeout_in_seconds": "600ms", "stream_max_duration": "1500ms",
        } })) }),
        &[],
    );
    for (model, wanted, least, most) in [
        ("sim/lorem-9+stall-3", Code::StreamIdleTimeout, 600, 600 * u64::from(SLACK)),
        ("sim/lorem-1000+gap-20ms", Code::StreamTooLong, 1500, 1500 * u64::from(SLACK)),
    ] {
        let began = now();
        let stream = house.gateway().chat_stream(&ChatRequest::new(model, "x")).expect("it began");
        let error = stream.last().expect("a last word").expect_err("it ended by its limit");
        assert_eq!(error.code(), wanted);
        let took = now() - began;
        assert!(took >= ms(least) && took < ms(most), "{model}: {took:?}");
    }
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/sim/jobs/timed_out_total"), 2);
}

/// Some providers forget `[DONE]`, and keep the connection open.
#[test]
fn a_stream_that_has_finished_is_not_waited_for_until_it_counts_as_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let (hold, held) = bounded::<()>(0);
    let upstream = move || {
        let (mut socket, _) = listener.accept().expect("the gateway connects");
        assert!(socket.read(&mut [0; 4096]).expect("a request") > 0);
        let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n";
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        write!(socket, "{head}{:x}\r\n{event}\r\n", event.len()).expect("it is read");
        assert!(held.recv_timeout(FUSE).is_err_and(|error| error.is_disconnected()), "the gateway waits for more");
    };
    let house = House::new(json!({ "up": provider(json!({ "network_config": { "base_url": url } })) }), &[]);
    scope(|scope| {
        scope.spawn(upstream);
        let began = now();
        let stream = house.gateway().chat_stream(&ChatRequest::new("up/m", "x")).expect("it began");
        let text: String = stream.map(|chunk| chunk.expect("a good one").text().to_owned()).collect();
        assert_eq!(text, "hi");
        assert!(now() - began < FUSE, "it was over long before");
        drop(hold);
    });
}

#[test]
fn a_stream_cancelled_by_the_gateways_end_says_so() {
    let (mut house, gate) = House::gated(provider(json!({})));
    let (mut stream, _pieces) = open(&house, &gate);
    stream.next().expect("a chunk").expect("good");
    drop(house.take());
    let error = stream.next().expect("a last word").expect_err("the gateway is gone");
    assert_eq!(error.code(), Code::ShuttingDown);
    assert!(stream.next().is_none());
}
