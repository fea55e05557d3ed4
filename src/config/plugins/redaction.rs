//! `plugins`: the settings of `redaction`.

use serde_json::json;

use crate::config::kinds::{Choice, Flag, Parsed, Refusal};
use crate::config::section::Section;
use crate::secret::Secret;

/// Shorter texts of one's own would be found in words that mean something else.
const SHORTEST: usize = 3;

/// What a pattern of one's own may take when it is compiled, in bytes.
#[cfg(feature = "plugins")]
pub(crate) const PATTERN_SIZE: usize = 1 << 20;

/// Secrets and personal data taken out of what goes to providers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Redaction {
    /// What is looked for.
    pub kinds: Kinds,
    /// Texts of the user's own, looked for as they are.
    pub literals: Vec<Secret>,
    /// Patterns of the user's own.
    pub patterns: Vec<Pattern>,
    /// Whether the caller finds in the answer again what was taken out of the request.
    pub restore: bool,
    /// What is done with what a model itself says.
    pub answers: Answers,
    /// What is done with a body that is no JSON.
    pub unreadable: Unreadable,
}

/// The built-in kinds: which of them are looked for.
///
/// ```
/// use sluicegate::Gateway;
/// use sluicegate::config::plugins::Plugin;
/// use sluicegate::serde_json::json;
///
/// # #[cfg(feature = "plugins")] {
/// let config = Gateway::builder().builtin_plugin("redaction", json!({ "kinds": { "email": false } })).into_config()?;
/// let Some(Plugin::Redaction(redaction)) = config.plugins.first() else { panic!("it is the only one") };
/// let off: Vec<_> = redaction.kinds.named().into_iter().filter(|(_, on)| !on).map(|(name, _)| name).collect();
/// assert_eq!(off, ["email", "ip_address", "us_ssn"]);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is named in the README, and their names say what they are")]
pub struct Kinds {
    pub api_key: bool,
    pub email: bool,
    pub phone: bool,
    pub credit_card: bool,
    pub iban: bool,
    pub ip_address: bool,
    pub us_ssn: bool,
}

impl Kinds {
    /// Each with its name.
    #[must_use]
    pub fn named(&self) -> [(&'static str, bool); 7] {
        [
            ("api_key", self.api_key),
            ("email", self.email),
            ("phone", self.phone),
            ("credit_card", self.credit_card),
            ("iban", self.iban),
            ("ip_address", self.ip_address),
            ("us_ssn", self.us_ssn),
        ]
    }
}

/// A pattern of the user's own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pattern {
    /// Its name, of which the placeholder is made.
    pub name: String,
    /// A regular expression in the syntax of the crate `regex`.
    pub pattern: String,
}

/// What is done with what a model itself says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answers {
    /// It is left as it is.
    Off,
    /// The same is taken out of it as out of requests.
    Redact,
}

/// What is done with a body that is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreadable {
    /// It goes nowhere.
    Refuse,
    /// It goes on as it is.
    Pass,
}

/// Reads its `config`.
pub(super) fn read(s: &mut Section<'_>) -> Redaction {
    let kinds = s.section("kinds", |s| Kinds {
        api_key: s.get("api_key", Flag(true)),
        email: s.get("email", Flag(true)),
        phone: s.get("phone", Flag(true)),
        credit_card: s.get("credit_card", Flag(true)),
        iban: s.get("iban", Flag(true)),
        // Versions look like addresses, and part numbers like the other; who has none in prompts need not have them taken out.
        ip_address: s.get("ip_address", Flag(false)),
        us_ssn: s.get("us_ssn", Flag(false)),
    });
    let literals = s.texts("literals", &Parsed(literal), &json!([])).unwrap_or_default();
    let patterns = s.list("patterns", |_, s| {
        let (name, pattern) = (s.get("name", Parsed(name)), s.get("pattern", Parsed(pattern)));
        for (key, is_missing) in [("name", name.is_none()), ("pattern", pattern.is_none())] {
            if is_missing && s.raw(key).is_none_or(serde_json::Value::is_null) {
                s.problem(key, "it is missing");
            }
        }
        Pattern { name: name.unwrap_or_default(), pattern: pattern.unwrap_or_default() }
    });
    let patterns = patterns.unwrap_or_default();
    for (at, pattern) in patterns.iter().enumerate() {
        if !pattern.name.is_empty() && patterns[..at].iter().any(|known| known.name == pattern.name) {
            s.problem("patterns", format!("two patterns have the name {:?}", pattern.name));
        }
    }
    let restore = s.get("restore", Flag(true));
    let answers = Choice {
        built: &[("off", Answers::Off), ("redact", Answers::Redact)],
        unbuilt: &[],
        default: Some(Answers::Off),
    };
    let answers = s.get("answers", answers).unwrap_or(Answers::Off);
    let unreadable = Choice {
        built: &[("refuse", Unreadable::Refuse), ("pass", Unreadable::Pass)],
        unbuilt: &[],
        default: Some(Unreadable::Refuse),
    };
    let unreadable = s.get("unreadable", unreadable).unwrap_or(Unreadable::Refuse);
    Redaction { kinds, literals, patterns, restore, answers, unreadable }
}

fn literal(text: &str) -> Result<Secret, Refusal> {
    if text.len() < SHORTEST {
        return Err(Refusal::Expects(format!("a text of at least {SHORTEST} bytes")));
    }
    Ok(Secret::new(text))
}

/// Checks the name of a pattern, whose placeholder must be told from those of the built-in kinds.
fn name(text: &str) -> Result<String, Refusal> {
    let all = Kinds {
        api_key: true,
        email: true,
        phone: true,
        credit_card: true,
        iban: true,
        ip_address: true,
        us_ssn: true,
    };
    let is_known = text == "literal" || all.named().iter().any(|(name, _)| *name == text);
    let is_good = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= 32
        && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if is_known || !is_good {
        return Err("a name of 1 to 32 small letters and '_', such as \"ticket\", which is no built-in kind's".into());
    }
    Ok(text.to_owned())
}

#[cfg(feature = "plugins")]
fn pattern(text: &str) -> Result<String, Refusal> {
    match regex::RegexBuilder::new(text).size_limit(PATTERN_SIZE).build() {
        Ok(regex) if regex.is_match("") => Err("a pattern that does not match the empty text".into()),
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let last = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
            Err(Refusal::Expects(format!("a regular expression in the syntax of the crate regex ({last})")))
        }
    }
}

/// Without the feature the plugin is refused as a whole.
#[cfg(not(feature = "plugins"))]
fn pattern(text: &str) -> Result<String, Refusal> {
    Ok(text.to_owned())
}
