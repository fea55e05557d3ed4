//! A provider's keys: several of them, their shares and their models.

use serde_json::{Value, json};
use sluicegate::config::KeyModels;

use super::{problem, problems, taken, with_provider};

fn keys(keys: Value) -> Value {
    with_provider(json!({ "keys": keys }))
}

#[test]
fn a_provider_has_several_keys_with_shares_and_models_of_their_own() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "sk-of-the-file\n").expect("it is written");
    let config = taken(keys(json!([
        { "value": "env.CANARY" },
        { "name": "team", "value": format!("file:{}", file.path().display()), "weight": 0.25, "models": ["b", "a", "b", "x/y"] },
        { "name": "spare", "value": "c", "weight": 0, "models": ["a", "*"] },
        { "name": "null", "value": "d", "weight": null, "models": null },
    ])));
    let provider = &config.providers[0];
    let of = |at: usize| (provider.keys[at].name.as_str(), provider.keys[at].value.expose(), provider.keys[at].weight);
    assert_eq!([of(0), of(1)], [("key-1", "sk-canary-77", 1.0), ("team", "sk-of-the-file", 0.25)]);
    assert_eq!([of(2), of(3)], [("spare", "c", 0.0), ("null", "d", 1.0)]);
    let named = ["b", "a", "x/y"].map(str::to_owned).to_vec();
    let models: Vec<_> = provider.keys.iter().map(|key| key.models.clone()).collect();
    assert_eq!(models, [KeyModels::Any, KeyModels::Only(named), KeyModels::Any, KeyModels::Any]);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let shown = &config.effective_json()["providers"]["openai"]["keys"];
    let wanted = json!({
        "name": "team", "value": "[redacted]", "models": ["b", "a", "b", "x/y"], "weight": 0.25,
        "rate_limit": { "requests_per_minute": null, "tokens_per_minute": null },
    });
    assert_eq!(shown[1], wanted);
    assert_eq!((&shown[0]["models"], &shown[3]["models"]), (&json!(["*"]), &json!(["*"])));
    let printed = format!("{config:?} {shown}");
    assert!(!printed.contains("sk-of-the-file") && !printed.contains("canary"), "{printed}");
    assert_eq!(config.secrets().count(), 4, "each of them is masked");
}

#[test]
fn every_wrong_key_is_told() {
    let found = problems(keys(json!([
        { "value": "a", "models": ["gpt-*", "", 5, "gpt-4o"] },
        { "value": "b", "models": "gpt-4o" },
        { "value": "c", "weight": -1 },
        { "name": "key-1", "value": "d" },
        { "value": "e", "weigth": 2 },
        { "models": ["a"] },
    ])));
    let expected = [
        "providers.openai.keys[0].models[0]: found \"gpt-*\"; write a model's name",
        "providers.openai.keys[0].models[1]: found \"\"; write a model's name",
        "providers.openai.keys[0].models[2]: found 5; write a model's name",
        "providers.openai.keys[1].models: found \"gpt-4o\"; write a list",
        "providers.openai.keys[2].weight: found -1; write",
        "providers.openai.keys[4].weigth: there is no such key; the nearest is \"weight\"",
        "providers.openai.keys[5].value: it is missing",
        "providers.openai.keys: two keys have the name \"key-1\"",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for start in expected {
        assert!(found.iter().any(|problem| problem.starts_with(start)), "{start} is missing in {found:#?}");
    }
    let many: Vec<_> = (0..257).map(|nth| json!({ "value": format!("sk-{nth}") })).collect();
    assert!(problem(keys(json!(many))).contains("at most 256"));
    assert_eq!(taken(keys(json!(many[..256]))).providers[0].keys.len(), 256);
}

#[test]
fn what_is_probably_not_meant_by_keys_is_told_and_taken() {
    let config = taken(keys(json!([
        { "name": "a", "value": "same" },
        { "name": "b", "value": "same" },
        { "name": "c", "value": "other", "models": [] },
    ])));
    let [empty, same] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert!(empty.starts_with("providers.openai.keys[2].models: an empty list is taken as"), "{empty}");
    assert!(same.starts_with("providers.openai.keys: \"a\" and \"b\" have the same value"), "{same}");
    assert_eq!(config.providers[0].keys[2].models, KeyModels::Any);
}

#[test]
fn the_models_that_are_known_of_a_provider_are_those_that_it_has_a_key_for() {
    let known = |list: Value| {
        let config = taken(keys(list));
        let models = config.providers[0].known_models(&["x", "y"]);
        models.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(known(json!([])), ["x", "y"]);
    assert_eq!(known(json!([{ "value": "a" }])), ["x", "y"]);
    assert_eq!(known(json!([{ "value": "a", "models": ["z", "y"] }])), ["y", "z"]);
    assert_eq!(known(json!([{ "value": "a", "models": ["z"] }, { "value": "b" }])), ["x", "y", "z"]);
    assert_eq!(
        known(json!([{ "value": "a", "models": ["p/q"] }, { "value": "b", "models": ["z", "p/q"] }])),
        ["p/q", "z"]
    );
}
