//! A provider's stream on its way to a client that speaks the same shape, judged event by event.
//!
//! Kinds of events that are new go on as they came ("Versioning": such may be added at any time).

use std::borrow::Cow;

use super::words::Counts;
use crate::model::Usage;
use crate::wire::openai::{INSIDE_OK, Step, upstream_error};
use crate::wire::pull::{Pull, Wrong};
use crate::wire::sse;

/// The state of one stream.
#[derive(Debug, Default)]
pub(crate) struct EventStream {
    counts: Counts,
    content: bool,
    /// `message_stop` was seen.
    done: bool,
}

impl EventStream {
    /// A stream of which nothing has come.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Judges the next event.
    pub(crate) fn next(&mut self, event: &sse::Event<'_>) -> Step {
        if event.is_comment {
            return Step::Comment;
        }
        let data = event.data.trim_ascii();
        if data == b"[DONE]" {
            // Put behind every stream by some servers: not this shape's end, and it may follow a cut.
            return Step::Omit;
        }
        let Ok(seen) = self.look(data) else { return Step::Garbage };
        let kind = seen.kind.as_deref().unwrap_or(event.name);
        match kind {
            _ if seen.failed => Step::Error(upstream_error(INSIDE_OK, data)),
            b"error" => Step::Error(upstream_error(INSIDE_OK, data)),
            b"ping" => Step::Comment,
            b"message_stop" => {
                self.done = true;
                Step::Last
            }
            _ => {
                let first_content = seen.is_content(kind) && !self.content;
                self.content |= first_content;
                Step::Forward { first_content }
            }
        }
    }

    /// The tokens, as far as the provider has said them.
    #[must_use]
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.counts.tokens().map(Usage::from)
    }

    /// Whether the shape's end was seen.
    #[must_use]
    pub(crate) fn is_complete(&self) -> bool {
        self.done
    }

    fn look<'a>(&mut self, data: &'a [u8]) -> Result<Seen<'a>, NoJson> {
        let mut pull = Pull::new(std::str::from_utf8(data).map_err(|_| NoJson)?);
        let mut seen = Seen::default();
        pull.object(|pull, key| {
            match (&*key, pull.peek()) {
                (b"type", Some(b'"')) => seen.kind = Some(Cow::Borrowed(inner(pull.value()?.raw()))),
                (b"message", Some(b'{')) => pull.object(|pull, key| match &*key {
                    b"usage" => self.counts.take(pull),
                    _ => pull.value().map(drop),
                })?,
                (b"usage", _) => self.counts.take(pull)?,
                (b"delta", Some(b'{')) => seen.delta = filled(pull)?,
                (b"content_block", Some(b'{')) => seen.block = filled(pull)?,
                (b"error", _) => seen.failed |= !pull.value()?.is_null(),
                _ => drop(pull.value()?),
            }
            Ok::<_, NoJson>(())
        })?;
        pull.end()?;
        Ok(seen)
    }
}

/// An event's data is no JSON object.
struct NoJson;

impl From<Wrong> for NoJson {
    fn from(_: Wrong) -> Self {
        Self
    }
}

/// What one event holds.
#[derive(Default)]
struct Seen<'a> {
    kind: Option<Cow<'a, [u8]>>,
    failed: bool,
    /// The delta, or the block that begins, has something in it.
    delta: bool,
    block: bool,
}

impl Seen<'_> {
    /// Whether a reader would show it or act on it: text, a thought, a call. A block that begins empty is none.
    fn is_content(&self, kind: &[u8]) -> bool {
        match kind {
            b"content_block_delta" => self.delta,
            b"content_block_start" => self.block,
            _ => false,
        }
    }
}

/// What stands between a string's quotes. The kinds that are compared have nothing to escape.
fn inner(raw: &str) -> &[u8] {
    raw.trim_matches('"').as_bytes()
}

