//! What clients may ask for and spend, in the configuration: `rate_limit` and `accounting`.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::config::plugins::{Period, Plugin};

use super::{problem, taken};

fn with(name: &str, config: &Value) -> Value {
    json!({ "providers": { "sim": {} }, "plugins": [{ "name": name, "config": config }] })
}

#[test]
fn limits_are_taken_for_all_keys_and_for_some() {
    let document = with(
        "rate_limit",
        &json!({
            "default": { "requests_per_minute": 60, "tokens_per_minute": 0 },
            "keys": { "team": { "concurrent": 4, "requests_per_day": 1000 } },
            "by_tag": "team",
        }),
    );
    let config = taken(document);
    let [Plugin::RateLimit(limits)] = &config.plugins[..] else { panic!("{:?}", config.plugins) };
    assert_eq!((limits.default.requests_per_minute, limits.default.tokens_per_minute), (Some(60), None));
    let (name, own) = &limits.keys[0];
    assert_eq!(
        (&**name, own.concurrent, own.requests_per_day, own.requests_per_minute),
        ("team", Some(4), Some(1000), None)
    );
    assert_eq!(limits.by_tag.as_deref(), Some("team"));
    let again = taken(json!({ "providers": { "sim": {} }, "plugins": config.effective_json()["plugins"] }));
    assert_eq!(again.plugins, config.plugins);
    for (wrong, path) in [
        (json!({ "default": { "concurrent": -1 } }), "plugins[0].config.default.concurrent"),
        (json!({ "keys": { "a": 5 } }), "plugins[0].config.keys.a"),
        (json!({ "keys": { "a": { "requests": 5 } } }), "plugins[0].config.keys.a.requests"),
        (json!({ "by_tag": "" }), "plugins[0].config.by_tag"),
    ] {
        let message = problem(with("rate_limit", &wrong));
        assert!(message.starts_with(path), "{path}: {message}");
    }
}

#[test]
fn prices_and_budgets_are_exact_and_every_wrong_one_is_told() {
    let document = with(
        "accounting",
        &json!({
            "prices": { "openai/gpt-4o*": { "input": 2.5, "output": 10 } },
            "budgets": { "team": { "limit": 0.1, "period": "day" }, "*": { "limit": 10 } },
            "tag_budgets": { "*": { "limit": 5, "period": "90s" } },
            "by_tag": "team", "state_file": "spent.json",
        }),
    );
    let config = taken(document);
    let [Plugin::Accounting(own)] = &config.plugins[..] else { panic!("{:?}", config.plugins) };
    let (name, price) = &own.prices[0];
    assert_eq!((&**name, price.input, price.output), ("openai/gpt-4o*", 2_500_000, 10_000_000));
    let budgets: Vec<_> = own.budgets.iter().map(|(name, budget)| (&**name, budget.limit, budget.period)).collect();
    assert_eq!(budgets, [("team", 100_000, Period::Day), ("*", 10_000_000, Period::Month)]);
    assert_eq!(own.tag_budgets[0].1.period, Period::Every(Duration::from_secs(90)));
    assert!((own.warn_at - 0.8).abs() < f64::EPSILON);
    let again = taken(json!({ "providers": { "sim": {} }, "plugins": config.effective_json()["plugins"] }));
    assert_eq!(again.plugins, config.plugins);
    for (wrong, path) in [
        (json!({ "prices": { "gpt-4o": { "input": 1 } } }), "plugins[0].config.prices"),
        (json!({ "prices": { "a/*b": { "input": 1 } } }), "plugins[0].config.prices"),
        (json!({ "prices": { "a/b": { "input": 0.000_000_1 } } }), r#"plugins[0].config.prices["a/b"].input"#),
        (json!({ "prices": { "a/b": { "in": 1 } } }), r#"plugins[0].config.prices["a/b"].in"#),
        (json!({ "budgets": { "a": {} } }), "plugins[0].config.budgets"),
        (json!({ "budgets": { "a": { "limit": -1 } } }), "plugins[0].config.budgets.a.limit"),
        (json!({ "budgets": { "a": { "limit": 1, "period": "week" } } }), "plugins[0].config.budgets.a.period"),
        (json!({ "warn_at": 2 }), "plugins[0].config.warn_at"),
    ] {
        let message = problem(with("accounting", &wrong));
        assert!(message.starts_with(path), "{path}: {message}");
    }
}
