//! Anthropic's routes in front of a provider that speaks Anthropic's shape: what passes, what is added, and in whose words
//! everybody is told what goes wrong.

use serde_json::{Value, json};
use sluicegate::transport::TransportErrorKind;

use super::{Client, Station};
use crate::client::Answer;
use crate::house::{CANARY, Gate, House, Piece, feed, merge, number, provider, sim, wait_left};

/// A provider that speaks Anthropic's shape, `change` merged over what is usual.
fn speaking(change: Value) -> Value {
    let mut settings = json!({ "kind": "anthropic" });
    merge(&mut settings, change);
    provider(settings)
}

/// A gateway on a provider named `anthropic` behind a gate, and the simulated one.
fn station() -> (Station, Gate) {
    let gate = Gate::new();
    let providers = json!({ "anthropic": speaking(json!({})), "sim": sim(json!({})) });
    (Station::on(House::new(providers, &[("anthropic", &gate)])), gate)
}

/// A body that no writer would write like this.
fn asked(model: &str, rest: &str) -> String {
    format!(
        r#"{{ "max_tokens" : 1e2,"messages":[{{"role":"user","content":"one tw\u006f"}}],"mod\u0065l":"{model}"{rest}}}"#
    )
}

const WHOLE: &str = r#"{"id":"msg_1","type":"message", "role":"assistant","model":"m","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"cache_read_input_tokens":2,"output_tokens":1.0e0}}"#;

fn event(name: &str, rest: &str) -> String {
    format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n")
}

