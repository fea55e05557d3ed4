//! Aliases, strategies and fallbacks, as a client meets them.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Client, Station};
use crate::client::Answer;
use crate::house::{DONE, Gate, House, STOP, chat, eventually, feed, number, provider, sim, word};

/// A gateway on `p` and `q` behind gates, which are asked once a target, and the simulated provider.
fn station(aliases: Value, server: Value) -> (Station, Gate, Gate) {
    let (p, q) = (Gate::new(), Gate::new());
    let once = || provider(json!({ "network_config": { "max_retries": 0 } }));
    let providers = json!({ "p": once(), "q": once(), "sim": sim(json!({})) });
    let config = json!({ "server": server, "providers": providers, "aliases": aliases });
    let house = House::with(config, &[("p", &p), ("q", &q)]);
    (Station::on(house), p, q)
}

/// A chat body with `fallbacks`.
fn falling(model: &str, fallbacks: &[&str], stream: bool) -> String {
    let mut body: Value = serde_json::from_str(&chat(model, stream)).expect("JSON");
    body["fallbacks"] = json!(fallbacks);
    body.to_string()
}

/// Who answered: provider, model, attempts, targets left.
fn served(answer: &Answer) -> (&str, &str, &str, &str) {
    let header = |name| answer.header(name).unwrap_or_else(|| panic!("no {name}: {}", answer.head));
    (
        header("x-sluicegate-provider"),
        header("x-sluicegate-model"),
        header("x-sluicegate-attempts"),
        header("x-sluicegate-fallbacks"),
    )
}

