//! A document of Bifrost's, key by key: what of it is in force here, and what is not.

use serde_json::{Map, Value};

use super::section::{Findings, Walk};
use super::{Env, aliases, raw, resolve, spread_keys};

/// What `$schema` names in its files.
const SCHEMA: &str = "getbifrost";

/// A document of Bifrost's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The paths of the values that are in force, in the document's order.
    pub taken: Vec<String>,
    /// What is not.
    pub left: Vec<LeftOut>,
}

/// A part of it that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it stands.
    pub path: String,
    /// What it means there.
    pub means: &'static str,
    /// What does the same here; empty if nothing does.
    pub instead: &'static str,
}

impl Imported {
    /// Reads a document; `None` if it is none, or has nothing that only Bifrost knows.
    pub(super) fn from_json(text: &str, env: &Env<'_>) -> Option<Self> {
        Self::of(raw::parse(text).ok()?, env)
    }

    fn of(mut document: Map<String, Value>, env: &Env<'_>) -> Option<Self> {
        let is_named = document.get("$schema").and_then(Value::as_str).is_some_and(|schema| schema.contains(SCHEMA));
        let mut values = Vec::new();
        for (key, value) in document.iter().filter(|(key, _)| *key != "$schema") {
            leaves(&raw::join("", key), value, &mut values);
        }
        spread_keys(&mut document);
        aliases::spread(&mut document);
        let walk = Walk::reading(env);
        resolve(&walk, &document);
        let Findings { problems, left, .. } = walk.into_findings();
        if left.is_empty() && !is_named {
            return None;
        }
        let off = |path: &String| {
            left.iter()
                .map(|left| &left.path)
                .chain(problems.iter().map(|problem| &problem.path))
                .any(|at| holds(at, path))
        };
        values.retain(|path| !off(path));
        Some(Self { taken: values, left })
    }

    /// Whether a line such as `providers.openai.keys[0].id: …` is about something that is left out.
    #[must_use]
    pub fn tells(&self, warning: &str) -> bool {
        self.left.iter().any(|left| warning.strip_prefix(&left.path).is_some_and(|rest| rest.starts_with(": ")))
    }
}

/// Whether the value at `path` is the one at `at`, or lies in it.
fn holds(at: &str, path: &str) -> bool {
    path.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The paths of all values that are no object of further ones.
fn leaves(path: &str, value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            entries.iter().for_each(|(key, value)| leaves(&raw::join(path, key), value, into));
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(index, item)| leaves(&format!("{path}[{index}]"), item, into));
        }
        _ => into.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str) -> Option<Imported> {
        Imported::of(raw::parse(text).expect("JSON"), &|name| (name == "KEY").then(|| "sk-0000".to_owned()))
    }

    #[test]
    fn every_value_is_either_taken_or_left_out_or_wrong() {
        let text = r#"{
            "$schema": "https://www.getbifrost.ai/schema",
            "client": { "drop_excess_requests": true, "enable_logging": true },
            "governance": { "virtual_keys": [{ "id": "x" }] },
            "plugins": [{ "name": "telemetry", "enabled": true, "config": { "a": 1 } }],
            "providers": {
                "openai": { "keys": [{ "id": "1", "name": "a", "value": "env.KEY", "models": ["*"] }],
                            "concurrency_and_buffer_size": { "concurrency": "many" } },
                "vertex": { "keys": [{ "vertex_key_config": {} }] }
            }
        }"#;
        let found = imported(text).expect("it is Bifrost's");
        let taken = [
            "client.drop_excess_requests",
            "providers.openai.keys[0].name",
            "providers.openai.keys[0].value",
            "providers.openai.keys[0].models",
        ];
        assert_eq!(found.taken, taken);
        let left: Vec<_> = found.left.iter().map(|left| left.path.as_str()).collect();
        let expected =
            ["client.enable_logging", "providers.openai.keys[0].id", "providers.vertex", "plugins[0]", "governance"];
        assert_eq!(left, expected);
        assert!(found.left.iter().all(|left| !left.means.is_empty()));
        assert!(found.tells("governance: whatever") && !found.tells("governance.x: other") && !found.tells("other"));
    }

    #[test]
    fn a_document_of_ours_is_none() {
        assert_eq!(imported(r#"{ "providers": { "sim": {} } }"#), None);
        assert!(imported(r#"{ "mcp": {} }"#).is_some_and(|found| found.taken.is_empty()));
        assert!(imported(r#"{ "$schema": "https://www.getbifrost.ai/schema", "providers": { "sim": {} } }"#).is_some());
    }
}
