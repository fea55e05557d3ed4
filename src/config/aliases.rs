//! `aliases`: names of the user's own, each for one or several models, with a strategy and fallbacks.

use std::fmt;

use serde_json::{Map, Value, json};

use super::build::literal;
use super::kinds::{Choice, Limits as _, Number, Parsed, Refusal};
use super::near::nearest;
use super::provider;
use super::raw::join;
use super::section::{Section, Walk};

/// The most aliases.
const MAX_ALIASES: usize = 1024;

/// The most targets of an alias, and the most fallbacks.
const MAX_LISTED: usize = 64;

/// The longest name, in bytes.
const MAX_NAME: usize = 128;

/// The most of a found text that a message shows, in characters.
const SHOWN: usize = 60;

/// A name for one or several models.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Alias {
    /// As a request has it in `model`.
    pub name: String,
    /// What it stands for; at least one, none of them twice.
    pub targets: Vec<AliasTarget>,
    /// Which of them comes first.
    pub strategy: Strategy,
    /// What is tried after them, unless the request names fallbacks of its own.
    pub fallbacks: Vec<ModelRef>,
}

/// One of an alias's targets.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AliasTarget {
    /// The model, and whose it is.
    pub model: ModelRef,
    /// How often it comes first beside the others: a share of the sum of all. One of 0 comes first only if all are.
    pub weight: f64,
}

/// A model of a configured provider. Prints as `provider/model`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    /// The provider's name.
    pub provider: String,
    /// The model as the provider knows it.
    pub model: String,
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

/// In which order an alias's targets are tried.
///
/// ```
/// use sluicegate::{AliasSetup, ChatRequest, Gateway, ProviderSetup, Strategy};
///
/// let gateway = Gateway::builder()
///     .provider(ProviderSetup::sim("one"))
///     .provider(ProviderSetup::sim("two"))
///     .alias(AliasSetup::new("any", "one/echo").target("two/echo").strategy(Strategy::Order))
///     .build()?;
/// let reply = gateway.chat(&ChatRequest::new("any", "Hello"))?;
/// assert_eq!(&*reply.served().provider, "one");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// Drawn by weight, without replacement.
    #[default]
    Weighted,
    /// The provider with the smallest share of its workers at work first.
    LeastBusy,
    /// The one that answered fastest of late first.
    Latency,
    /// As they are written.
    Order,
}

/// The words for them.
pub(super) const STRATEGIES: &[(&str, Strategy)] = &[
    ("weighted", Strategy::Weighted),
    ("least_busy", Strategy::LeastBusy),
    ("latency", Strategy::Latency),
    ("order", Strategy::Order),
];

/// What a target's text is judged by.
#[derive(Default)]
pub(super) struct Names<'a> {
    pub(super) providers: Vec<&'a str>,
    pub(super) aliases: Vec<&'a str>,
}

/// A text that was read, its references replaced.
struct Written(String);

impl Written {
    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() { Err("\"provider/model\"".into()) } else { Ok(Self(text.to_owned())) }
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An alias may be written as its only target alone.
pub(super) fn spread(document: &mut Map<String, Value>) {
    let aliases = document.get_mut("aliases").and_then(Value::as_object_mut);
    for alias in aliases.into_iter().flat_map(Map::values_mut).filter(|alias| alias.is_string()) {
        *alias = json!({ "targets": [{ "model": alias.take() }] });
    }
}

/// Reads `aliases` of the whole document, whose `providers` they name, or those that are there `before` it.
pub(super) fn aliases<'a>(s: &mut Section<'a>, before: Names<'a>) -> Vec<Alias> {
    let (walk, path) = (s.walk(), s.path_of("aliases"));
    let written = s.object_at("aliases");
    let Names { mut providers, mut aliases } = before;
    // One that has problems of its own is there all the same: it is not to be told twice.
    let configured = s.raw("providers").and_then(Value::as_object).into_iter().flatten();
    let usable =
        configured.filter(|(name, raw)| provider::check_name(name).is_ok() && provider::left_out(name, raw).is_none());
    providers.extend(usable.map(|(name, _)| name.as_str()));
    aliases.extend(written.into_iter().flat_map(Map::keys).map(String::as_str));
    let names = Names { providers, aliases };
    if names.aliases.len() > MAX_ALIASES {
        walk.problem(path.clone(), format!("there are {}; at most {MAX_ALIASES} are taken", names.aliases.len()));
    }
    let (mut aliases, mut effective) = (Vec::new(), Map::new());
    for (name, raw) in written.into_iter().flatten().take(MAX_ALIASES) {
        let path = join(&path, name);
        if let Err(rule) = check_name(name) {
            walk.problem(path, rule);
        } else if let Value::Object(object) = raw {
            let (alias, outcome) = Section::read(walk, path, Some(object), |s| alias(name, s, &names));
            aliases.push(alias);
            effective.insert(name.clone(), outcome.effective);
        } else {
            walk.problem(path, "an alias is \"provider/model\", or an object with \"targets\"");
        }
    }
    let none = Names::default();
    let (_, outcome) = Section::read(&Walk::describing(&|_: &str| None), String::new(), None, |s| alias("", s, &none));
    let alone = json!({"type": "string", "minLength": 1});
    s.declare("aliases", json!({"type": "object", "additionalProperties": {"anyOf": [alone, outcome.schema]}}));
    s.show("aliases", Value::Object(effective));
    aliases
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = !name.is_empty()
        && name.len() <= MAX_NAME
        && name.trim() == name
        // A star would be taken for a pattern where a client's models are listed.
        && !name.contains(|c: char| c.is_control() || c == '*');
    if fits {
        Ok(())
    } else {
        Err(format!("an alias's name is 1 to {MAX_NAME} bytes, without control characters, \"*\" or spaces around it"))
    }
}

