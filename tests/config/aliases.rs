//! `aliases`: what they stand for, what is wrong with one, and who may be kept to one.

use serde_json::{Value, json};
use sluicegate::config::{Config, ModelRef, Strategy, schema};

use super::{problem, problems, taken};

/// A document with these aliases, and providers for them.
fn with(aliases: Value) -> Value {
    let local = json!({"network_config": {"base_url": "http://127.0.0.1:9"}});
    json!({"providers": {"openai": local, "sim": {}}, "aliases": aliases})
}

fn model(text: &str) -> ModelRef {
    let (provider, model) = text.split_once('/').expect("provider/model");
    ModelRef { provider: provider.to_owned(), model: model.to_owned() }
}

#[test]
fn an_alias_is_one_model_or_several_with_weights_strategy_and_fallbacks() {
    let document = with(json!({
        "fast": "openai/gpt-4o-mini",
        "smart": {
            "targets": [{"model": "openai/gpt-4o", "weight": 3}, {"model": "sim/lorem-5"}],
            "strategy": "least_busy",
            "fallbacks": ["sim/echo", "openai/ft:a/b"],
        },
        "openai/gpt-4o": {"targets": [{"model": "sim/${NONE:-echo}", "weight": 0.5}, {"model": "openai/gpt-4o"}], "strategy": "order"},
    }));
    let config = taken(document);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let names: Vec<_> = config.aliases.iter().map(|alias| alias.name.as_str()).collect();
    assert_eq!(names, ["fast", "smart", "openai/gpt-4o"], "in the order of the document");
    let [fast, smart, third] = &config.aliases[..] else { panic!("three") };
    assert_eq!(
        (fast.targets.len(), &fast.targets[0].model, fast.targets[0].weight),
        (1, &model("openai/gpt-4o-mini"), 1.0)
    );
    assert_eq!((fast.strategy, fast.fallbacks.is_empty()), (Strategy::Weighted, true));
    let weights: Vec<_> = smart.targets.iter().map(|target| (target.model.to_string(), target.weight)).collect();
    assert_eq!(weights, [("openai/gpt-4o".to_owned(), 3.0), ("sim/lorem-5".to_owned(), 1.0)]);
    assert_eq!(smart.strategy, Strategy::LeastBusy);
    assert_eq!(smart.fallbacks, [model("sim/echo"), model("openai/ft:a/b")]);
    assert_eq!((&third.targets[0].model, third.strategy), (&model("sim/echo"), Strategy::Order));
    assert_eq!(
        third.targets[1].model,
        model("openai/gpt-4o"),
        "an alias may bear the name of a model and stand for it"
    );

    let effective = config.effective_json();
    assert_eq!(
        effective["aliases"]["fast"],
        json!({"targets": [{"model": "openai/gpt-4o-mini", "weight": 1.0}], "strategy": "weighted", "fallbacks": []}),
        "every default is filled in"
    );
    let again = taken(effective.clone());
    assert_eq!((again.effective_json(), again.aliases), (effective, config.aliases));
}

