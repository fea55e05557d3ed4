//! What a key's value may be: one small type per kind of value, each of which reads, defaults, shows and describes it.
//!
//! A section reads as a table of these: `s.get("header_timeout", span(secs(10)).hard(millis(1), secs(600)))`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use super::base_url::{self, BaseUrl};
use super::near::nearest;
use crate::secret::{REDACTED, Secret};
use crate::time::{format_duration, parse_duration};

/// Why a value is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
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
pub(super) trait Kind {
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

/// Whole seconds.
pub(super) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Milliseconds.
pub(super) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// `true` or `false`.
pub(super) struct Flag(pub(super) bool);

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

/// A switch of a part that is not built: only off is taken.
pub(super) struct Off(pub(super) &'static str);

impl Kind for Off {
    type Out = bool;

    fn read(&self, key: &str, value: &Value) -> Result<bool, Refusal> {
        if Flag(false).read(key, value)? { Err(Refusal::NotBuilt(self.0)) } else { Ok(false) }
    }

    fn fallback(&self) -> bool {
        false
    }

    fn show(&self, _: &str, out: &bool) -> Value {
        (*out).into()
    }

    fn schema(&self, _: &str) -> Value {
        json!({"const": false, "description": format!("{} is not built yet", self.0)})
    }
}

/// An integer of things.
pub(super) struct Count(pub(super) usize);

impl Kind for Count {
    type Out = usize;

    fn read(&self, _: &str, value: &Value) -> Result<usize, Refusal> {
        value.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| "an integer".into())
    }

    fn fallback(&self) -> usize {
        self.0
    }

    fn show(&self, _: &str, out: &usize) -> Value {
        (*out).into()
    }

    fn schema(&self, _: &str) -> Value {
        json!({"type": "integer", "minimum": 0, "default": self.0})
    }
}

/// A number with a fraction.
pub(super) struct Number(pub(super) f64);

impl Kind for Number {
    type Out = f64;

    fn read(&self, _: &str, value: &Value) -> Result<f64, Refusal> {
        value.as_f64().ok_or_else(|| "a number".into())
    }

    fn fallback(&self) -> f64 {
        self.0
    }

    fn show(&self, _: &str, out: &f64) -> Value {
        (*out).into()
    }

    fn schema(&self, _: &str) -> Value {
        json!({"type": "number", "default": self.0})
    }
}

/// A size: an integer of bytes, or a text such as `1GiB`.
pub(super) struct Bytes(pub(super) usize);

const UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

fn parse_bytes(text: &str) -> Option<u64> {
    let (unit, factor) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
    let number = text.strip_suffix(unit)?.trim_end();
    number.chars().all(|c| c.is_ascii_digit()).then(|| number.parse::<u64>().ok()?.checked_mul(*factor))?
}

impl Kind for Bytes {
    type Out = usize;

    fn read(&self, _: &str, value: &Value) -> Result<usize, Refusal> {
        let bytes = value.as_u64().or_else(|| value.as_str().and_then(parse_bytes));
        bytes
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| "a size such as \"64KiB\" or \"1GiB\", or an integer of bytes".into())
    }

    fn fallback(&self) -> usize {
        self.0
    }

    fn show(&self, _: &str, out: &usize) -> Value {
        (*out).into()
    }

