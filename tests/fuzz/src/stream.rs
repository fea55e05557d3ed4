//! A provider's event stream in OpenAI's shape: judged alike wherever it is split, and garbage only if it is no JSON.

use serde::de::IgnoredAny;
use sluicegate::model::{BodyFields, Operation};
use sluicegate::wire::openai::{EventStream, Step};
use sluicegate::wire::sse::Decoder;

/// The longest text that is split at every byte.
const LONGEST: usize = 600;

/// What came of an event.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Forward { first_content: bool },
    Omit,
    Last,
    Done,
    Garbage,
    Error { status: u16, message: String },
    Comment,
}

/// Checks one input: a byte for what was asked for, and what a provider sent.
///
/// # Panics
/// If a property does not hold.
pub fn stream(bytes: &[u8]) {
    let Some((asked, text)) = bytes.split_first() else { return };
    let asked = (asked & 1 == 1, asked & 2 == 2);
    let whole = judge(&[text], asked);
    for at in 0..text.len().min(LONGEST) {
        let (before, after) = text.split_at(at);
        assert_eq!(whole, judge(&[before, after], asked), "split at {at}");
    }
    let single: Vec<_> = text.chunks(1).collect();
    assert_eq!(whole, judge(&single, asked), "byte by byte");
}

/// Every event's verdict, whether the stream is complete, and its tokens. Asked for may be the usage, and a response instead
/// of a chat.
fn judge(pieces: &[&[u8]], asked: (bool, bool)) -> (Vec<Verdict>, bool, Option<(u64, u64)>) {
    let (wants_usage, is_response) = asked;
    let operation = if is_response { Operation::Responses } else { Operation::ChatCompletions };
    let fields = BodyFields { include_usage: wants_usage, ..BodyFields::default() };
    let (mut decoder, mut stream) = (Decoder::new(1 << 20), EventStream::new(&operation, &fields));
    let (mut verdicts, mut content, mut done) = (Vec::new(), false, false);
    let mut take = |event: &sluicegate::wire::sse::Event<'_>| {
        let verdict = match stream.next(event) {
            Step::Forward { first_content } => Verdict::Forward { first_content },
            Step::Last => Verdict::Last,
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
        if is_response {
            // Its end is an event of its own; only behind that one does this mean something.
            assert_eq!(matches!(verdict, Verdict::Done | Verdict::Omit), is_end);
            assert!(verdict != Verdict::Done || done, "[DONE] is no end of a response");
        } else {
            assert_eq!(verdict == Verdict::Done, is_end);
        }
        if !event.is_comment && !is_end {
            assert_eq!(verdict == Verdict::Garbage, !is_object(data), "{:?}", String::from_utf8_lossy(data));
        }
        if let Verdict::Error { status, message } = &verdict {
            assert!(*status >= 400 && !message.is_empty() && message.len() <= 16 << 10);
        }
        if verdict == (Verdict::Forward { first_content: true }) {
            assert!(!std::mem::replace(&mut content, true), "two events are the first content");
        }
        assert!(is_response || !(wants_usage && verdict == Verdict::Omit), "what was asked for is left out");
        done |= verdict == Verdict::Last || verdict == Verdict::Done;
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
    assert!(stream.is_complete() || !done, "an end was seen");
    assert!(!is_response || stream.is_complete() == done, "nothing else is the end of a response");
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
