//! Answers that are not streamed: bytes passed on, headers, errors in OpenAI's shape, what the headers of a request ask for.

use std::thread::scope;

use serde_json::json;
use sluicegate::gateway::Phase;

use super::client::Answer;
use super::{Station, timed};
use crate::house::{CANARY, FUSE, SLACK, chat, eventually, ms, number, reply};

#[test]
fn an_answer_comes_back_byte_for_byte_with_who_gave_it() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    let body = "{\"x\" : 1e400,\"model\":\"p/m\",\"messages\":[],\"api_base\":\"http://evil/\",\"user\":\"\\u00e9\"}";
    for round in 0..3 {
        client.chat(&["X-Request-Id: mine-1", "Authorization: Bearer sk-user", "Cookie: c=1", "X-Team: x"], body);
        let arrived = gate.next();
        assert_eq!(String::from_utf8(arrived.body.clone()).expect("text"), body.replace("p/m", "m"));
        let names: Vec<_> = arrived.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["content-type", "accept", "accept-encoding", "authorization"],
            "nothing of the client's goes upstream"
        );
        assert!(arrived.headers.iter().any(|(_, value)| *value == format!("Bearer {CANARY}")));
        let headers = [
            ("content-type", "application/json"),
            ("set-cookie", "c=2"),
            ("x-ratelimit-remaining-requests", "9"),
            ("connection", "close"),
        ];
        arrived.respond(200, &headers, reply("well"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.complete), (200, true), "round {round} on one connection");
        assert_eq!(answer.text(), reply("well"));
        let header = |name: &str| answer.header(name).map(str::to_owned);
        assert_eq!(header("content-type").as_deref(), Some("application/json"));
        assert_eq!(header("x-request-id").as_deref(), Some("mine-1"));
        assert_eq!(header("x-sluicegate-provider").as_deref(), Some("p"));
        assert_eq!(header("x-sluicegate-model").as_deref(), Some("m"));
        assert_eq!(header("x-sluicegate-attempts").as_deref(), Some("1"));
        assert_eq!(header("x-sluicegate-fallbacks").as_deref(), Some("0"));
        assert_eq!(header("x-ratelimit-remaining-requests").as_deref(), Some("9"));
        assert_eq!((header("set-cookie"), header("connection")), (None, None));
        for name in ["queue-us", "upstream-us", "overhead-us"] {
            header(&format!("x-sluicegate-{name}")).expect(name).parse::<u64>().expect("a number");
        }
    }
}

#[test]
fn errors_have_openais_shape_and_say_who_is_at_fault() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    let answer = client.chat(&["x-request-id: r-1"], r#"{"model":"nowhere/m","messages":[]}"#).answer();
    assert_eq!(answer.status, 404);
    let error = answer.json();
    assert_eq!(error["error"]["code"], "model_not_found");
    assert_eq!(error["error"]["type"], "invalid_request_error");
    assert_eq!(error["error"]["param"], "model");
    assert_eq!(error["sluicegate"]["origin"], "client");
    assert_eq!(error["sluicegate"]["request_id"], "r-1");
    assert_eq!(error["sluicegate"]["attempts"], json!([]));
    assert_eq!(answer.header("x-request-id"), Some("r-1"));

    client.chat(&[], &chat("p/m", false));
    let words = r#"{"error":{"message":"too long","type":"t","param":"messages","code":"context_length_exceeded"}}"#;
    let headers = [
        ("retry-after-ms", "1500"),
        ("x-ratelimit-remaining-requests", "0"),
        ("content-type", "text/plain"),
        ("content-length", "1"),
        ("set-cookie", "c=2"),
    ];
    gate.next().respond(400, &headers, words);
    let answer = client.answer();
    assert_eq!(answer.status, 400);
    let error = answer.json();
    assert_eq!(
        error["error"],
        json!({
            "message": "too long", "type": "t", "param": "messages", "code": "context_length_exceeded",
        })
    );
    assert_eq!(
        (&error["sluicegate"]["code"], &error["sluicegate"]["origin"]),
        (&json!("upstream_error"), &json!("provider"))
    );
    assert_eq!(error["sluicegate"]["provider"], "p");
    assert_eq!(error["sluicegate"]["attempts"][0]["status"], 400);
    let header = |name: &str| answer.header(&format!("x-sluicegate-{name}")).map(str::to_owned);
    let told = ["provider", "model", "attempts", "fallbacks"].map(|name| header(name).unwrap_or_default());
    assert_eq!(told, ["p", "m", "1", "0"], "who was asked is told of a failure too");
    assert_eq!((answer.header("retry-after"), answer.header("retry-after-ms")), (Some("2"), Some("1500")));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!((answer.header("content-type"), answer.header("set-cookie")), (Some("application/json"), None));

    client.chat(&[], &chat("p/m", false));
    gate.next().panic();
    let answer = client.answer();
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    assert!(answer.json()["sluicegate"]["request_id"].is_string());
}

