//! Each limit of a request's time ends it with its own error, which names the limit, and is counted as that and nothing else.

use std::thread::scope;

use serde_json::{Value, json};
use sluicegate::transport::TransportErrorKind as Kind;

use super::{Client, Station, timed};
use crate::house::{FUSE, House, Piece, SLACK, STOP, chat, feed, ms, number, provider, sim, word};
use crate::transport::limits::full_listener;

/// One limit.
struct Limit {
    /// `network_config` of the provider, over limits that nothing here reaches.
    network: Value,
    headers: &'static [&'static str],
    model: &'static str,
    streamed: bool,
    /// The status of the answer: 200 where a stream has begun, which then ends with an error event.
    status: u16,
    code: &'static str,
    /// What the error says.
    names: &'static str,
    /// The least time that it takes, in milliseconds.
    least: u64,
}

#[test]
fn each_limit_ends_a_request_with_an_error_of_its_own() {
    let (listener, _filling) = full_listener();
    let nobody = format!("http://{}", listener.local_addr().expect("bound"));
    let own: &[&str] = &["x-sluicegate-timeout: 500ms"];
    let allows = "in the time that the request allows";
    #[rustfmt::skip]
    let limits = [
        Limit { network: json!({ "base_url": nobody, "connect_timeout": "500ms" }), headers: &[], model: "echo", streamed: false,
                status: 502, code: "upstream_connect_error", names: "(connect_timeout is 500ms)", least: 500 },
        Limit { network: json!({ "base_url": nobody, "connect_timeout": "500ms" }), headers: &[], model: "echo", streamed: true,
                status: 502, code: "upstream_connect_error", names: "(connect_timeout is 500ms)", least: 500 },
        Limit { network: json!({ "default_request_timeout_in_seconds": "500ms" }), headers: &[], model: "slow-30s", streamed: false,
                status: 504, code: "upstream_timeout", names: "within 500ms (default_request_timeout_in_seconds)", least: 500 },
        Limit { network: json!({ "default_request_timeout_in_seconds": "500ms" }), headers: &[], model: "slow-30s", streamed: true,
                status: 504, code: "first_token_timeout", names: "within 500ms (default_request_timeout_in_seconds)", least: 500 },
        Limit { network: json!({ "first_token_timeout": "500ms" }), headers: &[], model: "lorem-9+ttft-30s", streamed: true,
                status: 504, code: "first_token_timeout", names: "within 500ms (first_token_timeout)", least: 500 },
        Limit { network: json!({ "stream_idle_timeout_in_seconds": "500ms" }), headers: &[], model: "lorem-9+stall-2", streamed: true,
                status: 200, code: "stream_idle_timeout", names: "for 500ms in the middle of the stream (stream_idle_timeout_in_seconds)", least: 500 },
        Limit { network: json!({ "stream_max_duration": "500ms" }), headers: &[], model: "lorem-1000+gap-20ms", streamed: true,
                status: 200, code: "stream_too_long", names: "longer than 500ms (stream_max_duration)", least: 500 },
        Limit { network: json!({}), headers: own, model: "slow-30s", streamed: false,
                status: 504, code: "upstream_timeout", names: allows, least: 500 },
        Limit { network: json!({}), headers: own, model: "lorem-9+ttft-30s", streamed: true,
                status: 504, code: "first_token_timeout", names: allows, least: 500 },
        Limit { network: json!({}), headers: own, model: "lorem-1000+gap-20ms", streamed: true,
                status: 200, code: "stream_too_long", names: allows, least: 400 },
        Limit { network: json!({}), headers: own, model: "lorem-9+stall-2", streamed: true,
                status: 200, code: "stream_too_long", names: allows, least: 400 },
    ];
    scope(|scope| limits.map(|limit| scope.spawn(|| limit.provoke())).map(|row| row.join().expect("it holds")));
}

impl Limit {
    /// Runs into it, with nothing else in the house.
    fn provoke(self) {
        let Self { mut network, headers, model, streamed, status, code, names, least } = self;
        let what = format!("{code} {network} {headers:?} {model} {streamed}");
        network["max_retries"] = json!(0);
        let (name, settings) = match network.get("base_url") {
            Some(_) => ("p", provider(json!({ "network_config": network }))),
            None => ("sim", sim(json!({ "network_config": network }))),
        };
        let station = Station::on(House::new(json!({ name: settings }), &[]));
        let body = chat(&format!("{name}/{model}"), streamed);
        let (answer, took) = timed(|| station.client().chat(headers, &body).answer());
        assert_eq!((answer.status, answer.complete), (status, status != 200), "{what}: {}", answer.text());
        let told = if status == 200 { answer.last_error() } else { answer.code() };
        assert_eq!(told, code, "{what}");
        assert!(answer.text().contains(names) && !answer.text().contains("[DONE]"), "{what}: {}", answer.text());
        assert!(took >= ms(least) && took < ms(500) * SLACK, "{what}: {took:?}");
        let stats = station.house.at_rest();
        assert_eq!(stats["errors"], json!({ code: 1 }), "{what}");
        let jobs = |count: &str| number(&stats, &format!("/providers/{name}/jobs/{count}_total"));
        let late = u64::from(code != "upstream_connect_error");
        assert_eq!((jobs("timed_out"), jobs("failed"), jobs("succeeded")), (late, 1 - late, 0), "{what}");
    }
}

#[test]
fn a_client_that_stalls_makes_no_silence_of_the_providers() {
    let (station, gate) = Station::gated(
        json!({ "network_config": { "max_retries": 0, "stream_idle_timeout_in_seconds": "500ms" } }),
        json!({}),
    );
    let mut client = Client::small_window(station.addr);
    client.chat(&[], &chat("p/m", true));
    let pieces = gate.next().stream();
    let big = word(&"x".repeat(256 << 10));
    let stalls = || pieces.send_timeout(Piece::Bytes(big.clone().into()), ms(700)).is_err();
    let (_, took) = timed(|| while !stalls() {});
    assert!(took >= ms(700), "the client kept its worker for longer than the provider may be silent");
    scope(|scope| {
        let reads = scope.spawn(|| client.answer());
        // What the transport says when the time of a read is over, just after the client has let go of the worker.
        pieces.send_timeout(Piece::Fail(Kind::Timeout), FUSE).map_err(drop).expect("it reads on");
        feed(&pieces, STOP);
        drop(pieces);
        let answer = reads.join().expect("no panic");
        assert!(answer.complete, "{}", answer.last_error());
    });
}

/// A limit that passes once the end was seen has nothing left to end.
#[test]
fn a_limit_that_passes_after_the_end_was_seen_makes_no_failure_of_the_answer() {
    let (station, gate) = Station::gated(json!({ "network_config": { "max_retries": 0 } }), json!({}));
    for mode in ["off", "buffer"] {
        let mut client = station.client();
        let mode = format!("x-sluicegate-stream-recovery: {mode}");
        client.chat(&[&mode, "x-sluicegate-timeout: 300ms"], &chat("p/m", true));
        let pieces = gate.next().stream();
        feed(&pieces, &word("one"));
        feed(&pieces, STOP);
        // Nothing comes any more, until the limit has passed.
        while pieces.send_timeout(Piece::Fail(Kind::Timeout), FUSE).is_ok() {
            std::thread::park_timeout(ms(5));
        }
        let answer = client.answer();
        assert!(
            answer.complete && answer.words() == "one" && answer.text().ends_with("[DONE]\n\n"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(station.house.at_rest()["errors"], json!({}));
}
