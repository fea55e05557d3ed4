//! `plugins`: the settings of `response_cache`.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::kinds::{Bytes, Flag, Limits as _, Parsed, Refusal, Span, millis, secs};
use crate::config::section::Section;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// Answers kept for requests that come again.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ResponseCache {
    /// What all entries and all streams being recorded may take, in bytes.
    pub max_bytes: usize,
    /// The longest answer that is kept, in bytes.
    pub max_entry_bytes: usize,
    /// How long an answer is good for.
    pub ttl: Duration,
    /// Requests for which models are looked at, by the name that they ask for.
    pub models: Vec<ModelPattern>,
    /// Whether nothing is kept but embeddings and what was asked for at temperature 0.
    pub only_deterministic: bool,
    /// Whether a request waits for an equal one that is under way.
    pub join: bool,
}

/// Reads its `config`.
pub(super) fn read(s: &mut Section<'_>) -> ResponseCache {
    let max_bytes = s.get("max_bytes", Bytes(64 * MIB).hard(64 * KIB, 1024 * GIB));
    let cache = ResponseCache {
        max_bytes,
        max_entry_bytes: s.get("max_entry_bytes", Bytes(MIB.min(max_bytes)).hard(KIB, 64 * MIB)),
        ttl: s.get("ttl", Span(secs(300)).hard(millis(1), secs(30 * 86_400))),
        models: s.texts("models", &Parsed(ModelPattern::parse), &json!(["*"])).unwrap_or_else(ModelPattern::all),
        only_deterministic: s.get("only_deterministic", Flag(false)),
        join: s.get("join", Flag(true)),
    };
    if s.raw("models").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        s.problem("models", "an empty list names no model; write [\"*\"] for all of them, or leave it out");
    }
    if cache.max_entry_bytes > cache.max_bytes {
        s.problem("max_entry_bytes", "it is more than max_bytes, so that such an answer is never kept");
    }
    cache
}

/// Names of models: one, or all that begin alike. Prints as it is written.
///
/// ```
/// use sluicegate::Gateway;
/// use sluicegate::config::plugins::Plugin;
/// use sluicegate::serde_json::json;
///
/// # #[cfg(feature = "plugins")] {
/// let config = Gateway::builder().builtin_plugin("response_cache", json!({ "models": ["sim/*"] })).into_config()?;
/// let Some(Plugin::ResponseCache(cache)) = config.plugins.first() else { panic!("it is the only one") };
/// assert!(cache.models[0].matches("sim/echo") && !cache.models[0].matches("openai/gpt-4o"));
/// assert_eq!(cache.models[0].to_string(), "sim/*");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPattern {
    begins: String,
    /// Whether anything may follow.
    open: bool,
}

impl ModelPattern {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let (begins, open) = text.strip_suffix('*').map_or((text, false), |begins| (begins, true));
        if begins.contains('*') || (begins.is_empty() && !open) {
            return Err(
                "the name of a model or an alias, which a '*' may end: \"openai/gpt-4o\", \"sim/*\", \"*\"".into()
            );
        }
        Ok(Self { begins: begins.to_owned(), open })
    }

    /// The one that every name matches, which stands where nothing is said.
    fn all() -> Vec<Self> {
        vec![Self { begins: String::new(), open: true }]
    }

    /// Whether `name` is one of these.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if self.open { name.starts_with(&self.begins) } else { name == self.begins }
    }
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.begins, if self.open { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_how_names_begin() {
        let matches = |pattern: &str, name: &str| ModelPattern::parse(pattern).expect("a pattern").matches(name);
        for (pattern, name, wanted) in [
            ("*", "", true),
            ("*", "openai/gpt-4o", true),
            ("openai/*", "openai/gpt-4o", true),
            ("openai/*", "openai2/gpt-4o", false),
            ("openai/gpt-4*", "openai/gpt-4o-mini", true),
            ("fast", "fast", true),
            ("fast", "faster", false),
            ("Fast", "fast", false),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
        for wrong in ["", "a*b", "**", "*/gpt"] {
            assert!(ModelPattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