/// Where a failure's time went is told as that of an answer is: what the provider and the queue took is none of ours.
#[test]
fn a_failure_says_where_its_time_went() {
    let (station, gate) = Station::gated(json!({ "queue": { "policy": "drop_oldest" } }), json!({}));
    let times = |answer: &Answer| {
        ["queue", "upstream", "overhead"].map(|name| {
            let header = answer.header(&format!("x-sluicegate-{name}-us"));
            header.unwrap_or_else(|| panic!("{name}: {answer:?}")).parse::<u64>().expect("a number")
        })
    };
    let mut client = station.client();
    let unsent = client.chat(&[], "{").answer();
    assert_eq!(times(&unsent)[..2], [0, 0]);
    let (failed, took) = timed(|| {
        client.chat(&[], &chat("p/m", false));
        let held = gate.next();
        std::thread::park_timeout(ms(50));
        held.respond(500, &[], "{}");
        client.answer()
    });
    let [queue, upstream, overhead] = times(&failed);
    assert!(upstream >= 50_000, "{upstream}");
    assert!(u128::from(queue + upstream + overhead) <= took.as_micros(), "{queue} {upstream} {overhead}, {took:?}");

    // A stream that is shed has begun nothing: its client is answered with a status.
    client.chat(&[], &chat("p/m", false));
    let held = gate.next();
    let mut shed = station.client();
    shed.chat(&[], &chat("p/m", true));
    station.house.queued(1);
    let mut newer: Vec<_> = (1..=4)
        .map(|count| {
            let mut client = station.client();
            client.chat(&[], &chat("p/m", true));
            eventually("it is handed in", || station.house.p("queue/submitted_total") == 3 + count);
            client
        })
        .collect();
    let answer = shed.answer();
    assert_eq!((answer.status, answer.code().as_str()), (503, "request_dropped"));
    assert!(answer.header("retry-after").is_some() && answer.header("retry-after-ms").is_some());
    let [queue, upstream, _] = times(&answer);
    assert!(queue > 0 && upstream == 0, "{queue} {upstream}");
    held.answer();
    assert_eq!(client.answer().status, 200);
    for client in &mut newer {
        gate.next().respond(400, &[], "{}");
        assert_eq!(client.answer().status, 400);
    }
}

#[test]
fn headers_of_a_request_are_heeded_or_refused() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    for (header, status, code) in [
        ("x-sluicegate-timeout: soon", 400, "invalid_request"),
        ("x-sluicegate-timeout: 0s", 400, "invalid_request"),
        ("x-sluicegate-timeout: -1s", 400, "invalid_request"),
        ("x-sluicegate-priority: high", 400, "invalid_request"),
        ("x-sluicegate-stream-recovery: Buffer", 400, "invalid_request"),
        ("x-sluicegate-stream-recovery: maybe", 400, "invalid_request"),
        ("content-encoding: br", 400, "unsupported"),
    ] {
        let answer = client.chat(&[header], &chat("p/m", false)).answer();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{header}");
        assert!(header.starts_with(answer.json()["error"]["param"].as_str().expect("a name")), "{header}");
    }
    client.chat(
        &["x-sluicegate-priority: batch", "x-sluicegate-timeout: 5s", "x-request-id: bad id"],
        &chat("p/m", false),
    );
    gate.next().answer();
    let answer = client.answer();
    assert_eq!(answer.status, 200);
    assert!(
        answer.header("x-request-id").is_some_and(|id| id != "bad id"),
        "an id that could break a log is made anew"
    );
}

