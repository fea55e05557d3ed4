//! What requests cost, whom, and what a budget lets in.

use std::sync::Arc;
use std::thread::scope;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::config::Config;
use sluicegate::plugin::{Context, OnFailure, Outcome, Plugin, PluginError, Reply};
use sluicegate::transport::{Body, Incoming, MemoryTransport};
use sluicegate::wire::openai::ChatRequest;
use sluicegate::{CallOptions, Code, Error, Gateway, Result};

use crate::house::{DONE, Gate, House, STOP, USAGE, cancellable, code, eventually, feed, ms, provider, reply, word};

/// One provider, `p`, and the plugin with this configuration, in which each token of an answer by `p/m` costs a millionth
/// of a dollar.
fn config(change: Value) -> Value {
    let mut own = json!({ "prices": { "p/m": { "output": 1 } } });
    crate::house::merge(&mut own, change);
    let settings = provider(json!({ "concurrency_and_buffer_size": { "concurrency": 8, "buffer_size": 100 } }));
    json!({ "providers": { "p": settings }, "plugins": [{ "name": "accounting", "config": own }] })
}

/// A provider whose every answer has two tokens.
fn answering() -> Gate {
    let answer = || Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_bytes(reply("well")) });
    Gate::open(MemoryTransport::new(move |_, _| answer()))
}

fn house(change: Value) -> House {
    House::with(config(change), &[("p", &answering())])
}

fn gated(change: Value) -> (House, Gate) {
    let gate = Gate::new();
    (House::with(config(change), &[("p", &gate)]), gate)
}

fn own(house: &House) -> Value {
    house.stats()["plugins"]["accounting"]["own"].clone()
}

/// What requests without a key have cost, in millionths of a dollar.
fn cost(house: &House) -> f64 {
    (own(house)["unkeyed"]["cost_usd"].as_f64().expect("a number") * 1e6).round()
}

/// A request whose answer may be two tokens long.
fn brief() -> ChatRequest {
    ChatRequest::new("p/m", "hi").with("max_tokens", 2)
}

fn budget(limit: f64) -> Value {
    json!({ "budgets": { "*": { "limit": limit, "period": "total" } } })
}

fn refused<T: std::fmt::Debug>(result: &Result<T>) -> &Error {
    let error = result.as_ref().expect_err("its budget is spent");
    assert_eq!((error.code(), error.provider()), (Code::RateLimited, None), "{error}");
    error
}

#[test]
fn requests_are_booked_by_key_by_tag_and_by_model() {
    let house = house(json!({ "by_tag": "team", "prices": { "p/x*": { "input": 0.5, "output": 10 } } }));
    let with = CallOptions::new().tag("team", "search");
    (0..3).for_each(|_| drop(house.ask_with(&with).expect("no budget")));
    house.gateway().ask("p/xl", "hi").expect("no budget");
    (0..2).for_each(|_| drop(house.gateway().ask("p/none", "hi").expect("no budget")));
    let own = own(&house);
    let line = |requests: u64, unpriced: u64, cost: f64| {
        json!({ "requests_total": requests, "unpriced_total": unpriced, "tokens_in_total": requests,
                "tokens_out_total": 2 * requests, "cost_usd": cost })
    };
    let models = &own["unkeyed"]["models"];
    assert_eq!((&models["p/m"], &models["p/xl"]), (&line(3, 0, 0.000_006), &line(1, 0, 0.000_020_5)));
    assert_eq!(models["p/none"], line(2, 2, 0.0));
    let mut team = own["tags"]["search"].clone();
    team.as_object_mut().expect("an object").remove("models");
    assert_eq!(team, line(3, 0, 0.000_006));
    assert_eq!((&own["requests_total"], &own["cost_usd"]), (&json!(6), &json!(0.000_026_5)));
    let events = house.gateway().events().list();
    let told: Vec<_> = events.iter().filter(|event| event.kind == "unpriced").map(|event| &*event.subject).collect();
    assert_eq!(told, ["p/none"], "once");
}

