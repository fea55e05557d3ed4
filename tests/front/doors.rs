//! Who comes in: gateway keys, routes, load, and what is refused before a body is read.

use serde_json::json;

use super::{Client, Station, timed};
use crate::house::{SLACK, chat, eventually, ms, number};

const KEY: &str = "gw-key-canary-1";

#[test]
fn a_key_comes_in_three_ways_and_a_wrong_a_malformed_and_a_missing_one_look_the_same() {
    let (station, gate) = Station::gated(json!({}), json!({ "keys": ["other", { "name": "a", "value": KEY }] }));
    for header in ["Authorization: Bearer ", "authorization: bearer ", "x-api-key: ", "api-key: "] {
        let mut client = station.client();
        client.chat(&[&format!("{header}{KEY}")], &chat("p/m", false));
        gate.next().answer();
        assert_eq!(client.answer().status, 200, "{header}");
    }
    let long = format!("x-api-key: {}", "k".repeat(9000));
    let mut seen = Vec::new();
    for header in [
        "x-none: 1",
        "Authorization: Bearer wrong",
        "Authorization: Bearer",
        "Authorization: Basic Zzp3",
        &format!("Authorization: {KEY}"),
        &format!("Authorization: Bearer {KEY}x"),
        &format!("Authorization: Bearer {}", &KEY[..KEY.len() - 1]),
        "x-api-key: wrong",
        "x-api-key:",
        "api-key: \u{e9}",
        &long,
    ] {
        let mut client = station.client();
        let answer = client.chat(&[header, "x-request-id: same"], &chat("p/m", false)).answer();
        assert!(!answer.text().contains("canary"));
        let mut head: Vec<_> = answer.head.lines().map(str::to_owned).collect();
        head.sort();
        seen.push((answer.status, head, answer.body, client.is_closed()));
    }
    assert_eq!(seen[0].0, 401);
    assert!(seen.iter().all(|answer| *answer == seen[0]), "{seen:?}");
    assert!(gate.is_empty());
    assert_eq!(station.client().get("/livez").status, 200, "a probe needs no key");
    let stats = station.house.at_rest();
    assert_eq!(stats["errors"], json!({ "unauthorized": 11 }));
}

/// The key is judged by the head alone: a body that was announced is not waited for.
#[test]
fn a_wrong_key_is_refused_before_its_body() {
    let (station, _gate) = Station::gated(json!({}), json!({ "keys": [KEY] }));
    let mut client = station.client();
    client.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    assert_eq!(client.answer().status, 401);
}

#[test]
fn past_max_in_flight_requests_are_refused_before_their_body() {
    let (station, gate) = Station::gated(json!({}), json!({ "max_in_flight": 2 }));
    let mut inside = [station.client(), station.client()];
    inside[0].chat(&[], &chat("p/m", false));
    let held = gate.next();
    inside[1].chat(&[], &chat("p/m", true));
    station.house.queued(1);
    for _ in 0..3 {
        let mut client = station.client();
        client.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
        let (answer, took) = timed(|| client.answer());
        assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
        assert!(answer.header("retry-after").is_some());
        assert!(took < ms(50) * SLACK, "{took:?}");
    }
    assert_eq!(station.client().get("/livez").status, 200);
    held.answer();
    assert_eq!(inside[0].answer().status, 200);
    let pieces = gate.next().stream();
    crate::house::feed(&pieces, crate::house::STOP);
    drop(pieces);
    assert!(inside[1].answer().complete);
    let mut client = station.client();
    client.chat(&[], &chat("p/m", false));
    gate.next().answer();
    assert_eq!(client.answer().status, 200, "a place came back with each answer");
    let stats = station.house.at_rest();
    assert_eq!(stats["errors"], json!({ "overloaded": 3 }));
}

/// Whoever has read an answer finds the place free that its request had, were it only to learn what is wrong with it.
#[test]
fn a_request_that_is_refused_for_its_body_holds_no_place_while_it_is_answered() {
    let (station, _gate) = Station::gated(json!({}), json!({ "max_in_flight": 1 }));
    let mut clients = [station.client(), station.client()];
    for round in 0..100 {
        let answer = clients[round % 2].chat(&[], "{}").answer();
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "round {round}");
    }
}

