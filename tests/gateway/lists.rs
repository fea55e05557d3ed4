//! Providers' own lists of models: how they are asked for, by whom, how often, and what stands where one gives none.

use std::thread::scope;
use std::time::Duration;

use serde_json::json;
use sluicegate::Code;
use sluicegate::gateway::{Gateway, ModelsRefresh};
use sluicegate::transport::TransportErrorKind as Kind;

use crate::house::{CANARY, FUSE, Gate, House, ms, number, provider};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// Refreshes while `play` answers.
fn refreshed(house: &House, deadline: Duration, play: impl FnOnce()) -> ModelsRefresh {
    scope(|scope| {
        let refresh = scope.spawn(|| house.gateway().refresh_models(deadline));
        play();
        refresh.join().expect("no panic")
    })
}

fn names(gateway: &Gateway) -> Vec<String> {
    gateway.models().iter().map(ToString::to_string).collect()
}

/// Providers of both shapes and one that is known by its name.
fn three() -> (House, [Gate; 3]) {
    let gates = [Gate::new(), Gate::new(), Gate::new()];
    let providers = json!({
        "a": provider(json!({ "keys": [{ "value": CANARY, "models": ["*"] }] })),
        "b": provider(json!({ "kind": "anthropic" })),
        "groq": provider(json!({})),
    });
    let house = House::new(providers, &[("a", &gates[0]), ("b", &gates[1]), ("groq", &gates[2])]);
    (house, gates)
}

#[test]
fn each_provider_is_asked_for_its_own_list_in_its_own_way_and_one_that_fails_keeps_what_it_had() {
    let (house, [a, b, groq]) = three();
    let before = names(house.gateway());
    assert!(before.contains(&"groq/llama-3.1-8b-instant".to_owned()), "{before:?}");
    let outcome = refreshed(&house, FUSE, || {
        // All at once: each stands at its gate before the first is answered.
        let (a, b, groq) = (a.next(), b.next(), groq.next());
        assert_eq!((a.method, a.path.as_str()), ("GET", "/v1/models"));
        assert_eq!(a.header("authorization"), Some(&*format!("Bearer {CANARY}")));
        assert_eq!((b.path.as_str(), b.header("x-api-key")), ("/v1/models?limit=1000", Some(CANARY)));
        assert!(b.header("anthropic-version").is_some());
        groq.respond(500, &JSON, "{}");
        b.respond(200, &JSON, r#"{"data":[{"type":"model","id":"claude-x","created_at":"1970-01-02T00:00:00Z"}]}"#);
        a.respond(200, &JSON, r#"{"object":"list","data":[{"id":"org/m","created":7,"owned_by":"them"},{"id":"n"}]}"#);
    });
    assert_eq!(outcome.renewed, ["a", "b"]);
    assert_eq!((outcome.failed.len(), &*outcome.failed[0].provider), (1, "groq"));
    assert!(outcome.failed[0].message.contains("500"), "{outcome:?}");
    let after = names(house.gateway());
    assert_eq!(after[..3], ["a/org/m", "a/n", "b/claude-x"]);
    assert!(after.contains(&"groq/llama-3.1-8b-instant".to_owned()), "{after:?}");
    let one = house.gateway().model("a/org/m").expect("it is known");
    assert_eq!((one.created, one.owned_by.as_deref()), (Some(7), Some("them")));
    assert_eq!(house.gateway().model("b/claude-x").expect("it is known").created, Some(86_400));
    // Nobody is asked again so soon, and the outcome is told again.
    assert_eq!(house.gateway().refresh_models(FUSE), outcome);
    assert!(a.is_empty() && b.is_empty() && groq.is_empty());
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/a/queue/submitted_total"), 0, "it is nobody's job");
    assert_eq!(number(&stats, "/requests/received_total"), 0);
}

#[test]
fn one_refresh_runs_at_a_time_and_all_who_want_one_get_it() {
    let (house, gate) = House::gated(provider(json!({})));
    let gateway = house.gateway();
    scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| gateway.refresh_models(FUSE))).collect();
        gate.next().respond(200, &JSON, r#"[{"id":"m"}]"#);
        for one in all {
            assert_eq!(one.join().expect("no panic").renewed, ["p"]);
        }
    });
    assert!(gate.is_empty(), "it was asked once");
    assert_eq!(names(gateway), ["p/m"]);
}

