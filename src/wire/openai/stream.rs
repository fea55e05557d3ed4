//! A provider's chat stream, judged event by event: what is forwarded, what is left out, and whether it came to its end.

use super::decode::{Seen, look, upstream_error};
use crate::error::Error;
use crate::model::Usage;
use crate::wire::sse;

/// What to do with one event.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// Send [`sse::Event::raw`] untouched.
    Forward {
        /// The stream's first event with something that a reader would show or act on: text, a tool call, reasoning. The
        /// role alone is none.
        first_content: bool,
    },
    /// Leave it out: it only says the usage, which the caller did not ask for.
    Omit,
    /// The stream's own end, `[DONE]`. What follows it means nothing.
    Done,
    /// It is no JSON object.
    Garbage,
    /// The provider says that it failed.
    Error(Error),
    /// It says nothing: a comment, a ping. May be sent untouched; it is no sign of progress.
    Comment,
}

/// The state of one stream.
#[derive(Debug)]
pub struct ChatStream {
    caller_wants_usage: bool,
    usage: Option<Usage>,
    content: bool,
    done: bool,
    /// The choices seen and those that finished, one bit each by index.
    indices: u128,
    finished: u128,
    /// A choice had an index that has no bit: then only `[DONE]` shows completeness.
    beyond: bool,
}

impl ChatStream {
    /// A stream of which nothing has come. `caller_wants_usage` is what the client itself asked for.
    #[must_use]
    pub fn new(caller_wants_usage: bool) -> Self {
        Self { caller_wants_usage, usage: None, content: false, done: false, indices: 0, finished: 0, beyond: false }
    }

    /// Judges the next event.
    pub fn next(&mut self, event: &sse::Event<'_>) -> Step {
        if event.is_comment {
            return Step::Comment;
        }
        let data = event.data.trim_ascii();
        if data == b"[DONE]" {
            self.done = true;
            return Step::Done;
        }
        match look(data) {
            Err(_) => Step::Garbage,
            Ok(seen) if seen.error || event.name == b"error" => Step::Error(upstream_error(502, data)),
            Ok(seen) => self.take(&seen),
        }
    }

    /// The tokens, once the provider has said them.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether the shape's end was seen: `[DONE]`, or why it finished for every choice that began.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.done || (!self.beyond && self.indices != 0 && self.indices == self.finished)
    }

    fn take(&mut self, seen: &Seen) -> Step {
        self.usage = seen.usage.or(self.usage);
        self.indices |= seen.indices;
        self.finished |= seen.finished_indices;
        self.beyond |= seen.beyond;
        if seen.usage.is_some() && seen.has_choices && seen.choices == 0 && !self.caller_wants_usage {
            return Step::Omit;
        }
        let first_content = seen.content && !self.content;
        self.content |= seen.content;
        Step::Forward { first_content }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(stream: &mut ChatStream, text: &str) -> Vec<String> {
        let mut decoder = sse::Decoder::new(4096);
        decoder.push(text.as_bytes());
        let mut steps = Vec::new();
        while let Some(event) = decoder.next() {
            steps.push(match stream.next(&event.expect("short")) {
                Step::Forward { first_content: true } => "first".to_owned(),
                Step::Error(error) => format!("error {} {}", error.status(), error.message()),
                other => format!("{other:?}").split(' ').next().unwrap_or_default().to_lowercase(),
            });
        }
        steps
    }

    fn data(texts: &[&str]) -> String {
        texts.iter().map(|text| format!("data: {text}\n\n")).collect()
    }

    const ROLE: &str = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
    const WORD: &str = r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}],"usage":null}"#;
    const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;

    #[test]
    fn a_usual_stream_is_forwarded_but_for_the_usage_nobody_asked_for() {
        let text = format!(": hello\n\n{}", data(&[ROLE, WORD, WORD, STOP, USAGE, "[DONE]"]));
        let mut quiet = ChatStream::new(false);
        assert_eq!(steps(&mut quiet, &text), ["comment", "forward", "first", "forward", "forward", "omit", "done"]);
        assert_eq!(quiet.usage(), Some(Usage { input: 1, output: 2 }));
        let mut asked = ChatStream::new(true);
        assert_eq!(steps(&mut asked, &text)[5], "forward");
    }

    #[test]
    fn usage_beside_choices_is_forwarded_and_an_empty_first_chunk_too() {
        let mut stream = ChatStream::new(false);
        let both = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
        let azure = r#"{"choices":[],"prompt_filter_results":[]}"#;
        assert_eq!(steps(&mut stream, &data(&[azure, both])), ["forward", "forward"]);
        assert_eq!(stream.usage(), Some(Usage { input: 1, output: 2 }));
    }

    #[test]
    fn a_stream_is_complete_at_its_finish_reasons_or_done_and_not_before() {
        let mut stream = ChatStream::new(false);
        assert!(!stream.is_complete());
        steps(&mut stream, &data(&[ROLE, WORD, "{\"choices\":[]}"]));
        assert!(!stream.is_complete());
        steps(&mut stream, &data(&[STOP]));
        assert!(stream.is_complete());
        let mut done = ChatStream::new(false);
        steps(&mut done, "data: [DONE]\n\n");
        assert!(done.is_complete());
    }

    #[test]
    fn of_several_choices_each_must_finish() {
        let at = |index: u32, reason: &str| format!(r#"{{"choices":[{{"index":{index},"finish_reason":{reason}}}]}}"#);
        let mut stream = ChatStream::new(false);
        steps(&mut stream, &data(&[&at(0, "null"), &at(1, "null"), &at(0, "\"stop\"")]));
        assert!(!stream.is_complete());
        steps(&mut stream, &data(&[&at(1, "\"length\"")]));
        assert!(stream.is_complete());
        let mut far = ChatStream::new(false);
        steps(&mut far, &data(&[&at(0, "\"stop\""), &at(500, "\"stop\"")]));
        assert!(!far.is_complete(), "an index that cannot be followed leaves it to [DONE]");
    }

    #[test]
    fn errors_and_garbage_are_told_apart() {
        let mut stream = ChatStream::new(false);
        let text =
            data(&["{\"choices\":[", "5", "hello", r#"{"error":{"message":"no","code":500}}"#, r#"{"error":"flat"}"#]);
        assert_eq!(steps(&mut stream, &text), ["garbage", "garbage", "garbage", "error 502 no", "error 502 flat"]);
        let named = "event: error\ndata: {\"message\":\"named\"}\n\n";
        assert_eq!(steps(&mut stream, named), ["error 502 named"]);
    }

    #[test]
    fn first_content_is_whatever_a_reader_would_act_on() {
        for delta in [r#"{"tool_calls":[{"index":0}]}"#, r#"{"reasoning_content":"hm"}"#, r#"{"refusal":"no"}"#] {
            let mut stream = ChatStream::new(false);
            let text = data(&[&format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#)]);
            assert_eq!(steps(&mut stream, &text), ["first"], "{delta}");
        }
        for delta in [r#"{"role":"assistant"}"#, r#"{"content":null,"tool_calls":[],"refusal":""}"#, "{}", "null"] {
            let mut stream = ChatStream::new(false);
            let text = data(&[&format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#)]);
            assert_eq!(steps(&mut stream, &text), ["forward"], "{delta}");
        }
    }
}