/// I4: what is held is bounded in bytes, whether a head announces them or not.
#[test]
fn buffered_bytes_are_bounded_however_a_body_is_framed() {
    let limits = json!({ "max_buffered_bytes": 3 << 20, "max_body_bytes": 2 << 20, "body_timeout": "5s" });
    let (station, gate) = Station::gated(json!({}), limits);
    let announce = |client: &mut Client, framing: &str| {
        client.send(format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n"));
    };
    for framing in ["Content-Length: 2000000", "Transfer-Encoding: chunked"] {
        let mut first = station.client();
        announce(&mut first, framing);
        eventually("it is counted", || station.house.stats()["requests"]["in_flight"] == 1);
        for second in ["Content-Length: 2000000", "Transfer-Encoding: chunked"] {
            let mut client = station.client();
            announce(&mut client, second);
            let answer = client.answer();
            assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"), "{framing}, {second}");
        }
        drop(first);
        eventually("its bytes came back", || station.house.stats()["requests"]["in_flight"] == 0);
    }
    // Once it is read, a body counts for what it is, so that many fit.
    let mut running: Vec<_> = (0..3).map(|_| station.client()).collect();
    let body = chat("p/m", false);
    for (number, client) in running.iter_mut().enumerate() {
        announce(client, "Transfer-Encoding: chunked");
        client.send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
        eventually("it was read", || station.house.p("queue/submitted_total") == number as u64 + 1);
    }
    running.into_iter().for_each(|mut client| {
        gate.next().answer();
        assert_eq!(client.answer().status, 200);
    });
}

#[test]
fn routes_that_are_none_or_not_built_say_so() {
    let station = Station::sim();
    let mut client = station.client();
    for (method, path, status, code) in [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/chat", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/livez", 405, "method_not_allowed"),
        ("GET", "/v1/responses", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("DELETE", "/v1/models/sim/echo", 405, "method_not_allowed"),
        ("HEAD", "/openai/v1/files", 405, "method_not_allowed"),
        ("GET", "/openai", 404, "not_found"),
        ("GET", "/openai/v1/", 404, "not_found"),
        ("POST", "/openai/chat/completions", 404, "not_found"),
        ("GET", "/openais/v1/files", 404, "not_found"),
        ("GET", "/v1/messages", 405, "method_not_allowed"),
        ("GET", "/anthropic/v1/", 404, "not_found"),
        ("POST", "/anthropic/messages", 404, "not_found"),
        ("GET", "/bedrock/model/x/converse", 405, "method_not_allowed"),
        ("POST", "/bedrock/model/x/conversed", 404, "not_found"),
        ("POST", "/bedrock", 404, "not_found"),
        ("POST", "/bedrock/model/%zz/converse", 400, "invalid_request"),
    ] {
        let answer = client.ask(method, path, &[], "").read_answer(method == "HEAD").expect("an answer");
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(method == "HEAD" || answer.code() == code, "{method} {path}: {}", answer.text());
        let allow = answer.header("allow");
        assert_eq!(allow.is_some(), status == 405, "{method} {path}");
        let wanted = match path {
            "/livez" | "/v1/models" | "/v1/models/sim/echo" => "GET, HEAD",
            "/openai/v1/files" => "GET, POST, PUT, PATCH, DELETE",
            _ => "POST",
        };
        assert!(allow.is_none_or(|allow| allow == wanted), "{method} {path}: {allow:?}");
    }
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/requests/received_total"), 0, "none of them is a request");
}

#[test]
fn probes_tell_how_the_gateway_is() {
    let station = Station::sim();
    let mut client = station.client();
    assert_eq!((client.get("/livez").status, client.get("/readyz").status), (200, 200));
    let health = client.get("/health");
    assert_eq!((health.status, &health.json()["phase"]), (200, &json!("running")));
    station.house.gateway().drain();
    assert_eq!((client.get("/livez").status, client.get("/readyz").status), (200, 503));
    let health = client.get("/health");
    assert_eq!((health.status, &health.json()["phase"]), (503, &json!("draining")));
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/requests/received_total"), 0, "probes are no requests");
}

#[test]
fn bodies_that_cannot_be_read_are_refused_and_counted() {
    let (station, gate) = Station::gated(json!({}), json!({ "max_body_bytes": 2000, "body_timeout": "150ms" }));
    let answer =
        station.client().chat(&[], &format!("{{\"model\":\"p/m\",\"messages\":[\"{}\"]}}", "x".repeat(3000))).answer();
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    let mut endless = station.client();
    endless.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\n");
    let answer = endless.answer();
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"), "it is no matter of load");
    let mut slow = station.client();
    slow.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
    let answer = slow.answer();
    assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
    let id = answer.json()["sluicegate"]["request_id"].as_str().map(str::to_owned);
    assert!(id.is_some() && id.as_deref() == answer.header("x-request-id"), "{}", answer.text());
    for body in ["{", "[]", "\u{e9}", r#"{"model":5,"messages":[]}"#, &"[".repeat(1000)] {
        let answer = station.client().chat(&[], body).answer();
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{body}");
    }
    let mut gone = station.client();
    gone.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
    drop(gone);
    eventually("it is counted", || station.house.stats()["requests"]["cancelled_total"] == 1);
    assert!(gate.is_empty());
    let stats = station.house.at_rest();
    assert_eq!(
        stats["errors"],
        json!({ "body_too_large": 2, "client_closed": 1, "invalid_request": 5, "request_timeout": 1 })
    );
}
