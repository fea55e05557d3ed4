//! The settings of the plugins `redaction` and `request_log`.

use serde_json::{Value, json};
use sluicegate::config::plugins::Plugin;

use super::{problems, taken};

fn with(name: &str, config: Value) -> Value {
    json!({ "providers": { "sim": {} }, "plugins": [{ "name": name, "config": config }] })
}

#[test]
fn redaction_has_its_kinds_and_shows_no_text_of_ones_own() {
    let config = taken(with(
        "redaction",
        json!({
            "kinds": { "phone": false, "us_ssn": true }, "literals": ["env.CANARY", "Falcon"],
            "patterns": [{ "name": "ticket", "pattern": "TCK-\\d+" }], "answers": "redact", "unreadable": "pass",
        }),
    ));
    let [Plugin::Redaction(redaction)] = &config.plugins[..] else { panic!("{:?}", config.plugins) };
    assert!(redaction.kinds.email && !redaction.kinds.phone && redaction.kinds.us_ssn && redaction.restore);
    let shown = &config.effective_json()["plugins"][0]["config"];
    let kinds = json!({
        "api_key": true, "email": true, "phone": false, "credit_card": true, "iban": true, "ip_address": false, "us_ssn": true,
    });
    let wanted = json!({
        "kinds": kinds, "literals": ["[redacted]", "[redacted]"],
        "patterns": [{ "name": "ticket", "pattern": "TCK-\\d+" }],
        "restore": true, "answers": "redact", "unreadable": "pass",
    });
    assert_eq!(*shown, wanted);
    let printed = format!("{config:?} {shown}");
    assert!(!printed.contains("Falcon") && !printed.contains("canary"), "{printed}");
}

#[test]
fn every_wrong_setting_of_redaction_is_told() {
    let found = problems(with(
        "redaction",
        json!({
            "kinds": { "emial": true }, "literals": ["ab"], "answers": "of",
            "patterns": [
                { "name": "email", "pattern": "x" }, { "name": "a", "pattern": "(" }, { "name": "b", "pattern": "x*" },
                { "name": "c" }, { "name": "d", "pattern": "x" }, { "name": "d", "pattern": "y" }, { "name": "e", "pattern": "\\w{9999}" },
            ],
        }),
    ));
    let at = "plugins[0].config";
    let expected = [
        format!("{at}.kinds.emial: there is no such key; the nearest is \"email\""),
        format!("{at}.literals[0]: found \"ab\"; write a text of at least 3 bytes"),
        format!("{at}.patterns[0].name: found \"email\"; write a name of"),
        format!("{at}.patterns[1].pattern: found \"(\"; write a regular expression"),
        format!("{at}.patterns[2].pattern: found \"x*\"; write a pattern that does not match the empty text"),
        format!("{at}.patterns[3].pattern: it is missing"),
        format!("{at}.patterns: two patterns have the name \"d\""),
        format!("{at}.patterns[6].pattern: found \"\\\\w{{9999}}\"; write a regular expression"),
        format!("{at}.answers: found \"of\"; write one of \"off\", \"redact\""),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for start in &expected {
        assert!(found.iter().any(|problem| problem.starts_with(start)), "{start} is missing in {found:#?}");
    }
}

#[test]
fn a_request_log_goes_to_the_log_without_bodies_unless_it_is_told_otherwise() {
    let config = taken(with("request_log", json!({})));
    let [Plugin::RequestLog(log)] = &config.plugins[..] else { panic!("{:?}", config.plugins) };
    assert_eq!((&log.path, log.bodies), (&None, None));
    let config = taken(with("request_log", json!({ "path": "/var/log/x", "bodies": true, "max_body_bytes": "1KiB" })));
    let [Plugin::RequestLog(log)] = &config.plugins[..] else { panic!("{:?}", config.plugins) };
    assert_eq!((log.path.as_deref(), log.bodies), (Some("/var/log/x".as_ref()), Some(1024)));
    let found = problems(with("request_log", json!({ "path": "", "bodies": 1, "max_body_bytes": "2MiB" })));
    assert_eq!(found.len(), 3, "{found:#?}");
}
