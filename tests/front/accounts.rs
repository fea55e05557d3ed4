//! What gateway keys may ask for and spend, over HTTP: each for itself.

use serde_json::{Value, json};
use sluicegate::transport::{Body, Incoming, MemoryTransport};

use super::{Answer, Station};
use crate::house::{Gate, House, chat, provider, reply};

/// Two keys, `one` and `two`, at a provider whose every answer has two tokens and a limit of its own, and these plugins.
fn station(plugins: Value) -> Station {
    let headers = vec![("x-ratelimit-limit-requests".to_owned(), "7".to_owned())];
    let answer = move || Ok(Incoming { status: 200, headers: headers.clone(), body: Body::from_bytes(reply("well")) });
    let keys = json!([{ "name": "first", "value": "one" }, { "name": "second", "value": "two" }]);
    let config = json!({ "server": { "keys": keys }, "providers": { "p": provider(json!({})) }, "plugins": plugins });
    Station::on(House::with(config, &[("p", &Gate::open(MemoryTransport::new(move |_, _| answer())))]))
}

fn ask(station: &Station, key: &str) -> Answer {
    station.client().chat(&[&format!("api-key: {key}")], &chat("p/m", false)).answer()
}

#[test]
fn each_key_has_its_own_limits_and_hears_what_is_left_of_them() {
    let limits = json!({
        "default": { "requests_per_minute": 2, "tokens_per_minute": 100_000 }, "keys": { "second": { "requests_per_minute": 1 } },
    });
    let station = station(json!([{ "name": "rate_limit", "config": limits }]));
    let first = ask(&station, "one");
    let lines = |answer: &Answer| {
        ["limit-requests", "remaining-requests", "limit-tokens"]
            .map(|name| answer.header(&format!("x-ratelimit-{name}")).map(str::to_owned))
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!((first.status, lines(&first)), (200, [text("2"), text("1"), text("100000")]));
    assert_eq!(
        first.head.matches("ratelimit-limit-requests").count(),
        1,
        "the provider's own is not the client's: {}",
        first.head
    );
    assert_eq!(first.header("x-ratelimit-reset-requests"), Some("30s"));
    let second = ask(&station, "two");
    assert_eq!((second.status, lines(&second)), (200, [text("1"), text("0"), None]));
    let refused = ask(&station, "two");
    assert_eq!(
        (refused.status, refused.code().as_str(), lines(&refused)),
        (429, "rate_limited", [text("1"), text("0"), None])
    );
    let message = refused.json()["error"]["message"].as_str().expect("a message").to_owned();
    assert!(message.starts_with("requests_per_minute of the key \"second\" is 1"), "{message}");
    let seconds: u64 = refused.header("retry-after").expect("it says when").parse().expect("seconds");
    assert!((30..=60).contains(&seconds), "{seconds}");
    assert_eq!(ask(&station, "one").status, 200, "the other has one left");
    assert_eq!(ask(&station, "one").status, 429);
}

#[test]
fn each_key_spends_its_own_budget_and_the_stats_show_it() {
    let own = json!({
        "prices": { "p/*": { "input": 2, "output": 4 } },
        "budgets": { "first": { "limit": 0.000_010, "period": "day" }, "*": { "limit": 1, "period": "day" } },
    });
    let station = station(json!([{ "name": "accounting", "config": own }]));
    assert_eq!(ask(&station, "one").status, 200);
    let refused = ask(&station, "one");
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"));
    let message = refused.json()["error"]["message"].as_str().expect("a message").to_owned();
    assert!(message.starts_with("the budget of the key \"first\", $0.00001 a day, is spent"), "{message}");
    assert_eq!(ask(&station, "two").status, 200);
    let stats = station.house.stats();
    let keys = &stats["plugins"]["accounting"]["own"]["keys"];
    assert_eq!((&keys["first"]["cost_usd"], &keys["second"]["cost_usd"]), (&json!(0.000_01), &json!(0.000_01)));
    assert_eq!(keys["first"]["budget"]["left_usd"], json!(0.0));
    assert_eq!(keys["second"]["models"]["p/m"]["tokens_out_total"], json!(2));
}
