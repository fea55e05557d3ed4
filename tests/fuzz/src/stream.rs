//! A provider's event stream in OpenAI's shape: judged alike wherever it is split, and garbage only if it is no JSON.

use serde::de::IgnoredAny;
use sluicegate::wire::openai::{ChatStream, Step};
use sluicegate::wire::sse::Decoder;

/// The longest text that is split at every byte.
const LONGEST: usize = 600;

/// What came of an event.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Forward { first_content: bool },
    Omit,
    Done,
    Garbage,
    Error { status: u16, message: String },
    Comment,
}

/// Checks one input: what a provider sent.
///
/// # Panics
/// If a property does not hold.
pub fn stream(bytes: &[u8]) {
    let Some((wants_usage, text)) = bytes.split_first() else { return };
    let wants_usage = wants_usage & 1 == 1;
    let whole = judge(&[text], wants_usage);
    for at in 0..text.len().min(LONGEST) {
        let (before, after) = text.split_at(at);
        assert_eq!(whole, judge(&[before, after], wants_usage), "split at {at}");
    }
    let single: Vec<_> = text.chunks(1).collect();
    assert_eq!(whole, judge(&single, wants_usage), "byte by byte");
}

/// Every event's verdict, whether the stream is complete, and its tokens.
fn judge(pieces: &[&[u8]], wants_usage: bool) -> (Vec<Verdict>, bool, Option<(u64, u64)>) {
    let (mut decoder, mut stream) = (Decoder::new(1 << 20), ChatStream::new(wants_usage));
    let (mut verdicts, mut content, mut done) = (Vec::new(), false, false);
    let mut take = |event: &sluicegate::wire::sse::Event<'_>| {
        let verdict = match stream.next(event) {
            Step::Forward { first_content } => Verdict::Forward { first_content },
            Step::Omit => Verdict::Omit,
            Step::Done => Verdict::Done,
            Step::Garbage => Verdict::Garbage,
            Step::Comment => Verdict::Comment,
            Step::Error(error) => Verdict::Error { status: error.status(), message: error.message().to_owned() },
            other => panic!("a verdict that nobody has heard of: {other:?}"),
        };
        let data = event.data.trim_ascii();
        let is_end = data == b"[DONE]" && !event.is_comment;
        assert_eq!(verdict == Verdict::Comment, event.is_comment);
        assert_eq!(verdict == Verdict::Done, is_end);
        if !event.is_comment && !is_end {
            assert_eq!(verdict == Verdict::Garbage, !is_object(data), "{:?}", String::from_utf8_lossy(data));
        }
        if let Verdict::Error { status, message } = &verdict {
            assert!(*status >= 400 && !message.is_empty() && message.len() <= 16 << 10);
        }
        if verdict == (Verdict::Forward { first_content: true }) {
            assert!(!std::mem::replace(&mut content, true), "two events are the first content");
        }
        assert!(!(wants_usage && verdict == Verdict::Omit), "what was asked for is left out");
        done |= is_end;
        verdicts.push(verdict);
    };
    for piece in pieces {
        decoder.push(piece);
        while let Some(event) = decoder.next() {
            take(&event.expect("within the limit"));
        }
    }
    if let Some(event) = decoder.finish() {
        take(&event.expect("within the limit"));
    }
    assert!(stream.is_complete() || !done, "[DONE] is an end");
    (verdicts, stream.is_complete(), stream.usage().map(|usage| (usage.input, usage.output)))
}

/// Whether a text is a JSON object in UTF-8, nested no deeper than the gateway takes.
fn is_object(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    text.trim_ascii().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok() && depth(text) <= 128
}

fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if std::mem::take(&mut escaped) => {}
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}
