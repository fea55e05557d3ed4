//! Kinds of value that are written as text: names, secrets, certificates, addresses, URLs, words.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Kind, Refusal};
use crate::config::base_url::{self, BaseUrl};
use crate::config::near::nearest;
use crate::secret::{REDACTED, Secret};

/// Any text.
pub(in crate::config) struct Text(pub(in crate::config) String);

impl Kind for Text {
    type Out = String;
    const TEXT: bool = true;

    fn read(&self, _: &str, value: &Value) -> Result<String, Refusal> {
        value.as_str().filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(|| "a text".into())
    }

    fn fallback(&self) -> String {
        self.0.clone()
    }

    fn show(&self, _: &str, out: &String) -> Value {
        out.as_str().into()
    }

    fn schema(&self, _: &str) -> Value {
        json!({"type": "string", "minLength": 1, "default": self.0})
    }
}

/// A key or password, or none.
pub(in crate::config) struct Hidden;

impl Kind for Hidden {
    type Out = Option<Secret>;
    const SECRET: bool = true;
    const TEXT: bool = true;

    fn read(&self, _: &str, value: &Value) -> Result<Option<Secret>, Refusal> {
        // It is sent in a header, or compared with what came in one.
        let text = value.as_str().filter(|text| !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b)));
        let expects = "a text of printable ASCII, such as \"env.NAME\" or \"file:PATH\"";
        text.map(|text| Some(Secret::new(text))).ok_or_else(|| expects.into())
    }

    fn fallback(&self) -> Option<Secret> {
        None
    }

    fn show(&self, _: &str, out: &Option<Secret>) -> Value {
        out.as_ref().map_or(Value::Null, |_| REDACTED.into())
    }

    fn schema(&self, _: &str) -> Value {
        json!({"type": ["string", "null"], "minLength": 1})
    }
}

/// Certificates in PEM, or none.
pub(in crate::config) struct Certificates;

impl Kind for Certificates {
    type Out = Option<String>;
    const SECRET: bool = true;
    const TEXT: bool = true;

    fn read(&self, _: &str, value: &Value) -> Result<Option<String>, Refusal> {
        match value.as_str() {
            Some("") => Ok(None),
            // A private key here is a mistake that would then stand in `/config`.
            Some(pem) if pem.contains("-----BEGIN CERTIFICATE-----") && !pem.contains("PRIVATE KEY") => {
                Ok(Some(pem.to_owned()))
            }
            _ => Err("certificates in PEM and nothing else, such as \"file:ca.pem\"".into()),
        }
    }

    fn fallback(&self) -> Option<String> {
        None
    }

    fn show(&self, _: &str, out: &Option<String>) -> Value {
        out.as_deref().map_or(Value::Null, Value::from)
    }

    fn schema(&self, _: &str) -> Value {
        json!({"type": ["string", "null"]})
    }
}

/// Where a file lies, or none.
pub(in crate::config) struct FilePath;

impl Kind for FilePath {
    type Out = Option<PathBuf>;
    // A key that stands where its file's path should is not shown.
    const SECRET: bool = true;
    const TEXT: bool = true;

    fn read(&self, _: &str, value: &Value) -> Result<Option<PathBuf>, Refusal> {
        let text = value.as_str().filter(|text| !text.is_empty() && !text.contains(char::is_control));
        text.map(|text| Some(text.into()))
            .ok_or_else(|| "the path of a file, such as \"/etc/sluicegate/cert.pem\"".into())
    }

    fn fallback(&self) -> Option<PathBuf> {
        None
    }

    fn show(&self, _: &str, out: &Option<PathBuf>) -> Value {
        out.as_ref().map_or(Value::Null, |path| path.display().to_string().into())
    }

    fn schema(&self, _: &str) -> Value {
        json!({"type": ["string", "null"], "minLength": 1})
    }
}

/// An address to listen on.
pub(in crate::config) struct Address(pub(in crate::config) SocketAddr);

/// Reads `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`. Port 0 is any free port.
///
/// # Errors
/// What would be right.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    local
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .or_else(|| text.parse().ok())
        .ok_or_else(|| "an address with a port, such as \"127.0.0.1:8080\" or \"0.0.0.0:8080\"".to_owned())
}

impl Kind for Address {
    type Out = SocketAddr;
    const TEXT: bool = true;

    fn read(&self, _: &str, value: &Value) -> Result<SocketAddr, Refusal> {
        parse_address(value.as_str().unwrap_or_default()).map_err(Refusal::Expects)
    }

    fn fallback(&self) -> SocketAddr {
        self.0
    }

    fn show(&self, _: &str, out: &SocketAddr) -> Value {
        out.to_string().into()
    }

