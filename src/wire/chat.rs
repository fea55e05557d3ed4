//! What the shapes share when a chat is translated from one to another.

use super::json;
use crate::error::Error;
use crate::model::chat::{Lost, Rest, unsupported};

/// What an answer is told with beside its words, where its provider does not say it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta<'a> {
    /// The name of the answer, where the provider gives it none.
    pub(crate) id: &'a str,
    /// When it was made, in seconds since the Unix epoch.
    pub(crate) created: u64,
    /// The model, as it was asked for.
    pub(crate) model: &'a str,
    /// Whether a stream says its tokens; shapes that always do ignore it.
    pub(crate) stream_usage: bool,
}

/// What a reader of streams made of one event.
#[derive(Debug)]
pub(crate) enum Read {
    /// Nothing: a comment, or a ping.
    Nothing,
    /// The answer went on.
    More {
        /// By something that a reader would show or act on: text, a thought, a call of a function.
        content: bool,
    },
    /// The shape's own end. Nothing comes after it.
    Done,
    /// It is not what the shape says: no JSON object.
    Garbage,
    /// The provider says that it failed.
    Failed(Error),
}

/// Decides about the fields that the neutral chat has no place for, in a shape that has none either: hints are noted, the
/// first of the others is refused by its name. `shape` is as [`unsupported`] has it.
pub(crate) fn leave_out(rest: &[Rest<'_>], shape: &str, lost: &mut Lost) -> Result<(), Error> {
    for field in rest {
        if !field.hint {
            return Err(unsupported(&field.name, shape));
        }
        lost.hint(&field.name);
    }
    Ok(())
}

/// Appends plain text: JSON's own marks, and names that need no escapes.
pub(crate) fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends the comma before another member or element, unless it is the first of its container. What is written must have
/// no spaces.
pub(crate) fn push_comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), None | Some(b'[' | b'{')) {
        out.push(b',');
    }
}

/// Appends a JSON string.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

/// Appends what stands between the quotes of a JSON string.
pub(crate) fn push_escaped(out: &mut Vec<u8>, text: &str) {
    if json::is_plain(text) {
        out.extend_from_slice(text.as_bytes());
    } else if let Ok(quoted) = serde_json::to_string(text) {
        // Writing a string to memory has no way to fail.
        out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
    }
}

/// Appends a whole number.
pub(crate) fn push_number(out: &mut Vec<u8>, number: u64) {
    push(out, itoa::Buffer::new().format(number));
}

/// Appends a number that is finite.
pub(crate) fn push_float(out: &mut Vec<u8>, number: f64) {
    // Writing a number to memory has no way to fail.
    let _ = serde_json::to_writer(out, &number);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn rest(name: &'static str, hint: bool) -> Rest<'static> {
        Rest { name: name.into(), value: "1".into(), hint }
    }

    #[test]
    fn hints_are_noted_once_and_the_first_other_is_refused() {
        let mut lost = Lost::default();
        leave_out(&[rest("seed", true), rest("store", true), rest("seed", true)], "X", &mut lost).expect("hints");
        assert_eq!(lost.names(), ["seed", "store"]);
        let refused = leave_out(&[rest("seed", true), rest("n", false), rest("m", false)], "X", &mut lost);
        let refused = refused.expect_err("it is none");
        assert_eq!((refused.code(), refused.param()), (Code::Unsupported, Some("n")));
    }

    #[test]
    fn what_is_written_is_json() {
        let mut out = b"[".to_vec();
        for text in ["", "plain", "a\"b\\c\n\u{1}\u{7f}", "\u{e9}\u{1f600}"] {
            push_comma(&mut out);
            push_string(&mut out, text);
        }
        push_comma(&mut out);
        push_number(&mut out, u64::MAX);
        push_comma(&mut out);
        push_float(&mut out, 0.1);
        push(&mut out, "]");
        let wanted = serde_json::json!(["", "plain", "a\"b\\c\n\u{1}\u{7f}", "\u{e9}\u{1f600}", u64::MAX, 0.1]);
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).expect("JSON"), wanted);
    }
}
