//! What a key's value may be: one small type per kind of value, each of which reads, defaults, shows and describes it.
//!
//! A section reads as a table of these: `s.get("header_timeout", Span(secs(10)).hard(millis(1), secs(600)))`. Kinds that
//! stand around another kind, such as limits, are in `around`.

mod around;
mod numbers;
mod texts;

use serde_json::{Value, json};

pub(super) use around::{ElseAuto, Limits, Maybe, OrAuto};
pub(super) use numbers::{Bytes, Count, Number, Span, millis, secs};
pub use texts::parse_address;
pub(super) use texts::{Address, Certificates, Choice, FilePath, Hidden, Parsed, Text, Url};

/// Why a value is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::config) enum Refusal {
    /// It is wrong; this is what would be right.
    Expects(String),
    /// It asks for this, which is not built yet.
    NotBuilt(&'static str),
}

impl From<&str> for Refusal {
    fn from(expects: &str) -> Self {
        Self::Expects(expects.to_owned())
    }
}

/// A kind of value.
pub(in crate::config) trait Kind {
    /// What it is resolved to.
    type Out;
    /// Whether messages must not show what was found.
    const SECRET: bool = false;
    /// Whether a text from the environment is taken as text, or as the number or truth that it spells.
    const TEXT: bool = false;

    /// Reads a value that is not `null`. `key` matters to times, whose unit its name tells.
    fn read(&self, key: &str, value: &Value) -> Result<Self::Out, Refusal>;
    /// What stands for a value that is not given.
    fn fallback(&self) -> Self::Out;
    /// The value as it would be written, secrets redacted.
    fn show(&self, key: &str, out: &Self::Out) -> Value;
    /// The kind as a JSON schema.
    fn schema(&self, key: &str) -> Value;
    /// What to warn of in a value that is taken.
    fn remark(&self, _key: &str, _out: &Self::Out) -> Option<String> {
        None
    }
}

/// `true` or `false`.
pub(in crate::config) struct Flag(pub(in crate::config) bool);

impl Kind for Flag {
    type Out = bool;

    fn read(&self, _: &str, value: &Value) -> Result<bool, Refusal> {
        value.as_bool().ok_or_else(|| "true or false".into())
    }

    fn fallback(&self) -> bool {
        self.0
    }

    fn show(&self, _: &str, out: &bool) -> Value {
        (*out).into()
    }

    fn schema(&self, _: &str) -> Value {
        json!({"type": "boolean", "default": self.0})
    }
}
