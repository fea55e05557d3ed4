//! Configuration as a user meets it: a document in; values, warnings or every problem out.

mod accounts;
mod aliases;
mod bedrock;
mod builder;
mod guard;
mod keys;
mod limits;
mod names;
mod response_cache;
mod tls;

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::config::{
    Config, ConfigError, Kind, Optimization, Policy, Sizing, StreamGarbage, StreamRecovery, schema,
};

/// The environment of these tests.
fn env(name: &str) -> Option<String> {
    match name {
        "CANARY" => Some("sk-canary-77".to_owned()),
        "WORKERS" => Some("12".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn read(document: &Value) -> Result<Config, ConfigError> {
    Config::from_json(&document.to_string(), &env)
}

fn taken(document: Value) -> Config {
    read(&document).unwrap_or_else(|error| panic!("{document}: {error}"))
}

fn problems(document: Value) -> Vec<String> {
    let error = read(&document).expect_err("it is wrong");
    error.problems.iter().map(ToString::to_string).collect()
}

/// The one problem of a document.
fn problem(document: Value) -> String {
    let problems = problems(document);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.into_iter().next().unwrap_or_default()
}

/// A document with one provider of OpenAI's shape on this machine.
fn with_provider(provider: Value) -> Value {
    let mut whole = json!({"network_config": {"base_url": "http://127.0.0.1:9"}});
    merge(&mut whole, provider);
    json!({"providers": {"openai": whole}})
}

fn merge(into: &mut Value, from: Value) {
    match from {
        Value::Object(entries) if into.is_object() => {
            for (key, value) in entries {
                merge(&mut into[key], value);
            }
        }
        other => *into = other,
    }
}

fn canary_key() -> Value {
    json!({"keys": [{"value": "env.CANARY"}]})
}

#[test]
fn an_empty_document_gets_the_defaults_of_the_interface() {
    let config = taken(json!({"providers": {"sim": {}}}));
    assert_eq!(config.server.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.server.admin, "127.0.0.1:8081".parse().unwrap());
    assert_eq!((config.server.max_connections, config.server.max_in_flight), (8192, None));
    assert_eq!((config.server.max_buffered_bytes, config.server.max_body_bytes), (1 << 30, 33_554_432));
    assert_eq!(config.server.shutdown_timeout, Duration::from_secs(30));
    assert_eq!((config.threads.max, config.threads.stack_bytes), (None, 256 * 1024));
    let pools = &config.pools;
    let pools = [("reply_channel", pools.reply_channel, 0.85), ("job", pools.job, 0.80)]
        .into_iter()
        .chain([("response", pools.response, 0.70), ("buffer", pools.buffer, 0.70)]);
    for (name, limits, alert_below) in pools {
        assert_eq!((limits.initial, limits.max_idle), (300, 4096), "{name}");
        assert_eq!((limits.idle_max_age, limits.alert_below), (Duration::from_secs(60), alert_below), "{name}");
    }
    let sim = config.provider("sim").expect("it is there");
    assert_eq!(sim.kind, Kind::Sim);
    assert_eq!((sim.concurrency, sim.min_concurrency, sim.buffer_size, sim.result_buffer), (64, 10, 500, 256));
    assert_eq!((sim.sizing, sim.optimization), (Sizing::Given, Optimization::default()));
    assert_eq!((sim.queue.policy, sim.queue.wait_timeout), (Policy::Block, Duration::from_secs(5)));
    assert_eq!(sim.network.request_timeout, Duration::from_secs(120));
    assert_eq!(sim.network.stream_max_duration, Duration::from_secs(1800));
    assert!(sim.network.allow_private);
    assert_eq!((sim.stream_recovery, sim.stream_garbage), (StreamRecovery::Off, StreamGarbage::Skip));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn every_value_given_is_the_value_in_force() {
    let config = taken(json!({
        "$schema": "anything",
        "server": {
            "listen": "localhost:1", "admin": "[::1]:2", "admin_key": "admin", "keys": ["a", {"name": "bob", "value": "b"}],
            "max_connections": 3, "max_in_flight": 4, "max_buffered_bytes": "2MiB", "max_body_bytes": 5, "max_header_bytes": "1KiB",
            "header_timeout": 6, "body_timeout": "7ms", "idle_timeout": "8s", "write_timeout": "9s", "shutdown_timeout": 0,
        },
        "client": {"drop_excess_requests": true, "initial_pool_size": 10},
        "threads": {"max": 100, "stack_kib": 512, "idle_timeout": "1s", "health_interval": "2s"},
        "pools": {
            "reply_channel": {"initial": 11, "max_idle": 12},
            "job": {"initial": "auto", "idle_max_age": "5s", "alert_below": 0.5},
            "buffer": {"max_idle": 0, "alert_below": 1},
        },
        "providers": {"mine": {
            "kind": "openai",
            "keys": [{"name": "k", "value": "${CANARY}", "weight": 3}],
            "network_config": {
                "base_url": "http://10.0.0.1:80/v1/", "default_request_timeout_in_seconds": 31, "connect_timeout": 13,
                "first_token_timeout": "14s", "stream_idle_timeout_in_seconds": 15, "stream_max_duration": "16m",
                "idle_connection_timeout": "17s", "extra_headers": {"X-Team": "a"},
            },
            "concurrency_and_buffer_size": {"concurrency": "${WORKERS}", "min_concurrency": 12, "buffer_size": 200, "result_buffer": 60},
            "queue": {"policy": "error", "wait_timeout": "2s", "batch_share": 0.5},
            "stream_recovery": "buffer", "stream_garbage": "fail", "early_keepalive": true,
        }},
    }));
    let server = &config.server;
    assert_eq!((server.listen.to_string(), server.admin.to_string()), ("127.0.0.1:1".into(), "[::1]:2".into()));
    let names: Vec<_> = server.keys.iter().map(|key| &*key.name).collect();
    assert_eq!(names, ["key-1", "bob"]);
    assert_eq!((server.max_connections, server.max_in_flight), (3, Some(4)));
    assert_eq!((server.max_buffered_bytes, server.max_body_bytes, server.max_header_bytes), (2 << 20, 5, 1024));
    let ms = Duration::from_millis;
    assert_eq!(
        (
            server.header_timeout,
            server.body_timeout,
            server.idle_timeout,
            server.write_timeout,
            server.shutdown_timeout
        ),
        (ms(6), ms(7), ms(8000), ms(9000), ms(0))
    );
    assert_eq!((config.threads.max, config.threads.stack_bytes), (Some(100), 512 * 1024));
    let pools = &config.pools;
    assert_eq!((pools.reply_channel.initial, pools.reply_channel.max_idle), (11, 12));
    assert_eq!((pools.job.initial, pools.job.idle_max_age), (10, Duration::from_secs(5)));
    assert_eq!((pools.job.alert_below, pools.buffer.alert_below, pools.response.alert_below), (0.5, 1.0, 0.7));
    assert_eq!((pools.buffer.initial, pools.buffer.max_idle), (0, 0), "no more are made than are kept");
    let mine = config.provider("mine").expect("it is there");
    let [key] = mine.keys.as_slice() else { panic!("it has one") };
    assert_eq!((key.name.as_str(), key.value.expose(), key.weight), ("k", "sk-canary-77", 3.0));
    let network = &mine.network;
    assert_eq!((network.base_url.as_str(), network.api_prefix), ("http://10.0.0.1:80", "/v1"));
    assert!(network.allow_private);
    assert_eq!((network.request_timeout, network.connect_timeout), (ms(31_000), ms(13)));
    assert_eq!((network.first_token_timeout, network.stream_idle_timeout), (ms(14_000), ms(15_000)));
    assert_eq!((network.stream_max_duration, network.idle_connection_timeout), (ms(960_000), ms(17_000)));
    assert_eq!(network.extra_headers, [("x-team".to_owned(), "a".to_owned())]);
    assert_eq!((mine.concurrency, mine.buffer_size, mine.result_buffer), (12, 200, 60));
    assert_eq!((mine.queue.policy, mine.queue.wait_timeout), (Policy::Error, ms(2000)));
    assert_eq!(mine.stream_recovery, StreamRecovery::Buffer);
    assert_eq!((mine.queue.batch_share, mine.stream_garbage, mine.early_keepalive), (0.5, StreamGarbage::Fail, true));
}

#[test]
fn all_problems_are_told_at_once_each_with_its_path() {
    let found = problems(json!({
        "sever": {},
        "server": {"listen": "here", "max_conections": 5, "keys": [{"value": ""}, {}]},
        "providers": {
            "openai": {
                "keys": [{"value": "env.GONE"}],
                "network_config": {"base_url": "api.openai.com", "timeout": 3},
                "concurrency_and_buffer_size": {"buffer_size": 0},
                "queue": {"policy": "blok"},
            },
            "opnai": {},
            "a/b": {},
            "sim": 5,
        },
    }));
    let expected = [
        r#"server.listen: found "here"; write an address with a port"#,
        "server.keys[0].value: found an empty text; write a text of printable ASCII",
        "server.keys[1].value: it is missing",
        r#"server.max_conections: there is no such key; the nearest is "max_connections""#,
        "providers.openai.keys[0].value: the environment variable GONE is not set",
        r#"providers.openai.network_config.base_url: found "api.openai.com"; write a URL such as"#,
        "providers.openai.network_config.timeout: there is no such key; the nearest is",
        "providers.openai.concurrency_and_buffer_size.buffer_size: found 0; write a value in the limits, from 1 to 1000000",
        r#"providers.openai.queue.policy: found "blok"; write one of "block", "error", "drop", "drop_oldest" (nearest: "block")"#,
        r#"providers.opnai.kind: "opnai" is no provider known by name; write "kind": "openai" and a base_url (nearest name: "openai")"#,
        r#"providers["a/b"]: a provider's name is"#,
        "providers.sim: a provider is an object",
        r#"sever: there is no such key; the nearest is "server""#,
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for start in expected {
        assert!(found.iter().any(|problem| problem.starts_with(start)), "{start} is missing in {found:#?}");
    }
}

#[test]
fn a_part_that_is_not_built_is_refused_by_name() {
    let cases =
        [("providers.openai.network_config.proxy", with_provider(json!({"network_config": {"proxy": "http://p"}})))];
    for (path, document) in cases {
        let message = problem(document);
        assert!(message.starts_with(&format!("{path}: ")), "{path}: {message}");
        assert!(message.contains("not built yet"), "{message}");
    }
}

#[test]
fn a_value_that_asks_for_nothing_is_always_taken() {
    let config = taken(json!({
        "server": {"tls": null, "trusted_proxies": [], "cors_origins": [], "keys": [{"value": "a", "models": ["*"]}], "admin_key": null},
        "pools": {"reply_channel": {"idle_max_age": "60s", "alert_below": 0.85}, "job": {"alert_below": 0.80}, "response": {"alert_below": 0.7}, "buffer": {"alert_below": 0}},
        "locks": {"default_timeout": "1s", "max_timeout": 5000, "detect_interval": "250ms"},
        "providers": {"openai": {
            "kind": "openai",
            "keys": [{"name": "a", "value": "env.CANARY", "models": ["*"], "weight": 7.5}],
            "network_config": {"max_retries": 0, "retry_after_patience": "10s", "retry_backoff_initial": 500, "retry_backoff_max": 5000, "proxy": null, "ca_cert_pem": null, "extra_headers": {}},
            "concurrency_and_buffer_size": {"concurrency": 20, "min_concurrency": 20},
            "queue": null,
            "scaling": {"enabled": false, "up_threshold": 0.9, "min_interval": "5s"},
            "breaker": {"enabled": true, "failure_ratio": 0.5, "min_requests": 10, "window": "30s", "consecutive_failures": 5, "open_for": "10s", "half_open_probes": 1, "slow_after": null, "slow_ratio": 0.5},
            "health": {"on_start": false, "interval": 0},
            "rate_limit": {"requests_per_minute": null, "tokens_per_minute": 0},
            "optimization": {"rate_limit": null, "avg_latency": null, "error_rate": 0},
            "stream_recovery": "off", "stream_garbage": "skip", "early_keepalive": false,
        }},
        "aliases": {},
        "plugins": [{"name": "request_log", "enabled": false}],
    }));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn a_client_can_be_kept_to_models_and_every_wrong_entry_is_told() {
    let keys = |keys: Value| json!({"server": {"keys": keys}, "providers": {"sim": {}}});
    let config = taken(keys(json!([
        "env.CANARY",
        {"name": "team", "value": "b", "models": ["openai/gpt-4o", "sim/*"]},
        {"value": "c", "models": ["*", "sim/echo"]},
        {"value": "d", "models": null},
    ])));
    let may = |at: usize, name: &str| config.server.keys[at].scope.lists(name);
    for (name, within) in [("openai/gpt-4o", true), ("sim/echo", true), ("openai/gpt-4", false)] {
        assert_eq!((may(0, name), may(1, name), may(2, name), may(3, name)), (true, within, true, true), "{name}");
    }
    let shown = config.effective_json();
    assert_eq!(shown["server"]["keys"][1]["models"], json!(["openai/gpt-4o", "sim/*"]));
    assert_eq!(shown["server"]["keys"][0]["models"], json!(["*"]));
    assert!(!shown.to_string().contains("canary"));
    let found = problems(keys(json!([
        {"value": "a", "models": ["sim/ec*", "sim/", 5, "sim/echo", "fa*"]},
        {"value": "b", "models": []},
        {"value": "c", "models": "*"},
        {"name": "again", "value": "b"},
    ])));
    let expected = [
        "server.keys[0].models[0]: found \"sim/ec*\"; write \"provider/model\"",
        "server.keys[0].models[1]: found \"sim/\"; write",
        "server.keys[0].models[2]: found 5; write",
        "server.keys[0].models[4]: found \"fa*\"; write \"provider/model\", \"provider/*\", the name of an alias or \"*\"",
        "server.keys[1].models: an empty list names no model",
        "server.keys[2].models: found \"*\"; write a list",
        "server.keys: \"key-2\" and \"again\" have the same value",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for start in expected {
        assert!(found.iter().any(|problem| problem.starts_with(start)), "{start} is missing in {found:#?}");
    }
}

#[test]
fn proxies_and_origins_are_taken_as_written_and_checked() {
    let server = |server: Value| json!({"server": server, "providers": {"sim": {}}});
    let document = json!({
        "trusted_proxies": ["127.0.0.1", "10.0.0.0/8", "fd00::/8", "${PROXY:-::1}"],
        "cors_origins": ["https://app.example", "http://localhost:3000"],
    });
    let config = taken(server(document));
    assert_eq!((config.server.trusted_proxies.len(), config.server.cors_origins.len()), (4, 2));
    let shown = config.effective_json();
    assert_eq!(shown["server"]["trusted_proxies"], json!(["127.0.0.1", "10.0.0.0/8", "fd00::/8", "::1"]));
    assert_eq!(shown["server"]["cors_origins"], json!(["https://app.example", "http://localhost:3000"]));
    assert_eq!(taken(server(json!({}))).effective_json()["server"]["cors_origins"], json!([]));
    let found = problems(server(json!({
        "trusted_proxies": ["10.0.0.1/8", "proxy.example", 5],
        "cors_origins": ["https://app.example/", "null", "*"],
    })));
    let expected = [
        "server.trusted_proxies[0]: found \"10.0.0.1/8\"; write an address or a range",
        "server.trusted_proxies[1]: found \"proxy.example\"; write an address or a range",
        "server.trusted_proxies[2]: found 5; write an address or a range",
        "server.cors_origins[0]: found \"https://app.example/\"; write an origin",
        "server.cors_origins[1]: found \"null\"; write an origin",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for start in expected {
        assert!(found.iter().any(|problem| problem.starts_with(start)), "{start} is missing in {found:#?}");
    }
    assert!(problem(server(json!({"trusted_proxies": "10.0.0.0/8"}))).contains("write a list"));
}

#[test]
fn breaker_and_health_are_taken_as_written_and_checked() {
    let message = problem(with_provider(json!({"breaker": {"enabled": false, "failure_ratio": "high"}})));
    assert!(message.contains("breaker.failure_ratio: found \"high\"; write a number, from 0.0 to 1.0"), "{message}");
    let found = problems(with_provider(json!({
        "breaker": {"failure_ratio": 1.5, "min_requests": 0, "window": "0s", "open_for": "2000h", "half_open_probes": 0, "slow_after": 0},
        "health": {"interval": "-1s"},
    })));
    for key in ["failure_ratio", "min_requests", "window", "open_for", "half_open_probes", "slow_after"] {
        let start = format!("providers.openai.breaker.{key}: ");
        assert!(found.iter().any(|problem| problem.starts_with(&start)), "{start} is missing in {found:#?}");
    }
    assert!(found.iter().any(|problem| problem.starts_with("providers.openai.health.interval: ")), "{found:#?}");
    let config = taken(with_provider(json!({
        "breaker": {"consecutive_failures": 0, "slow_after": "3s", "open_for": 4000},
        "health": {"on_start": false, "interval": null},
    })));
    let openai = config.provider("openai").expect("it is there");
    assert_eq!((openai.breaker.consecutive_failures, openai.breaker.open_for), (0, Duration::from_secs(4)));
    assert_eq!(openai.breaker.slow_after, Some(Duration::from_secs(3)));
    assert_eq!((openai.health.on_start, openai.health.interval), (false, Duration::ZERO), "null asks for none");
}

#[test]
fn the_fewest_workers_are_one_to_the_most_and_by_default_ten() {
    let sized = |sizes: Value| with_provider(json!({"concurrency_and_buffer_size": sizes}));
    for (sizes, least, most) in [
        (json!({"concurrency": 20, "min_concurrency": 12}), 12, 20),
        (json!({"concurrency": 20, "min_concurrency": 20}), 20, 20),
        (json!({"concurrency": 20, "min_concurrency": 1}), 1, 20),
        (json!({"concurrency": 4}), 4, 4),
        (json!({"concurrency": "auto"}), 10, 64),
        (json!({"concurrency": "auto", "min_concurrency": 80}), 80, 80),
    ] {
        let config = taken(sized(sizes));
        let provider = config.provider("openai").expect("it is there");
        assert_eq!((provider.min_concurrency, provider.concurrency), (least, most));
    }
    for (fewest, limits) in [(json!(0), "from 1 to 20"), (json!(21), "from 1 to 20"), (json!("few"), "from 1 to 20")] {
        let message = problem(sized(json!({"concurrency": 20, "min_concurrency": fewest})));
        assert!(message.contains("min_concurrency: ") && message.contains(limits), "{message}");
    }
}

#[test]
fn auto_sizes_the_buffer_unless_it_is_written() {
    let sizing = |sizes: Value| {
        let config = taken(with_provider(json!({"concurrency_and_buffer_size": sizes})));
        config.provider("openai").expect("it is there").sizing
    };
    assert!(matches!(sizing(json!({"concurrency": "auto"})), Sizing::Auto { buffer: true, .. }));
    assert!(matches!(sizing(json!({"concurrency": "auto", "buffer_size": 200})), Sizing::Auto { buffer: false, .. }));
    assert_eq!(sizing(json!({"concurrency": 64})), Sizing::Given);
    let message = problem(with_provider(json!({"concurrency_and_buffer_size": {"concurrency": "many"}})));
    assert!(message.contains("or \"auto\""), "{message}");
}

#[test]
fn scaling_and_optimization_are_taken_as_written_and_checked() {
    let config = taken(with_provider(json!({
        "scaling": {"enabled": false, "up_threshold": 0.9, "down_threshold": 0.2, "up_factor": 2, "down_factor": 0.5,
                    "min_interval": 50, "target_response": "1s", "max_response": "4s"},
        "optimization": {"rate_limit": 100, "avg_latency": "500ms", "error_rate": 0.05},
    })));
    let provider = config.provider("openai").expect("it is there");
    let (scaling, ms) = (&provider.scaling, Duration::from_millis);
    assert_eq!(
        (scaling.enabled, scaling.up_threshold, scaling.down_threshold, scaling.up_factor, scaling.down_factor),
        (false, 0.9, 0.2, 2.0, 0.5)
    );
    assert_eq!((scaling.min_interval, scaling.target_response, scaling.max_response), (ms(50), ms(1000), ms(4000)));
    let known = Optimization { rate_limit: Some(100.0), avg_latency: Some(ms(500)), error_rate: Some(0.05) };
    assert_eq!(provider.optimization, known);
    for (wrong, path) in [
        (json!({"scaling": {"up_factor": 0.5}}), "scaling.up_factor"),
        (json!({"scaling": {"up_threshold": 1.1}}), "scaling.up_threshold"),
        (json!({"scaling": {"up_threshold": 0.3}}), "scaling.down_threshold"),
        (json!({"scaling": {"min_interval": 0}}), "scaling.min_interval"),
        (json!({"optimization": {"rate_limit": -1}}), "optimization.rate_limit"),
        (json!({"optimization": {"error_rate": 1.5}}), "optimization.error_rate"),
        (json!({"optimization": {"avg_latency": "soon"}}), "optimization.avg_latency"),
    ] {
        let message = problem(with_provider(wrong));
        assert!(message.contains(path), "{path}: {message}");
    }
}

#[test]
fn outside_the_pages_range_is_a_warning_and_beyond_the_limit_an_error() {
    let sizes = "concurrency_and_buffer_size";
    let timeout = "default_request_timeout_in_seconds";
    // The last within the page's range, the first outside it, the last that is taken, the first that is not.
    let rows = [
        (sizes, "concurrency", [json!(10), json!(9), json!(1), json!(0)]),
        (sizes, "concurrency", [json!(100), json!(101), json!(200), json!(40_000)]),
        (sizes, "buffer_size", [json!(100), json!(99), json!(1), json!(0)]),
        (sizes, "buffer_size", [json!(1000), json!(1001), json!(1_000_000), json!(1_000_001)]),
        (sizes, "result_buffer", [json!(50), json!(49), json!(1), json!(0)]),
        (sizes, "result_buffer", [json!(500), json!(501), json!(65_536), json!(65_537)]),
        ("queue", "wait_timeout", [json!("1s"), json!("999ms"), json!("1ms"), json!(0)]),
        ("queue", "wait_timeout", [json!("10s"), json!("10001ms"), json!("10m"), json!("600001ms")]),
        ("network_config", timeout, [json!(30), json!(29), json!("10ms"), json!("9ms")]),
        ("network_config", timeout, [json!(300), json!(301), json!(86_400), json!(86_401)]),
        ("server", "shutdown_timeout", [json!("5s"), json!("4999ms"), json!(0), Value::Null]),
        ("server", "shutdown_timeout", [json!("30s"), json!("30001ms"), json!("1h"), json!("3600001ms")]),
    ];
    for (section, key, [inside, outside, last, beyond]) in rows {
        let with = |value: &Value| match section {
            "server" => json!({"server": {key: value}, "providers": {"sim": {}}}),
            _ => with_provider(json!({section: {key: value}})),
        };
        assert_eq!(taken(with(&inside)).warnings, [""; 0], "{key} {inside}");
        for odd in [&outside, &last] {
            let warnings = taken(with(odd)).warnings;
            assert_eq!(warnings.len(), 1, "{key} {odd}: {warnings:?}");
            assert!(warnings[0].contains(key) && warnings[0].contains("usual range"), "{warnings:?}");
        }
        // There is no time below none.
        if !beyond.is_null() {
            assert!(problem(with(&beyond)).contains(key), "{key} {beyond}");
        }
    }
    let limited =
        json!({"threads": {"max": 50}, "providers": {"sim": {"concurrency_and_buffer_size": {"concurrency": 51}}}});
    assert!(problem(limited).contains("from 1 to 50"), "the thread limit bounds the workers");
}

#[test]
fn a_file_of_bifrosts_starts_and_says_what_it_leaves_out() {
    let config = taken(json!({
        "$schema": "https://www.getbifrost.ai/schema",
        "version": 2,
        "encryption_key": "env.NEVER_LOOKED_UP",
        "server": {"read_buffer_size": 65536},
        "client": {"enable_logging": true, "drop_excess_requests": true, "initial_pool_size": 5000, "allow_direct_keys": false, "enforce_governance_header": true},
        "config_store": {"enabled": false},
        "logs_store": {"enabled": false},
        "mcp": {"client_configs": []},
        "governance": {"virtual_keys": []},
        "plugins": [{"name": "maxim", "config": {"api_key": "env.NEVER_LOOKED_UP"}}],
        "providers": {
            "openai": {
                "keys": [{"name": "a", "value": "env.CANARY", "models": ["*"], "weight": 1.0, "use_for_batch_api": true}],
                "network_config": {"default_request_timeout_in_seconds": 30, "max_retries": 0, "retry_backoff_initial_ms": 100, "insecure_skip_verify": true},
                "concurrency_and_buffer_size": {"concurrency": 20, "buffer_size": 200},
                "proxy_config": {"type": "none"},
                "send_back_raw_response": false,
            },
            "azure": {"keys": [{"value": "", "azure_key_config": {"endpoint": "env.NEVER_LOOKED_UP", "tenant_id": "t"}}]},
            "cohere": {"keys": [{"value": "env.NEVER_LOOKED_UP"}]},
            "vertex": {"keys": [], "meta_config": {}},
            "my-own": {"custom_provider_config": {"base_provider_type": "openai"}},
        },
    }));
    let names: Vec<_> = config.providers.iter().map(|provider| provider.name.as_str()).collect();
    assert_eq!(names, ["openai"]);
    assert_eq!(
        config.providers[0].queue.policy,
        Policy::Drop,
        "drop_excess_requests sets the policy where none is set"
    );
    assert_eq!(config.pools.reply_channel.initial, 5000);
    for named in [
        "version",
        "encryption_key",
        "server.read_buffer_size",
        "client.enable_logging",
        "client.allow_direct_keys",
        "client.enforce_governance_header",
        "config_store",
        "logs_store",
        "mcp",
        "governance",
        "plugins[0]",
        "providers.openai.keys[0].use_for_batch_api",
        "providers.openai.network_config.retry_backoff_initial_ms",
        "providers.openai.network_config.insecure_skip_verify",
        "providers.openai.proxy_config",
        "providers.openai.send_back_raw_response",
        "providers.azure",
        "providers.cohere",
        "providers.vertex",
        "providers.my-own",
    ] {
        let found = config.warnings.iter().any(|warning| warning.starts_with(&format!("{named}: ")));
        assert!(found, "{named} is not named in {:#?}", config.warnings);
    }
}

#[test]
fn no_secret_is_ever_shown() {
    let document = json!({
        "server": {"admin_key": "sk-canary-1", "keys": ["sk-canary-2", "file:/dev/null"]},
        "providers": {"openai": {
            "keys": [{"value": "env.CANARY"}],
            "network_config": {"base_url": "https://host.example", "extra_headers": {"x-api-key": "sk-canary-3"}},
        }},
    });
    let wrong = read(&document).expect_err("/dev/null is an empty key");
    let mut right = document;
    right["server"]["keys"] = json!(["sk-canary-2"]);
    let config = taken(right);
    let shown = format!("{wrong} {wrong:?} {config:?} {}", config.effective_json());
    assert!(!shown.contains("canary"), "{shown}");
    assert_eq!(config.effective_json()["providers"]["openai"]["keys"][0]["value"], "[redacted]");

    for wrong in [
        json!({"server": {"admin_key": "sk-canary\n"}}),
        json!({"server": {"listen": "env.CANARY"}}),
        json!({"providers": {"openai": {"network_config": {"base_url": "https://${CANARY}@host", "ca_cert_pem": "-----BEGIN PRIVATE KEY----- canary"}}}}),
        json!({"providers": {"openai": {"network_config": {"base_url": "https://user:canary@host"}}}}),
        json!({"providers": {"openai": {"network_config": {"base_url": "user:canary@host"}}}}),
        json!({"providers": {"openai": {"network_config": {"base_url": "https://host/v1?key=canary"}}}}),
    ] {
        let message = read(&wrong).expect_err("it is wrong").to_string();
        assert!(!message.contains("canary"), "{message}");
    }
}

#[test]
fn a_reference_to_what_does_not_fit_is_named() {
    let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-canary…".to_owned());
    let message = Config::from_env(&env).expect_err("a header cannot hold it").to_string();
    assert!(message.contains("\"env.OPENAI_API_KEY\" stands for") && !message.contains("canary"), "{message}");
}

#[test]
fn the_effective_configuration_reads_back_as_itself() {
    let mut document = with_provider(canary_key());
    merge(
        &mut document,
        json!({"server": {"keys": ["a"], "admin_key": "b", "max_in_flight": 9}, "threads": {"max": 400}}),
    );
    document["providers"]["sim"] = json!({});
    let effective = taken(document).effective_json();
    assert_eq!(taken(effective.clone()).effective_json(), effective);
}

#[test]
fn the_effective_configuration_tells_what_is_in_force() {
    let mut config = taken(with_provider(canary_key()));
    config.listen_on(Some("127.0.0.1:0".parse().unwrap()), None).expect("loopback");
    let effective = config.effective_json();
    assert_eq!(effective["server"]["listen"], "127.0.0.1:0");
    let openai = &effective["providers"]["openai"];
    assert_eq!(openai["scaling"]["enabled"], true);
    assert_eq!(openai["scaling"]["min_interval"], "1s");
    assert_eq!(openai["optimization"], json!({"rate_limit": null, "avg_latency": null, "error_rate": null}));
    let breaker = json!({"enabled": true, "failure_ratio": 0.5, "min_requests": 10, "window": "30s", "consecutive_failures": 5, "open_for": "10s", "half_open_probes": 1, "slow_after": null, "slow_ratio": 0.5});
    assert_eq!(openai["breaker"], breaker);
    assert_eq!(openai["health"], json!({"on_start": true, "interval": "30s"}));
    assert_eq!(openai["network_config"]["max_retries"], 2);
    assert_eq!(openai["network_config"]["retry_backoff_initial"], "500ms");
    assert_eq!(openai["network_config"]["default_request_timeout_in_seconds"], 120);
    assert_eq!(openai["network_config"]["base_url"], "http://127.0.0.1:9");
    assert_eq!(openai["concurrency_and_buffer_size"]["min_concurrency"], 10);
    assert_eq!(openai["queue"]["policy"], "block");
    assert_eq!(openai["queue"]["wait_timeout"], "5s");
    assert_eq!(openai["locks"], Value::Null, "there is no such key there");
    assert_eq!(effective["locks"], json!({"default_timeout": "1s", "max_timeout": "5s", "detect_interval": "250ms"}));
}

#[test]
fn the_times_of_locks_can_be_set_within_their_limits() {
    let locks = |value: Value| json!({"locks": value, "providers": {"sim": {}}});
    let set = taken(locks(json!({"default_timeout": "20ms", "max_timeout": 40, "detect_interval": "5ms"})));
    assert_eq!(set.locks.times.default_timeout, Duration::from_millis(20));
    assert_eq!(set.locks.times.max_timeout, Duration::from_millis(40));
    assert_eq!(set.locks.detect_interval, Duration::from_millis(5));
    assert_eq!(set.effective_json()["locks"]["max_timeout"], "40ms");
    for wrong in [
        json!({"default_timeout": "6s"}),
        json!({"max_timeout": "500ms"}),
        json!({"default_timeout": 0}),
        json!({"max_timeout": "2h"}),
        json!({"detect_interval": "61s"}),
    ] {
        let message = problem(locks(wrong.clone()));
        assert!(message.starts_with("locks."), "{wrong}: {message}");
    }
}

#[test]
fn beyond_loopback_the_admin_plane_needs_its_key() {
    let admin = |key: Value| json!({"server": {"admin": "0.0.0.0:8081", "admin_key": key}, "providers": {"sim": {}}});
    assert!(problem(admin(Value::Null)).contains("server.admin_key"));
    taken(admin(json!("secret")));
    let mut config = taken(json!({"providers": {"sim": {}}}));
    let error = config.listen_on(None, Some("0.0.0.0:1".parse().unwrap())).expect_err("there is no admin_key");
    assert!(error.to_string().contains("server.admin_key"), "{error}");
    let same = json!({"server": {"listen": "127.0.0.1:5", "admin": "127.0.0.1:5"}, "providers": {"sim": {}}});
    assert!(problem(same).contains("same address"));
    let open = taken(json!({"server": {"listen": "0.0.0.0:8080"}, "providers": {"sim": {}}}));
    assert!(open.warnings[0].contains("server.keys is empty"), "{:?}", open.warnings);
}

#[test]
fn a_base_url_says_where_it_may_lead() {
    let at = |url: &str| {
        let config = taken(json!({"providers": {"openai": {"network_config": {"base_url": url}}}}));
        config.providers[0].network.allow_private
    };
    assert!(at("http://127.0.0.1:9/v1"));
    assert!(at("http://host.example"), "plain http is consent");
    assert!(at("https://192.168.0.7"));
    assert!(!at("https://host.example/v1"));
}

#[test]
fn a_key_found_by_its_name_never_goes_to_an_address_that_somebody_wrote() {
    let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-real".to_owned());
    let read = |document: &str| Config::from_json(document, &env).expect("it is right");
    let built_in = read(r#"{"providers": {"openai": {}}}"#);
    assert_eq!(built_in.providers[0].keys[0].value.expose(), "sk-real");
    let elsewhere = read(r#"{"providers": {"openai": {"network_config": {"base_url": "https://host.example"}}}}"#);
    assert!(elsewhere.providers[0].keys.is_empty());
    assert!(problem(json!({"providers": {"openai": {}}})).contains("OPENAI_API_KEY"), "it says what to set");
}

#[test]
fn headers_that_the_gateway_sets_itself_are_refused() {
    for name in ["Host", "content-length", "Transfer-Encoding", "proxy-authorization", "a b", ""] {
        problem(with_provider(json!({"network_config": {"extra_headers": {name: "x"}}})));
    }
    let mut document = with_provider(canary_key());
    merge(&mut document, with_provider(json!({"network_config": {"extra_headers": {"Authorization": "x"}}})));
    assert!(problem(document).contains("leave out one"));
    assert!(
        problem(with_provider(json!({"network_config": {"extra_headers": {"x": "a\r\nb"}}}))).contains("printable")
    );
}

#[test]
fn the_environment_offers_providers_by_their_keys_and_the_simulated_one() {
    let env = |name: &str| match name {
        "OPENAI_API_KEY" | "GROQ_API_KEY" | "GEMINI_API_KEY" | "ANTHROPIC_API_KEY" => Some(format!("the {name}")),
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some(format!("the {name}")),
        "MISTRAL_API_KEY" => Some(String::new()),
        _ => None,
    };
    let config = Config::from_env(&env).expect("it is right");
    let found: Vec<_> =
        config.providers.iter().map(|p| (p.name.as_str(), p.network.base_url.as_str(), p.network.api_prefix)).collect();
    assert_eq!(
        found,
        [
            ("openai", "https://api.openai.com", "/v1"),
            ("anthropic", "https://api.anthropic.com", "/v1"),
            ("bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com", ""),
            ("groq", "https://api.groq.com/openai", "/v1"),
            ("gemini", "https://generativelanguage.googleapis.com/v1beta/openai", ""),
            ("sim", "", "/v1"),
        ]
    );
    assert!(
        config.sources.iter().any(|line| line.contains("groq") && line.contains("GROQ_API_KEY")),
        "{:?}",
        config.sources
    );
    let key = config.provider("openai").and_then(|p| p.keys.first()).expect("it has one");
    assert_eq!((key.name.as_str(), key.value.expose()), ("OPENAI_API_KEY", "the OPENAI_API_KEY"));
}

#[test]
fn a_key_goes_into_the_header_that_its_provider_reads_and_nobody_else_may_write_it() {
    let provider = |name: &str, more: Value| {
        let mut settings = json!({"keys": [{"value": "sk"}]});
        merge(&mut settings, more);
        json!({"providers": {name: settings}})
    };
    let at = json!({"network_config": {"base_url": "http://127.0.0.1:9"}});
    let of = |kind: &str| {
        let mut settings = at.clone();
        settings["kind"] = kind.into();
        settings
    };
    for (name, more, kind, header) in [
        ("anthropic", json!({}), Kind::Anthropic, ("x-api-key", "sk")),
        ("anthropic", of("openai"), Kind::OpenAi, ("authorization", "Bearer sk")),
        ("mine", of("anthropic"), Kind::Anthropic, ("x-api-key", "sk")),
        ("groq", of("anthropic"), Kind::Anthropic, ("x-api-key", "sk")),
        ("openai", json!({}), Kind::OpenAi, ("authorization", "Bearer sk")),
    ] {
        let config = taken(provider(name, more));
        let found = config.provider(name).expect("it is there");
        let value = found.key_header.value(&found.keys[0].value);
        assert_eq!((found.kind, (found.key_header.name, value.expose())), (kind, header), "{name}");
    }
    for (kind, header) in [("anthropic", "X-API-Key"), ("openai", "Authorization")] {
        let mut settings = of(kind);
        settings["network_config"]["extra_headers"] = json!({ header: "x" });
        assert!(problem(provider("mine", settings)).contains("leave out one"), "{kind}");
    }
    let also = json!({"network_config": {"extra_headers": {"Authorization": "Bearer x"}}});
    assert_eq!(taken(provider("anthropic", also)).providers[0].network.extra_headers.len(), 1);
    let nowhere = problem(provider("groq", json!({"kind": "anthropic"})));
    assert!(nowhere.contains("there is none built in"), "{nowhere}");
}

#[test]
fn openai_base_url_is_honoured_unless_it_is_the_gateway_itself() {
    let at = |url: &'static str| {
        Config::from_env(&move |name: &str| (name == "OPENAI_BASE_URL").then(|| url.to_owned())).expect("it is right")
    };
    let config = at("http://127.0.0.1:8000/v1");
    let openai = config.provider("openai").expect("it is there");
    assert_eq!(openai.network.base_url, "http://127.0.0.1:8000");
    assert!(openai.keys.is_empty());
    for own in ["http://127.0.0.1:8080/v1", "http://localhost:8080/v1"] {
        let config = at(own);
        assert!(config.provider("openai").is_none());
        assert!(config.warnings[0].contains("own address"), "{:?}", config.warnings);
    }
}

#[test]
fn a_document_without_providers_gets_those_of_the_environment() {
    let config = taken(json!({"server": {"keys": ["a"]}}));
    assert_eq!(config.providers.len(), 1);
    assert_eq!(config.providers[0].kind, Kind::Sim);
}

#[test]
fn a_file_is_named_in_what_is_wrong_with_it_and_in_what_was_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gateway.json");
    let load = |text: &str| {
        std::fs::write(&path, text).expect("written");
        Config::load(&path)
    };
    let config = load(r#"{"providers": {"sim": {}}}"#).expect("it is right");
    assert!(config.sources[0].contains("gateway.json"));
    let error = load("{\"server\": {\n  \"listen\" 5}}").expect_err("it is no JSON").to_string();
    assert!(error.contains("gateway.json") && error.contains("line 2, column 12"), "{error}");
    let error = Config::load(&folder.path().join("none.json")).expect_err("it is not there").to_string();
    assert!(error.contains("none.json") && error.contains("cannot be read"), "{error}");
}

#[test]
fn the_schema_knows_every_key_of_the_effective_configuration() {
    let schema = schema();
    let mut document = with_provider(canary_key());
    document["server"] = json!({"keys": ["a"]});
    compare(&taken(document).effective_json(), &schema, "");

    fn compare(value: &Value, schema: &Value, path: &str) {
        match value {
            Value::Object(entries) => {
                for (key, value) in entries {
                    let within = &schema["properties"][key];
                    let within = if within.is_null() { &schema["additionalProperties"] } else { within };
                    assert!(within.is_object(), "{path}.{key} is not in the schema");
                    compare(value, within, &format!("{path}.{key}"));
                }
            }
            Value::Array(items) => items.iter().for_each(|item| compare(item, &schema["items"], path)),
            _ => {}
        }
    }
}
