//! What a client may ask for: what is refused at once, for how long, and what gets back what it took.

use std::sync::Arc;
use std::thread::scope;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::config::Config;
use sluicegate::plugin::{Context, Flow, Plugin, PluginError, Reply, Request};
use sluicegate::transport::{Body, Incoming, MemoryTransport, TransportError, TransportErrorKind};
use sluicegate::{CallOptions, Code, Result};

use crate::house::{Gate, House, code, ms, number, provider, reply};

/// One provider, `p`, set so, and the plugin with this configuration.
fn limited(settings: Value, limits: &Value) -> Value {
    json!({
        "providers": { "p": provider(settings) },
        "plugins": [{ "name": "rate_limit", "config": limits }],
    })
}

/// The same of a provider that answers everything at once.
fn answering(limits: &Value) -> House {
    let answer = || Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_bytes(reply("well")) });
    House::with(limited(json!({}), limits), &[("p", &Gate::open(MemoryTransport::new(move |_, _| answer())))])
}

/// Checks that a request was refused for this limit, and gives when it could go.
fn refused<T: std::fmt::Debug>(result: &Result<T>, what: &str) -> Duration {
    let error = result.as_ref().expect_err("it is over the limit");
    assert_eq!((error.code(), error.status(), error.provider()), (Code::RateLimited, 429, None), "{error}");
    assert!(error.message().starts_with(what), "{what}: {error}");
    error.retry_after().expect("it says when to come again")
}

#[test]
fn a_minutes_worth_goes_at_once_and_who_comes_then_is_told_when_it_could() {
    let house = answering(&json!({ "default": { "requests_per_minute": 3 } }));
    (0..3).for_each(|_| drop(house.ask().expect("within the limit")));
    let after = refused(&house.ask(), "requests_per_minute of requests without a key is 3");
    assert!(after > ms(15_000) && after <= ms(20_000), "{after:?}");
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/queue/submitted_total"), 3);
    let own = &stats["plugins"]["rate_limit"]["own"];
    assert_eq!((&own["refused_total"]["requests_per_minute"], &own["in_flight"]), (&json!(1), &json!(0)));
}

#[test]
fn requests_without_a_key_are_told_apart_by_a_tag() {
    let house = answering(&json!({ "default": { "requests_per_day": 1 }, "by_tag": "team" }));
    let of = |team: &str| house.ask_with(&CallOptions::new().tag("team", team));
    assert!(of("a").is_ok() && of("b").is_ok() && house.ask().is_ok());
    let after = refused(&of("b"), "requests_per_day of the tag \"b\" is 1");
    assert_eq!(after, Duration::from_secs(60), "as long as the interface says at most");
    refused(&house.ask(), "requests_per_day of requests without a key is 1");
}

#[test]
fn so_many_are_under_way_at_a_time_and_no_more() {
    let gate = Gate::new();
    let config = limited(
        json!({ "concurrency_and_buffer_size": { "concurrency": 2 } }),
        &json!({ "default": { "concurrent": 2 } }),
    );
    let house = House::with(config, &[("p", &gate)]);
    scope(|scope| {
        let asked = [scope.spawn(|| house.ask()), scope.spawn(|| house.ask())];
        let held = [gate.next(), gate.next()];
        refused(&house.ask(), "concurrent of requests without a key is 2");
        held.into_iter().for_each(|held| held.answer());
        asked.into_iter().for_each(|asked| drop(asked.join().expect("no panic").expect("it was let in")));
        let again = scope.spawn(|| house.ask());
        gate.next().answer();
        again.join().expect("no panic").expect("a place is free");
    });
}

#[test]
fn what_reached_no_provider_gets_everything_back() {
    let settings = json!({
        "concurrency_and_buffer_size": { "concurrency": 1, "buffer_size": 1 }, "queue": { "policy": "error" },
    });
    let gate = Gate::new();
    let house = House::with(limited(settings, &json!({ "default": { "requests_per_minute": 3 } })), &[("p", &gate)]);
    scope(|scope| {
        let running = scope.spawn(|| house.ask());
        let held = gate.next();
        let queued = scope.spawn(|| house.ask());
        house.queued(1);
        (0..5).for_each(|_| assert_eq!(code(&house.ask()), Code::QueueFull));
        held.answer();
        gate.next().answer();
        assert!(running.join().expect("no panic").is_ok() && queued.join().expect("no panic").is_ok());
        let third = scope.spawn(|| house.ask());
        gate.next().answer();
        third.join().expect("no panic").expect("the refused ones took nothing");
    });
    refused(&house.ask(), "requests_per_minute");
}

#[test]
fn a_connection_that_fails_takes_nothing() {
    let nobody = || Err(TransportError::new(TransportErrorKind::Connect, "nobody there"));
    let gate = Gate::open(MemoryTransport::new(move |_, _| nobody()));
    let house = House::with(limited(json!({}), &json!({ "default": { "requests_per_minute": 1 } })), &[("p", &gate)]);
    (0..3).for_each(|_| assert_eq!(code(&house.ask()), Code::UpstreamConnectError));
}

/// Answers everything by itself.
struct Answers;

impl Plugin for Answers {
    fn name(&self) -> &str {
        "answers"
    }

    fn pre(&self, _: &mut Request<'_>, _: &mut Context<'_>) -> std::result::Result<Flow, PluginError> {
        Ok(Flow::Answer(Reply::chat("known")))
    }
}

#[test]
fn what_a_plugin_behind_it_answers_takes_nothing() {
    let house = answering(&json!({ "default": { "requests_per_minute": 1, "tokens_per_minute": 1000 } }));
    house.gateway().set_plugins(vec![Arc::new(Answers)]).expect("it has a name of its own");
    (0..10).for_each(|_| drop(house.ask().expect("nothing is taken")));
}

#[test]
fn tokens_are_put_right_by_what_the_answer_took() {
    let house = answering(&json!({ "default": { "tokens_per_minute": 600 } }));
    // By estimate there would be room for two.
    (0..100).for_each(|_| drop(house.ask().expect("each took three tokens")));
    let long = house.gateway().ask("p/m", &"x".repeat(2400));
    refused(&long, "tokens_per_minute of requests without a key is 600");
}

#[test]
fn a_reload_that_leaves_the_limits_as_they_are_leaves_what_was_taken() {
    let limits = json!({ "default": { "requests_per_minute": 1 } });
    let house = answering(&limits);
    let reload = |limits: &Value, server: Value| {
        let mut config = limited(json!({}), limits);
        config["server"] = server;
        let config = Config::from_json(&config.to_string(), &|_: &str| None).expect("it is right");
        house.gateway().reload(config).expect("it is right")
    };
    house.ask().expect("within the limit");
    reload(&limits, json!({ "keys": ["other"] }));
    refused(&house.ask(), "requests_per_minute");
    reload(&json!({ "default": { "requests_per_minute": 2 } }), json!({}));
    house.ask().expect("other limits begin anew");
}
