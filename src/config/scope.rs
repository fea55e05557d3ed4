//! What a caller may ask for: the models that a gateway key names, judged by provider and model as they were resolved.

use std::fmt;
use std::sync::Arc;

use super::kinds::Refusal;
use crate::error::{Code, Error};

/// The most of a model's name that an error shows, in characters.
const SHOWN: usize = 120;

/// What a caller may ask for; everything by default. Cheap to clone.
///
/// The judgement stands on what a name was resolved to, so that no spelling of it and no route with a provider of its own
/// leads past it.
///
/// ```
/// use sluicegate::config::GatewayKeySetup;
/// use sluicegate::{Gateway, ProviderSetup};
///
/// let search = GatewayKeySetup::new("search", "gk-0123456789").models(["sim/echo"]);
/// let config = Gateway::builder().provider(ProviderSetup::sim("sim")).gateway_key(search).into_config()?;
/// let scope = &config.server.keys[0].scope;
/// assert!(scope.allows("sim", "echo") && !scope.allows("sim", "hang"));
/// assert!(!scope.is_any());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Scope(Option<Arc<[Entry]>>);

/// One line of a key's `models`. Prints as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// `*`
    Any,
    /// `provider/*`
    Provider(String),
    /// `provider/model`, which may be the name of an alias as well
    Model(String, String),
    /// An alias's name without a slash
    Alias(String),
}

impl Entry {
    /// Reads an entry.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let expects = || Refusal::from("\"provider/model\", \"provider/*\", the name of an alias or \"*\"");
        match text.split_once('/') {
            _ if text == "*" => Ok(Self::Any),
            Some((provider, model)) if provider.is_empty() || model.is_empty() || provider.contains('*') => {
                Err(expects())
            }
            Some((provider, "*")) => Ok(Self::Provider(provider.to_owned())),
            // A pattern within a name would be taken for the name itself, and let nobody in.
            Some((_, model)) if model.contains('*') => Err(expects()),
            Some((provider, model)) => Ok(Self::Model(provider.to_owned(), model.to_owned())),
            None if text.is_empty() || text.contains('*') => Err(expects()),
            None => Ok(Self::Alias(text.to_owned())),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Provider(provider) => write!(f, "{provider}/*"),
            Self::Model(provider, model) => write!(f, "{provider}/{model}"),
            Self::Alias(name) => f.write_str(name),
        }
    }
}

impl Scope {
    /// What `entries` name; everything if `*` is among them.
    pub(super) fn of(entries: Vec<Entry>) -> Self {
        Self((!entries.contains(&Entry::Any)).then(|| entries.into()))
    }

