//! Another configuration behind a listener that stays: who is let in, and from where, is what is in force by then.

use serde_json::{Value, json};
use sluicegate::config::Config;

use super::Station;
use crate::house::{House, chat, sim};

fn document(server: Value) -> Value {
    json!({ "server": server, "providers": { "sim": sim(json!({})) } })
}

fn config(server: Value) -> Config {
    Config::from_json(&document(server).to_string(), &|_: &str| None).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn keys_and_origins_are_those_in_force() {
    let old = document(json!({ "keys": ["old-gateway-key"], "cors_origins": ["https://old.example"] }));
    let station = Station::on(House::with(old, &[]));
    let ask = |key: &str, origin: &str| {
        let lines = [format!("x-api-key: {key}"), format!("Origin: https://{origin}.example")];
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let answer = station.client().chat(&lines, &chat("sim/echo", false)).answer();
        (answer.status, answer.header("access-control-allow-origin").is_some())
    };
    assert_eq!((ask("old-gateway-key", "old"), ask("new-gateway-key", "new")), ((200, true), (401, false)));
    let new = json!({
        "keys": [{ "value": "new-gateway-key", "models": ["sim/*"] }], "cors_origins": ["https://new.example"],
        "trusted_proxies": ["127.0.0.1"],
    });
    let changes = station.house.gateway().reload(config(new)).expect("it is right");
    assert_eq!(changes.settings, ["server.keys", "server.trusted_proxies", "server.cors_origins"]);
    assert_eq!((ask("old-gateway-key", "old"), ask("new-gateway-key", "new")), ((401, false), (200, true)));
    station.house.gateway().reload(config(json!({}))).expect("it is right");
    assert_eq!(ask("any", "new"), (200, false), "without keys everybody is let in");
}
