//! `check` of a configuration of Bifrost's: the report.

use serde_json::Value;

use super::process::sluicegate;

const CONFIG: &str = r#"{
  "$schema": "https://www.getbifrost.ai/schema",
  "client": { "drop_excess_requests": true, "enable_logging": true, "max_request_body_size_mb": 100 },
  "providers": {
    "openai": {
      "keys": [ { "id": "k", "name": "a", "value": "env.OPENAI", "models": ["*"], "weight": 1, "use_for_batch_api": true } ],
      "network_config": { "default_request_timeout_in_seconds": 30 }
    },
    "vertex": { "keys": [ { "name": "v", "vertex_key_config": { "project_id": "p", "region": "r" } } ] }
  },
  "plugins": [ { "name": "telemetry", "enabled": true } ],
  "governance": { "virtual_keys": [] }
}"#;

#[test]
fn what_is_taken_and_what_is_not_is_told_key_by_key() {
    let done =
        sluicegate(&["check", "config.json"]).file("config.json", CONFIG).env("OPENAI", "sk-0123456789").run().exits(0);
    for part in [
        "config.json is a configuration of Bifrost's: 6 values are taken, 7 keys are not.",
        "providers.openai: keys[0].name, keys[0].value, keys[0].models, keys[0].weight, network_config.default_request",
        "  client.max_request_body_size_mb: the longest body\n      instead: use server.max_body_bytes\n",
        "  providers.vertex: there is no such provider here",
        "  plugins[0]: the plugin telemetry",
        "  use_for_batch_api: ",
        "  governance: ",
    ] {
        assert!(done.stderr.contains(part), "{part} is missing in {}", done.stderr);
    }
    assert!(!done.stderr.contains("warning:"), "nothing is told twice: {}", done.stderr);
    let effective: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(effective["providers"]["openai"]["queue"]["policy"], "drop", "{}", done.stdout);
    assert!(effective["providers"]["vertex"].is_null() && !done.stdout.contains("sk-0123456789"), "{}", done.stdout);
}

#[test]
fn one_that_cannot_be_used_is_reported_on_all_the_same() {
    let done = sluicegate(&["check", "config.json"]).file("config.json", CONFIG).run().exits(2);
    assert!(done.stderr.contains("5 values are taken") && done.stderr.contains("OPENAI"), "{}", done.stderr);
    assert_eq!(done.stdout, "");
    let ours = sluicegate(&["check", "c.json"]).file("c.json", r#"{ "providers": { "sim": {} } }"#).run().exits(0);
    assert!(!ours.stderr.contains("Bifrost"), "{}", ours.stderr);
    let done = sluicegate(&["check", "--schema", "c.json"]).run().exits(2);
    assert!(done.stderr.contains("--schema"), "{}", done.stderr);
}

#[test]
fn one_that_comes_through_a_pipe_is_reported_on_and_checked_too() {
    let done = sluicegate(&["check", "/dev/stdin"]).stdin_piped(CONFIG).env("OPENAI", "sk-0123456789").run().exits(0);
    assert!(done.stderr.contains("6 values are taken, 7 keys are not."), "{}", done.stderr);
    let effective: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(effective["providers"]["openai"]["queue"]["policy"], "drop", "{}", done.stdout);
}
