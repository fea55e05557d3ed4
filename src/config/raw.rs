//! The text as JSON: duplicate keys refused, errors with line and column.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::error::{ConfigError, Problem};

/// Parses `text`, which must be one JSON object.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, ConfigError> {
    let duplicates = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let root = Node { path: String::new(), duplicates: &duplicates };
    let value = root
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| syntax_error(&error))?;
    let problems = duplicates.into_inner();
    if !problems.is_empty() {
        return Err(ConfigError { file: None, problems });
    }
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(ConfigError::one("", "the document is not a JSON object; write { … }")),
    }
}

fn syntax_error(error: &serde_json::Error) -> ConfigError {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    let place = format!("line {}, column {}", error.line(), error.column());
    ConfigError::one(place, format!("this is not JSON: {message}"))
}

/// Appends a key to a path. A key that could be taken for something else is quoted.
pub(super) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-$".contains(c));
    match (plain, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[{key:?}]"),
    }
}

/// Builds a value as `Value` itself would, but notes a key that stands twice: the last one would silently win.
struct Node<'a> {
    path: String,
    duplicates: &'a RefCell<Vec<Problem>>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        let node = |index: usize| Node { path: format!("{}[{index}]", self.path), duplicates: self.duplicates };
        while let Some(value) = items.next_element_seed(node(list.len()))? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = join(&self.path, &key);
            let value = entries.next_value_seed(Node { path: path.clone(), duplicates: self.duplicates })?;
            if object.insert(key, value).is_some() {
                let message = "this key stands twice; write it once".to_owned();
                self.duplicates.borrow_mut().push(Problem { path, message });
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        parse(text).expect_err("it is wrong").problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn values_come_out_as_they_went_in() {
        let text = r#"{"a":[null,true,-1,2,1.5,"x"],"b":{"c":{}}}"#;
        assert_eq!(Value::Object(parse(text).unwrap()), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn every_duplicate_key_is_named_with_its_path() {
        let found = problems(r#"{"a":1,"b":[{"c":1,"c":2}],"a":2}"#);
        assert_eq!(found, ["b[0].c: this key stands twice; write it once", "a: this key stands twice; write it once"]);
    }

    #[test]
    fn broken_json_says_where() {
        assert_eq!(problems("{\n  \"a\": 1,\n}"), ["line 3, column 1: this is not JSON: trailing comma"]);
        assert_eq!(problems("{} {}"), ["line 1, column 4: this is not JSON: trailing characters"]);
        assert_eq!(problems("[]"), ["the document is not a JSON object; write { … }"]);
        assert!(problems("")[0].contains("EOF"));
        let deep = "[".repeat(200);
        assert!(problems(&deep)[0].contains("recursion limit"));
    }

    #[test]
    fn a_key_that_could_be_mistaken_is_quoted_in_paths() {
        assert_eq!(join("providers", "a.b"), r#"providers["a.b"]"#);
        assert_eq!(join("", "server"), "server");
    }
}
