//! The walk over the document: a section hands out its keys one by one, and knows at its end which ones nobody asked for.
//!
//! One line per key declares name, kind, default and limits; from the same line come the resolved value, the effective
//! configuration, the schema and the list of known keys, so that none of them can disagree with another. A problem never
//! ends the walk: it is noted, the default stands in, and the next key is read, so that all problems are told at once.

use std::cell::RefCell;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::build::literal;
use super::error::Problem;
use super::expand::{Env, Expanded, expand, named_file};
use super::files::{Files, Stamp};
use super::imported::LeftOut;
use super::kinds::{Hidden, Kind, Parsed, Refusal};
use super::known::{Foreign, first_set};
use super::near::nearest;
use super::raw::join;
use crate::secret::Secret;

/// The most of a found value that a message shows.
const SHOWN: usize = 60;

/// What the whole walk shares.
pub(super) struct Walk<'a> {
    env: &'a Env<'a>,
    /// Every closure runs at least once, so that the schema is whole; what it finds is not meant.
    describing: bool,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<String>>,
    left: RefCell<Vec<LeftOut>>,
    files: RefCell<Vec<(PathBuf, Stamp)>>,
}

/// What a walk came upon beside the values.
pub(super) struct Findings {
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
    /// What is to be warned of.
    pub(super) warnings: Vec<String>,
    /// What of it is Bifrost's and not taken.
    pub(super) left: Vec<LeftOut>,
    /// The files that strings refer to, as they were before they were read.
    pub(super) files: Files,
}

impl<'a> Walk<'a> {
    /// A walk that reads a document.
    pub(super) fn reading(env: &'a Env<'a>) -> Self {
        Self {
            env,
            describing: false,
            problems: RefCell::default(),
            warnings: RefCell::default(),
            left: RefCell::default(),
            files: RefCell::default(),
        }
    }

    /// A walk that collects the schema.
    pub(super) fn describing(env: &'a Env<'a>) -> Self {
        Self { describing: true, ..Self::reading(env) }
    }

    /// What was found.
    pub(super) fn into_findings(self) -> Findings {
        Findings {
            problems: self.problems.into_inner(),
            warnings: self.warnings.into_inner(),
            left: self.left.into_inner(),
            files: Files::stamped(self.files.into_inner()),
        }
    }

    /// Notes a problem.
    pub(super) fn problem(&self, path: String, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { path, message: message.into() });
    }

    /// Whether this collects the schema alone.
    #[cfg(feature = "bedrock")]
    pub(super) fn is_describing(&self) -> bool {
        self.describing
    }

    /// A variable of the environment, if it is set and not empty.
    #[cfg(feature = "bedrock")]
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// Whether a variable of the environment is set and not empty.
    pub(super) fn is_set(&self, variable: &str) -> bool {
        first_set(&[variable], self.env).is_some()
    }

    /// A secret at a path whose key the document chooses; its absence is a problem noted.
    pub(super) fn secret(&self, path: String, raw: &Value) -> Option<Secret> {
        self.read(&Hidden, "", raw).unwrap_or_else(|message| {
            self.problem(path, message);
            None
        })
    }

    /// What a value comes to, its references replaced.
    fn read<K: Kind>(&self, kind: &K, key: &str, raw: &Value) -> Result<K::Out, String> {
        if let Some(path) = raw.as_str().and_then(named_file) {
            self.files.borrow_mut().push((path.to_owned(), Stamp::of(path)));
        }
        let literal = literal(raw).map(Value::from);
        let raw = literal.as_ref().unwrap_or(raw);
        let value = match raw {
            _ if literal.is_some() => raw.clone(),
            Value::String(text) => match expand(text, self.env)? {
                Expanded::Literal => raw.clone(),
                Expanded::Replaced(text) if K::TEXT => text.into(),
                Expanded::Replaced(text) => spelled(text),
            },
            other => other.clone(),
        };
        kind.read(key, &value).map_err(|refusal| match refusal {
            // A reference is named, and what it stands for is not shown: it may be somebody's secret.
            Refusal::Expects(expects) if is_reference(raw) && value != *raw => {
                format!("what {raw} stands for does not fit; write {expects}")
            }
            Refusal::Expects(expects) if K::SECRET && raw == "" => format!("found an empty text; write {expects}"),
            Refusal::Expects(expects) if K::SECRET => format!("found {}; write {expects}", kind_of(raw)),
            Refusal::Expects(expects) => format!("found {}; write {expects}", describe(raw)),
            Refusal::NotBuilt(part) => not_built(part),
        })
    }

    /// Notes a warning.
    pub(super) fn warn(&self, path: &str, message: &str) {
        self.warnings.borrow_mut().push(format!("{path}: {message}"));
    }

    /// Notes, with a warning, that something of Bifrost's is not taken: what it means there, and what to do instead.
    pub(super) fn leave_out(&self, path: &str, message: &str, means: &'static str, instead: &'static str) {
        self.warn(path, message);
        self.left.borrow_mut().push(LeftOut { path: path.to_owned(), means, instead });
    }
}