    fn schema(&self, _: &str) -> Value {
        json!({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+ ?(KiB|MiB|GiB|kB|MB|GB|B)$"}], "default": self.0})
    }
}

/// A time: a text such as `5s`, or an integer of seconds if the key's name says so, else of milliseconds.
pub(super) struct Span(pub(super) Duration);

fn in_seconds(key: &str) -> bool {
    key.ends_with("_in_seconds")
}

impl Kind for Span {
    type Out = Duration;

    fn read(&self, key: &str, value: &Value) -> Result<Duration, Refusal> {
        let unit = if in_seconds(key) { "seconds" } else { "milliseconds" };
        let number = value.as_u64().map(if in_seconds(key) { Duration::from_secs } else { Duration::from_millis });
        let time = number.or_else(|| value.as_str().and_then(|text| parse_duration(text).ok()));
        time.ok_or_else(|| {
            Refusal::Expects(format!("a time such as \"250ms\", \"5s\" or \"2m\", or an integer of {unit}"))
        })
    }

    fn fallback(&self) -> Duration {
        self.0
    }

    fn show(&self, key: &str, out: &Duration) -> Value {
        if in_seconds(key) && out.subsec_nanos() == 0 { out.as_secs().into() } else { format_duration(*out).into() }
    }

    fn schema(&self, key: &str) -> Value {
        let number = json!({"type": "integer", "minimum": 0});
        let text = json!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(us|ms|s|m|h)$"});
        json!({"anyOf": [number, text], "default": self.show(key, &self.0)})
    }
}

/// Any text.
pub(super) struct Text(pub(super) String);

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
pub(super) struct Hidden;

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
pub(super) struct Certificates;

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

/// An address to listen on.
pub(super) struct Address(pub(super) SocketAddr);

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
pub(super) struct Url(pub(super) Option<&'static str>);

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
        out.as_ref().map_or(Value::Null, |base| base.url.as_str().into())
    }

    fn schema(&self, _: &str) -> Value {
        json!({"type": ["string", "null"], "pattern": "^https?://", "default": self.0})
    }
}

/// One of a few words; or none of them, if there is no default.
pub(super) struct Choice<T: 'static> {
    pub(super) built: &'static [(&'static str, T)],
    /// Words whose part is not built yet.
    pub(super) unbuilt: &'static [(&'static str, &'static str)],
    pub(super) default: Option<T>,
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

/// Either `"auto"`, which is none, or a value.
pub(super) struct OrAuto<K>(pub(super) K);

impl<K: Kind> Kind for OrAuto<K> {
    type Out = Option<K::Out>;
    const TEXT: bool = K::TEXT;

    fn read(&self, key: &str, value: &Value) -> Result<Self::Out, Refusal> {
        if value == "auto" {
            return Ok(None);
        }
        self.0.read(key, value).map(Some).map_err(|refusal| match refusal {
            Refusal::Expects(expects) => Refusal::Expects(format!("{expects}, or \"auto\"")),
            other => other,
        })
    }

    fn fallback(&self) -> Self::Out {
        None
    }

    fn show(&self, key: &str, out: &Self::Out) -> Value {
        out.as_ref().map_or("auto".into(), |out| self.0.show(key, out))
    }

    fn schema(&self, key: &str) -> Value {
        let mut inner = self.0.schema(key);
        if let Some(object) = inner.as_object_mut() {
            object.remove("default");
        }
        json!({"anyOf": [{"const": "auto"}, inner], "default": "auto"})
    }
}