#[test]
fn a_spent_budget_refuses_and_says_which_it_is_and_when_it_renews() {
    let house = house(json!({ "budgets": { "*": { "limit": 0.000_004, "period": "month" } } }));
    (0..2).for_each(|_| drop(house.ask().expect("within the budget")));
    let result = house.ask();
    let error = refused(&result);
    assert!(
        error.message().starts_with("the budget of requests without a key, $0.000004 a month, is spent"),
        "{error}"
    );
    assert!(error.message().contains("; it renews at ") && error.message().ends_with("-01T00:00:00Z"), "{error}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    let budget = &own(&house)["unkeyed"]["budget"];
    assert_eq!(
        (&budget["spent_usd"], &budget["left_usd"], &budget["reserved_usd"]),
        (&json!(0.000_004), &json!(0.0), &json!(0.0))
    );
}

#[test]
fn many_at_once_spend_a_budget_for_ten_and_not_one_more() {
    let house = house(budget(0.000_020));
    let answered: usize = scope(|scope| {
        let ask = || {
            let mut answered = 0;
            loop {
                match house.gateway().chat(&brief()) {
                    Ok(_) => answered += 1,
                    Err(error) if error.message().contains("under way") => std::thread::park_timeout(ms(1)),
                    result => {
                        refused(&result);
                        return answered;
                    }
                }
            }
        };
        let asked: Vec<_> = (0..50).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|asked| asked.join().expect("no panic")).sum()
    });
    assert_eq!((answered, cost(&house)), (10, 20.0));
}

#[test]
fn a_budget_is_passed_by_what_came_to_more_than_was_estimated_and_no_further() {
    let (house, gate) = gated(budget(0.000_003));
    let cheap = ChatRequest::new("p/m", "hi").with("max_tokens", 1);
    scope(|scope| {
        let asked: Vec<_> = (0..3).map(|_| scope.spawn(|| house.gateway().chat(&cheap))).collect();
        let held = [gate.next(), gate.next(), gate.next()];
        let fourth = house.gateway().chat(&cheap);
        assert!(refused(&fourth).message().starts_with("what is under way may spend the rest"));
        held.into_iter().for_each(|held| held.answer());
        asked.into_iter().for_each(|asked| _ = asked.join().expect("no panic").expect("it was let in"));
    });
    assert_eq!(cost(&house), 6.0, "twice as much as was reserved");
    assert!(refused(&house.ask()).message().contains("is spent"));
}

#[test]
fn who_leaves_while_its_provider_works_pays_the_estimate_and_who_leaves_the_queue_nothing() {
    let (house, gate) = gated(json!({}));
    let (options, cancel) = cancellable();
    scope(|scope| {
        let asked = scope.spawn(|| house.ask_with(&options));
        let held = gate.next();
        cancel.cancel();
        assert_eq!(code(&asked.join().expect("no panic")), Code::ClientClosed);
        held.wait_over();
    });
    assert_eq!(cost(&house), 256.0, "as long as answers are taken to be at first");
    let done = cancellable();
    done.1.cancel();
    assert_eq!(code(&house.ask_with(&done.0)), Code::ClientClosed);
    assert_eq!(cost(&house), 256.0);
}

#[test]
fn a_stream_costs_what_was_counted_and_one_that_was_cut_what_came_of_it() {
    let (house, gate) = gated(json!({}));
    let stream = |pieces: &[&str]| {
        scope(|scope| {
            let read = scope.spawn(|| house.gateway().chat_stream(&brief()).expect("it begins").count());
            let feeding = gate.next().stream();
            pieces.iter().for_each(|piece| feed(&feeding, piece));
            drop(feeding);
            read.join().expect("no panic")
        })
    };
    stream(&[&word("one"), STOP, USAGE, DONE]);
    house.at_rest();
    assert_eq!(cost(&house), 2.0);
    // Four words are some 90 bytes each; at first 256 are taken for a token.
    stream(&[&word("one"), &word("two"), &word("three"), &word("four")]);
    house.at_rest();
    let cut = cost(&house) - 2.0;
    assert!((1.0..=4.0).contains(&cut), "{cut}");
}