    /// Whether it restricts nothing.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_none()
    }

    /// Whether `model` of `provider` is within it.
    #[must_use]
    pub fn allows(&self, provider: &str, model: &str) -> bool {
        self.0.as_ref().is_none_or(|entries| {
            entries.iter().any(|entry| match entry {
                Entry::Any => true,
                Entry::Provider(own) => own == provider,
                Entry::Model(own, name) => own == provider && name == model,
                Entry::Alias(_) => false,
            })
        })
    }

    /// Whether something of `provider`'s is within it.
    #[must_use]
    #[doc(hidden)]
    pub fn names_any_of(&self, provider: &str) -> bool {
        self.0.as_ref().is_none_or(|entries| {
            entries.iter().any(|entry| match entry {
                Entry::Any => true,
                Entry::Provider(own) | Entry::Model(own, _) => own == provider,
                Entry::Alias(_) => false,
            })
        })
    }

    /// Whether it names the alias `name`: whoever may use that may use what it stands for.
    #[must_use]
    #[doc(hidden)]
    pub fn names_alias(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|entries| {
            entries.iter().any(|entry| match entry {
                Entry::Any => true,
                Entry::Provider(_) => false,
                Entry::Model(provider, model) => {
                    name.split_once('/').is_some_and(|(left, right)| left == provider && right == model)
                }
                Entry::Alias(own) => own == name,
            })
        })
    }

    /// What it names that can be nothing but an alias.
    pub(super) fn aliases(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|entries| entries.iter()).filter_map(|entry| match entry {
            Entry::Alias(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Its lines as they are written; none where it restricts nothing.
    #[cfg(feature = "plugins")]
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(|entries| entries.iter()).map(ToString::to_string)
    }

    /// Whether every model of `provider` is within it.
    #[must_use]
    #[doc(hidden)]
    pub fn allows_all(&self, provider: &str) -> bool {
        // Of a nameless model nothing but the whole provider's line can say so.
        self.allows(provider, "")
    }

    /// Whether `name`, in the form `provider/model`, is within it: what a list of models shows.
    #[must_use]
    #[doc(hidden)]
    pub fn lists(&self, name: &str) -> bool {
        self.is_any() || name.split_once('/').is_some_and(|(provider, model)| self.allows(provider, model))
    }

    /// The refusal of `name`, as the caller wrote it.
    #[must_use]
    #[doc(hidden)]
    pub fn forbidden(&self, name: &str) -> Error {
        let shown: String = name.chars().take(SHOWN).collect();
        Error::new(Code::Forbidden, format!("this gateway key may not use the model {shown:?}")).with_param("model")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(entries: &[&str]) -> Scope {
        Scope::of(
            entries.iter().map(|entry| Entry::parse(entry).unwrap_or_else(|e| panic!("{entry}: {e:?}"))).collect(),
        )
    }

    #[test]
    fn a_scope_lets_through_what_it_names_and_nothing_else() {
        let some = scope(&["openai/gpt-4o", "sim/*", "x/org/model:free"]);
        for (name, within) in [
            ("openai/gpt-4o", true),
            ("openai/gpt-4o-mini", false),
            ("openai/GPT-4o", false),
            ("openai/gpt-4", false),
            ("openai/*", false),
            ("sim/echo", true),
            ("sim/a/b", true),
            ("simulated/echo", false),
            ("x/org/model:free", true),
            ("x/org", false),
            ("gpt-4o", false),
            ("sim", false),
            ("", false),
            ("*", false),
        ] {
            assert_eq!(some.lists(name), within, "{name:?}");
        }
        assert!(!some.is_any());
        assert!(some.allows_all("sim") && !some.allows_all("openai") && !some.allows_all("x"));
    }

    #[test]
    fn everything_is_within_a_star_and_within_no_restriction() {
        for any in [Scope::default(), scope(&["*"]), scope(&["openai/gpt-4o", "*"])] {
            assert!(any.is_any() && any.lists("a/b") && any.lists("alias") && any.allows_all("a"));
        }
        assert!(!scope(&[]).lists("a/b"), "no entry is no model");
    }

    #[test]
    fn an_entry_is_a_model_a_provider_an_alias_or_everything() {
        for wrong in ["", "/", "a/", "/b", "*/b", "a/b*", "a/*/c", "a*", "**", "*/*"] {
            assert!(matches!(Entry::parse(wrong), Err(Refusal::Expects(_))), "{wrong:?}");
        }
        for right in ["*", "a/*", "a/b", "a/b/c", "fast"] {
            assert_eq!(Entry::parse(right).map(|entry| entry.to_string()), Ok(right.to_owned()));
        }
    }

    /// A provider's line says nothing of an alias that only looks like one of its models.
    #[test]
    fn an_alias_is_named_whole_and_stands_for_no_model() {
        let some = scope(&["fast", "a/*", "b/m"]);
        for (name, named) in
            [("fast", true), ("b/m", true), ("fas", false), ("faster", false), ("a/x", false), ("", false)]
        {
            assert_eq!(some.names_alias(name), named, "{name:?}");
        }
        assert!(!some.lists("fast") && !some.allows("", "fast") && !some.allows("fast", ""));
        assert!(Scope::default().names_alias("any") && scope(&["*"]).names_alias("any"));
        assert_eq!(some.aliases().collect::<Vec<_>>(), ["fast"]);
    }

    #[test]
    fn a_refusal_names_the_model_and_no_more_than_fits() {
        let error = scope(&["a/b"]).forbidden(&"m".repeat(5000));
        assert_eq!((error.code(), error.param()), (Code::Forbidden, Some("model")));
        assert!(error.message().contains(&"m".repeat(SHOWN)) && error.message().len() < 200);
    }
}
