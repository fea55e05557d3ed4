//! `plugins`: which of the built-in plugins a gateway has, in their order, and how each is set.

mod accounting;
mod rate_limit;
mod redaction;
mod request_log;
mod response_cache;

pub use accounting::{Accounting, Budget, Period, Price};
pub use rate_limit::{KeyLimits, RateLimit};
#[cfg(feature = "plugins")]
pub(crate) use redaction::PATTERN_SIZE;
pub use redaction::{Answers, Kinds, Pattern, Redaction, Unreadable};
pub use request_log::RequestLog;
pub use response_cache::{ModelPattern, ResponseCache};

use serde_json::{Value, json};

use super::known;
use super::near::nearest;
use super::section::{Section, Walk};

/// One built-in plugin, and how it is set.
///
/// ```
/// use sluicegate::Gateway;
/// use sluicegate::config::plugins::Plugin;
/// use sluicegate::serde_json::json;
///
/// # #[cfg(feature = "plugins")] {
/// let builder = Gateway::builder().builtin_plugin("response_cache", json!({ "ttl": "10m" }));
/// let config = builder.builtin_plugin("request_log", json!({})).into_config()?;
/// let names: Vec<_> = config.plugins.iter().map(Plugin::name).collect();
/// assert_eq!(names, ["response_cache", "request_log"]);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Plugin {
    /// A line for each request, in a file or the log.
    RequestLog(RequestLog),
    /// Answers kept for requests that come again.
    ResponseCache(ResponseCache),
    /// Secrets and personal data taken out of what goes to providers.
    Redaction(Redaction),
    /// Limits for each gateway key.
    RateLimit(RateLimit),
    /// Tokens and costs by a price table, with budgets.
    Accounting(Accounting),
}

/// Reads the `config` of a plugin.
type Read = fn(&mut Section<'_>) -> Plugin;

/// The built-in plugins by their names.
const BUILT_IN: [(&str, Read); 5] = [
    ("request_log", |s| Plugin::RequestLog(request_log::read(s))),
    ("response_cache", |s| Plugin::ResponseCache(response_cache::read(s))),
    ("redaction", |s| Plugin::Redaction(redaction::read(s))),
    ("rate_limit", |s| Plugin::RateLimit(rate_limit::read(s))),
    ("accounting", |s| Plugin::Accounting(accounting::read(s))),
];

impl Plugin {
    /// Its name, in the configuration and in figures.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RequestLog(_) => "request_log",
            Self::ResponseCache(_) => "response_cache",
            Self::Redaction(_) => "redaction",
            Self::RateLimit(_) => "rate_limit",
            Self::Accounting(_) => "accounting",
        }
    }
}

/// Reads `plugins`. Bifrost's are left out with a warning, and one that is off is left out.
pub(super) fn plugins(s: &mut Section<'_>) -> Vec<Plugin> {
    let raw = s.by_hand("plugins", schema());
    let (walk, path) = (s.walk(), s.path_of("plugins"));
    let mut plugins: Vec<Plugin> = Vec::new();
    let mut effective = Vec::new();
    match raw {
        None => {}
        Some(Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                let Some((plugin, shown)) = plugin(item, path.clone(), walk) else { continue };
                if plugins.iter().any(|known| known.name() == plugin.name()) {
                    walk.problem(path, format!("there is another {:?} before it; a plugin stands once", plugin.name()));
                }
                plugins.push(plugin);
                effective.push(shown);
            }
        }
        Some(_) => {
            walk.problem(path, "found something that is no list; write a list of { \"name\": …, \"config\": … }")
        }
    }
    if !cfg!(feature = "plugins") && !plugins.is_empty() {
        s.problem("plugins", "this program was built without the feature \"plugins\", and has none");
    }
    s.show("plugins", Value::Array(effective));
    plugins
}

/// A line for each request, with every setting's default.
pub(super) fn request_log() -> (Plugin, Value) {
    let no_env = |_: &str| None;
    let (plugin, outcome) = Section::read(&Walk::reading(&no_env), String::new(), None, |s| {
        s.show("name", Value::from("request_log"));
        s.section("config", |s| Plugin::RequestLog(request_log::read(s)))
    });
    (plugin, outcome.effective)
}

/// One of the list, and what it comes to.
fn plugin(item: &Value, path: String, walk: &Walk<'_>) -> Option<(Plugin, Value)> {
    let name = item.get("name").and_then(Value::as_str);
    if item.get("enabled") == Some(&Value::Bool(false)) {
        return None;
    }
    match (name, item) {
        (Some(name), Value::Object(object)) => {
            let Some((name, read)) = BUILT_IN.iter().find(|(known, _)| *known == name) else {
                if let Some(known::Foreign { means, instead, .. }) =
                    known::PLUGINS.iter().find(|known| known.key == name)
                {
                    let advice = if instead.is_empty() { String::new() } else { format!("; {instead}") };
                    let message = format!("Bifrost's plugin {name:?} is not supported and has no effect{advice}");
                    walk.leave_out(&path, &message, means, instead);
                } else {
                    let near = nearest(name, BUILT_IN.iter().map(|(known, _)| *known));
                    let near = near.map_or(String::new(), |near| format!("; the nearest is {near:?}"));
                    walk.problem(path, format!("there is no built-in plugin {name:?}{near}"));
                }
                return None;
            };
            let (plugin, outcome) = Section::read(walk, path, Some(object), |s| {
                s.by_hand("name", Value::Null);
                s.show("name", Value::from(*name));
                s.by_hand("enabled", Value::Null);
                s.section("config", read)
            });
            Some((plugin, outcome.effective))
        }
        _ => {
            walk.problem(path, "it needs a name: { \"name\": …, \"config\": … }");
            None
        }
    }
}

/// The list as a JSON schema: one shape for each plugin.
fn schema() -> Value {
    let no_env = |_: &str| None;
    let walk = Walk::describing(&no_env);
    let shapes = BUILT_IN.iter().map(|(name, read)| {
        let (_, outcome) = Section::read(&walk, String::new(), None, read);
        json!({
            "type": "object",
            "properties": { "name": { "const": name }, "enabled": { "type": "boolean", "default": true }, "config": outcome.schema },
            "required": ["name"],
            "additionalProperties": false,
        })
    });
    json!({ "type": "array", "items": { "anyOf": shapes.collect::<Vec<_>>() } })
}