#[test]
fn what_cannot_be_read_leaves_the_list_as_it_was() {
    let long = format!(r#"[{{"id":"{}"}}]"#, "x".repeat(5 << 20));
    for (body, code) in [
        ("<html>".to_owned(), Code::UpstreamBadResponse),
        ("{\"models\":[]}".to_owned(), Code::UpstreamBadResponse),
        (long, Code::UpstreamBadResponse),
    ] {
        let (house, gate) = House::gated(provider(json!({ "keys": [{ "value": CANARY, "models": ["own"] }] })));
        let outcome = refreshed(&house, FUSE, || gate.next().respond(200, &JSON, body));
        assert_eq!(outcome.failed.iter().map(|failure| failure.code).collect::<Vec<_>>(), [code]);
        assert_eq!(names(house.gateway()), ["p/own"]);
    }
    let (house, gate) = House::gated(provider(json!({})));
    let outcome = refreshed(&house, FUSE, || gate.next().fail(Kind::NoAnswer));
    assert_eq!(outcome.failed[0].code, Code::UpstreamConnectError);
}

#[test]
fn a_list_is_kept_to_what_there_is_a_key_for() {
    let keys = json!({ "keys": [{ "value": CANARY, "models": ["m", "only-named"] }] });
    let (house, gate) = House::gated(provider(keys));
    let list = r#"{"data":[{"id":"m"},{"id":"other"}]}"#;
    let outcome = refreshed(&house, FUSE, || gate.next().respond(200, &JSON, list));
    assert!(outcome.failed.is_empty());
    assert_eq!(names(house.gateway()), ["p/m", "p/only-named"]);
}

#[test]
fn a_callers_deadline_bounds_it_and_does_not_stand_for_others() {
    let (house, gate) = House::gated(provider(json!({})));
    let outcome = refreshed(&house, ms(50), || {});
    assert_eq!((outcome.renewed.len(), outcome.failed[0].code), (0, Code::UpstreamTimeout));
    gate.next().wait_over();
    // Its worker is back once it serves a request, and the next caller has a look of its own.
    scope(|scope| {
        let call = scope.spawn(|| house.ask());
        gate.next().answer();
        call.join().expect("no panic").expect("it is answered");
    });
    let outcome = refreshed(&house, FUSE, || gate.next().respond(200, &JSON, r#"[{"id":"m"}]"#));
    assert_eq!(outcome.renewed, ["p"]);
}

#[test]
fn a_pool_whose_workers_are_all_busy_keeps_its_list_and_its_requests_go_on() {
    let (house, gate) = House::gated(provider(json!({})));
    scope(|scope| {
        let call = scope.spawn(|| house.ask());
        let held = gate.next();
        let outcome = house.gateway().refresh_models(ms(50));
        assert_eq!(outcome.failed[0].code, Code::UpstreamTimeout);
        // Another look does not stand behind the first.
        assert_eq!(house.gateway().refresh_models(ms(50)).failed[0].code, Code::QueueFull);
        held.answer();
        call.join().expect("no panic").expect("it is answered");
    });
    assert!(gate.is_empty(), "a look that nobody waits for is not made");
    house.at_rest();
}

#[test]
fn a_provider_that_is_paused_or_has_no_list_on_the_network_is_not_asked() {
    let azure =
        json!({ "keys": [{ "value": CANARY, "azure_key_config": { "endpoint": "https://r.openai.azure.com" } }] });
    let mut azure = provider(azure);
    azure["network_config"]["base_url"] = json!(null);
    let gates = [Gate::new(), Gate::new()];
    let providers = json!({ "p": provider(json!({})), "azure": azure, "sim": crate::house::sim(json!({})) });
    let house = House::new(providers, &[("p", &gates[0]), ("azure", &gates[1])]);
    assert!(house.gateway().pause("p"));
    let outcome = house.gateway().refresh_models(FUSE);
    assert_eq!(outcome.failed.iter().map(|failure| &*failure.provider).collect::<Vec<_>>(), ["p"]);
    assert!(outcome.renewed.is_empty() && gates.iter().all(Gate::is_empty));
    assert!(house.gateway().sim_stats().is_none(), "it is part of this process, and its list is known");
}
