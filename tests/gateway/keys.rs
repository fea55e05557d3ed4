//! A provider's keys, seen from both sides: which one an attempt goes with, and what is told where none can.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::scope;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::gateway::{CallOptions, Handled};
use sluicegate::model::{Answer, BodyFields, Call, Forward, Operation};
use sluicegate::time::now;
use sluicegate::transport::{Body, Incoming, MemoryTransport};
use sluicegate::wire::openai::{ChatRequest, parse_chat};
use sluicegate::{Code, Error, Result};

use crate::house::{Arrived, DONE, House, STOP, chat, eventually, number, provider, reply, word};

/// What a provider says to a key for a model.
type Says = (u16, &'static [(&'static str, &'static str)], &'static str);

const WELL: Says = (200, &[("content-type", "application/json")], "well");

/// A provider that answers by key and model, and remembers who was sent.
#[derive(Clone, Default)]
struct Station {
    says: Arc<Mutex<BTreeMap<(String, String), Says>>>,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Station {
    fn says(&self, key: &str, model: &str, says: Says) {
        self.says.lock().expect("whole").insert((key.to_owned(), model.to_owned()), says);
    }

    /// Whoever was sent since this was asked last, without the scheme.
    fn sent(&self) -> Vec<String> {
        std::mem::take(&mut *self.sent.lock().expect("whole"))
    }

    /// A house whose provider `p` has these keys, and no retries but with another key.
    fn house(&self, keys: Value) -> House {
        let station = self.clone();
        let transport = MemoryTransport::new(move |request, _| {
            let mut keys = request.headers.iter().filter(|(name, _)| *name == "authorization");
            let key = keys.next().map_or("", |(_, value)| value.strip_prefix("Bearer ").expect("a bearer"));
            assert!(keys.next().is_none(), "one key is sent");
            let body: Value = serde_json::from_slice(request.body).expect("JSON");
            let model = body["model"].as_str().expect("a model").to_owned();
            station.sent.lock().expect("whole").push(key.to_owned());
            let says = station.says.lock().expect("whole").get(&(key.to_owned(), model)).copied();
            let (status, headers, text) = says.unwrap_or(WELL);
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let body = match status {
                200 if body["stream"] == true => format!("{}{STOP}{DONE}", word(text)),
                200 => reply(text),
                _ => json!({ "error": { "message": format!("{text} ({key})"), "code": "x" } }).to_string(),
            };
            Ok(Incoming { status, headers, body: Body::from_bytes(body) })
        });
        let retries = json!({ "max_retries": 0 });
        let settings = provider(json!({
            "keys": keys, "network_config": retries,
            "concurrency_and_buffer_size": { "concurrency": 8, "buffer_size": 64 },
        }));
        House::answered(settings, transport)
    }
}

fn two() -> Value {
    json!([{ "name": "a", "value": "sk-key-of-a" }, { "name": "b", "value": "sk-key-of-b" }])
}

const A: &str = "sk-key-of-a";
const B: &str = "sk-key-of-b";

fn ask(house: &House, model: &str) -> Result<Answer> {
    house.gateway().raw(Operation::ChatCompletions, chat(&format!("p/{model}"), false).into_bytes())
}

fn failure(house: &House, model: &str) -> Error {
    ask(house, model).expect_err("it must fail")
}

fn key(house: &House, at: usize) -> Value {
    house.stats()["providers"]["p"]["keys"][at].clone()
}

fn submitted(house: &House) -> u64 {
    house.p("queue/submitted_total")
}

#[test]
fn keys_take_turns_by_weight_and_are_counted() {
    let station = Station::default();
    let house = station.house(json!([
        { "name": "a", "value": "sk-key-of-a", "weight": 3 }, { "name": "b", "value": "sk-key-of-b" },
        { "name": "off", "value": "sk-off", "weight": 0 },
    ]));
    for _ in 0..8 {
        ask(&house, "m").expect("it is answered");
    }
    assert_eq!(station.sent(), [A, A, B, A, A, A, B, A]);
    let stats = house.at_rest();
    let keys = &stats["providers"]["p"]["keys"];
    let row = |name: &str, weight: f64, used: u64| json!({ "name": name, "weight": weight, "state": "ready", "models": {}, "used_total": used, "failed_total": 0 });
    assert_eq!(*keys, json!([row("a", 3.0, 6), row("b", 1.0, 2), row("off", 0.0, 0)]));
}

#[test]
fn a_429_cools_its_key_for_the_model_and_the_request_goes_on_with_another_at_once() {
    let station = Station::default();
    let house = station.house(two());
    station.says(A, "m", (429, &[("retry-after", "30")], "slow down"));
    let answer = ask(&house, "m").expect("the other key serves it");
    assert_eq!((answer.served.attempts, answer.served.timing.backoff), (2, Duration::ZERO));
    drop(answer);
    assert_eq!(station.sent(), [A, B]);
    let cooling = key(&house, 0);
    assert_eq!((&cooling["state"], &cooling["failed_total"]), (&json!("cooling"), &json!(1)));
    let left = cooling["models"]["m"].as_u64().expect("how long it cools");
    assert!((20_000..=30_000).contains(&left), "{left} ms of 30 s");
    assert_eq!(key(&house, 1)["state"], "ready");
    for _ in 0..3 {
        ask(&house, "m").expect("it is answered");
    }
    assert_eq!(station.sent(), [B, B, B], "for this model it rests");
    for _ in 0..2 {
        ask(&house, "n").expect("it is answered");
    }
    let mut sent = station.sent();
    sent.sort();
    assert_eq!(sent, [A, B], "for another it does not");
}

#[test]
fn where_all_keys_cool_nothing_is_sent_and_it_is_said_when_the_first_is_back() {
    let station = Station::default();
    let house = station.house(two());
    station.says(A, "m", (429, &[("retry-after", "50")], "slow down"));
    station.says(B, "m", (429, &[("retry-after-ms", "20000")], "slow down"));
    let error = failure(&house, "m");
    assert_eq!((error.code(), error.status(), error.attempts().len()), (Code::UpstreamError, 429, 2));
    assert!(!format!("{error:?}").contains("sk-key-of"), "each key is masked: {error:?}");
    let (sent, before) = (station.sent().len(), submitted(&house));
    let error = failure(&house, "m");
    assert_eq!((sent, error.code(), error.status()), (2, Code::RateLimited, 429));
    let after = error.retry_after().expect("when to come again");
    assert!(after > Duration::from_secs(15) && after <= Duration::from_secs(20), "{after:?}");
    assert_eq!((station.sent().len(), submitted(&house)), (0, before), "a key ring's refusal is never submitted");
    house.at_rest();
}

#[test]
fn a_key_that_has_cooled_is_used_again() {
    let station = Station::default();
    let house = station.house(json!([{ "name": "a", "value": A }]));
    station.says(A, "m", (429, &[("retry-after-ms", "30")], "slow down"));
    assert_eq!(failure(&house, "m").code(), Code::UpstreamError);
    station.says(A, "m", WELL);
    eventually("it is ready", || key(&house, 0)["state"] == "ready");
    ask(&house, "m").expect("it is answered");
}

#[test]
fn a_refused_key_is_dead_and_where_all_are_the_credentials_are_exhausted() {
    let station = Station::default();
    let house = station.house(two());
    station.says(A, "m", (401, &[], "wrong key"));
    let answer = ask(&house, "m").expect("the other key serves it");
    assert_eq!(answer.served.attempts, 2);
    drop(answer);
    ask(&house, "n").expect("it is answered");
    assert_eq!(station.sent(), [A, B, B], "a dead key is dead for every model");
    assert_eq!((&key(&house, 0)["state"], &key(&house, 1)["state"]), (&json!("dead"), &json!("ready")));
    let alerts = house.stats()["alerts"].clone();
    assert!(alerts.as_array().is_some_and(|all| all.iter().any(|one| one["subject"] == "p/a")), "{alerts}");
    station.says(B, "m", (401, &[], "wrong key"));
    for sent in [1, 0] {
        let error = failure(&house, "m");
        // Not the provider's own 401: its caller would look for the mistake in a key of its own.
        assert_eq!((error.code(), error.status()), (Code::CredentialsExhausted, 502));
        assert_eq!(error.provider(), Some("p"));
        assert!(!format!("{error:?} {error}").contains("sk-key-of"), "each key is masked: {error:?}");
        let attempt = &error.attempts()[0];
        let outcome = if sent == 1 { ("upstream_error", Some(401)) } else { ("credentials_exhausted", None) };
        assert_eq!((attempt.outcome, attempt.status), outcome);
        assert_eq!(station.sent().len(), sent);
    }
    assert_eq!(number(&house.at_rest(), "/errors/credentials_exhausted"), 2);
}

#[test]
fn a_403_is_taken_by_what_it_says() {
    for (text, sent, states, code) in [
        ("This API key was revoked", 2, ["dead", "dead"], Code::CredentialsExhausted),
        ("Project has no access to model m", 2, ["cooling", "cooling"], Code::CredentialsExhausted),
        ("Country, region, or territory not supported", 1, ["ready", "ready"], Code::UpstreamError),
        // It may be the request's fault: no caller can end other callers' keys, and one other key is asked.
        ("forbidden", 2, ["ready", "ready"], Code::UpstreamError),
    ] {
        let station = Station::default();
        let house = station.house(two());
        station.says(A, "m", (403, &[], text));
        station.says(B, "m", (403, &[], text));
        let error = failure(&house, "m");
        assert_eq!((error.code(), station.sent().len()), (code, sent), "{text}");
        assert_eq!([&key(&house, 0)["state"], &key(&house, 1)["state"]], states, "{text}");
        let other = ask(&house, "n");
        assert_eq!(other.is_ok(), states[0] != "dead", "{text}");
    }
}

#[test]
fn a_client_that_names_an_account_ends_no_key_by_it() {
    let station = Station::default();
    let house = station.house(json!([{ "name": "a", "value": A }]));
    station.says(A, "m", (401, &[], "the organization should match"));
    let body = chat("p/m", false).into_bytes();
    let fields = parse_chat(&body).expect("it is good");
    let call = CallOptions::new().call(body, fields, now()).expect("good");
    let call = Call { headers: vec![("openai-organization", "org-other".to_owned())], ..call };
    let gateway = house.gateway();
    let Handled::Failed(error, _) = gateway.handle(&Arc::new(call), gateway.begin(now()), None) else {
        panic!("it must fail")
    };
    assert_eq!((error.code(), error.status()), (Code::UpstreamError, 401), "it is the client's own fault");
    assert_eq!((station.sent().len(), &key(&house, 0)["state"]), (1, &json!("ready")));
}

#[test]
fn a_stream_and_what_is_forwarded_go_on_with_another_key_too() {
    let station = Station::default();
    let house = station.house(two());
    station.says(A, "m", (429, &[("retry-after", "30")], "slow down"));
    station.says(B, "n", (401, &[], "wrong key"));
    station.says(B, "m", (200, &[("content-type", "text/event-stream")], "well"));
    let stream = house.gateway().chat_stream(&ChatRequest::new("p/m", "hi")).expect("the other key serves it");
    let text: String = stream.map(|chunk| chunk.expect("good").text().to_owned()).collect();
    assert_eq!((text.as_str(), station.sent()), ("well", vec![A.to_owned(), B.to_owned()]));
    // What is forwarded is sent once, unless its key was turned away: then it had no effect.
    let forward = |model: &str| {
        let operation = Operation::Forward(Forward {
            method: "POST",
            path: "/images/generations".to_owned(),
            content_type: Some("application/json".to_owned()),
            accept: None,
        });
        let body = json!({ "model": model }).to_string().into_bytes();
        let call = CallOptions::new().call(body, BodyFields::default(), now()).expect("good");
        let gateway = house.gateway();
        let call = Call { operation, prefix: Some("p"), ..call };
        gateway.handle(&Arc::new(call), gateway.begin(now()), None)
    };
    let sent = |_| match forward("n") {
        Handled::Answer(answer, guard, _) => {
            drop((answer, guard));
            station.sent()
        }
        other => panic!("it is answered: {other:?}"),
    };
    let all: Vec<_> = (0..2).flat_map(sent).collect();
    assert_eq!(all.iter().filter(|key| *key == B).count(), 1, "it was turned away once: {all:?}");
    assert_eq!(key(&house, 1)["state"], "dead");
    station.says(A, "n", (500, &[], "down"));
    let Handled::Failed(error, _) = forward("n") else { panic!("it fails") };
    assert_eq!((error.status(), station.sent().len()), (500, 1));
}

#[test]
fn what_waits_in_the_queue_is_not_sent_with_a_key_that_has_come_to_rest() {
    let keys = json!([{ "name": "a", "value": A }, { "name": "b", "value": B }]);
    let (house, gate) = House::gated(provider(json!({ "keys": keys })));
    let limited = |arrived: Arrived| {
        let key = arrived.header("authorization").expect("a key").to_owned();
        arrived.respond(429, &[("retry-after", "30")], "{}");
        key
    };
    scope(|scope| {
        let ask = || house.ask().map(drop).map_err(|error| error.code());
        let first = scope.spawn(ask);
        let arrived = gate.next();
        let queued: Vec<_> = (1..=4)
            .map(|nth| {
                let caller = scope.spawn(ask);
                house.queued(nth);
                caller
            })
            .collect();
        // Two of these have the first key, two the second; whichever is limited, nobody asks with it again.
        let mut sent = vec![limited(arrived), limited(gate.next())];
        sent.sort();
        assert_eq!(sent, [format!("Bearer {A}"), format!("Bearer {B}")]);
        let told: Vec<_> = queued.into_iter().map(|caller| caller.join().expect("no panic")).collect();
        let limited = told.iter().filter(|told| **told == Err(Code::RateLimited)).count();
        assert!(limited >= 3, "{told:?}");
        first.join().expect("no panic").expect_err("all keys cool");
    });
    assert!(gate.is_empty(), "nothing more was sent");
}

#[test]
fn a_model_that_no_key_is_for_is_not_found() {
    let station = Station::default();
    let house = station.house(json!([
        { "name": "a", "value": A, "models": ["gpt-4o", "o3"] }, { "name": "b", "value": B, "models": ["o3"] },
    ]));
    for _ in 0..2 {
        ask(&house, "gpt-4o").expect("it is answered");
        ask(&house, "o3").expect("it is answered");
    }
    assert_eq!(station.sent(), [A, A, A, B]);
    let error = failure(&house, "gpt-40");
    assert_eq!((error.code(), error.status(), error.param()), (Code::ModelNotFound, 404, Some("model")));
    assert!(error.message().contains("near: p/gpt-4o"), "{}", error.message());
    assert_eq!(submitted(&house), 4);
    let models: Vec<_> = house.gateway().models().iter().map(ToString::to_string).collect();
    assert_eq!(models, ["p/gpt-4o", "p/o3"]);
    assert!(house.gateway().model("p/o3").is_some() && house.gateway().model("p/gpt-40").is_none());
}

#[test]
fn many_who_see_one_429_at_once_are_served_by_the_other_keys() {
    let station = Station::default();
    let keys: Vec<_> = (0..20).map(|nth| json!({ "name": format!("k{nth}"), "value": format!("sk-{nth}") })).collect();
    let house = station.house(json!(keys));
    for nth in 0..16 {
        station.says(&format!("sk-{nth}"), "m", (429, &[("retry-after", "60")], "slow down"));
    }
    let served = |_| ask(&house, "m").is_ok();
    let first: Vec<_> = scope(|scope| {
        let callers: Vec<_> = (0..16).map(|nth| scope.spawn(move || served(nth))).collect();
        callers.into_iter().map(|caller| caller.join().expect("no panic")).collect()
    });
    // Whoever came too early has found out for the others.
    assert!(first.iter().any(|served| *served), "{first:?}");
    eventually("all cool that are to cool", || ask(&house, "m").is_ok() && key(&house, 15)["state"] == "cooling");
    station.sent();
    assert!((0..8).all(served));
    let mut sent = station.sent();
    sent.sort();
    assert_eq!(sent, ["sk-16", "sk-16", "sk-17", "sk-17", "sk-18", "sk-18", "sk-19", "sk-19"]);
    let failed: u64 = (0..16).map(|nth| number(&house.stats(), &format!("/providers/p/keys/{nth}/failed_total"))).sum();
    assert!((16..=16 * 16).contains(&failed), "{failed}");
    house.at_rest();
}

#[test]
fn a_provider_without_keys_is_sent_none_and_passes_its_refusals_on() {
    let station = Station::default();
    let house = station.house(json!([]));
    station.says("", "m", (401, &[], "who are you"));
    for _ in 0..2 {
        let error = failure(&house, "m");
        assert_eq!((error.code(), error.status()), (Code::UpstreamError, 401));
    }
    station.says("", "m", (429, &[("retry-after", "50")], "slow down"));
    for _ in 0..2 {
        assert_eq!(failure(&house, "m").status(), 429);
    }
    assert_eq!(station.sent(), ["", "", "", ""], "there is nothing to cool");
    assert_eq!(house.stats()["providers"]["p"]["keys"], json!([]));
}