/// One object of the document.
pub(super) struct Section<'a> {
    walk: &'a Walk<'a>,
    path: String,
    /// None where the document does not have it.
    object: Option<&'a Map<String, Value>>,
    known: Vec<&'static str>,
    ignored: Vec<&'static str>,
    effective: Map<String, Value>,
    properties: Map<String, Value>,
}

/// What a section comes to.
pub(super) struct Outcome {
    /// Every key with its value in force, secrets redacted.
    pub(super) effective: Value,
    /// Its JSON schema.
    pub(super) schema: Value,
}

impl<'a> Section<'a> {
    /// Reads one object: `body` asks for its keys, then keys that nobody asked for are problems.
    pub(super) fn read<T>(
        walk: &'a Walk<'a>,
        path: String,
        object: Option<&'a Map<String, Value>>,
        body: impl FnOnce(&mut Self) -> T,
    ) -> (T, Outcome) {
        let (known, ignored) = (Vec::new(), Vec::new());
        let mut section = Self { walk, path, object, known, ignored, effective: Map::new(), properties: Map::new() };
        let out = body(&mut section);
        section.refuse_unknown();
        let schema = json!({"type": "object", "properties": section.properties, "additionalProperties": false});
        (out, Outcome { effective: Value::Object(section.effective), schema })
    }

    /// The value of a key; its default if it is absent, `null` or wrong.
    pub(super) fn get<K: Kind>(&mut self, key: &'static str, kind: K) -> K::Out {
        let out = self.take(key, &kind).unwrap_or_else(|| kind.fallback());
        self.effective.insert(key.to_owned(), kind.show(key, &out));
        out
    }

    /// Refuses whatever asks for something under a key whose part is not built; `idle` stands for asking nothing.
    pub(super) fn absent(&mut self, key: &'static str, idle: Value, part: &'static str) {
        self.declare(key, json!({"description": format!("{part} is not built yet"), "default": idle}));
        if self.raw(key).is_some_and(|value| !asks_nothing(value) && *value != idle) {
            self.not_built(key, part);
        }
        self.effective.insert(key.to_owned(), idle);
    }

    /// A key that is read by hand: it becomes known, with this schema, and its raw value is handed out.
    pub(super) fn by_hand(&mut self, key: &'static str, schema: Value) -> Option<&'a Value> {
        self.declare(key, schema);
        self.raw(key).filter(|value| !value.is_null())
    }

    /// An object within.
    pub(super) fn section<T>(&mut self, key: &'static str, body: impl FnOnce(&mut Section<'a>) -> T) -> T {
        let object = self.object_at(key);
        let (out, outcome) = Section::read(self.walk, self.path_of(key), object, body);
        self.declare(key, outcome.schema);
        self.effective.insert(key.to_owned(), outcome.effective);
        out
    }

