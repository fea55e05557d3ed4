//! The settings of the built-in plugin `response_cache`.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::config::plugins::{Plugin, ResponseCache};
use sluicegate::config::{Config, schema};

use super::{problem, problems, taken};

fn with(config: Value) -> Value {
    json!({ "providers": { "sim": {} }, "plugins": [{ "name": "response_cache", "config": config }] })
}

fn cache(config: &Config) -> &ResponseCache {
    match config.plugins.as_slice() {
        [Plugin::ResponseCache(cache)] => cache,
        other => panic!("{other:?}"),
    }
}

#[test]
fn its_settings_are_taken_shown_and_described() {
    let usual = taken(with(json!({})));
    let settings = cache(&usual);
    assert_eq!(
        (settings.max_bytes, settings.max_entry_bytes, settings.ttl),
        (64 << 20, 1 << 20, Duration::from_secs(300))
    );
    assert_eq!((settings.only_deterministic, settings.join), (false, true));
    assert!(settings.models.iter().any(|models| models.matches("any/thing")));
    let shown = usual.effective_json()["plugins"][0]["config"].clone();
    let defaults = json!({
        "max_bytes": 64 << 20, "max_entry_bytes": 1 << 20, "ttl": "5m", "models": ["*"], "only_deterministic": false, "join": true,
    });
    assert_eq!(shown, defaults);
    assert_eq!(cache(&taken(with(shown))), settings);
    let shapes = schema()["properties"]["plugins"]["items"]["anyOf"].clone();
    let own = shapes
        .as_array()
        .expect("shapes")
        .iter()
        .find(|shape| shape["properties"]["name"]["const"] == "response_cache");
    let described = own.expect("it is described")["properties"]["config"]["properties"].clone();
    assert_eq!(described["ttl"]["default"], "5m");
    assert_eq!(described.as_object().map(|keys| keys.len()), Some(6));

    let other = taken(with(json!({
        "max_bytes": "512KiB", "ttl": "90s", "models": ["openai/gpt-4o*", "fast"], "only_deterministic": true, "join": false,
    })));
    let settings = cache(&other);
    assert_eq!(
        (settings.max_bytes, settings.max_entry_bytes),
        (512 << 10, 512 << 10),
        "no entry is larger than all of them"
    );
    assert_eq!((settings.ttl, settings.only_deterministic, settings.join), (Duration::from_secs(90), true, false));
    let matches = |name: &str| settings.models.iter().any(|models| models.matches(name));
    assert!(matches("openai/gpt-4o-mini") && matches("fast") && !matches("faster") && !matches("sim/echo"));
}

#[test]
fn what_is_wrong_with_them_is_told() {
    for (wrong, says) in [
        (json!({ "max_bytes": "63KiB" }), "config.max_bytes"),
        (json!({ "max_entry_bytes": 1 }), "config.max_entry_bytes"),
        (json!({ "ttl": 0 }), "config.ttl"),
        (json!({ "ttl": "1000h" }), "config.ttl"),
        (
            json!({ "max_bytes": "1MiB", "max_entry_bytes": "2MiB" }),
            "config.max_entry_bytes: it is more than max_bytes",
        ),
        (json!({ "models": [] }), "config.models: an empty list names no model"),
        (json!({ "models": ["*/gpt"] }), "config.models[0]: found \"*/gpt\"; write the name of a model or an alias"),
        (json!({ "join": "yes" }), "config.join"),
        (json!({ "tll": "5m" }), "the nearest is \"ttl\""),
    ] {
        let message = problem(with(wrong));
        assert!(message.starts_with("plugins[0].") && message.contains(says), "{says}: {message}");
    }
    let twice = json!([{ "name": "response_cache" }, { "name": "response_cache" }]);
    assert_eq!(problems(json!({ "providers": { "sim": {} }, "plugins": twice })).len(), 1);
}
