//! The schema made to take what a document may say beside a value itself: a reference to one, or `null` for the default.

use serde_json::{Map, Value, json};

/// What a reference begins with or holds: `env.NAME`, `file:PATH`, `${NAME}`.
const REFERENCE: &str = r"^env\.|^file:|\$\{";

/// Has the schema of a whole document take documents as they are written.
pub(super) fn as_written(schema: &mut Value) {
    properties(schema);
    schema["properties"]["$schema"] = json!({"type": "string", "description": "for editors"});
    // A gateway key may be a text alone.
    schema["properties"]["server"]["properties"]["keys"]["items"]["type"] = json!(["object", "string"]);
}

/// What lies within: each property may be absent by being `null`.
fn properties(schema: &mut Value) {
    for within in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        value(within);
        nullable(within);
    }
    for within in ["items", "additionalProperties"] {
        if let Some(within) = schema.get_mut(within).filter(|within| within.is_object()) {
            value(within);
        }
    }
}

/// A value that may be given by a reference.
fn value(schema: &mut Value) {
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        schema["pattern"] = format!("{pattern}|{REFERENCE}").into();
    } else if let Some("integer" | "number" | "boolean") = schema["type"].as_str() {
        // Of these keywords each is for values of its own type.
        schema["type"] = json!([schema["type"], "string"]);
        schema["pattern"] = REFERENCE.into();
    }
    // Words are one of several forms, too.
    if let Some(words) = schema.as_object_mut().and_then(|schema| schema.remove("enum")) {
        schema["anyOf"] = json!([{ "enum": words }]);
    }
    if let Some(forms) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        forms.iter_mut().for_each(properties);
        forms.push(json!({"type": "string", "pattern": REFERENCE}));
    }
    properties(schema);
}

/// A key that may be `null`.
fn nullable(schema: &mut Value) {
    match schema.get_mut("type") {
        Some(Value::Array(types)) if !types.contains(&json!("null")) => types.push("null".into()),
        Some(Value::String(only)) => schema["type"] = json!([only, "null"]),
        _ => {}
    }
    if let Some(forms) = schema.get_mut("anyOf").and_then(Value::as_array_mut)
        && !forms.contains(&json!({"type": "null"}))
    {
        forms.push(json!({"type": "null"}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_null_are_taken_and_what_was_said_stays() {
        let mut schema = json!({"type": "object", "properties": {
            "server": {"type": "object", "properties": {
                "most": {"type": "integer", "minimum": 1},
                "url": {"type": "string", "pattern": "^https?://"},
                "policy": {"enum": ["block", "drop"], "default": "block"},
                "time": {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+s$"}]},
                "keys": {"type": "array", "items": {"type": "object", "properties": {"on": {"type": "boolean"}}}},
            }},
        }});
        as_written(&mut schema);
        let server = &schema["properties"]["server"];
        assert_eq!(server["type"], json!(["object", "null"]));
        let server = &server["properties"];
        assert_eq!(server["most"], json!({"type": ["integer", "string", "null"], "minimum": 1, "pattern": REFERENCE}));
        assert_eq!(server["url"]["pattern"], format!("^https?://|{REFERENCE}"));
        let policy = json!([{"enum": ["block", "drop"]}, {"type": "string", "pattern": REFERENCE}, {"type": "null"}]);
        assert_eq!(server["policy"], json!({"anyOf": policy, "default": "block"}));
        assert_eq!(server["time"]["anyOf"].as_array().map(Vec::len), Some(4));
        assert_eq!(server["keys"]["items"]["type"], json!(["object", "string"]));
        assert_eq!(server["keys"]["items"]["properties"]["on"]["type"], json!(["boolean", "string", "null"]));
        assert!(schema["properties"]["$schema"].is_object());
    }
}