    /// An object within that is `null` unless it asks for something; none then.
    pub(super) fn section_if_asked<T>(
        &mut self,
        key: &'static str,
        body: impl FnOnce(&mut Section<'a>) -> T,
    ) -> Option<T> {
        let asked = self.raw(key).is_some_and(|value| !asks_nothing(value));
        let object = if asked { self.object_at(key) } else { None };
        let (out, mut outcome) = Section::read(self.walk, self.path_of(key), object, body);
        outcome.schema["type"] = json!(["object", "null"]);
        self.declare(key, outcome.schema);
        self.effective.insert(key.to_owned(), object.map_or(Value::Null, |_| outcome.effective));
        object.map(|_| out)
    }

    /// A list of objects within; none if it is absent.
    pub(super) fn list<T>(&mut self, key: &'static str, body: impl Fn(usize, &mut Section<'a>) -> T) -> Option<Vec<T>> {
        let (walk, path) = (self.walk, self.path_of(key));
        if walk.describing {
            let (_, outcome) = Section::read(walk, path, None, |s| body(0, s));
            self.declare(key, json!({"type": "array", "items": outcome.schema}));
            return None;
        }
        let raw = self.by_hand(key, Value::Null);
        let items = match raw {
            None => None,
            Some(Value::Array(items)) => Some(items),
            Some(other) => {
                walk.problem(path.clone(), format!("found {}; write a list", describe(other)));
                None
            }
        };
        let mut effective = Vec::new();
        let mut out = Vec::new();
        for (index, item) in items.into_iter().flatten().enumerate() {
            let path = format!("{path}[{index}]");
            let Value::Object(object) = item else {
                walk.problem(path, format!("found {}; write an object", kind_of(item)));
                continue;
            };
            let (value, outcome) = Section::read(walk, path, Some(object), |s| body(index, s));
            effective.push(outcome.effective);
            out.push(value);
        }
        self.effective.insert(key.to_owned(), Value::Array(effective));
        items.map(|_| out)
    }

    /// An object whose keys are names of the user's own, each with an object of one kind; none if it is absent.
    pub(super) fn each<T>(&mut self, key: &'static str, body: impl Fn(&mut Section<'a>) -> T) -> Vec<(String, T)> {
        let (_, outcome) = Section::read(self.walk, String::new(), None, &body);
        self.declare(key, json!({"type": "object", "additionalProperties": outcome.schema, "default": {}}));
        let (path, mut effective, mut out) = (self.path_of(key), Map::new(), Vec::new());
        for (name, value) in self.object_at(key).into_iter().flatten() {
            let path = join(&path, name);
            let Value::Object(object) = value else {
                self.walk.problem(path, format!("found {}; write an object", kind_of(value)));
                continue;
            };
            let (value, outcome) = Section::read(self.walk, path, Some(object), &body);
            effective.insert(name.clone(), outcome.effective);
            out.push((name.clone(), value));
        }
        self.effective.insert(key.to_owned(), Value::Object(effective));
        out
    }

    /// A list of texts, each of `kind`; `default` stands for an absent one, which is none. What is wrong with one is told
    /// of it alone.
    pub(super) fn texts<T: std::fmt::Display>(
        &mut self,
        key: &'static str,
        kind: &Parsed<T>,
        default: &Value,
    ) -> Option<Vec<T>> {
        let schema = json!({"type": "array", "items": kind.schema(key), "default": default});
        let raw = self.by_hand(key, schema);
        self.show(key, default.clone());
        let Some(items) = raw?.as_array() else {
            self.problem(key, format!("found {}; write a list of texts", raw.map_or(String::new(), describe)));
            return None;
        };
        let mut out = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match self.walk.read(kind, key, item) {
                Ok(value) => out.extend(value),
                Err(message) => self.walk.problem(format!("{}[{index}]", self.path_of(key)), message),
            }
        }
        self.show(key, out.iter().map(|value| Value::from(value.to_string())).collect());
        Some(out)
    }

    /// An object of texts, each of `kind`, under names of the user's own; none of them if it is absent.
    pub(super) fn names<T: std::fmt::Display>(&mut self, key: &'static str, kind: &Parsed<T>) -> Vec<(String, T)> {
        self.declare(key, json!({"type": "object", "additionalProperties": kind.schema(key), "default": {}}));
        let (path, mut effective, mut out) = (self.path_of(key), Map::new(), Vec::new());
        for (name, value) in self.object_at(key).into_iter().flatten() {
            match self.walk.read(kind, key, value) {
                Ok(value) => {
                    effective.insert(name.clone(), value.as_ref().map(ToString::to_string).into());
                    out.extend(value.map(|value| (name.clone(), value)));
                }
                Err(message) => self.walk.problem(join(&path, name), message),
            }
        }
        self.show(key, Value::Object(effective));
        out
    }

    /// Keys of Bifrost's that are not supported: each that is there is named in a warning.
    pub(super) fn foreign(&mut self, keys: &'static [Foreign]) {
        for Foreign { key, means, instead } in keys {
            self.ignored.push(key);
            if self.raw(key).is_some() {
                let advice = if instead.is_empty() { String::new() } else { format!("; {instead}") };
                let message = format!("this key of Bifrost's is not supported and has no effect{advice}");
                self.walk.leave_out(&self.path_of(key), &message, means, instead);
            }
        }
    }

    /// A key that is nobody's business: `$schema`.
    pub(super) fn ignore(&mut self, key: &'static str) {
        self.ignored.push(key);
    }

    /// Notes a problem with a key.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        self.walk.problem(self.path_of(key), message);
    }

    /// Notes that a key asks for a part that is not built.
    pub(super) fn not_built(&self, key: &str, part: &str) {
        self.problem(key, not_built(part));
    }

    /// Notes a warning about a key.
    pub(super) fn warn(&self, key: &str, message: &str) {
        self.walk.warn(&self.path_of(key), message);
    }

    /// Puts right what the effective configuration shows of a key whose value depends on another's.
    pub(super) fn show(&mut self, key: &str, value: Value) {
        self.effective.insert(key.to_owned(), value);
    }

    /// The walk that this belongs to.
    pub(super) fn walk(&self) -> &'a Walk<'a> {
        self.walk
    }

    /// A key's value as it stands in the document.
    pub(super) fn raw(&self, key: &str) -> Option<&'a Value> {
        self.object.and_then(|object| object.get(key))
    }

    /// The path of a key within.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The object under a key; a problem if it is something else.
    pub(super) fn object_at(&self, key: &str) -> Option<&'a Map<String, Value>> {
        match self.raw(key) {
            Some(Value::Object(object)) => Some(object),
            None | Some(Value::Null) => None,
            Some(other) => {
                self.problem(key, format!("found {}; write an object", kind_of(other)));
                None
            }
        }
    }

    /// Notes what the schema says of a key.
    pub(super) fn declare(&mut self, key: &'static str, schema: Value) {
        self.known.push(key);
        self.properties.insert(key.to_owned(), schema);
    }

    /// Reads a value that is there and right.
    fn take<K: Kind>(&mut self, key: &'static str, kind: &K) -> Option<K::Out> {
        self.declare(key, kind.schema(key));
        let raw = self.raw(key).filter(|value| !value.is_null())?;
        match self.walk.read(kind, key, raw) {
            Ok(out) => {
                if let Some(remark) = kind.remark(key, &out) {
                    self.warn(key, &remark);
                }
                Some(out)
            }
            Err(message) => {
                self.problem(key, message);
                None
            }
        }
    }

    fn refuse_unknown(&self) {
        let unknown = |key: &&String| !self.known.contains(&key.as_str()) && !self.ignored.contains(&key.as_str());
        for key in self.object.into_iter().flat_map(Map::keys).filter(unknown) {
            let near = nearest(key, self.known.iter().copied()).unwrap_or_default();
            self.problem(key, format!("there is no such key; the nearest is {near:?}"));
        }
    }
}