fn alias(name: &str, s: &mut Section<'_>, names: &Names<'_>) -> Alias {
    let strategy = Choice { built: STRATEGIES, unbuilt: &[], default: Some(Strategy::default()) };
    let targets = s.list("targets", |_, s| target(s, names));
    if targets.as_ref().is_none_or(Vec::is_empty) && s.raw("targets").is_none_or(|raw| raw.is_null() || raw.is_array())
    {
        s.problem("targets", "it stands for nothing; write [{ \"model\": \"provider/model\" }]");
    }
    let targets: Vec<_> = targets.into_iter().flatten().flatten().collect();
    too_many(s, "targets", targets.len());
    // Which of the two weights would count?
    if (1..targets.len()).any(|at| targets[..at].iter().any(|other| other.model == targets[at].model)) {
        s.problem("targets", "two of them are the same model; write it once, with one weight");
    }
    if targets.len() > 1 && targets.iter().all(|target| target.weight == 0.0) {
        s.warn("targets", "every weight is 0, so they are taken in the order in which they stand");
    }
    let strategy = s.get("strategy", strategy).unwrap_or_default();
    Alias { name: name.to_owned(), targets, strategy, fallbacks: fallbacks(s, names) }
}

fn target(s: &mut Section<'_>, names: &Names<'_>) -> Option<AliasTarget> {
    if s.raw("model").is_none_or(Value::is_null) {
        s.problem("model", "it is missing; write \"provider/model\"");
    }
    let written = s.get("model", Parsed(Written::parse));
    let weight = s.get("weight", Number(1.0).hard(0.0, 1_000_000.0));
    let model = written.and_then(|written| match names.judge(&written.0) {
        Ok(model) => Some(model),
        Err(wrong) => {
            s.problem("model", wrong.of(s.raw("model")));
            None
        }
    })?;
    Some(AliasTarget { model, weight })
}

fn fallbacks(s: &mut Section<'_>, names: &Names<'_>) -> Vec<ModelRef> {
    let written = s.texts("fallbacks", &Parsed(Written::parse), &json!([])).unwrap_or_default();
    too_many(s, "fallbacks", written.len());
    let raw = s.raw("fallbacks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut fallbacks = Vec::with_capacity(written.len());
    // Of a list with something in it that is no text the places are not known any more.
    for (index, text) in written.iter().enumerate().take_while(|_| raw.len() == written.len()) {
        match names.judge(&text.0) {
            Ok(model) => fallbacks.push(model),
            Err(wrong) => {
                let path = format!("{}[{index}]", s.path_of("fallbacks"));
                s.walk().problem(path, wrong.of(raw.get(index)));
            }
        }
    }
    fallbacks
}

fn too_many(s: &Section<'_>, key: &str, count: usize) {
    if count > MAX_LISTED {
        s.problem(key, format!("there are {count}; at most {MAX_LISTED} are taken"));
    }
}

/// What is wrong with a target's text.
enum Wrong {
    IsAlias,
    HasNoModel,
    HasNoProvider(Option<String>),
}

impl Wrong {
    /// In words, with the text as it stands in the document: what a reference stands for is not shown.
    fn of(&self, raw: Option<&Value>) -> String {
        let found = shown(raw.and_then(|raw| literal(raw).or(raw.as_str())).unwrap_or_default());
        match self {
            Self::IsAlias => {
                format!("{found} is an alias, and an alias may not name an alias; write \"provider/model\"")
            }
            Self::HasNoModel => format!("found {found}; write \"provider/model\""),
            Self::HasNoProvider(near) => {
                let near = near.as_ref().map_or(String::new(), |near| format!("; the nearest is {near:?}"));
                format!("the provider that {found} names is not configured{near}")
            }
        }
    }
}

impl Names<'_> {
    /// The model that a text names. It is looked for at the providers alone, so that an alias may bear a model's whole name
    /// and stand for that model: whoever asks for it has the alias's fallbacks then.
    fn judge(&self, text: &str) -> Result<ModelRef, Wrong> {
        let wrong = |other: Wrong| if self.aliases.contains(&text) { Wrong::IsAlias } else { other };
        let (provider, model) = text.split_once('/').ok_or_else(|| wrong(Wrong::HasNoModel))?;
        if !self.providers.contains(&provider) {
            let near = nearest(provider, self.providers.iter().copied());
            return Err(wrong(Wrong::HasNoProvider(near.map(str::to_owned))));
        }
        if model.is_empty() {
            return Err(Wrong::HasNoModel);
        }
        Ok(ModelRef { provider: provider.to_owned(), model: model.to_owned() })
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(SHOWN).collect::<String>())
}
