//! What browsers are told: preflights, the lines of every kind of answer, and nothing without configuration.

use serde_json::{Value, json};

use super::{Answer, Station};
use crate::house::{STOP, chat, feed};

const PAGE: &str = "Origin: https://app.example";
const KEY: &str = "Authorization: Bearer right";

fn station(origins: Value) -> (Station, crate::house::Gate) {
    Station::gated(json!({}), json!({ "keys": ["right"], "cors_origins": origins, "max_body_bytes": 2000 }))
}

/// The lines of a head that speak to browsers, in its order.
fn lines(answer: &Answer) -> Vec<&str> {
    let named = |line: &&str| line.starts_with("access-control-") || line.starts_with("vary:");
    answer.head.lines().filter(named).collect()
}

const METHODS: &str = "access-control-allow-methods: GET, HEAD, POST, PUT, PATCH, DELETE";
const SENT: &str = "access-control-allow-headers: authorization, x-api-key, api-key, content-type, x-request-id, \
    x-sluicegate-timeout, x-sluicegate-priority, x-sluicegate-stream-recovery, anthropic-beta, anthropic-version, \
    openai-beta, openai-organization, openai-project, traceparent, tracestate, x-amzn-bedrock-guardrailidentifier, \
    x-amzn-bedrock-guardrailversion, x-amzn-bedrock-performanceconfig-latency, x-amzn-bedrock-request-metadata, \
    x-amzn-bedrock-service-tier, x-amzn-bedrock-trace, x-client-request-id, *";
const READ: &str = "access-control-expose-headers: x-request-id, x-sluicegate-provider, x-sluicegate-model, \
    x-sluicegate-attempts, x-sluicegate-fallbacks, x-sluicegate-queue-us, x-sluicegate-upstream-us, \
    x-sluicegate-overhead-us, x-sluicegate-dropped, retry-after, retry-after-ms, request-id, *";