/// Whether the object that comes next has a member beside its kind that is not empty: of a call that begins, its name.
fn filled(pull: &mut Pull<'_>) -> Result<bool, Wrong> {
    let mut filled = false;
    pull.object(|pull, key| {
        let value = pull.value()?;
        filled |= *key != *b"type" && !matches!(value.raw(), "null" | "\"\"" | "[]" | "{}");
        Ok::<_, Wrong>(())
    })?;
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::anthropic::golden;

    fn steps(stream: &mut EventStream, pieces: &[&[u8]]) -> Vec<String> {
        let mut decoder = sse::Decoder::new(16 * 1024);
        let mut steps = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Some(event) = decoder.next() {
                steps.push(match stream.next(&event.expect("short")) {
                    Step::Forward { first_content: true } => "first".to_owned(),
                    Step::Error(error) => {
                        let kind = error.upstream_answer().and_then(|answer| answer.kind.clone()).unwrap_or_default();
                        format!("error {} {kind} {}", error.status(), error.message())
                    }
                    other => format!("{other:?}").split(' ').next().unwrap_or_default().to_lowercase(),
                });
            }
        }
        steps
    }

    fn whole(text: &str) -> (Vec<String>, EventStream) {
        let mut stream = EventStream::new();
        (steps(&mut stream, &[text.as_bytes()]), stream)
    }

    #[test]
    fn a_usual_stream_is_forwarded_to_its_end_and_a_ping_is_no_progress() {
        let (seen, stream) = whole(golden::STREAM_TEXT);
        let wanted = ["forward", "forward", "comment", "first", "forward", "forward", "forward", "last"];
        assert_eq!(seen, wanted);
        assert!(stream.is_complete());
        assert_eq!(stream.usage(), Some(Usage { input: 25, output: 15 }));
    }

    #[test]
    fn the_first_content_is_whatever_a_reader_would_act_on() {
        let first = |text: &str| whole(text).0.iter().position(|step| step == "first");
        assert_eq!(first(golden::STREAM_TOOL), Some(3), "text before the call");
        assert_eq!(first(golden::STREAM_THINKING), Some(2), "a thought");
        let call = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#;
        assert_eq!(first(&format!("data: {call}\n\n")), Some(0));
        let empty =
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"","citations":null}}"#;
        assert_eq!(first(&format!("data: {empty}\n\n")), None);
    }

    #[test]
    fn usage_is_the_last_that_was_said_of_each_count() {
        let (_, stream) = whole(golden::STREAM_THINKING);
        assert_eq!(stream.usage(), Some(Usage { input: 2095, output: 60 }));
    }

    #[test]
    fn errors_garbage_and_what_is_new_are_told_apart() {
        let (seen, stream) = whole(golden::STREAM_ERROR);
        assert_eq!(seen.last().map(String::as_str), Some("error 502 overloaded_error Overloaded"));
        assert!(!stream.is_complete());
        let text = "event: new_kind\ndata: {\"type\":\"new_kind\",\"x\":1}\n\ndata: {\"x\":\n\ndata: 5\n\ndata: [DONE]\n\n: hi\n\n";
        let (seen, stream) = whole(text);
        assert_eq!(seen, ["forward", "garbage", "garbage", "omit", "comment"]);
        assert!(!stream.is_complete());
        let named = "event: error\ndata: {\"message\":\"flat\"}\n\nevent: ping\ndata: {}\n\n";
        assert_eq!(whole(named).0, ["error 502  flat", "comment"], "its name stands in");
    }

    #[test]
    fn a_stream_that_is_cut_is_not_complete() {
        let end = golden::STREAM_TEXT.find("event: message_stop").expect("there");
        assert!(!whole(&golden::STREAM_TEXT[..end]).1.is_complete());
    }

    #[test]
    fn splitting_at_any_byte_changes_nothing() {
        for text in golden::STREAMS {
            let (wanted, stream) = whole(text);
            for cut in 0..text.len() {
                let (front, back) = text.as_bytes().split_at(cut);
                let mut split = EventStream::new();
                assert_eq!(steps(&mut split, &[front, back]), wanted, "at {cut}");
                assert_eq!((split.usage(), split.is_complete()), (stream.usage(), stream.is_complete()));
            }
        }
    }
}
