//! The configuration loader: any text is told what is wrong with it or comes to a configuration that prints itself.

use serde_json::Value;
use sluicegate::Config;

/// What the environment's variables hold: it may show up nowhere.
const CANARY: &str = "sk-canary-5e0d7";

/// Checks one input: a configuration file's text.
///
/// # Panics
/// If a property does not hold.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if serde_json::from_str(text).is_ok_and(|value: Value| names_a_file(&value)) {
        // It would be read, and a file of this machine may be one that is never at its end.
        return;
    }
    let env = |name: &str| match name {
        "KEY" | "OPENAI_API_KEY" => Some(CANARY.to_owned()),
        "URL" => Some("https://api.example.com/v1".to_owned()),
        "NUMBER" => Some("7".to_owned()),
        _ => None,
    };
    match Config::from_json(text, &env) {
        Err(error) => {
            assert!(!error.problems.is_empty(), "refused for nothing");
            for problem in &error.problems {
                assert!(!problem.message.is_empty());
                let of_the_whole = problem.message.starts_with("the document is not a JSON object");
                assert!(of_the_whole || !problem.path.is_empty(), "no path: {problem}");
            }
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(CANARY) || text.contains(CANARY), "a variable's value is shown: {shown}");
        }
        Ok(config) => {
            let effective = config.effective_json();
            let printed = serde_json::to_string_pretty(&effective).expect("it can be printed");
            let shown = format!("{printed} {config:?}");
            assert!(!shown.contains(CANARY) || text.contains(CANARY), "a variable's value is shown: {shown}");
            let again = Config::from_json(&printed, &|_: &str| None)
                .unwrap_or_else(|error| panic!("what is printed cannot be read again: {error}\n{printed}"));
            assert_eq!(again.effective_json(), effective, "what is printed reads differently");
            let reached = |config: &Config| -> Vec<_> {
                let parts = |network: &sluicegate::config::Network| {
                    (network.base_url.clone(), network.api_prefix, network.allow_private)
                };
                config.providers.iter().map(|provider| (provider.name.clone(), parts(&provider.network))).collect()
            };
            assert_eq!(reached(&again), reached(&config), "what is printed leads elsewhere");
        }
    }
}

fn names_a_file(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with("file:"),
        Value::Array(items) => items.iter().any(names_a_file),
        Value::Object(members) => members.values().any(names_a_file),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
