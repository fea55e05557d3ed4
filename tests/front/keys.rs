//! Gateway keys: which count, what each may name, and whose failures are counted.

use serde_json::{Value, json};

use super::{Client, Station};
use crate::house::{chat, number};

/// How many failures of an address are answered without more ado.
const LIMIT: usize = 60;

/// One failure more than that, on one connection; what each was answered.
fn failures(station: &Station, lines: &[&str]) -> Vec<(u16, Option<u64>)> {
    let mut client = station.client();
    let answers = (0..=LIMIT).map(|_| knock(&mut client, lines)).collect();
    assert!(client.is_closed(), "the last ends it");
    answers
}

/// One request that is refused; its status, and after how many seconds to come again.
fn knock(client: &mut Client, lines: &[&str]) -> (u16, Option<u64>) {
    let answer = client.ask("POST", "/v1/chat/completions", lines, "").answer();
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    (answer.status, answer.header("retry-after").map(|seconds| seconds.parse().expect("seconds")))
}

fn told(station: &Station) -> Vec<String> {
    let events = station.house.gateway().events().list();
    events.into_iter().filter(|event| event.kind == "unauthorized").map(|event| event.subject).collect()
}

#[test]
fn keys_that_contradict_each_other_let_nobody_in() {
    let (station, gate) = Station::gated(json!({}), json!({ "keys": ["right", "other"] }));
    let bearer = "Authorization: Bearer right";
    for lines in [
        &[bearer, "x-api-key: other"][..],
        &[bearer, "x-api-key: wrong"],
        &["Authorization: Bearer wrong", "x-api-key: right"],
        &["Authorization: Bearer", "x-api-key: right"],
        &["x-api-key: right", "api-key: other"],
        &[bearer, bearer],
        &[bearer, "Authorization: Basic Zzp3"],
        &["x-api-key: right", "X-API-Key: right"],
    ] {
        let answer = station.client().chat(lines, &chat("p/m", false)).answer();
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{lines:?}");
    }
    for lines in [&[bearer, "x-api-key: right", "api-key: right"][..], &["Authorization: Basic Zzp3", "api-key: other"]]
    {
        let mut client = station.client();
        client.chat(lines, &chat("p/m", false));
        gate.next().answer();
        assert_eq!(client.answer().status, 200, "{lines:?}");
    }
    assert!(gate.is_empty());
}

/// The decision stands on what a name leads to, and falls before anything is sent.
#[test]
fn a_key_names_its_models_and_no_others() {
    let keys = json!([
        { "name": "one", "value": "one", "models": ["p/m", "q/*"] },
        { "name": "all", "value": "all" },
    ]);
    let (gate, other) = (crate::house::Gate::new(), crate::house::Gate::new());
    let usual = crate::house::provider;
    let config = json!({ "server": { "keys": keys }, "providers": { "p": usual(json!({})), "q": usual(json!({})) } });
    let house = crate::house::House::with(config, &[("p", &gate), ("q", &other)]);
    let station = Station::on(house);
    for (key, model, gate) in [("one", "p/m", &gate), ("one", "q/any/thing", &other), ("all", "p/x", &gate)] {
        let mut client = station.client();
        client.chat(&[&format!("api-key: {key}")], &chat(model, false));
        gate.next().answer();
        assert_eq!(client.answer().status, 200, "{key} {model}");
    }
    for (name, stream) in [
        ("p/x", false),
        ("p/x", true),
        ("p/m2", false),
        ("p/M", false),
        ("p/*", false),
        ("p//m", false),
        (" p/m", false),
        ("m", false),
        ("nowhere/m", false),
        ("p/", false),
        ("q", false),
    ] {
        let answer = station.client().chat(&["api-key: one"], &chat(name, stream)).answer();
        assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{name}");
        let error = &answer.json()["error"];
        assert!(error["message"].as_str().is_some_and(|text| text.contains(&format!("{name:?}"))), "{error}");
        assert_eq!((&error["type"], &error["param"]), (&json!("permission_error"), &json!("model")));
    }
    // However the name is spelled in the body.
    let escaped = chat("p/m", false).replace("p/m", "\\u0070\\/m");
    let mut client = station.client();
    client.chat(&["api-key: one"], &escaped);
    gate.next().answer();
    assert_eq!(client.answer().status, 200);
    let escaped = chat("p/x", false).replace("p/x", "\\u0070/x");
    assert_eq!(station.client().chat(&["api-key: one"], &escaped).answer().status, 403);
    // Without a restriction what leads nowhere is told as ever, with what there is.
    let answer = station.client().chat(&["api-key: all"], &chat("nowhere/m", false)).answer();
    assert_eq!((answer.status, answer.code().as_str()), (404, "model_not_found"));
    assert!(gate.is_empty() && other.is_empty());
    let stats = station.house.at_rest();
    assert_eq!(stats["errors"], json!({ "forbidden": 12, "model_not_found": 1 }));
}