/// The same in every operation that names a model: tried in order, each under its own name, and ours does not go upstream.
#[test]
fn fallbacks_are_tried_in_order_on_every_route_and_do_not_go_upstream() {
    let (station, p, q) = station(json!({ "fast": "q/quick" }), json!({}));
    let mut client = station.client();
    for (path, input, good) in [
        ("/v1/chat/completions", json!({ "messages": [] }), None),
        (
            "/v1/completions",
            json!({ "prompt": "x" }),
            Some(json!({ "choices": [{ "text": "y", "finish_reason": "stop" }] })),
        ),
        ("/v1/embeddings", json!({ "input": "x" }), Some(json!({ "data": [] }))),
        ("/v1/responses", json!({ "input": "x" }), Some(json!({ "status": "completed", "output": [] }))),
        ("/openai/v1/embeddings", json!({ "input": "x" }), Some(json!({ "data": [] }))),
    ] {
        let mut body = json!({ "model": "p/one", "fallbacks": ["p/two", "fast", "p/one", "sim/echo"], "user": "u" });
        body.as_object_mut().expect("an object").extend(input.as_object().expect("an object").clone());
        client.ask("POST", path, &[], &body.to_string());
        for model in ["one", "two"] {
            let arrived = p.next();
            assert_eq!(arrived.json()["model"], model, "{path}");
            assert!(arrived.json().get("fallbacks").is_none() && arrived.json()["user"] == "u", "{path}");
            arrived.respond(503, &[], r#"{"error":{"message":"down"}}"#);
        }
        let arrived = q.next();
        assert_eq!(arrived.json()["model"], "quick", "{path}");
        assert!(arrived.json().get("fallbacks").is_none(), "{path}");
        match good {
            None => arrived.answer(),
            Some(good) => arrived.respond(200, &[("content-type", "application/json")], good.to_string()),
        }
        let answer = client.answer();
        assert_eq!((answer.status, served(&answer)), (200, ("q", "quick", "3", "2")), "{path}: {}", answer.text());
    }
    let stats = station.house.at_rest();
    assert_eq!(
        (number(&stats, "/providers/p/jobs/fallbacks_total"), number(&stats, "/providers/q/jobs/fallbacks_total")),
        (10, 0)
    );
}

#[test]
fn a_stream_falls_back_until_its_first_event() {
    let (station, p, q) = station(json!({ "a": { "targets": [{ "model": "p/m" }], "fallbacks": ["q/n"] } }), json!({}));
    let mut client = station.client();
    client.chat(&[], &chat("a", true));
    p.next().respond(503, &[], r#"{"error":{"message":"down"}}"#);
    let arrived = q.next();
    assert_eq!(arrived.json()["model"], "n");
    let pieces = arrived.stream();
    feed(&pieces, &word("well"));
    feed(&pieces, STOP);
    drop(pieces);
    let answer = client.answer();
    assert_eq!((answer.status, served(&answer), answer.words().as_str()), (200, ("q", "n", "2", "1"), "well"));
    assert!(answer.text().ends_with(DONE));
}

#[test]
fn an_aliass_fallbacks_serve_where_the_body_has_none() {
    let aliases = json!({ "a": { "targets": [{ "model": "p/m" }], "fallbacks": ["q/own"] } });
    let (station, p, q) = station(aliases, json!({}));
    let mut client = station.client();
    for (body, model) in [
        (chat("a", false), "own"),
        (falling("a", &["q/bodys"], false), "bodys"),
        (falling("a", &[], false), "own"),
        (chat("a", false).replacen('{', "{\"fallbacks\":null,", 1), "own"),
    ] {
        client.chat(&[], &body);
        p.next().respond(500, &[], "{}");
        let arrived = q.next();
        assert_eq!(arrived.json()["model"], model, "{body}");
        arrived.answer();
        assert_eq!(client.answer().status, 200);
    }
    client.chat(&[], &falling("a", &["p/last"], false));
    p.next().respond(500, &[], r#"{"error":{"message":"first"}}"#);
    p.next().respond(502, &[], r#"{"error":{"message":"last"}}"#);
    let answer = client.answer();
    let told = answer.json();
    assert_eq!((answer.status, &told["error"]["message"]), (500, &json!("first")), "{told}");
    let attempts = told["sluicegate"]["attempts"].as_array().expect("a list");
    let tried: Vec<_> =
        attempts.iter().map(|attempt| (attempt["model"].as_str(), attempt["status"].as_u64())).collect();
    assert_eq!(tried, [(Some("m"), Some(500)), (Some("last"), Some(502))]);
}

#[test]
fn a_fallback_that_leads_nowhere_is_refused_before_anything_is_sent() {
    let (station, p, q) = station(json!({ "fast": "q/quick" }), json!({}));
    let mut client = station.client();
    for (entry, near) in
        [("fats", "near: fast"), ("qq/m", "near: q/m"), ("p/", "write p/<model>"), ("nowhere/m", "one of: p, q, sim")]
    {
        for stream in [false, true] {
            let answer = client.chat(&[], &falling("p/m", &["q/m", entry], stream)).answer();
            assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{entry}");
            let error = &answer.json()["error"];
            let text = error["message"].as_str().expect("a message");
            assert_eq!(error["param"], "fallbacks", "{error}");
            assert!(text.contains("'fallbacks[1]'") && text.contains(near), "{entry}: {text}");
        }
    }
    assert!(p.is_empty() && q.is_empty());
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/providers/p/queue/submitted_total"), 0);
    assert_eq!(stats["errors"], json!({ "invalid_request": 8 }));
}

/// An SDK that can send no fallbacks, and whose model names are its own, has both by the configuration.
#[test]
fn aliases_come_first_under_the_drop_in_prefix_too() {
    let aliases = json!({ "gpt-4o": { "targets": [{ "model": "p/m" }], "fallbacks": ["q/n"] }, "openai/o1": "q/r" });
    let (station, p, q) = station(aliases, json!({}));
    let mut client = station.client();
    client.ask("POST", "/openai/v1/chat/completions", &[], &chat("gpt-4o", false));
    p.next().respond(503, &[], "{}");
    q.next().answer();
    assert_eq!(served(&client.answer()), ("q", "n", "2", "1"));
    client.chat(&[], &chat("openai/o1", false));
    q.next().answer();
    assert_eq!(served(&client.answer()), ("q", "r", "1", "0"));
    let bare = client.ask("POST", "/openai/v1/chat/completions", &[], &chat("gpt-4", false)).answer();
    assert_eq!((bare.status, bare.code().as_str()), (404, "model_not_found"), "there is no provider named openai");
}

#[test]
fn aliases_are_listed_first_and_each_key_sees_what_it_may_use() {
    let keys = json!([
        { "value": "all" },
        { "value": "named", "models": ["mix"] },
        { "value": "targets", "models": ["sim/*"] },
    ]);
    let aliases = json!({
        "mix": { "targets": [{ "model": "sim/echo" }, { "model": "p/m" }] },
        "own": "sim/json",
        "sim/tool": "p/tool",
    });
    let (station, ..) = station(aliases, json!({ "keys": keys }));
    let ask = |key: &str, path: &str| station.client().ask("GET", path, &[&format!("api-key: {key}")], "").answer();
    let ids = |key: &str| -> Vec<String> {
        let list = ask(key, "/v1/models").json();
        list["data"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|model| model["id"].as_str().expect("a name").to_owned())
            .collect()
    };
    let all = ids("all");
    assert_eq!(all[..3], ["mix", "own", "sim/tool"]);
    assert!(all[3..].contains(&"sim/echo".to_owned()), "{all:?}");
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "nothing stands twice: {all:?}");
    assert_eq!(ids("named"), ["mix"]);
    let targets = ids("targets");
    assert_eq!(targets[0], "own");
    assert!(!targets.contains(&"mix".to_owned()) && !targets.contains(&"sim/tool".to_owned()), "{targets:?}");
    for (key, name, status) in [
        ("all", "mix", 200),
        ("all", "sim/tool", 200),
        ("all", "sim%2Fecho", 200),
        ("all", "nowhere", 404),
        ("named", "mix", 200),
        ("named", "own", 404),
        ("targets", "own", 200),
        ("targets", "sim%2Ftool", 404),
    ] {
        let answer = ask(key, &format!("/v1/models/{name}"));
        assert_eq!(answer.status, status, "{key} {name}: {}", answer.text());
    }
    let shown = ask("all", "/v1/models/mix").json();
    assert_eq!(shown, json!({ "id": "mix", "object": "model", "created": 0, "owned_by": "sluicegate" }));
}

#[test]
fn a_restricted_key_uses_its_aliases_and_no_fallback_beyond_them() {
    let keys = json!([
        { "value": "named", "models": ["mix", "sim/*"] },
        { "value": "targets", "models": ["p/m", "sim/echo"] },
    ]);
    let aliases = json!({
        "mix": { "targets": [{ "model": "p/m" }], "fallbacks": ["q/n", "sim/echo"] },
        "other": "q/n",
    });
    let (station, p, q) = station(aliases, json!({ "keys": keys }));
    let mut client = station.client();
    client.chat(&["api-key: named"], &chat("mix", false));
    p.next().respond(503, &[], "{}");
    q.next().answer();
    assert_eq!(client.answer().status, 200, "the alias's name stands for all that is in it");
    client.chat(&["api-key: targets"], &chat("mix", false));
    p.next().respond(503, &[], "{}");
    assert_eq!(served(&client.answer()), ("sim", "echo", "2", "1"), "by its targets, without what is beyond them");
    for (key, model, fallback) in [
        ("named", "p/m", None),
        ("named", "other", None),
        ("named", "mix", Some("q/n")),
        ("named", "sim/echo", Some("other")),
        ("named", "sim/echo", Some("nowhere/x")),
        ("targets", "p/m", Some("q/n")),
        ("targets", "sim/json", None),
    ] {
        let fallbacks: Vec<_> = fallback.into_iter().collect();
        let answer = client.chat(&[&format!("api-key: {key}")], &falling(model, &fallbacks, false)).answer();
        assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{key} {model} {fallback:?}");
        assert_eq!(answer.json()["error"]["param"], if fallbacks.is_empty() { "model" } else { "fallbacks" });
    }
    assert!(p.is_empty() && q.is_empty());
}

#[test]
fn a_least_busy_alias_goes_where_workers_are_idle() {
    let aliases = json!({ "idle": { "targets": [{ "model": "p/m" }, { "model": "q/m" }], "strategy": "least_busy" } });
    let (station, p, q) = station(aliases, json!({}));
    let mut busy = station.client();
    busy.chat(&[], &chat("p/m", false));
    let held = p.next();
    let mut client = station.client();
    for _ in 0..5 {
        client.chat(&[], &chat("idle", false));
        q.next().answer();
        assert_eq!(client.answer().header("x-sluicegate-provider"), Some("q"));
    }
    held.answer();
    assert_eq!(busy.answer().status, 200);
    eventually("its place is free", || station.house.p("queue/places_taken") == 0);
    let mut other = station.client();
    other.chat(&[], &chat("q/m", false));
    let held = q.next();
    client.chat(&[], &chat("idle", false));
    p.next().answer();
    assert_eq!(client.answer().header("x-sluicegate-provider"), Some("p"));
    held.answer();
    assert_eq!(other.answer().status, 200);
}

#[test]
fn a_latency_alias_tries_each_target_once_and_stays_with_the_fastest() {
    let aliases = json!({ "quick": {
        "targets": [{ "model": "sim/slow-300ms" }, { "model": "sim/echo" }],
        "strategy": "latency",
    } });
    let (station, ..) = station(aliases, json!({}));
    let mut client = station.client();
    let mut ask = || {
        let answer = client.chat(&[], &chat("quick", false)).answer();
        answer.header("x-sluicegate-model").expect("a model").to_owned()
    };
    let mut first = [ask(), ask()];
    first.sort_unstable();
    assert_eq!(first, ["echo", "slow-300ms"]);
    for _ in 0..10 {
        assert_eq!(ask(), "echo");
    }
}

/// One in ten goes to the newcomer: of 400 as many as chance allows with a ten-millionth to spare.
#[test]
fn a_canary_gets_its_share() {
    let aliases = json!({ "model": { "targets": [
        { "model": "sim/echo", "weight": 9 }, { "model": "sim/lorem-1", "weight": 1 }, { "model": "sim/json", "weight": 0 },
    ] } });
    let (station, ..) = station(aliases, json!({}));
    let mut client: Client = station.client();
    let mut canary = 0;
    for _ in 0..400 {
        let answer = client.chat(&[], &chat("model", false)).answer();
        match answer.header("x-sluicegate-model") {
            Some("echo") => {}
            Some("lorem-1") => canary += 1,
            other => panic!("{other:?} was chosen"),
        }
    }
    assert!((8..90).contains(&canary), "{canary}");
}