#[test]
fn a_preflight_of_a_configured_origin_is_answered_without_a_key() {
    let (station, gate) = station(json!(["https://app.example", "http://localhost:3000"]));
    let mut client = station.client();
    for path in ["/v1/chat/completions", "/nowhere", "/livez"] {
        let asked =
            [PAGE, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization, x-own"];
        let answer = client.ask("OPTIONS", path, &asked, "").answer();
        let allowed = "access-control-allow-origin: https://app.example";
        assert_eq!(lines(&answer), [allowed, "vary: origin", METHODS, SENT, "access-control-max-age: 7200"], "{path}");
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    let ask = "Access-Control-Request-Method: POST";
    for other in
        ["https://evil.example", "https://app.example:8443", "http://app.example", "null", "HTTPS://APP.EXAMPLE"]
    {
        let answer = client.ask("OPTIONS", "/v1/chat/completions", &[&format!("Origin: {other}"), ask], "").answer();
        assert_eq!((answer.status, lines(&answer)), (405, vec!["vary: origin"]), "{other}");
    }
    // An OPTIONS that asks nothing is one like any other.
    let answer = client.ask("OPTIONS", "/v1/chat/completions", &[PAGE], "").answer();
    assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"));
    assert!(gate.is_empty());
    assert_eq!(station.house.at_rest()["requests"]["received_total"], 0, "a preflight is no request");
}

#[test]
fn every_kind_of_answer_can_be_read_by_a_configured_origins_page() {
    let (station, gate) = station(json!(["https://app.example"]));
    let open = |answer: &Answer, what: &str| {
        let allowed = "access-control-allow-origin: https://app.example";
        assert_eq!(lines(answer), [allowed, "vary: origin", READ], "{what}: {}", answer.head);
    };
    let mut client = station.client();
    client.chat(&[PAGE, KEY], &chat("p/m", false));
    gate.next().respond(200, &[("access-control-allow-origin", "*"), ("vary", "x")], crate::house::reply("well"));
    let answer = client.answer();
    assert_eq!(answer.status, 200);
    open(&answer, "an answer, whatever the provider says");
    client.chat(&[PAGE, KEY], &chat("p/m", true));
    let pieces = gate.next().stream();
    feed(&pieces, STOP);
    drop(pieces);
    let answer = client.answer();
    assert!(answer.complete);
    open(&answer, "a stream");
    client.chat(&[PAGE, KEY], &chat("p/m", false));
    gate.next().respond(400, &[], "{}");
    open(&client.answer(), "an error of the provider");
    client.chat(&[PAGE, KEY], &chat("p/m", false));
    gate.next().panic();
    open(&client.answer(), "an error of the gateway");
    for (what, headers, body, status) in [
        ("a wrong key", &[PAGE][..], chat("p/m", false), 401),
        ("no such model", &[PAGE, KEY], chat("nowhere", false), 404),
        ("a body that is none", &[PAGE, KEY], "{".to_owned(), 400),
        ("a body that is too long", &[PAGE, KEY], " ".repeat(3000), 413),
        ("a header that cannot be passed on", &[PAGE, KEY, "OpenAI-Beta: \u{e9}"], chat("p/m", false), 400),
    ] {
        let answer = station.client().chat(headers, &body).answer();
        assert_eq!(answer.status, status, "{what}");
        open(&answer, what);
    }
    for (path, status) in [("/livez", 200), ("/health", 200), ("/nowhere", 404)] {
        let answer = station.client().ask("GET", path, &[PAGE], "").answer();
        assert_eq!(answer.status, status);
        open(&answer, path);
    }
    for other in [&[KEY][..], &[KEY, "Origin: https://evil.example"]] {
        client.chat(other, &chat("p/m", false));
        gate.next().answer();
        let answer = client.answer();
        assert_eq!((answer.status, lines(&answer)), (200, vec!["vary: origin"]), "for caches: another may get more");
    }
}

#[test]
fn any_origin_is_any_and_nothing_varies() {
    let (station, gate) = station(json!(["*"]));
    let mut client = station.client();
    let asked = ["Origin: null", "Access-Control-Request-Method: POST"];
    let answer = client.ask("OPTIONS", "/v1/chat/completions", &asked, "").answer();
    let allowed = "access-control-allow-origin: *";
    assert_eq!((answer.status, lines(&answer)), (204, vec![allowed, METHODS, SENT, "access-control-max-age: 7200"]));
    client.chat(&["Origin: https://whoever.example", KEY], &chat("p/m", false));
    gate.next().answer();
    assert_eq!(lines(&client.answer()), [allowed, READ]);
    assert!(lines(&client.get("/livez")).is_empty(), "who is no page is told nothing");
    assert_eq!(
        station.client().chat(&[PAGE], &chat("p/m", false)).answer().status,
        401,
        "a key is asked for all the same"
    );
}

#[test]
fn without_configuration_nothing_is_said() {
    let (station, gate) = station(json!([]));
    let mut client = station.client();
    let asked = [PAGE, "Access-Control-Request-Method: POST"];
    let answer = client.ask("OPTIONS", "/v1/chat/completions", &asked, "").answer();
    assert_eq!((answer.status, lines(&answer).len(), answer.header("allow")), (405, 0, Some("POST")));
    client.chat(&[PAGE, KEY], &chat("p/m", false));
    gate.next().answer();
    let answer = client.answer();
    assert_eq!((answer.status, lines(&answer).len()), (200, 0));
}

#[test]
fn without_keys_another_sites_page_spends_nothing() {
    let (station, gate) = Station::gated(json!({}), json!({ "cors_origins": ["https://app.example"] }));
    for site in ["cross-site", "same-site", "\u{e9}"] {
        let site = format!("Sec-Fetch-Site: {site}");
        for page in ["Origin: https://evil.example", "Origin: null", "x-origin: none"] {
            let mut client = station.client();
            client.chat(&[page, &site, "Content-Type: text/plain"], &chat("p/m", false));
            let answer = client.answer();
            assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{page}, {site}");
            assert!(answer.text().contains("server.cors_origins"), "{}", answer.text());
        }
    }
    assert!(gate.is_empty());
    // A configured origin's page may, and whoever is no page.
    let mut client = station.client();
    for said in
        [&[PAGE, "Sec-Fetch-Site: cross-site"][..], &["Sec-Fetch-Site: none"], &["Sec-Fetch-Site: same-origin"], &[]]
    {
        client.chat(said, &chat("p/m", false));
        gate.next().respond(200, &[], crate::house::reply("well"));
        assert_eq!(client.answer().status, 200, "{said:?}");
    }
    assert_eq!(station.house.at_rest()["errors"]["forbidden"], 9);
}

#[test]
fn a_key_is_leave_enough_for_any_page() {
    let (station, gate) = station(json!([]));
    let mut client = station.client();
    client.chat(&[KEY, PAGE, "Sec-Fetch-Site: cross-site"], &chat("p/m", false));
    gate.next().respond(200, &[], crate::house::reply("well"));
    assert_eq!(client.answer().status, 200);
}