#[test]
fn what_a_provider_refuses_costs_nothing() {
    let (house, gate) = gated(json!({}));
    scope(|scope| {
        let asked = scope.spawn(|| house.ask());
        gate.next().respond(400, &[("content-type", "application/json")], r#"{"error":{"message":"no"}}"#);
        assert_eq!(code(&asked.join().expect("no panic")), Code::UpstreamError);
    });
    assert_eq!((cost(&house), &own(&house)["requests_total"]), (0.0, &json!(1)));
}

/// Makes an error of each answer, or another answer, or fails at that.
struct Censor(&'static str);

impl Plugin for Censor {
    fn name(&self) -> &str {
        "censor"
    }

    fn post(&self, outcome: &mut Outcome, _: &mut Context<'_>) -> std::result::Result<(), PluginError> {
        match self.0 {
            "error" => outcome.fail_with(Error::new(Code::Forbidden, "not for you")),
            "answer" => outcome.answer_with(Reply::chat("something else")),
            _ => return Err("out of order".into()),
        }
        Ok(())
    }

    fn on_failure(&self) -> OnFailure {
        OnFailure::Refuse
    }
}

/// The program's own plugins stand behind the built-in ones: they have had the answer in their hands before.
#[test]
fn what_a_plugin_makes_of_an_answer_changes_nothing_of_what_it_cost() {
    for makes in ["error", "answer", "failure"] {
        let house = house(budget(0.000_004));
        house.gateway().set_plugins(vec![Arc::new(Censor(makes))]).expect("names");
        for _ in 0..2 {
            assert_eq!(house.ask().is_ok(), makes == "answer");
        }
        assert_eq!((cost(&house), &own(&house)["requests_total"]), (4.0, &json!(2)), "{makes}");
        assert!(refused(&house.ask()).message().contains("is spent"));
    }
}

#[test]
fn a_budget_that_is_nearly_spent_raises_an_alert() {
    let mut change = budget(0.000_010);
    change["warn_at"] = json!(0.8);
    let house = house(change);
    let alerts =
        || house.gateway().events().alerts().into_iter().filter(|alert| alert.kind == "budget").collect::<Vec<_>>();
    (0..3).for_each(|_| drop(house.ask().expect("within the budget")));
    assert_eq!(alerts(), []);
    house.ask().expect("within the budget");
    let alerts = alerts();
    assert_eq!((alerts.len(), &*alerts[0].subject), (1, "requests without a key"));
    assert_eq!(alerts[0].message, "$0.000008 of $0.00001 in all are spent");
}

#[test]
fn what_was_spent_outlives_the_program_and_a_reload_with_other_prices() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spent.json");
    let kept = |limit: f64| {
        let mut change = budget(limit);
        change["state_file"] = json!(path);
        change
    };
    let spend = |limit: f64, times: usize| {
        let house = house(kept(limit));
        (0..times).for_each(|_| drop(house.ask().expect("within the budget")));
        refused(&house.ask());
        house
    };
    drop(spend(0.000_004, 2));
    let house = spend(0.000_008, 2);
    let read = |limit: f64| Config::from_json(&config(kept(limit)).to_string(), &|_: &str| None).expect("it is right");
    house.gateway().reload(read(0.000_010)).expect("it is right");
    house.ask().expect("another two millionths");
    refused(&house.ask());
    drop(house);
    std::fs::write(&path, "{").expect("it can be written");
    let error = Gateway::builder().config(read(1.0)).build().expect_err("it is torn").to_string();
    assert!(error.starts_with("plugin accounting: state_file ") && error.contains("move it away"), "{error}");
    eventually("nothing is left of it", || std::fs::read_dir(folder.path()).expect("a folder").count() == 1);
}
