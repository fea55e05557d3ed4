//! Kinds that stand around another: `"auto"` beside a value, limits and ranges.

use serde_json::{Value, json};

use super::{Bytes, Count, Kind, Number, Refusal, Span};

/// Either `"auto"`, which is none, or a value.
pub(in crate::config) struct OrAuto<K>(pub(in crate::config) K);

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

/// A value with a default of its own beside which `"auto"` may stand, which is none.
pub(in crate::config) struct ElseAuto<K>(pub(in crate::config) K);

impl<K: Kind> Kind for ElseAuto<K> {
    type Out = Option<K::Out>;
    const TEXT: bool = K::TEXT;

    fn read(&self, key: &str, value: &Value) -> Result<Self::Out, Refusal> {
        OrAuto(&self.0).read(key, value)
    }

    fn fallback(&self) -> Self::Out {
        Some(self.0.fallback())
    }

    fn show(&self, key: &str, out: &Self::Out) -> Value {
        OrAuto(&self.0).show(key, out)
    }

    fn schema(&self, key: &str) -> Value {
        let mut schema = OrAuto(&self.0).schema(key);
        schema["default"] = self.0.show(key, &self.0.fallback());
        schema
    }

    fn remark(&self, key: &str, out: &Self::Out) -> Option<String> {
        out.as_ref().and_then(|out| self.0.remark(key, out))
    }
}

/// A value that may be left unsaid; then it is `null`.
pub(in crate::config) struct Maybe<K>(pub(in crate::config) K);

impl<K: Kind> Kind for Maybe<K> {
    type Out = Option<K::Out>;
    const TEXT: bool = K::TEXT;

    fn read(&self, key: &str, value: &Value) -> Result<Self::Out, Refusal> {
        self.0.read(key, value).map(Some)
    }

    fn fallback(&self) -> Self::Out {
        None
    }

    fn show(&self, key: &str, out: &Self::Out) -> Value {
        out.as_ref().map_or(Value::Null, |out| self.0.show(key, out))
    }

    fn schema(&self, key: &str) -> Value {
        let mut inner = self.0.schema(key);
        if let Some(object) = inner.as_object_mut() {
            object.remove("default");
        }
        json!({"anyOf": [{"type": "null"}, inner], "default": null})
    }
}

/// A kind that is borrowed, so that one can stand around it for a moment.
impl<K: Kind> Kind for &K {
    type Out = K::Out;
    const TEXT: bool = K::TEXT;

    fn read(&self, key: &str, value: &Value) -> Result<Self::Out, Refusal> {
        (**self).read(key, value)
    }

    fn fallback(&self) -> Self::Out {
        (**self).fallback()
    }

    fn show(&self, key: &str, out: &Self::Out) -> Value {
        (**self).show(key, out)
    }

    fn schema(&self, key: &str) -> Value {
        (**self).schema(key)
    }
}

/// A kind with limits: beyond `hard` is an error, outside `page`'s range a warning.
pub(in crate::config) struct Bounded<K: Kind> {
    kind: K,
    hard: (K::Out, K::Out),
    page: Option<(K::Out, K::Out)>,
}

/// Limits for the kinds that have an order.
pub(in crate::config) trait Limits: Kind + Sized {
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
    pub(in crate::config) fn page(mut self, least: K::Out, most: K::Out) -> Self {
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
}
