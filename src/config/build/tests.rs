//! Tests of the setters' document: that each setter's place is one of the resolution's, and what is said twice or looks odd.

use super::*;
use crate::config::schema;

fn no_env(_: &str) -> Option<String> {
    None
}

fn draft_of(provider: ProviderSetup) -> Draft {
    let mut draft = Draft::default();
    let (name, said) = provider.into_parts();
    draft.name("providers", name, said);
    draft
}

fn resolved(provider: ProviderSetup) -> Result<Config, ConfigError> {
    Config::from_draft(&draft_of(provider), &no_env)
}

/// The schema of what `path` leads to.
fn property<'s>(schema: &'s Value, path: &[&str]) -> Option<&'s Value> {
    path.iter().try_fold(schema, |schema, key| schema.get("properties")?.get(key))
}

/// Every key of an object's schema that is no object itself, with its path.
fn keys(schema: &Value, path: &str, into: &mut Vec<String>) {
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if value.get("properties").is_some() {
            keys(value, &path, into);
        } else {
            into.push(path);
        }
    }
}

#[test]
fn each_setter_has_a_place_in_the_schema_and_each_key_of_a_provider_a_setter() {
    let whole = schema();
    let provider = &whole["properties"]["providers"]["additionalProperties"];
    let key = &provider["properties"]["keys"]["items"];
    let alias = &whole["properties"]["aliases"]["additionalProperties"]["anyOf"][1];
    let at = |name: &str| &provider["properties"][name];
    let parts: [(&Value, &[&[&str]]); 6] = [
        (provider, ProviderSetup::PLACES),
        (key, KeySetup::PLACES),
        (at("rate_limit"), RateLimitSetup::PLACES),
        (at("breaker"), BreakerSetup::PLACES),
        (at("scaling"), ScalingSetup::PLACES),
        (alias, AliasSetup::PLACES),
    ];
    for (schema, places) in parts {
        for place in places {
            assert!(property(schema, place).is_some(), "the schema has no {place:?}");
        }
    }
    let mut wanted = Vec::new();
    keys(provider, "", &mut wanted);
    let mut set: Vec<String> = ProviderSetup::PLACES.iter().map(|place| place.join(".")).collect();
    for (section, places) in
        [("rate_limit", RateLimitSetup::PLACES), ("breaker", BreakerSetup::PLACES), ("scaling", ScalingSetup::PLACES)]
    {
        set.extend(places.iter().map(|place| format!("{section}.{}", place.join("."))));
    }
    // What methods with names and arguments of their own say, and what nobody can say yet.
    let others = [
        "kind",
        "keys",
        "network_config.base_url",
        "network_config.retry_backoff_initial",
        "network_config.retry_backoff_max",
        "network_config.extra_headers",
        "network_config.ca_cert_pem",
        "network_config.proxy",
        "concurrency_and_buffer_size.concurrency",
        "concurrency_and_buffer_size.min_concurrency",
        "breaker.enabled",
        "scaling.enabled",
        "rate_limit.models",
    ];
    wanted.retain(|path| !set.contains(path) && !others.contains(&path.as_str()));
    assert!(wanted.is_empty(), "no setter says {wanted:?}");
}

#[test]
fn a_text_that_looks_like_a_reference_means_itself() {
    for odd in ["env.HOME", "${HOME}", "file:/etc/hostname", "${", "env.not a name", "plain", "\0literally"] {
        let draft = draft_of(ProviderSetup::openai_compatible("p", "http://127.0.0.1:1").key(KeySetup::new(odd)));
        let config = Config::from_draft(&draft, &|_| Some("from the environment".to_owned()));
        match config {
            Ok(config) => assert_eq!(config.providers[0].keys[0].value.expose(), odd),
            Err(error) => assert!(odd.starts_with('\0'), "{odd:?}: {error}"),
        }
    }
}

#[test]
fn a_key_from_the_environment_is_looked_up_and_what_is_no_name_is_refused() {
    let with = |key| draft_of(ProviderSetup::openai_compatible("p", "http://127.0.0.1:1").key(key));
    let env = |name: &str| (name == "KEY").then(|| "sk-1".to_owned());
    let config = Config::from_draft(&with(KeySetup::from_env("KEY")), &env).expect("it is set");
    assert_eq!(config.providers[0].keys[0].value.expose(), "sk-1");
    for wrong in ["GONE", "two words", "", "9"] {
        let error = Config::from_draft(&with(KeySetup::from_env(wrong)), &env).expect_err("there is none");
        assert_eq!(error.problems[0].path, "providers.p.keys[0].value", "{error}");
    }
}

#[test]
fn times_and_numbers_arrive_as_they_were_given() {
    let odd = Duration::from_micros(1_234_567);
    let provider = ProviderSetup::sim("s")
        .request_timeout(odd)
        .health_interval(Duration::ZERO)
        .batch_share(0.1)
        .rate_limit(RateLimitSetup::default().requests_per_minute(7))
        .model_rate_limit("env.m", RateLimitSetup::default().tokens_per_minute(8))
        .breaker(BreakerSetup::off())
        .breaker(BreakerSetup::default().min_requests(3))
        .rate_limit(RateLimitSetup::default().tokens_per_minute(9));
    let config = resolved(provider).expect("good");
    let provider = &config.providers[0];
    assert_eq!((provider.network.request_timeout, provider.health.interval), (odd, Duration::ZERO));
    assert_eq!(provider.queue.batch_share, 0.1);
    let all = provider.rate_limit.all;
    assert_eq!((all.requests_per_minute, all.tokens_per_minute), (None, Some(9)), "the last word counts");
    assert!(provider.breaker.enabled && provider.breaker.min_requests == 3, "the last word counts");
    assert_eq!(provider.rate_limit.models[0].0, "env.m");
}

#[test]
fn what_is_no_number_is_told_at_its_place() {
    let error = resolved(ProviderSetup::sim("s").batch_share(f64::NAN)).expect_err("no number");
    assert_eq!(
        error.problems[0].to_string(),
        r#"providers.s.queue.batch_share: found "NaN"; write a number, from 0.0 to 1.0"#
    );
}

#[test]
fn a_provider_that_a_file_could_leave_out_is_refused_where_a_program_means_it() {
    let error = resolved(ProviderSetup::known("cohere")).expect_err("there is none");
    assert_eq!(error.problems[0].to_string(), "providers.cohere: there is no such provider here");
}