/// Whether a value asks for nothing: off, zero, nothing, or made of such values alone.
pub(super) fn asks_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => ["", "off", "0s", "0ms"].contains(&text.as_str()),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.values().all(asks_nothing),
    }
}

fn not_built(part: &str) -> String {
    format!("{part} is not built yet; leave the key out")
}

/// The number or truth that a text spells, else the text.
fn spelled(text: String) -> Value {
    let value = serde_json::from_str::<Value>(&text).ok();
    value.filter(|value| value.is_number() || value.is_boolean()).unwrap_or_else(|| text.into())
}

/// Whether a value is a reference and nothing beside it, so that it can be shown.
fn is_reference(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with("env.") || text.starts_with("file:"))
}

/// Whether a text may be a URL with a password or a key in it.
fn may_hold_a_secret(text: &str) -> bool {
    text.contains('@') || (text.contains("://") && text.contains(['?', '#']))
}

/// A found value in words.
fn describe(value: &Value) -> String {
    match value {
        Value::String(text) if may_hold_a_secret(text) => "a text that may hold a secret".to_owned(),
        Value::String(text) if text.chars().count() > SHOWN => "a long text".to_owned(),
        Value::String(_) | Value::Number(_) | Value::Bool(_) => value.to_string(),
        other => kind_of(other).to_owned(),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
