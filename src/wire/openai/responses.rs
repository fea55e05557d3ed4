//! The events of a stream of OpenAI's Responses API: what each is, and what it says about the response as a whole.
//!
//! Such a stream has no choices and no `[DONE]`: it ends by an event that carries the response as it became. Of the three
//! that there are, `response.completed` and `response.incomplete` (as many tokens as were allowed) are answers;
//! `response.failed` is the provider's own error, and so is an event of type `error`.

use super::decode::usage;
use crate::model::Usage;
use crate::wire::json::{Scanner, Syntax};

/// What an event is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It adds something that a reader would show or act on.
    Content,
    /// Nothing comes after it.
    End,
    /// The provider failed; the bytes that say why.
    Failed,
    /// Anything else.
    Other,
}

/// What one event holds.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) kind: Kind,
    pub(super) usage: Option<Usage>,
    /// The object with the error, if it failed.
    pub(super) error: &'a [u8],
}

/// Looks at one event's data, lenient about everything but its being JSON. `name` stands in where it says no type itself.
pub(super) fn look<'a>(text: &'a [u8], name: &[u8]) -> Result<Seen<'a>, String> {
    std::str::from_utf8(text).map_err(|error| format!("no UTF-8 at byte {}", error.valid_up_to()))?;
    scan(text, name).map_err(|syntax| syntax.to_string())
}

fn scan<'a>(text: &'a [u8], name: &[u8]) -> Result<Seen<'a>, Syntax> {
    let mut scanner = Scanner::new(text);
    let mut kind = None;
    let (mut response, mut tokens, mut failed) = (None, None, false);
    scanner.enter_object()?;
    let mut first = true;
    while let Some(key) = scanner.next_key(&mut first)? {
        match (&*key.text.key(), scanner.peek()) {
            (b"type", Some(b'"')) => kind = Some(scanner.text()?.key()),
            (b"response", Some(b'{')) => {
                let place = scanner.skip()?;
                tokens = usage_of(&text[place.clone()])?;
                response = Some(place);
            }
            (b"error", found) => {
                scanner.skip()?;
                failed |= found != Some(b'n');
            }
            _ => {
                scanner.skip()?;
            }
        }
    }
    scanner.end()?;
    let kind = kind.as_deref().unwrap_or(name);
    let (kind, error) = match kind {
        _ if failed => (Kind::Failed, text),
        b"error" => (Kind::Failed, text),
        b"response.failed" => (Kind::Failed, response.map_or(text, |place| &text[place])),
        b"response.completed" | b"response.incomplete" => (Kind::End, &text[..0]),
        other if other.ends_with(b".delta") => (Kind::Content, &text[..0]),
        _ => (Kind::Other, &text[..0]),
    };
    Ok(Seen { kind, usage: tokens, error })
}

/// The usage of a response, whose text is known to be JSON.
fn usage_of(response: &[u8]) -> Result<Option<Usage>, Syntax> {
    let mut scanner = Scanner::new(response);
    scanner.enter_object()?;
    let mut found = None;
    let mut first = true;
    while let Some(key) = scanner.next_key(&mut first)? {
        match (&*key.text.key(), scanner.peek()) {
            (b"usage", Some(b'{')) => found = usage(&mut scanner, response)?,
            _ => {
                scanner.skip()?;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str, name: &str) -> Kind {
        look(text.as_bytes(), name.as_bytes()).expect("JSON").kind
    }

    #[test]
    fn an_event_is_what_its_type_says() {
        for (text, wanted) in [
            (
                r#"{"type":"response.created","response":{"status":"in_progress","error":null,"usage":null}}"#,
                Kind::Other,
            ),
            (r#"{"type":"response.output_text.delta","delta":"hi","sequence_number":4}"#, Kind::Content),
            (r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#, Kind::Content),
            (r#"{"type":"response.output_text.done","text":"hi"}"#, Kind::Other),
            (r#"{"type":"response.completed","response":{}}"#, Kind::End),
            (r#"{"type":"response.incomplete","response":{}}"#, Kind::End),
            (r#"{"type":"response.failed","response":{}}"#, Kind::Failed),
            (r#"{"type":"error","message":"no"}"#, Kind::Failed),
            (r#"{"error":{"message":"no"}}"#, Kind::Failed),
        ] {
            assert_eq!(kind(text, "message"), wanted, "{text}");
        }
        assert_eq!(kind(r#"{"delta":"x"}"#, "response.output_text.delta"), Kind::Content, "its name stands in");
        assert!(look(b"{\"type\":", b"").is_err());
    }

    #[test]
    fn the_last_event_says_the_usage_and_a_failure_its_reason() {
        let text =
            r#"{"type":"response.completed","response":{"id":"r","usage":{"input_tokens":5,"output_tokens":7}}}"#;
        assert_eq!(look(text.as_bytes(), b"").expect("JSON").usage, Some(Usage { input: 5, output: 7 }));
        let text = r#"{"type":"response.failed","response":{"error":{"code":"server_error"}}}"#;
        assert_eq!(look(text.as_bytes(), b"").expect("JSON").error, br#"{"error":{"code":"server_error"}}"#);
    }
}