    fn schema(&self, _: &str) -> Value {
        json!({"type": "string", "default": self.0.to_string()})
    }
}

/// A provider's base URL; none if the provider has none built in.
pub(in crate::config) struct Url(pub(in crate::config) Option<&'static str>);

impl Kind for Url {
    type Out = Option<BaseUrl>;
    const TEXT: bool = true;

    fn read(&self, _: &str, value: &Value) -> Result<Option<BaseUrl>, Refusal> {
        base_url::parse(value.as_str().unwrap_or_default()).map(Some).map_err(Refusal::from)
    }

    fn fallback(&self) -> Option<BaseUrl> {
        self.0.and_then(|url| base_url::parse(url).ok())
    }

    fn show(&self, _: &str, out: &Option<BaseUrl>) -> Value {
        out.as_ref().map_or(Value::Null, |base| base.shown().into())
    }

    fn schema(&self, _: &str) -> Value {
        json!({"type": ["string", "null"], "pattern": "^https?://", "default": self.0})
    }
}

/// One of a few words; or none of them, if there is no default.
pub(in crate::config) struct Choice<T: 'static> {
    pub(in crate::config) built: &'static [(&'static str, T)],
    /// Words whose part is not built yet.
    pub(in crate::config) unbuilt: &'static [(&'static str, &'static str)],
    pub(in crate::config) default: Option<T>,
}

impl<T: Copy + PartialEq> Kind for Choice<T> {
    type Out = Option<T>;
    const TEXT: bool = true;

    fn read(&self, _: &str, value: &Value) -> Result<Option<T>, Refusal> {
        let word = value.as_str().unwrap_or_default();
        if let Some((_, choice)) = self.built.iter().find(|(name, _)| *name == word) {
            return Ok(Some(*choice));
        }
        if let Some((_, part)) = self.unbuilt.iter().find(|(name, _)| *name == word) {
            return Err(Refusal::NotBuilt(part));
        }
        let words = || self.built.iter().map(|(name, _)| *name).chain(self.unbuilt.iter().map(|(name, _)| *name));
        let list = words().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        let near = nearest(word, words()).filter(|_| !word.is_empty());
        Err(Refusal::Expects(format!(
            "one of {list}{}",
            near.map_or(String::new(), |near| format!(" (nearest: {near:?})"))
        )))
    }

    fn fallback(&self) -> Option<T> {
        self.default
    }

    fn show(&self, _: &str, out: &Option<T>) -> Value {
        let word = out.and_then(|choice| self.built.iter().find(|(_, built)| *built == choice));
        word.map_or(Value::Null, |(name, _)| (*name).into())
    }

    fn schema(&self, key: &str) -> Value {
        let words: Vec<_> = self.built.iter().map(|(name, _)| *name).collect();
        json!({"enum": words, "default": self.show(key, &self.default)})
    }
}

/// A text that something is made of, which prints as it was written; none if there is no text.
pub(in crate::config) struct Parsed<T>(pub(in crate::config) fn(&str) -> Result<T, Refusal>);

impl<T: fmt::Display> Kind for Parsed<T> {
    type Out = Option<T>;
    const TEXT: bool = true;

    fn read(&self, _: &str, value: &Value) -> Result<Option<T>, Refusal> {
        (self.0)(value.as_str().unwrap_or_default()).map(Some)
    }

    fn fallback(&self) -> Option<T> {
        None
    }

    fn show(&self, _: &str, out: &Option<T>) -> Value {
        out.as_ref().map_or(Value::Null, |out| out.to_string().into())
    }

    fn schema(&self, _: &str) -> Value {
        json!({"type": "string", "minLength": 1})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_not_known_lists_the_known_and_the_nearest() {
        let kind = Choice { built: &[("block", 1), ("error", 2)], unbuilt: &[("drop_oldest", "it")], default: Some(1) };
        assert_eq!(kind.read("policy", &json!("error")), Ok(Some(2)));
        assert_eq!(kind.read("policy", &json!("drop_oldest")), Err(Refusal::NotBuilt("it")));
        let Err(Refusal::Expects(expects)) = kind.read("policy", &json!("blok")) else { panic!("it was taken") };
        assert_eq!(expects, r#"one of "block", "error", "drop_oldest" (nearest: "block")"#);
    }

    #[test]
    fn an_address_may_name_localhost_and_nothing_else() {
        assert_eq!(parse_address("localhost:80").unwrap(), "127.0.0.1:80".parse().unwrap());
        assert_eq!(parse_address("[::1]:0").unwrap(), "[::1]:0".parse().unwrap());
        for wrong in ["", "8080", ":8080", "example.com:80", "127.0.0.1", "127.0.0.1:99999"] {
            assert!(parse_address(wrong).is_err(), "{wrong:?}");
        }
    }
}