/// A value whose `"auto"` is not built yet.
pub(super) struct NoAuto<K>(pub(super) K, pub(super) &'static str);

impl<K: Kind> Kind for NoAuto<K> {
    type Out = K::Out;
    const TEXT: bool = K::TEXT;

    fn read(&self, key: &str, value: &Value) -> Result<K::Out, Refusal> {
        if value == "auto" { Err(Refusal::NotBuilt(self.1)) } else { self.0.read(key, value) }
    }

    fn fallback(&self) -> K::Out {
        self.0.fallback()
    }

    fn show(&self, key: &str, out: &K::Out) -> Value {
        self.0.show(key, out)
    }

    fn schema(&self, key: &str) -> Value {
        self.0.schema(key)
    }

    fn remark(&self, key: &str, out: &K::Out) -> Option<String> {
        self.0.remark(key, out)
    }
}

/// A kind with limits: beyond `hard` is an error, outside `page`'s range a warning.
pub(super) struct Bounded<K: Kind> {
    kind: K,
    hard: (K::Out, K::Out),
    page: Option<(K::Out, K::Out)>,
}

/// Limits for the kinds that have an order.
pub(super) trait Limits: Kind + Sized {
    /// Sets the hard limits, both included.
    fn hard(self, least: Self::Out, most: Self::Out) -> Bounded<Self> {
        Bounded { kind: self, hard: (least, most), page: None }
    }
}

impl Limits for Count {}
impl Limits for Number {}
impl Limits for Bytes {}
impl Limits for Span {}

impl<K: Kind> Bounded<K> {
    /// Sets the range that the concurrency page gives.
    pub(super) fn page(mut self, least: K::Out, most: K::Out) -> Self {
        self.page = Some((least, most));
        self
    }

    fn range(&self, key: &str, (least, most): &(K::Out, K::Out)) -> String {
        format!("{} to {}", plain(&self.kind.show(key, least)), plain(&self.kind.show(key, most)))
    }
}

/// A shown value without a text's quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl<K: Kind<Out: PartialOrd>> Kind for Bounded<K> {
    type Out = K::Out;

    fn read(&self, key: &str, value: &Value) -> Result<K::Out, Refusal> {
        let with_range = |expects| Refusal::Expects(format!("{expects}, from {}", self.range(key, &self.hard)));
        match self.kind.read(key, value) {
            Ok(out) if self.hard.0 <= out && out <= self.hard.1 => Ok(out),
            Ok(_) => Err(with_range("a value in the limits".to_owned())),
            Err(Refusal::Expects(expects)) => Err(with_range(expects)),
            Err(other) => Err(other),
        }
    }

    fn fallback(&self) -> K::Out {
        self.kind.fallback()
    }

    fn show(&self, key: &str, out: &K::Out) -> Value {
        self.kind.show(key, out)
    }

    fn schema(&self, key: &str) -> Value {
        let mut schema = self.kind.schema(key);
        let (least, most) = (self.kind.show(key, &self.hard.0), self.kind.show(key, &self.hard.1));
        if schema["type"].is_string() {
            schema["minimum"] = least;
            schema["maximum"] = most;
        } else {
            schema["description"] = format!("from {}", self.range(key, &self.hard)).into();
        }
        schema
    }

    fn remark(&self, key: &str, out: &K::Out) -> Option<String> {
        let page = self.page.as_ref().filter(|(least, most)| out < least || most < out)?;
        Some(format!("{} is outside the usual range, {}", plain(&self.kind.show(key, out)), self.range(key, page)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_text_or_an_integer_in_the_unit_of_its_name() {
        let read = |key: &str, value: Value| Span(secs(0)).read(key, &value);
        assert_eq!(read("wait_timeout", json!(1500)), Ok(millis(1500)));
        assert_eq!(read("request_timeout_in_seconds", json!(30)), Ok(secs(30)));
        assert_eq!(read("request_timeout_in_seconds", json!("250ms")), Ok(millis(250)));
        for wrong in [json!(1.5), json!(-1), json!("5"), json!(true), json!([]), json!("")] {
            assert!(read("wait_timeout", wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_is_text_or_an_integer_of_bytes() {
        let read = |value: Value| Bytes(0).read("", &value);
        assert_eq!(read(json!("1GiB")), Ok(1 << 30));
        assert_eq!(read(json!("64 KiB")), Ok(65_536));
        assert_eq!(read(json!("10MB")), Ok(10_000_000));
        assert_eq!(read(json!("7B")), Ok(7));
        assert_eq!(read(json!(33_554_432)), Ok(33_554_432));
        for wrong in [json!("1"), json!("GiB"), json!("-1KiB"), json!("1.5GiB"), json!("99999999999GiB"), json!(1.5)] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_refuse_and_ranges_remark() {
        let kind = Count(500).hard(1, 1_000_000).page(100, 1000);
        assert_eq!(kind.read("buffer_size", &json!(1000)), Ok(1000));
        assert_eq!(kind.remark("buffer_size", &1000), None);
        assert_eq!(kind.remark("buffer_size", &50).unwrap(), "50 is outside the usual range, 100 to 1000");
        for wrong in [json!(0), json!(1_000_001), json!(-3), json!("x")] {
            let Err(Refusal::Expects(expects)) = kind.read("buffer_size", &wrong) else { panic!("{wrong} was taken") };
            assert!(expects.contains("from 1 to 1000000"), "{expects}");
        }
    }

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
