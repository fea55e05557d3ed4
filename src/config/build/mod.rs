//! A configuration written in Rust: each setter puts one value where a file would have it, and the one resolution reads it.
//!
//! What a program says becomes a [`Draft`], the document that a file could hold, and goes the way of every document: its
//! defaults, ranges, messages and paths are those of the tables in `provider` and `server`, and stand nowhere twice. What
//! types can say is said by types (times, enums, [`Concurrency`], [`Secret`]); the rest is told at the end, all at once.
//!
//! **Texts are taken as they are.** In a file `env.NAME` stands for a variable; a key that a program holds may look like that
//! and means itself. Such a text stands in the draft under a mark of its own, [`literal`], which the walk takes off again.

mod names;
mod parts;
mod provider;

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

pub use names::{AliasSetup, GatewayKeySetup};
pub use parts::{BreakerSetup, KeySetup, RateLimitSetup, ScalingSetup};
pub use provider::{Concurrency, ProviderSetup};

use super::aliases::STRATEGIES;
use super::error::Problem;
use super::expand::{Env, refers};
use super::provider::{STREAM_GARBAGE, STREAM_RECOVERIES, word_of};
use super::section::{Section, Walk};
use super::types::{Policy, StreamGarbage, StreamRecovery};
use super::{
    Config, ConfigError, NO_SUCH_ALIAS, Strategy, aliases, provider as read_provider, providers, raw,
    warn_of_strange_scopes,
};
use crate::secret::Secret;
use crate::time::format_duration;

/// The mark of a text that means itself although it looks like a reference. No name of a key begins like this.
const LITERALLY: &str = "\0literally";

/// The sections whose entries have names of the user's own: to these a program can add.
const NAMED: [&str; 2] = ["providers", "aliases"];

/// Makes setters, each of which puts its value at one place of the document. `$type` has its part of that in `draft`.
macro_rules! setters {
    ($type:ident: $($(#[$doc:meta])* $name:ident($kind:ty) => $($key:literal).+;)*) => {
        impl $type {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(mut self, value: $kind) -> Self {
                    self.draft.set(&[$($key),+], value);
                    self
                }
            )*
        }

        #[cfg(test)]
        impl $type {
            /// Where the setters put their values.
            pub(crate) const PLACES: &'static [&'static [&'static str]] = &[$(&[$($key),+]),*];
        }
    };
}
pub(crate) use setters;

/// What a program has said of a configuration, or of a part of one.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Draft {
    document: Map<String, Value>,
    /// The paths of names that were given twice.
    twice: Vec<String>,
}

impl Draft {
    /// Puts `value` where `path` leads, in the place of what stood there.
    pub(crate) fn set(&mut self, path: &[&str], value: impl Said) {
        let (last, sections) = path.split_last().unwrap_or((&"", &[]));
        self.section(sections).insert((*last).to_owned(), value.said());
    }

    /// Appends to the list that `path` leads to.
    pub(crate) fn push(&mut self, path: &[&str], value: impl Said) {
        let (last, sections) = path.split_last().unwrap_or((&"", &[]));
        let list = self.section(sections).entry(*last).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(value.said());
        }
    }

    /// Puts what is named `name` into `section`. One of a name that stands there is a mistake, which is told at the end.
    pub(crate) fn name(&mut self, section: &str, name: String, value: impl Said) {
        let value = value.said();
        if self.section(&[section]).insert(name.clone(), value).is_some() {
            self.twice.push(raw::join(section, &name));
        }
    }

    /// What `name` has in the section `section`.
    pub(crate) fn named(&self, section: &str, name: &str) -> Option<&Value> {
        self.document.get(section)?.get(name)
    }

    /// Whether nothing was said.
    pub(crate) fn is_empty(&self) -> bool {
        self.document.is_empty()
    }

    fn section(&mut self, path: &[&str]) -> &mut Map<String, Value> {
        path.iter().fold(&mut self.document, |object, key| {
            let entry = object.entry(*key).or_insert(Value::Null);
            if !entry.is_object() {
                *entry = Value::Object(Map::new());
            }
            match entry {
                Value::Object(object) => object,
                _ => unreachable!("it was made one"),
            }
        })
    }

    /// What is wrong with it whatever its values are, where `config` came of it.
    fn problems(&self, config: Option<&Config>) -> Vec<Problem> {
        let problem = |path, message: &str| Problem { path, message: message.to_owned() };
        let mut problems: Vec<_> =
            self.twice.iter().map(|path| problem(path.clone(), "it is given twice; give it once")).collect();
        let named = self.document.get("providers").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        for lost in named.filter(|name| config.is_some_and(|config| config.provider(name).is_none())) {
            // A file of Bifrost's may have it and starts without it; who writes it here means it.
            problems.push(problem(raw::join("providers", lost), "there is no such provider here"));
        }
        problems
    }
}

/// Shows where something was said and nothing of what: keys stand there (I10).
impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.document.keys()).finish()
    }
}