/// OpenRouter answers by any of `models`, which would lead past the one that was judged.
#[test]
fn a_key_for_some_models_cannot_name_others_beside_the_one_it_may_use() {
    let keys = json!([
        { "name": "one", "value": "one", "models": ["p/m"] },
        { "name": "whole", "value": "whole", "models": ["p/*"] },
        { "name": "all", "value": "all" },
    ]);
    let (station, gate) = Station::gated(json!({}), json!({ "keys": keys }));
    let further = chat("p/m", false).replacen('{', "{\"models\":[\"x\"],", 1);
    let answer = station.client().chat(&["api-key: one"], &further).answer();
    assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"));
    assert_eq!(answer.json()["error"]["param"], "models");
    assert!(gate.is_empty());
    let none = further.replace("[\"x\"]", "null");
    for (key, body) in [("one", &none), ("whole", &further), ("all", &further)] {
        let mut client = station.client();
        client.chat(&[&format!("api-key: {key}")], body);
        gate.next().answer();
        assert_eq!(client.answer().status, 200, "{key} {body}");
    }
    for key in ["one", "all"] {
        let capital = chat("p/m", false).replacen('{', "{\"Model\":\"x\",", 1);
        let answer = station.client().chat(&[&format!("api-key: {key}")], &capital).answer();
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{key}");
    }
    assert!(gate.is_empty());
}

/// Failures are limited, and a right key is judged all the same: nobody locks out who shares his address.
#[test]
fn who_fails_too_often_is_told_to_wait_and_a_right_key_gets_in_all_the_same() {
    let (station, gate) = Station::gated(json!({}), json!({ "keys": ["right-canary"] }));
    let answers = failures(&station, &["api-key: wrong-canary"]);
    assert!(answers[..LIMIT].iter().all(|answer| *answer == (401, None)), "{answers:?}");
    let (status, after) = answers[LIMIT];
    assert!(status == 401 && after.is_some_and(|seconds| (1..=60).contains(&seconds)), "{after:?}");
    // A missing and a malformed key get the same; each of them ends its connection.
    for line in ["x-none: 1", "Authorization: Bearer", "api-key: \u{e9}"] {
        let mut client = station.client();
        assert!(matches!(knock(&mut client, &[line]), (401, Some(_))), "{line}");
        assert!(client.is_closed(), "{line}");
    }
    let mut client = station.client();
    for _ in 0..2 {
        client.chat(&["api-key: right-canary"], &chat("p/m", false));
        gate.next().answer();
        assert_eq!(client.answer().status, 200, "on a connection that goes on");
    }
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/errors/unauthorized"), LIMIT as u64 + 4);
    assert_eq!(told(&station), ["127.0.0.1"], "once");
    let told = format!("{stats} {:?}", station.house.gateway().events().list());
    assert!(!told.contains("-canary"), "{told}");
}

#[test]
fn behind_a_trusted_proxy_each_client_fails_for_itself() {
    let server = |trusted: Value| json!({ "keys": ["right"], "trusted_proxies": trusted });
    let (station, _gate) = Station::gated(json!({}), server(json!(["127.0.0.0/8"])));
    let from = |address: &str| format!("X-Forwarded-For: 203.0.113.1, {address}, 127.0.0.9");
    let (one, other) = (from("192.0.2.1"), from("2001:db8::5"));
    assert!(failures(&station, &[&one])[LIMIT].1.is_some());
    assert_eq!(knock(&mut station.client(), &[&from("192.0.2.2")]), (401, None));
    assert!(failures(&station, &[&other])[LIMIT].1.is_some());
    // Another host of that network, and the same client through another line.
    assert!(knock(&mut station.client(), &[&from("2001:db8::6:7")]).1.is_some());
    assert!(knock(&mut station.client(), &["X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 192.0.2.1"]).1.is_some());
    // What cannot be read counts for the proxy.
    assert_eq!(knock(&mut station.client(), &["X-Forwarded-For: 192.0.2.1, unknown"]), (401, None));
    assert_eq!(told(&station), ["192.0.2.1", "2001:db8::/64"]);
}

#[test]
fn who_is_no_trusted_proxy_cannot_fail_under_another_name() {
    let (station, _gate) = Station::gated(json!({}), json!({ "keys": ["right"], "trusted_proxies": ["10.0.0.0/8"] }));
    let answers: Vec<_> = (0..=LIMIT)
        .map(|number| knock(&mut station.client(), &[&format!("X-Forwarded-For: 192.0.2.{number}")]))
        .collect();
    assert!(answers[LIMIT].1.is_some() && answers[..LIMIT].iter().all(|answer| answer.1.is_none()), "{answers:?}");
    assert_eq!(told(&station), ["127.0.0.1"]);
}

/// What a client says of where it comes from, or where to, changes nothing but the count of failures.
#[test]
fn forwarded_headers_open_no_door() {
    let (station, gate) = Station::gated(json!({}), json!({ "keys": ["right"], "trusted_proxies": ["127.0.0.1"] }));
    let lines = [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: localhost",
        "X-Forwarded-Proto: https",
        "X-Real-IP: 127.0.0.1",
        "Forwarded: for=127.0.0.1",
        "X-Original-URL: /livez",
    ];
    assert_eq!(station.client().chat(&lines, &chat("p/m", false)).answer().status, 401);
    assert!(gate.is_empty());
}
