//! A caller's trace on its way through: taken up, or begun anew where it cannot be read, with a step of its own for each
//! attempt; never where the caller has none.

use serde_json::json;

use super::Station;
use crate::house::{Arrived, DONE, Gate, House, STOP, chat, feed, merge, provider, word};

const ID: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Id, step and flags that came with a request.
fn step(arrived: &Arrived) -> (String, String, String) {
    let parent = arrived.header("traceparent").expect("a trace");
    let [version, id, step, flags] = parent.split('-').collect::<Vec<_>>()[..] else { panic!("{parent}") };
    let is_hex = |text: &str, length| text.len() == length && text.bytes().all(|b| b"0123456789abcdef".contains(&b));
    assert!(version == "00" && is_hex(id, 32) && is_hex(step, 16) && is_hex(flags, 2), "{parent}");
    (id.to_owned(), step.to_owned(), flags.to_owned())
}

/// What the provider hears of a request with these lines.
fn heard(lines: &[&str]) -> Arrived {
    let (station, gate) = Station::gated(json!({}), json!({}));
    // It stays: for one that has left nothing is sent.
    let mut client = station.client();
    client.chat(lines, &chat("p/m", false));
    gate.next()
}

#[test]
fn a_callers_trace_goes_on_with_another_step_and_what_others_say_of_it() {
    let arrived = heard(&[PARENT, "tracestate: congo=t61rcWkgMzE", "tracestate: rojo=00f0"]);
    let (id, step, flags) = step(&arrived);
    assert_eq!((id.as_str(), flags.as_str()), (ID, "01"));
    assert_ne!(step, "b7ad6b7169203331");
    assert_eq!(arrived.header("tracestate"), Some("congo=t61rcWkgMzE,rojo=00f0"));
}

#[test]
fn who_has_no_trace_gets_none() {
    let arrived = heard(&["tracestate: congo=t61rcWkgMzE"]);
    assert_eq!((arrived.header("traceparent"), arrived.header("tracestate")), (None, None));
}

#[test]
fn what_is_no_trace_begins_a_new_one_that_nobody_says_anything_of() {
    let zeros = "0".repeat(32);
    let of = |id: &str| format!("traceparent: 00-{id}-b7ad6b7169203331-01");
    for wrong in
        [of("x"), of(&ID.to_uppercase()), of(&zeros), PARENT.replace(" 00-", " ff-"), "traceparent: \u{e9}".into()]
    {
        let arrived = heard(&[&wrong, "tracestate: congo=t61rcWkgMzE"]);
        let (id, _, flags) = step(&arrived);
        assert!(id != ID && id != zeros, "{wrong}");
        assert_eq!((flags.as_str(), arrived.header("tracestate")), ("02", None), "{wrong}");
    }
    assert_ne!(step(&heard(&[PARENT, PARENT])).0, ID, "two of them are none");
}

#[test]
fn what_others_say_is_cut_where_it_is_too_long() {
    let entry = |name: &str, length: usize| format!("{name}={}", "x".repeat(length - name.len() - 1));
    let short: Vec<_> = (0..6).map(|n| entry(&format!("s{n}"), 100)).collect();
    let all = format!("tracestate: {},{}", entry("long", 200), short.join(","));
    assert_eq!(heard(&[PARENT, &all]).header("tracestate"), Some(&*short[..5].join(",")));
    let many = format!("tracestate: {}", vec!["a=b"; 33].join(","));
    let arrived = heard(&[PARENT, &many]);
    assert_eq!((step(&arrived).0.as_str(), arrived.header("tracestate")), (ID, None));
}

#[test]
fn each_retry_and_each_fallback_is_a_step_of_its_own() {
    let (p, q) = (Gate::new(), Gate::new());
    let retried = provider(json!({ "network_config": { "max_retries": 1, "retry_backoff_initial": 1 } }));
    let config = json!({ "providers": { "p": retried, "q": provider(json!({})) } });
    let station = Station::on(House::with(config, &[("p", &p), ("q", &q)]));
    let mut body = serde_json::from_str(&chat("p/m", false)).expect("JSON");
    merge(&mut body, json!({ "fallbacks": ["q/m"] }));
    let mut client = station.client();
    client.chat(&[PARENT], &body.to_string());
    let mut steps = Vec::new();
    for gate in [&p, &p] {
        let arrived = gate.next();
        steps.push(step(&arrived));
        arrived.respond(503, &[], "{}");
    }
    let arrived = q.next();
    steps.push(step(&arrived));
    arrived.answer();
    assert_eq!(client.answer().status, 200);
    assert!(steps.iter().all(|(id, _, flags)| id == ID && flags == "01"), "{steps:?}");
    let own: std::collections::BTreeSet<_> = steps.iter().map(|(_, step, _)| step).collect();
    assert_eq!(own.len(), 3, "{steps:?}");
}

#[test]
fn streams_and_what_is_forwarded_belong_to_it_too() {
    let gate = Gate::new();
    let config = json!({ "providers": { "openai": provider(json!({})) } });
    let station = Station::on(House::with(config, &[("openai", &gate)]));
    let mut client = station.client();
    client.chat(&[PARENT], &chat("openai/m", true));
    let arrived = gate.next();
    assert_eq!(step(&arrived).0, ID);
    feed(&arrived.stream(), &format!("{}{STOP}{DONE}", word("one")));
    assert_eq!(client.answer().status, 200);
    client.ask("POST", "/openai/v1/moderations", &[PARENT], "{}");
    let arrived = gate.next();
    assert_eq!((step(&arrived).0.as_str(), arrived.path.as_str()), (ID, "/v1/moderations"));
    arrived.answer();
    assert_eq!(client.answer().status, 200);
}

#[test]
fn what_the_configuration_says_goes_before_a_callers_trace() {
    let fixed = "00-11111111111111111111111111111111-2222222222222222-00";
    let network = json!({ "network_config": { "extra_headers": { "Traceparent": fixed } } });
    let (station, gate) = Station::gated(network, json!({}));
    let mut client = station.client();
    client.chat(&[PARENT], &chat("p/m", false));
    let arrived = gate.next();
    let sent: Vec<_> = arrived
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("traceparent"))
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(sent, [fixed]);
}
