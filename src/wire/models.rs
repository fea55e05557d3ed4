//! Lists of models as providers give them, read for what a list of ours says: OpenAI's shape and Anthropic's alike.
//!
//! OpenAI's has `data` with `id`, `created` (seconds) and `owned_by` ("List models"); Anthropic's the same with `created_at` (RFC
//! 3339) and `display_name` ("List Models"); Together's is the array alone. Everything else in an entry is nobody's business here.

use serde_json::Value;

use crate::calendar::rfc3339;

/// The most models of one provider that are taken.
pub(crate) const MOST_MODELS: usize = 10_000;

/// The longest name that is taken, in bytes.
const LONGEST: usize = 256;

/// A model as its provider lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name there.
    pub(crate) id: String,
    /// When it was made, in seconds of Unix time, if that is said.
    pub(crate) created: Option<u64>,
    /// Who owns it, if that is said.
    pub(crate) owned_by: Option<String>,
}

/// Reads a provider's list; none if it is none. What has no name that could be asked for is left out, and what comes past
/// [`MOST_MODELS`] is, too.
pub(crate) fn read(body: &[u8]) -> Option<Vec<Listed>> {
    let list: Value = serde_json::from_slice(body).ok()?;
    let entries = list.as_array().or_else(|| list.get("data")?.as_array())?;
    Some(entries.iter().filter_map(listed).take(MOST_MODELS).collect())
}

fn listed(entry: &Value) -> Option<Listed> {
    let text = |key: &str| {
        let text = entry.get(key)?.as_str()?;
        let fits = !text.is_empty() && text.len() <= LONGEST && !text.contains(char::is_control);
        fits.then(|| text.to_owned())
    };
    let time = |key: &str| {
        let time = entry.get(key)?;
        time.as_u64().or_else(|| seconds_of(time.as_str()?))
    };
    Some(Listed {
        id: text("id")?,
        created: time("created").or_else(|| time("created_at")),
        owned_by: text("owned_by"),
    })
}

/// The seconds of a time such as `2025-02-19T00:00:00Z`; none for one in another zone, which no provider gives.
fn seconds_of(text: &str) -> Option<u64> {
    rfc3339(text).and_then(|(seconds, _)| u64::try_from(seconds).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(id: &str, created: Option<u64>, owned_by: Option<&str>) -> Listed {
        Listed { id: id.to_owned(), created, owned_by: owned_by.map(str::to_owned) }
    }

    #[test]
    fn both_shapes_are_read_and_an_array_alone() {
        let openai = br#"{"object":"list","data":[{"id":"gpt-4o","object":"model","created":1715367049,"owned_by":"system"},{"id":"m"}]}"#;
        assert_eq!(
            read(openai),
            Some(vec![model("gpt-4o", Some(1_715_367_049), Some("system")), model("m", None, None)])
        );
        let anthropic = br#"{"data":[{"type":"model","id":"claude-sonnet-4-20250514","display_name":"Claude Sonnet 4",
            "created_at":"2025-02-19T00:00:00Z"}],"first_id":"a","has_more":false,"last_id":"b"}"#;
        assert_eq!(read(anthropic), Some(vec![model("claude-sonnet-4-20250514", Some(1_739_923_200), None)]));
        let together = br#"[{"id":"a/b","created":0,"type":"chat"}]"#;
        assert_eq!(read(together), Some(vec![model("a/b", Some(0), None)]));
    }

    #[test]
    fn what_is_no_list_is_none_and_what_has_no_name_is_left_out() {
        for none in [&b""[..], b"[", b"{}", b"null", b"{\"data\":{}}", b"<html>", b"\xff"] {
            assert_eq!(read(none), None);
        }
        let odd = format!(
            r#"[{{"id":""}},{{"id":7}},{{}},"x",{{"id":"a\nb"}},{{"id":"{}"}},{{"id":"a","created":-1}}]"#,
            "x".repeat(257)
        );
        assert_eq!(read(odd.as_bytes()), Some(vec![model("a", None, None)]));
        let many: Vec<_> = (0..MOST_MODELS + 1).map(|n| serde_json::json!({"id": n.to_string()})).collect();
        assert_eq!(read(Value::from(many).to_string().as_bytes()).map(|list| list.len()), Some(MOST_MODELS));
    }

    #[test]
    fn times_are_seconds_and_odd_ones_none() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:30:15Z", Some(951_827_415)),
            ("2024-03-01T00:00:00.250Z", Some(1_709_251_200)),
            ("2024-03-01T00:00:00+02:00", None),
            ("2024-13-01T00:00:00Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("99999999999999999999-01-01T00:00:00Z", None),
            ("2024-03-01", None),
            ("", None),
        ] {
            assert_eq!(seconds_of(text), seconds, "{text}");
        }
    }
}