#[test]
fn a_requests_own_time_limit_goes_for_queue_and_work() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    scope(|scope| {
        let mut running = station.client();
        running.chat(&["x-sluicegate-timeout: 300ms"], &chat("p/m", false));
        let held = gate.next();
        let queued = scope
            .spawn(|| timed(|| station.client().chat(&["x-sluicegate-timeout: 60ms"], &chat("p/m", false)).answer()));
        let (answer, took) = queued.join().expect("no panic");
        assert_eq!((answer.status, answer.code().as_str()), (504, "queue_timeout"));
        assert_eq!(answer.json()["sluicegate"]["phase"], "worker");
        assert!(answer.header("retry-after").is_some());
        assert!(took >= ms(60) && took < ms(60) * SLACK, "{took:?}");
        held.wait_over();
        let answer = running.answer();
        assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"));
    });
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/providers/p/queue/abandoned_total"), 1);
    assert_eq!(number(&stats, "/providers/p/jobs/timed_out_total"), 1);
}

#[test]
fn a_full_queue_is_told_with_when_to_come_again() {
    for (policy, status, code) in [("error", 429, "queue_full"), ("drop", 503, "request_dropped")] {
        let (station, gate) = Station::gated(
            json!({ "concurrency_and_buffer_size": { "buffer_size": 1 }, "queue": { "policy": policy } }),
            json!({}),
        );
        let mut clients = [station.client(), station.client()];
        clients[0].chat(&[], &chat("p/m", false));
        let held = gate.next();
        clients[1].chat(&[], &chat("p/m", true));
        station.house.queued(1);
        for stream in [false, true] {
            let answer = station.client().chat(&[], &chat("p/m", stream)).answer();
            assert_eq!((answer.status, answer.code().as_str()), (status, code));
            assert_eq!((answer.header("retry-after"), answer.header("retry-after-ms")), (Some("1"), Some("1000")));
        }
        held.answer();
        assert_eq!(clients[0].answer().status, 200);
        drop(gate.next());
        assert_eq!(clients[1].answer().status, 502);
    }
}

#[test]
fn fallbacks_never_go_upstream_and_every_other_byte_does() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    for fallbacks in ["[]", "null", r#"["p/n"]"#] {
        client.chat(&[], &format!(r#"{{"model":"p/m","messages":[],"fallbacks":{fallbacks}}}"#));
        let arrived = gate.next();
        assert_eq!(arrived.body, br#"{"model":"m","messages":[]}"#, "{fallbacks}");
        arrived.answer();
        assert_eq!(client.answer().status, 200);
    }
}

/// A large answer to a client who reads slowly is under way until it is written: a drain waits for it.
#[test]
fn a_drain_waits_until_an_answer_is_written() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = super::Client::small_window(station.addr);
    client.chat(&[], &chat("p/m", false));
    let big = reply(&"x".repeat(24 << 20));
    gate.next().respond(200, &[], big.clone());
    scope(|scope| {
        eventually("the worker is done with it", || station.house.p("jobs/succeeded_total") == 1);
        let ending = scope.spawn(|| station.house.shutdown(FUSE));
        eventually("it drains", || !station.house.gateway().is_ready());
        assert_eq!(station.house.stats()["requests"]["in_flight"], 1, "it is not written yet");
        assert_eq!(station.house.gateway().phase(), Phase::Draining);
        let answer = client.answer();
        assert!(answer.complete && answer.body.len() == big.len());
        let report = ending.join().expect("no panic");
        assert_eq!((report.finished, report.cut), (1, 0), "{report:?}");
    });
}