#[test]
fn everything_that_is_wrong_with_aliases_is_told_with_its_place() {
    let found = problems(with(json!({
        "fast": "opnai/gpt-4o-mini",
        "again": "fast",
        "no/provider": "no/provider",
        "bare": "gpt-4o",
        "half": "sim/",
        "number": 5,
        "empty": {},
        "none": {"targets": []},
        "text": {"targets": "sim/echo"},
        "wrong": {
            "targets": [{"model": "sim/echo", "weight": -1}, {"wieght": 1}, {"model": 7}, {"model": "sim/echo"}],
            "strategy": "random",
            "fallbacks": ["sim/echo", "fast", "nowhere/x"],
            "fallback": [],
        },
        "lists": {"targets": [{"model": "sim/echo"}], "fallbacks": "sim/echo"},
        "star*": "sim/echo",
        " space": "sim/echo",
        "": "sim/echo",
    })));
    let expected = [
        r#"aliases.fast.targets[0].model: the provider that "opnai/gpt-4o-mini" names is not configured; the nearest is "openai""#,
        r#"aliases.again.targets[0].model: "fast" is an alias, and an alias may not name an alias"#,
        r#"aliases.no/provider.targets[0].model: "no/provider" is an alias"#,
        r#"aliases.bare.targets[0].model: found "gpt-4o"; write "provider/model""#,
        r#"aliases.half.targets[0].model: found "sim/"; write "provider/model""#,
        r#"aliases.number: an alias is "provider/model", or an object with "targets""#,
        "aliases.empty.targets: it stands for nothing",
        "aliases.none.targets: it stands for nothing",
        r#"aliases.text.targets: found "sim/echo"; write a list"#,
        "aliases.wrong.targets[0].weight: found -1; write",
        "aliases.wrong.targets[1].model: it is missing",
        r#"aliases.wrong.targets[1].wieght: there is no such key; the nearest is "weight""#,
        "aliases.wrong.targets[2].model: found 7; write",
        "aliases.wrong.targets: two of them are the same model",
        r#"aliases.wrong.strategy: found "random"; write one of "weighted", "least_busy", "latency", "order""#,
        r#"aliases.wrong.fallbacks[1]: "fast" is an alias"#,
        r#"aliases.wrong.fallbacks[2]: the provider that "nowhere/x" names is not configured"#,
        r#"aliases.wrong.fallback: there is no such key; the nearest is "fallbacks""#,
        r#"aliases.lists.fallbacks: found "sim/echo"; write a list"#,
        "aliases.star*: an alias's name is 1 to 128 bytes",
        "aliases. space: an alias's name is",
        "aliases.: an alias's name is",
    ];
    let plain = |text: &str| text.replace("[\"", ".").replace("\"]", "");
    for start in expected {
        let there = found.iter().any(|problem| problem.starts_with(start) || plain(problem).starts_with(start));
        assert!(there, "{start} is missing in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    assert!(problem(with(json!([]))).starts_with("aliases: found a list; write an object"));
}

#[test]
fn aliases_are_bounded() {
    let many = |count: usize| -> Vec<Value> { (0..count).map(|n| json!({"model": format!("sim/{n}")})).collect() };
    taken(with(json!({"a": {"targets": many(64)}})));
    assert!(problem(with(json!({"a": {"targets": many(65)}}))).contains("at most 64"));
    let names: Vec<_> = (0..65).map(|n| format!("sim/{n}")).collect();
    let document = with(json!({"a": {"targets": [{"model": "sim/echo"}], "fallbacks": names}}));
    assert!(problem(document).contains("aliases.a.fallbacks: there are 65; at most 64"));
    let aliases: serde_json::Map<_, _> = (0..1025).map(|n| (format!("a{n}"), json!("sim/echo"))).collect();
    assert!(problem(with(Value::Object(aliases))).contains("there are 1025; at most 1024"));
}

/// Where a provider has a problem of its own, those who name it are not told of another.
#[test]
fn a_provider_that_is_wrong_is_there_all_the_same_and_one_that_is_left_out_is_not() {
    let message = problem(json!({"providers": {"x": {"kind": "opnai"}, "sim": {}}, "aliases": {"a": "x/y"}}));
    assert!(message.starts_with("providers.x.kind"), "{message}");
    let left_out = json!({"providers": {"cohere": {}, "sim": {}}, "aliases": {"a": "cohere/x"}});
    assert!(problem(left_out).starts_with("aliases.a.targets[0].model: the provider that \"cohere/x\" names"));
    // The environment's own address is left out once it is known to be this gateway's.
    let env = |name: &str| (name == "OPENAI_BASE_URL").then(|| "http://127.0.0.1:8080/v1".to_owned());
    let document = json!({"aliases": {"a": "openai/x", "b": "sim/echo"}}).to_string();
    let error = Config::from_json(&document, &env).expect_err("it names what is left out");
    assert_eq!(error.problems.len(), 1, "{error}");
    assert!(error.to_string().contains("aliases.a: it names provider \"openai\", which is left out"), "{error}");
}

#[test]
fn weights_of_nothing_alone_and_a_scope_of_no_alias_are_warned_of() {
    let mut document =
        with(json!({"a": {"targets": [{"model": "sim/echo", "weight": 0}, {"model": "sim/json", "weight": 0}]}}));
    document["server"] = json!({"keys": [{"value": "k", "models": ["a", "sim/x", "b"]}]});
    let warnings = taken(document).warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.starts_with("aliases.a.targets: every weight is 0")), "{warnings:?}");
    let scope = "server.keys[0].models: it names \"b\", and there is no such alias; the nearest is \"a\"";
    assert!(warnings.iter().any(|warning| warning == scope), "{warnings:?}");
}

#[test]
fn what_a_reference_stands_for_is_not_shown_when_it_leads_nowhere() {
    let env = |name: &str| (name == "SECRET").then(|| "sk-canary-78".to_owned());
    let document =
        with(json!({"a": "env.SECRET", "b": {"targets": [{"model": "sim/echo"}], "fallbacks": ["${SECRET}/x"]}}));
    let error = Config::from_json(&document.to_string(), &env).expect_err("they lead nowhere");
    assert_eq!(error.problems.len(), 2, "{error}");
    assert!(error.to_string().contains("env.SECRET") && !error.to_string().contains("canary"), "{error}");
}

#[test]
fn the_schema_has_both_forms_of_an_alias() {
    let schema = schema();
    let forms = &schema["properties"]["aliases"]["additionalProperties"]["anyOf"];
    assert_eq!(forms[0]["type"], "string");
    let words = &forms[1]["properties"]["strategy"]["anyOf"][0]["enum"];
    assert_eq!(words, &json!(["weighted", "least_busy", "latency", "order"]));
    assert_eq!(forms[1]["properties"]["targets"]["items"]["properties"]["weight"]["default"], 1.0);
}

#[test]
fn the_example_is_taken_without_a_word() {
    let config = Config::from_json(include_str!("../../examples/routes.json"), &|_: &str| None);
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    assert!(config.warnings.is_empty() && config.aliases.len() == 4, "{:?}", config.warnings);
}