impl Config {
    /// The configuration that a program has written; without providers it has those of the environment.
    pub(crate) fn from_draft(draft: &Draft, env: &Env<'_>) -> Result<Self, ConfigError> {
        let resolved = Self::from_document(draft.document.clone(), env);
        let mut problems = draft.problems(resolved.as_ref().ok());
        match resolved {
            Ok(config) if problems.is_empty() => Ok(config),
            Ok(_) => Err(ConfigError { file: None, problems }),
            Err(error) => {
                problems.extend(error.problems);
                Err(ConfigError { problems, ..error })
            }
        }
    }

    /// This configuration and what a program adds to it: providers and aliases, under names that it does not have. They stay
    /// when it is read again.
    ///
    /// # Errors
    /// What is wrong with the additions, among it whatever would change what is there.
    pub(crate) fn extended(mut self, more: &Draft, env: &Env<'_>) -> Result<Self, ConfigError> {
        if more.is_empty() {
            return Ok(self);
        }
        let walk = Walk::reading(env);
        let mut additions = more.document.clone();
        let others: Vec<_> = additions.keys().filter(|key| !NAMED.contains(&key.as_str())).cloned().collect();
        for section in others {
            let keys = additions.shift_remove(&section);
            for key in keys.iter().filter_map(Value::as_object).flat_map(Map::keys) {
                walk.problem(
                    raw::join(&section, key),
                    "the configuration that was given says this, or leaves it at its default; say it there",
                );
            }
        }
        let has = |section: &str, name: &str| match section {
            "providers" => self.provider(name).is_some(),
            _ => self.aliases.iter().any(|alias| alias.name == name),
        };
        for section in NAMED {
            for name in additions.get(section).and_then(Value::as_object).into_iter().flat_map(Map::keys) {
                if has(section, name) {
                    let path = raw::join(section, name);
                    walk.problem(path, "the configuration that was given has this name already; take another");
                }
            }
        }
        let names = aliases::Names {
            providers: self.providers.iter().map(|provider| provider.name.as_str()).collect(),
            aliases: self.aliases.iter().map(|alias| alias.name.as_str()).collect(),
        };
        let around = read_provider::Around { client: &self.client, threads: &self.threads };
        let ((more_providers, more_aliases), outcome) = Section::read(&walk, String::new(), Some(&additions), |s| {
            (providers(s, &around), aliases::aliases(s, names))
        });
        self.providers.extend(more_providers);
        self.aliases.extend(more_aliases);
        // A client may have been kept to an alias that comes only now.
        self.warnings.retain(|warning| !warning.contains(NO_SUCH_ALIAS));
        warn_of_strange_scopes(&self.server, &self.aliases, &walk);
        let mut found = walk.into_findings();
        // Of a provider that has problems of its own nothing more is told.
        let whole = found.problems.is_empty().then_some(&self);
        found.problems.splice(..0, more.problems(whole));
        if !found.problems.is_empty() {
            return Err(ConfigError { file: None, problems: found.problems });
        }
        if let (Some(all), Value::Object(more)) =
            (self.effective["aliases"].as_object_mut(), &outcome.effective["aliases"])
        {
            all.extend(more.clone());
        }
        self.warnings.extend(found.warnings);
        self.files.extend(found.files);
        self.added = more.clone();
        Ok(self)
    }
}

/// The text that stands literally in a document's `value`, if one does.
pub(super) fn literal(value: &Value) -> Option<&str> {
    value.as_object().filter(|object| object.len() == 1)?.get(LITERALLY)?.as_str()
}

/// A text that means itself.
fn text(text: &str) -> Value {
    if refers(text) { json!({ LITERALLY: text }) } else { text.into() }
}

/// What a setter takes, as a document has it.
pub(crate) trait Said {
    /// The value of a key.
    fn said(self) -> Value;
}

impl Said for Value {
    fn said(self) -> Value {
        self
    }
}

impl Said for Draft {
    fn said(self) -> Value {
        Value::Object(self.document)
    }
}

impl Said for &str {
    fn said(self) -> Value {
        text(self)
    }
}

impl Said for &Secret {
    fn said(self) -> Value {
        text(self.expose())
    }
}

impl Said for bool {
    fn said(self) -> Value {
        self.into()
    }
}

impl Said for usize {
    fn said(self) -> Value {
        self.into()
    }
}

impl Said for f64 {
    /// What is no number is shown to whoever wrote it.
    fn said(self) -> Value {
        serde_json::Number::from_f64(self).map_or_else(|| self.to_string().into(), Value::Number)
    }
}

impl Said for Duration {
    /// A time below a microsecond is none.
    fn said(self) -> Value {
        format_duration(self).into()
    }
}

impl Said for Policy {
    fn said(self) -> Value {
        self.as_str().into()
    }
}

impl Said for StreamRecovery {
    fn said(self) -> Value {
        word_of(STREAM_RECOVERIES, self).into()
    }
}

impl Said for StreamGarbage {
    fn said(self) -> Value {
        word_of(STREAM_GARBAGE, self).into()
    }
}

impl Said for Strategy {
    fn said(self) -> Value {
        word_of(STRATEGIES, self).into()
    }
}

#[cfg(test)]
mod tests;