/// The events of a usual stream, up to its end.
fn events() -> [String; 5] {
    [
        event("message_start", r#","message":{"id":"m","usage":{"input_tokens":3,"output_tokens":1}}"#),
        event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#),
        event("content_block_delta", r#","index":0,"delta":{"type":"text_delta","text":"hi"}"#),
        event("content_block_stop", r#","index":0"#),
        event("message_delta", r#","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}"#),
    ]
}

fn messages<'a>(client: &'a mut Client, headers: &[&str], body: &str) -> &'a mut Client {
    client.ask("POST", "/v1/messages", headers, body)
}

/// An error as Anthropic's SDKs read it: its status, type, and our own code.
fn told(answer: &Answer) -> (u16, String, String) {
    let body = answer.json();
    assert_eq!((&body["type"], body["error"]["message"].is_string()), (&json!("error"), true), "{body}");
    let id = answer.header("request-id").expect("a name");
    assert_eq!(body["request_id"], id, "{body}");
    let kind = body["error"]["type"].as_str().expect("a type").to_owned();
    (answer.status, kind, answer.code())
}

#[test]
fn a_message_keeps_its_bytes_both_ways_but_for_the_models_name() {
    let (station, gate) = station();
    let mut client = station.client();
    for (path, name) in [
        ("/v1/messages", "anthropic/claude"),
        ("/anthropic/v1/messages", "claude"),
        ("/anthropic/v1/messages", "anthropic/claude"),
    ] {
        let headers = ["x-api-key: sk-user", "anthropic-beta: a-1,b-2", "Authorization: Bearer sk-user"];
        client.ask("POST", path, &headers, &asked(name, r#","x":{"model":1}, "fallbacks":["sim/echo"]"#));
        let arrived = gate.next();
        assert_eq!((arrived.method, arrived.path.as_str()), ("POST", "/v1/messages"));
        let sent = asked("claude", r#","x":{"model":1}"#);
        assert_eq!(String::from_utf8_lossy(&arrived.body), sent);
        assert_eq!((arrived.header("x-api-key"), arrived.header("authorization")), (Some(CANARY), None));
        assert_eq!(arrived.header("anthropic-version"), Some("2023-06-01"));
        assert_eq!(
            (arrived.header("anthropic-beta"), arrived.header("accept")),
            (Some("a-1,b-2"), Some("application/json"))
        );
        arrived.respond(200, &[("content-type", "application/json"), ("request-id", "req_1")], WHOLE);
        let answer = client.answer();
        assert_eq!((answer.status, answer.text()), (200, WHOLE));
        assert_eq!(
            (answer.header("request-id"), answer.header("x-sluicegate-provider")),
            (Some("req_1"), Some("anthropic"))
        );
        assert_eq!(answer.header("x-sluicegate-model"), Some("claude"));
    }
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/providers/anthropic/jobs/tokens_in_total"), 15, "what was read from a cache was read");
    assert_eq!(number(&stats, "/requests/succeeded_total"), 3);
}

#[test]
fn the_version_is_the_configurations_or_the_clients_or_the_one_that_there_is() {
    let own = json!({ "network_config": { "extra_headers": { "Anthropic-Version": "2099-01-01" } } });
    for (settings, sent, wanted) in [
        (json!({}), &[][..], "2023-06-01"),
        (json!({}), &["anthropic-version: 2023-01-01"][..], "2023-01-01"),
        (own, &["anthropic-version: 2023-01-01"][..], "2099-01-01"),
    ] {
        let (station, gate) = Station::gated(speaking(settings), json!({}));
        let mut client = station.client();
        messages(&mut client, sent, &asked("p/m", ""));
        let arrived = gate.next();
        assert_eq!(arrived.header("anthropic-version"), Some(wanted));
        arrived.respond(200, &[], WHOLE);
        let answer = client.answer();
        assert_eq!(answer.header("request-id"), answer.header("x-request-id"), "ours, where the provider gives none");
    }
}

#[test]
fn tokens_are_counted_by_the_provider_and_cost_none() {
    let (station, gate) = station();
    let mut client = station.client();
    client.ask("POST", "/anthropic/v1/messages/count_tokens", &[], &asked("claude", ""));
    let arrived = gate.next();
    assert_eq!((arrived.path.as_str(), &arrived.json()["model"]), ("/v1/messages/count_tokens", &json!("claude")));
    arrived.respond(200, &[], r#"{"input_tokens":42}"#);
    assert_eq!(client.answer().json(), json!({ "input_tokens": 42 }));
    let counted = client.ask("POST", "/v1/messages/count_tokens", &[], &asked("sim/echo", "")).answer();
    assert_eq!(counted.json(), json!({ "input_tokens": 2 }));
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/providers/anthropic/jobs/tokens_in_total"), 0);
}

#[test]
fn other_routes_of_anthropics_pass_through_with_its_key_and_version() {
    let (station, gate) = station();
    let mut client = station.client();
    for (method, path, body) in [
        ("GET", "/v1/models?limit=5", ""),
        ("POST", "/v1/messages/batches", r#"{"requests":[]}"#),
        ("GET", "/v1/messages/batches/b/results", ""),
        ("DELETE", "/v1/files/f", ""),
        ("GET", "/v1/messages", ""),
    ] {
        client.ask(method, &format!("/anthropic{path}"), &["anthropic-beta: files-1"], body);
        let arrived = gate.next();
        assert_eq!((arrived.method, arrived.path.as_str(), &arrived.body[..]), (method, path, body.as_bytes()));
        assert_eq!(
            (arrived.header("x-api-key"), arrived.header("anthropic-version")),
            (Some(CANARY), Some("2023-06-01"))
        );
        assert_eq!(arrived.header("anthropic-beta"), Some("files-1"));
        arrived.respond(200, &[("content-type", "application/json"), ("request-id", "req_2")], "{ }");
        let answer = client.answer();
        assert_eq!((answer.status, answer.text(), answer.header("request-id")), (200, "{ }", Some("req_2")));
    }
    client.ask("GET", "/anthropic/v1/files/none", &[], "");
    gate.next().respond(404, &[], r#"{"type":"error","error":{"type":"not_found_error","message":"no file"}}"#);
    assert_eq!(told(&client.answer()), (404, "not_found_error".into(), "upstream_error".into()));
    client.ask("POST", "/anthropic/v1/messages/batches", &[], "{}");
    let pieces = gate.next().stream();
    feed(&pieces, "data: half");
    client.wait_for("half");
    pieces.send(Piece::Fail(TransportErrorKind::Cut)).map_err(drop).expect("it is read");
    let answer = client.answer();
    assert!(answer.text().contains("half\n\nevent: error\ndata: {\"type\":\"error\""), "{}", answer.text());
    assert_eq!(answer.last_error(), "stream_cut");
}

#[test]
fn a_stream_keeps_its_bytes_and_ends_by_its_own_end() {
    let (station, gate) = station();
    let mut client = station.client();
    messages(&mut client, &[], &asked("anthropic/m", r#","stream":true"#));
    let arrived = gate.next();
    assert_eq!(arrived.body, asked("m", r#","stream":true"#).as_bytes(), "nothing is asked for that was not");
    assert_eq!(arrived.header("accept"), Some("text/event-stream"));
    let pieces = arrived.pieces(&[("content-type", "text/event-stream; charset=utf-8"), ("request-id", "req_3")]);
    let all: String = events().into_iter().chain([event("ping", ""), event("message_stop", " ")]).collect();
    let first = events()[0].len();
    for (at, byte) in all.bytes().enumerate() {
        feed(&pieces, &char::from(byte).to_string());
        if at == first {
            client.wait_for("message_start");
        }
    }
    drop(pieces);
    let answer = client.answer();
    assert_eq!((answer.status, answer.text(), answer.complete), (200, all.as_str(), true));
    assert_eq!(answer.header("request-id"), Some("req_3"));
    let stats = station.house.at_rest();
    let tokens = |name: &str| number(&stats, &format!("/providers/anthropic/jobs/tokens_{name}_total"));
    assert_eq!((tokens("in"), tokens("out")), (3, 7));
}

#[test]
fn a_stream_without_its_own_end_is_a_cut_one() {
    let (station, gate) = station();
    for end in ["", "data: [DONE]\n\n", "event: message_stop\ndata: {\"type\":\"mess"] {
        let mut client = station.client();
        messages(&mut client, &[], &asked("anthropic/m", r#","stream":true"#));
        let pieces = gate.next().stream();
        events().iter().for_each(|event| feed(&pieces, event));
        feed(&pieces, end);
        drop(pieces);
        let answer = client.answer();
        assert!(!answer.complete && !answer.text().ends_with("[DONE]\n\n"), "{}", answer.text());
        let last = answer.text().trim_end().rsplit("\n\n").next().expect("an event");
        assert!(last.starts_with("event: error\ndata: {\"type\":\"error\""), "{last}");
        assert_eq!(answer.last_error(), "stream_cut", "{end}");
    }
}

#[test]
fn what_the_provider_says_of_its_failure_stays_its_own() {
    let (station, gate) = station();
    let words =
        |kind: &str| format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"theirs"}},"request_id":"r"}}"#);
    for (status, kind) in
        [(400, "invalid_request_error"), (413, "request_too_large"), (500, "api_error"), (529, "overloaded_error")]
    {
        let mut client = station.client();
        messages(&mut client, &[], &asked("anthropic/m", ""));
        gate.next().respond(status, &[("request-id", "req_4"), ("x-should-retry", "true")], words(kind));
        let answer = client.answer();
        assert_eq!((answer.status, answer.code().as_str()), (status, "upstream_error"));
        assert_eq!(answer.json()["error"], json!({ "type": kind, "message": "theirs" }));
        assert_eq!((answer.header("request-id"), answer.header("x-should-retry")), (Some("req_4"), Some("true")));
        // To whoever asks in OpenAI's shape it is told in that.
        client.ask("GET", "/openai/v1/x", &[], "");
        assert!(client.answer().json()["type"].is_null());
    }
    // In a stream: before its first event with a status, after it as an event.
    let overloaded = format!("event: error\ndata: {}\n\n", words("overloaded_error"));
    let mut client = station.client();
    messages(&mut client, &[], &asked("anthropic/m", r#","stream":true"#));
    feed(&gate.next().stream(), &overloaded);
    let answer = client.answer();
    assert_eq!((answer.status >= 500, &answer.json()["error"]["type"]), (true, &json!("overloaded_error")));
    let mut client = station.client();
    messages(&mut client, &[], &asked("anthropic/m", r#","stream":true"#));
    let pieces = gate.next().stream();
    feed(&pieces, &events()[0]);
    client.wait_for("message_start");
    feed(&pieces, &overloaded);
    let answer = client.answer();
    let last: Value = serde_json::from_str(answer.events().last().expect("one")).expect("JSON");
    assert_eq!(last["error"], json!({ "type": "overloaded_error", "message": "theirs" }));
    assert_eq!(last["sluicegate"]["code"], "upstream_error");
}

#[test]
fn a_key_that_is_refused_is_told_apart_from_the_clients_own() {
    let (station, gate) = Station::gated(speaking(json!({})), json!({ "keys": ["gw-key-canary-2"] }));
    let mut client = station.client();
    messages(&mut client, &["x-api-key: gw-key-canary-2"], &asked("p/m", ""));
    gate.next().respond(
        401,
        &[],
        r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
    );
    assert_eq!(told(&client.answer()), (502, "api_error".into(), "credentials_exhausted".into()));
    let wrong = messages(&mut station.client(), &["x-api-key: wrong"], &asked("p/m", "")).answer();
    assert_eq!(told(&wrong), (401, "authentication_error".into(), "unauthorized".into()));
}

#[test]
fn a_key_for_some_models_names_no_others_by_any_way() {
    let keys = json!([{ "value": "gw-key-canary-2", "models": ["anthropic/claude"] }]);
    let gate = Gate::new();
    let providers = json!({ "anthropic": speaking(json!({})) });
    let house = House::with(json!({ "server": { "keys": keys }, "providers": providers }), &[("anthropic", &gate)]);
    let station = Station::on(house);
    let key = ["x-api-key: gw-key-canary-2"];
    let own = r#","fallbacks":[{"model":"other"}]"#;
    for (method, path, body) in [
        ("POST", "/anthropic/v1/messages", asked("other", "")),
        ("POST", "/anthropic/v1/messages/count_tokens", asked("other", "")),
        ("POST", "/v1/messages", asked("anthropic/claude", own)),
        ("GET", "/anthropic/v1/models", String::new()),
    ] {
        let answer = station.client().ask(method, path, &key, &body).answer();
        assert_eq!(told(&answer), (403, "permission_error".into(), "forbidden".into()), "{path}");
    }
    let mut client = station.client();
    client.ask("POST", "/anthropic/v1/messages", &key, &asked("claude", ""));
    gate.next().respond(200, &[], WHOLE);
    assert_eq!(client.answer().status, 200);
}

/// What is asked, by method, path, header lines and body; and what that is told: its status, its name, our code.
type Refused<'a> = (&'a str, &'a str, &'a [&'a str], String, (u16, &'a str, &'a str));

#[test]
fn whatever_is_refused_is_told_in_anthropics_shape_however_early() {
    let server = json!({ "max_body_bytes": 2000, "max_header_bytes": 4096 });
    let config = json!({ "server": server, "providers": { "sim": sim(json!({})), "p": provider(json!({})) } });
    let gate = Gate::new();
    let station = Station::on(House::with(config, &[("p", &gate)]));
    let long = format!("x: {}", "y".repeat(5000));
    let body = |model: &str| asked(model, "");
    let cases: [Refused<'_>; 11] = [
        ("GET", "/v1/messages", &[], String::new(), (405, "invalid_request_error", "method_not_allowed")),
        ("POST", "/anthropic/nowhere", &[], String::new(), (404, "not_found_error", "not_found")),
        ("POST", "/v1/messages/batches", &[], String::new(), (404, "not_found_error", "not_found")),
        ("GET", "/anthropic/v1/a?q=`x`", &[], String::new(), (400, "invalid_request_error", "invalid_request")),
        ("POST", "/v1/messages", &[], "{".into(), (400, "invalid_request_error", "invalid_request")),
        ("POST", "/v1/messages", &[], body("nobody"), (404, "not_found_error", "model_not_found")),
        ("POST", "/anthropic/v1/messages", &[], body("claude"), (404, "not_found_error", "model_not_found")),
        (
            "POST",
            "/v1/messages",
            &["x-sluicegate-timeout: soon"],
            body("sim/echo"),
            (400, "invalid_request_error", "invalid_request"),
        ),
        ("POST", "/v1/messages", &[], body(&"x".repeat(3000)), (413, "request_too_large", "body_too_large")),
        ("POST", "/v1/messages", &[&long], body("sim/echo"), (431, "invalid_request_error", "header_too_large")),
        ("POST", "/v1/messages/count_tokens", &[], body("p/m"), (400, "invalid_request_error", "unsupported")),
    ];
    for (method, path, headers, body, (status, kind, code)) in cases {
        let answer = station.client().ask(method, path, headers, &body).answer();
        // A head that was not read does not say whose it is.
        if status == 431 {
            assert_eq!((answer.status, answer.code().as_str()), (status, code));
            continue;
        }
        assert_eq!(told(&answer), (status, kind.to_owned(), code.to_owned()), "{method} {path}");
    }
    let models = station.client().get("/v1/models/none");
    assert!(models.json()["type"].is_null(), "the list of models is in OpenAI's shape");
    assert!(gate.is_empty());
}

#[test]
fn the_simulated_provider_is_spoken_to_in_anthropics_shape_natively() {
    let (station, _gate) = station();
    let mut client = station.client();
    let whole = messages(&mut client, &[], &asked("sim/echo", "")).answer();
    assert_eq!((whole.status, &whole.json()["content"][0]["text"]), (200, &json!("one two")));
    let streamed = messages(&mut client, &[], &asked("sim/echo", r#","stream":true"#)).answer();
    assert!(streamed.complete && streamed.text().starts_with("event: message_start\n"), "{}", streamed.text());
    assert!(streamed.text().ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    for (model, status, kind) in [
        ("sim/fail-529", 529, "overloaded_error"),
        ("sim/fail-429", 429, "rate_limit_error"),
        ("sim/error-in-200", 502, "api_error"),
    ] {
        let answer = messages(&mut client, &[], &asked(model, "")).answer();
        assert_eq!(told(&answer), (status, kind.to_owned(), "upstream_error".to_owned()), "{model}");
    }
    for (model, code) in [("sim/cut-1", "stream_cut"), ("sim/no-done", "stream_cut")] {
        let answer = messages(&mut station.client(), &[], &asked(model, r#","stream":true"#)).answer();
        assert_eq!((answer.complete, answer.last_error().as_str()), (false, code), "{model}");
    }
    let garbage = messages(&mut station.client(), &[], &asked("sim/garbage-4", r#","stream":true"#)).answer();
    assert!(
        garbage.complete && garbage.text().contains(": an event that was no JSON was left out"),
        "{}",
        garbage.text()
    );
}

#[test]
fn a_client_that_leaves_a_message_ends_it_upstream() {
    let (station, gate) = station();
    let mut client = station.client();
    messages(&mut client, &[], &asked("anthropic/m", r#","stream":true"#));
    let pieces = gate.next().stream();
    feed(&pieces, &events()[0]);
    client.wait_for("message_start");
    drop(client);
    wait_left(&pieces);
    assert_eq!(station.house.at_rest()["errors"], json!({ "client_closed": 1 }));
}

#[test]
fn a_message_that_fails_before_its_end_is_had_again_where_it_is_held() {
    let (station, gate) = station();
    let mut client = station.client();
    let body = asked("anthropic/m", r#","stream":true,"fallbacks":["anthropic/n"]"#);
    messages(&mut client, &["x-sluicegate-stream-recovery: buffer"], &body);
    let pieces = gate.next().stream();
    feed(&pieces, &events()[0]);
    drop(pieces);
    let arrived = gate.next();
    assert_eq!(arrived.json()["model"], "n");
    let pieces = arrived.stream();
    let all: String = events().into_iter().chain([event("message_stop", "")]).collect();
    feed(&pieces, &all);
    let answer = client.answer();
    assert_eq!((answer.text(), answer.complete), (all.as_str(), true));
    assert_eq!(answer.header("x-sluicegate-fallbacks"), Some("1"));
}
