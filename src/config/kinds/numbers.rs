//! Kinds of value that are counted or measured: counts, numbers, sizes, times.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Kind, Refusal};
use crate::time::{format_duration, parse_duration};

/// Whole seconds.
pub(in crate::config) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Milliseconds.
pub(in crate::config) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// An integer of things.
pub(in crate::config) struct Count(pub(in crate::config) usize);

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
pub(in crate::config) struct Number(pub(in crate::config) f64);

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
pub(in crate::config) struct Bytes(pub(in crate::config) usize);

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
pub(in crate::config) struct Span(pub(in crate::config) Duration);

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
}
