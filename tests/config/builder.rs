//! A gateway written in Rust: what setters say is what is in force, and what is wrong is told at once, by a file's names.

use std::time::Duration;

use serde_json::json;
use sluicegate::config::{Config, ConfigError, KeyModels, Kind, Sizing, process_env};
use sluicegate::gateway::Builder;
use sluicegate::{
    AliasSetup, BreakerSetup, Code, Concurrency, Gateway, GatewayKeySetup, KeySetup, Policy, ProviderSetup,
    RateLimitSetup, ReloadError, ScalingSetup, StartError, Strategy, StreamGarbage, StreamRecovery,
};

use super::{problems, taken};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn config(builder: Builder) -> Config {
    builder.into_config().unwrap_or_else(|error| panic!("{error}"))
}

fn told(error: &ConfigError) -> Vec<String> {
    error.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn what_setters_say_is_what_a_file_would() {
    let written = Gateway::builder()
        .provider(
            ProviderSetup::openai_compatible("main", "https://api.example.com/v1")
                .key(KeySetup::new("sk-one").named("one").models(["m"]).weight(2.5))
                .key(KeySetup::new("sk-two").rate_limit(RateLimitSetup::default().requests_per_minute(5)))
                .concurrency(Concurrency::between(3, 12))
                .buffer_size(200)
                .result_buffer(64)
                .policy(Policy::DropOldest)
                .wait_timeout(secs(3))
                .batch_share(0.25)
                .scaling(ScalingSetup::default().up_threshold(0.7).min_interval(secs(2)))
                .request_timeout(secs(40))
                .connect_timeout(secs(1))
                .first_token_timeout(secs(9))
                .stream_idle_timeout(secs(8))
                .stream_max_duration(secs(700))
                .idle_connection_timeout(secs(11))
                .max_retries(4)
                .retry_backoff(Duration::from_millis(10), secs(1))
                .retry_after_patience(secs(6))
                .header("X-Team", "red-team")
                .breaker(BreakerSetup::default().consecutive_failures(3).slow_after(secs(20)))
                .check_on_start(false)
                .health_interval(secs(15))
                .rate_limit(RateLimitSetup::default().tokens_per_minute(1000))
                .model_rate_limit("m", RateLimitSetup::default().requests_per_minute(7))
                .expected_rate(2.0)
                .expected_latency(secs(2))
                .expected_error_rate(0.1)
                .stream_recovery(StreamRecovery::Buffer)
                .stream_garbage(StreamGarbage::Fail)
                .early_keepalive(true),
        )
        .provider(ProviderSetup::sim("sim").concurrency(Concurrency::auto()).breaker(BreakerSetup::off()))
        .provider(ProviderSetup::anthropic_compatible("claude", "https://claude.example.com"))
        .alias(
            AliasSetup::new("smart", "main/m")
                .weight(3.0)
                .target("sim/echo")
                .strategy(Strategy::Order)
                .fallback("sim/json"),
        )
        .gateway_key(GatewayKeySetup::new("team", "gw-1").models(["smart", "sim/*"]))
        .builtin_plugin("request_log", json!({}))
        .max_in_flight(50)
        .max_buffered_bytes(8 << 20)
        .max_body_bytes(1 << 20)
        .max_connections(99)
        .write_timeout(secs(4))
        .shutdown_timeout(secs(7))
        .max_threads(500)
        .initial_pool_size(10);
    let file = taken(json!({
        "server": { "keys": [{ "name": "team", "value": "gw-1", "models": ["smart", "sim/*"] }], "max_in_flight": 50,
                    "max_buffered_bytes": "8MiB", "max_body_bytes": "1MiB", "max_connections": 99, "write_timeout": "4s",
                    "shutdown_timeout": "7s" },
        "plugins": [{ "name": "request_log", "config": {} }],
        "client": { "initial_pool_size": 10 },
        "threads": { "max": 500 },
        "providers": {
            "main": {
                "kind": "openai",
                "keys": [{ "name": "one", "value": "sk-one", "models": ["m"], "weight": 2.5 },
                         { "value": "sk-two", "rate_limit": { "requests_per_minute": 5 } }],
                "network_config": { "base_url": "https://api.example.com", "default_request_timeout_in_seconds": 40,
                    "connect_timeout": "1s", "first_token_timeout": "9s", "stream_idle_timeout_in_seconds": 8,
                    "stream_max_duration": "700s", "idle_connection_timeout": "11s", "max_retries": 4,
                    "retry_backoff_initial": 10, "retry_backoff_max": 1000, "retry_after_patience": "6s",
                    "extra_headers": { "X-Team": "red-team" } },
                "concurrency_and_buffer_size":
                    { "concurrency": 12, "min_concurrency": 3, "buffer_size": 200, "result_buffer": 64 },
                "queue": { "policy": "drop_oldest", "wait_timeout": "3s", "batch_share": 0.25 },
                "scaling": { "up_threshold": 0.7, "min_interval": "2s" },
                "breaker": { "consecutive_failures": 3, "slow_after": "20s" },
                "health": { "on_start": false, "interval": "15s" },
                "rate_limit": { "tokens_per_minute": 1000, "models": { "m": { "requests_per_minute": 7 } } },
                "optimization": { "rate_limit": 2.0, "avg_latency": "2s", "error_rate": 0.1 },
                "stream_recovery": "buffer", "stream_garbage": "fail", "early_keepalive": true,
            },
            "sim": { "kind": "sim", "concurrency_and_buffer_size": { "concurrency": "auto" }, "breaker": { "enabled": false } },
            "claude": { "kind": "anthropic", "network_config": { "base_url": "https://claude.example.com" } },
        },
        "aliases": { "smart": { "targets": [{ "model": "main/m", "weight": 3.0 }, { "model": "sim/echo" }],
                                "strategy": "order", "fallbacks": ["sim/json"] } },
    }));
    let written = config(written);
    assert_eq!(written.effective_json(), file.effective_json());
    assert_eq!(written.providers, file.providers);
    assert_eq!((&written.aliases, written.plugins.len()), (&file.aliases, 1));
    assert_eq!(written.warnings, file.warnings);
    assert_eq!(written.providers[0].keys[0].models, KeyModels::Only(vec!["m".to_owned()]));
    assert!(matches!(written.providers[1].sizing, Sizing::Auto { .. }));
    assert!(!written.can_be_reread());
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_the_words_for_a_file() {
    let error = Gateway::builder()
        .provider(ProviderSetup::sim("a/b"))
        .provider(ProviderSetup::sim("s").concurrency(Concurrency::fixed(0)).buffer_size(0).batch_share(2.0))
        .provider(ProviderSetup::sim("s"))
        .provider(ProviderSetup::known("opnai"))
        .provider(ProviderSetup::openai_compatible("bad", "ftp://x").key(KeySetup::new("k\u{e9}y")))
        .alias(AliasSetup::new("x", "gone/m"))
        .gateway_key(GatewayKeySetup::new("nobody", "gw").models(Vec::<String>::new()))
        .build()
        .expect_err("it is wrong");
    let StartError::Config(error) = error else { panic!("{error}") };
    let told = told(&error);
    for place in [
        "providers.s: it is given twice",
        "providers[\"a/b\"]: a provider's name",
        "providers.opnai.kind: \"opnai\" is no provider known by name",
        "providers.bad.network_config.base_url: found \"ftp://x\"",
        "providers.bad.keys[0].value: found a text; write",
        "aliases.x.targets[0].model: the provider that \"gone/m\" names is not configured",
        "server.keys[0].models: an empty list names no model",
    ] {
        assert!(told.iter().any(|line| line.starts_with(place)), "{place} is not among {told:#?}");
    }
    // The ranges are those of the one resolution.
    let ranges = Gateway::builder()
        .provider(ProviderSetup::sim("s").concurrency(Concurrency::fixed(0)).buffer_size(0).batch_share(2.0))
        .into_config()
        .expect_err("out of range");
    let sizes = json!({ "concurrency": 0, "min_concurrency": 0, "buffer_size": 0 });
    let file = problems(json!({ "providers": { "s": {
        "kind": "sim", "concurrency_and_buffer_size": sizes, "queue": { "batch_share": 2.0 } } } }));
    assert_eq!(self::told(&ranges), file);
}

#[test]
fn no_secret_is_printed() {
    let provider = ProviderSetup::openai_compatible("p", "http://127.0.0.1:1")
        .key(KeySetup::new("sk-canary"))
        .header("x-key", "canary-header");
    let key = GatewayKeySetup::new("team", "gw-canary");
    let shown = format!("{provider:?} {key:?} {:?}", KeySetup::new("sk-canary"));
    let builder = Gateway::builder().provider(provider).gateway_key(key);
    let shown = format!("{shown} {builder:?}");
    let config = config(builder);
    let shown = format!("{shown} {config:?} {}", config.effective_json());
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn to_a_files_configuration_providers_and_aliases_are_added_and_nothing_else() {
    let file = || taken(json!({ "providers": { "sim": {} }, "aliases": { "fast": "sim/echo" } }));
    let gateway = Gateway::builder()
        .config(file())
        .provider(ProviderSetup::sim("more"))
        .alias(AliasSetup::new("both", "sim/echo").target("more/echo"))
        .build()
        .expect("it starts");
    assert_eq!(gateway.provider_names(), ["sim", "more"]);
    assert_eq!(gateway.ask("both", "Hello").expect("an answer"), "Hello");
    assert_eq!(gateway.config().effective_json()["aliases"].as_object().map(serde_json::Map::len), Some(2));

    let error = Gateway::builder()
        .config(file())
        .provider(ProviderSetup::sim("sim"))
        .alias(AliasSetup::new("fast", "sim/echo"))
        .max_in_flight(5)
        .gateway_key(GatewayKeySetup::new("n", "v"))
        .into_config()
        .expect_err("it has them");
    let told = told(&error);
    for place in [
        "server.max_in_flight: the config",
        "server.keys: the config",
        "providers.sim: the config",
        "aliases.fast: the",
    ] {
        assert!(told.iter().any(|line| line.starts_with(place)), "{place} is not among {told:#?}");
    }
    assert_eq!(told.len(), 4, "{told:#?}");
}

#[test]
fn a_client_that_is_kept_to_an_alias_that_the_program_adds_is_not_warned_of() {
    let file =
        taken(json!({ "server": { "keys": [{ "value": "k", "models": ["mine"] }] }, "providers": { "sim": {} } }));
    let warned = |config: &Config| config.warnings.iter().any(|text| text.contains("there is no such alias"));
    assert!(warned(&file));
    let config = config(Gateway::builder().config(file).alias(AliasSetup::new("mine", "sim/echo")));
    assert!(!warned(&config), "{:?}", config.warnings);
}

#[test]
fn a_text_that_means_itself_is_shown_as_it_was_written() {
    let error = Gateway::builder()
        .provider(ProviderSetup::openai_compatible("p", "env.BASE"))
        .alias(AliasSetup::new("a", "${gone}/m"))
        .into_config()
        .expect_err("neither is good");
    let told = told(&error);
    assert!(told[0].starts_with("providers.p.network_config.base_url: found \"env.BASE\"; write a URL"), "{told:?}");
    assert!(told[1].contains("the provider that \"${gone}/m\" names"), "{told:?}");
}

#[test]
fn what_was_added_to_a_file_is_there_when_the_file_is_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gateway.json");
    std::fs::write(&path, r#"{ "providers": { "sim": {} } }"#).expect("written");
    let file = Config::load(&path).expect("good");
    let gateway = Gateway::builder().config(file).provider(ProviderSetup::sim("more")).build().expect("it starts");
    std::fs::write(&path, r#"{ "providers": { "other": { "kind": "sim" } } }"#).expect("written");
    let changes = gateway.reread().expect("good");
    assert_eq!(
        (&*changes.providers.added, &*changes.providers.unchanged),
        (&["other".into()][..], &["more".into()][..])
    );
    std::fs::write(&path, r#"{ "providers": { "more": { "kind": "sim" } } }"#).expect("written");
    let error = gateway.reread().expect_err("the file has taken the name");
    assert!(error.to_string().contains("providers.more"), "{error}");
    assert_eq!(gateway.ask("more/echo", "still").expect("an answer"), "still");
}

#[test]
fn a_written_gateway_takes_another_configuration_and_has_none_to_read_again() {
    let gateway = Gateway::builder().provider(ProviderSetup::sim("one")).build().expect("it starts");
    assert!(matches!(gateway.reread(), Err(ReloadError::NoSource)));
    let other = config(Gateway::builder().provider(ProviderSetup::sim("two")));
    let changes = gateway.reload(other).expect("good");
    assert_eq!((&*changes.providers.added, &*changes.providers.removed), (&["two".into()][..], &["one".into()][..]));
    assert_eq!(gateway.ask("two/echo", "Hello").expect("an answer"), "Hello");
    assert_eq!(gateway.ask("one/echo", "Hello").expect_err("gone").code(), Code::ModelNotFound);
}

#[test]
fn without_a_provider_there_are_those_of_the_environment() {
    let config = config(Gateway::builder().max_in_flight(7));
    assert_eq!(config.server.max_in_flight, Some(7));
    let environment = Config::from_env(&process_env).expect("good");
    let names = |config: &Config| config.providers.iter().map(|provider| provider.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&config), names(&environment));
}

#[test]
fn a_file_may_name_a_provider_that_the_program_is_and_is_refused_where_there_is_none() {
    let named = || taken(json!({ "providers": { "mine": { "kind": "custom", "queue": { "policy": "error" } } } }));
    assert_eq!(named().providers[0].kind, Kind::Custom);
    assert_eq!(named().effective_json()["providers"]["mine"]["kind"], "custom");
    let error = Gateway::builder().config(named()).build().expect_err("nobody is it");
    let StartError::Config(error) = error else { panic!("{error}") };
    let told = told(&error);
    assert!(told.len() == 1 && told[0].starts_with("providers.mine.kind: no program has registered"), "{told:?}");
    let connected = problems(json!({ "providers": { "mine": {
        "kind": "custom", "network_config": { "base_url": "https://x.example" } } } }));
    assert!(connected[0].starts_with("providers.mine.network_config.base_url: a provider of kind"), "{connected:?}");
}
