//! A provider's stream, judged event by event: what is forwarded, what is left out, and whether it came to its end.

use super::decode::{Seen, look, upstream_error};
use super::responses;
use crate::error::Error;
use crate::model::{BodyFields, Operation, Usage};
use crate::wire::sse;

/// The status of an error that comes in a stream.
const INSIDE_STREAM: u16 = 502;

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
    /// Send it untouched; nothing comes after it.
    Last,
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
pub struct EventStream {
    shape: Shape,
    usage: Option<Usage>,
    content: bool,
    /// Its own end was seen.
    done: bool,
}

/// What its events are made of.
#[derive(Debug)]
enum Shape {
    Choices(Choices),
    Response,
}

/// How far the choices of a stream have come.
#[derive(Debug, Default)]
struct Choices {
    caller_wants_usage: bool,
    /// How many there must be: one that was cut before its first event is missing, and no event says so.
    expected: u32,
    /// Those seen and those that finished, one bit each by index.
    indices: u128,
    finished: u128,
    /// A choice had an index that has no bit: then only `[DONE]` shows completeness.
    beyond: bool,
}

impl EventStream {
    /// A stream of which nothing has come, for a request with these `fields`.
    #[must_use]
    pub fn new(operation: &Operation, fields: &BodyFields) -> Self {
        let shape = match operation {
            Operation::Responses => Shape::Response,
            _ => Shape::Choices(Choices {
                caller_wants_usage: fields.include_usage,
                expected: fields.choices.max(1),
                ..Choices::default()
            }),
        };
        Self { shape, usage: None, content: false, done: false }
    }

    /// Judges the next event.
    pub fn next(&mut self, event: &sse::Event<'_>) -> Step {
        if event.is_comment {
            return Step::Comment;
        }
        let data = event.data.trim_ascii();
        if data == b"[DONE]" {
            // Where the end is an event of its own, this one says nothing about the answer: it may follow a cut.
            self.done |= matches!(self.shape, Shape::Choices(_));
            return if self.done { Step::Done } else { Step::Omit };
        }
        match &mut self.shape {
            Shape::Choices(choices) => match look(data) {
                Err(_) => Step::Garbage,
                Ok(seen) if seen.error || event.name == b"error" => Step::Error(upstream_error(INSIDE_STREAM, data)),
                Ok(seen) => {
                    self.usage = seen.usage.or(self.usage);
                    match choices.take(&seen) {
                        true => Step::Omit,
                        false => self.forward(seen.content),
                    }
                }
            },
            Shape::Response => match responses::look(data, event.name) {
                Err(_) => Step::Garbage,
                Ok(seen) => {
                    self.usage = seen.usage.or(self.usage);
                    match seen.kind {
                        responses::Kind::Failed => Step::Error(upstream_error(INSIDE_STREAM, seen.error)),
                        responses::Kind::End => {
                            self.done = true;
                            Step::Last
                        }
                        kind => self.forward(kind == responses::Kind::Content),
                    }
                }
            },
        }
    }

    /// The tokens, once the provider has said them.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether the shape's end was seen: `[DONE]`, or why it finished for every choice that was asked for; of a response the
    /// event that carries it whole.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.done || matches!(&self.shape, Shape::Choices(choices) if choices.are_complete())
    }

    fn forward(&mut self, content: bool) -> Step {
        let first_content = content && !self.content;
        self.content |= content;
        Step::Forward { first_content }
    }
}

impl Choices {
    /// Takes note of an event; `true` if it only says the usage, which nobody asked for.
    fn take(&mut self, seen: &Seen) -> bool {
        self.indices |= seen.indices;
        self.finished |= seen.finished_indices;
        self.beyond |= seen.beyond;
        seen.usage.is_some() && seen.has_choices && seen.choices == 0 && !self.caller_wants_usage
    }

    fn are_complete(&self) -> bool {
        !self.beyond && self.indices.count_ones() >= self.expected && self.indices == self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(include_usage: bool) -> EventStream {
        EventStream::new(&Operation::ChatCompletions, &BodyFields { include_usage, ..BodyFields::default() })
    }

    fn steps(stream: &mut EventStream, text: &str) -> Vec<String> {
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
        let mut quiet = chat(false);
        assert_eq!(steps(&mut quiet, &text), ["comment", "forward", "first", "forward", "forward", "omit", "done"]);
        assert_eq!(quiet.usage(), Some(Usage { input: 1, output: 2 }));
        let mut asked = chat(true);
        assert_eq!(steps(&mut asked, &text)[5], "forward");
    }

    #[test]
    fn usage_beside_choices_is_forwarded_and_an_empty_first_chunk_too() {
        let mut stream = chat(false);
        let both = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
        let azure = r#"{"choices":[],"prompt_filter_results":[]}"#;
        assert_eq!(steps(&mut stream, &data(&[azure, both])), ["forward", "forward"]);
        assert_eq!(stream.usage(), Some(Usage { input: 1, output: 2 }));
    }

    #[test]
    fn a_stream_is_complete_at_its_finish_reasons_or_done_and_not_before() {
        let mut stream = chat(false);
        assert!(!stream.is_complete());
        steps(&mut stream, &data(&[ROLE, WORD, "{\"choices\":[]}"]));
        assert!(!stream.is_complete());
        steps(&mut stream, &data(&[STOP]));
        assert!(stream.is_complete());
        let mut done = chat(false);
        steps(&mut done, "data: [DONE]\n\n");
        assert!(done.is_complete());
    }

    #[test]
    fn of_several_choices_each_must_finish() {
        let at = |index: u32, reason: &str| format!(r#"{{"choices":[{{"index":{index},"finish_reason":{reason}}}]}}"#);
        let mut stream = chat(false);
        steps(&mut stream, &data(&[&at(0, "null"), &at(1, "null"), &at(0, "\"stop\"")]));
        assert!(!stream.is_complete());
        steps(&mut stream, &data(&[&at(1, "\"length\"")]));
        assert!(stream.is_complete());
        let mut three = EventStream::new(&Operation::Completions, &BodyFields { choices: 3, ..BodyFields::default() });
        steps(&mut three, &data(&[&at(0, "\"stop\""), &at(1, "\"stop\"")]));
        assert!(!three.is_complete(), "one that was asked for has not even begun");
        steps(&mut three, &data(&[&at(2, "\"stop\"")]));
        assert!(three.is_complete());
        let mut far = chat(false);
        steps(&mut far, &data(&[&at(0, "\"stop\""), &at(500, "\"stop\"")]));
        assert!(!far.is_complete(), "an index that cannot be followed leaves it to [DONE]");
    }

    #[test]
    fn a_response_ends_by_the_event_that_carries_it_whole_and_by_nothing_else() {
        let response = || EventStream::new(&Operation::Responses, &BodyFields::default());
        let delta = r#"{"type":"response.output_text.delta","delta":"hi"}"#;
        let created = r#"{"type":"response.created","response":{"usage":null,"error":null}}"#;
        let end = r#"{"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":2}}}"#;
        let mut whole = response();
        assert_eq!(steps(&mut whole, &data(&[created, delta, delta, end])), ["forward", "first", "forward", "last"]);
        assert!(whole.is_complete() && whole.usage() == Some(Usage { input: 1, output: 2 }));
        let mut cut = response();
        assert_eq!(steps(&mut cut, &data(&[created, delta, "[DONE]"])), ["forward", "first", "omit"]);
        assert!(!cut.is_complete(), "what a server puts behind every stream is no end of this one");
        let failed = r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"sorry"}}}"#;
        let error = r#"{"type":"error","code":"rate_limit_exceeded","message":"slow down"}"#;
        let mut wrong = response();
        let seen = steps(&mut wrong, &data(&[failed, error, "{"]));
        assert_eq!(seen, ["error 502 sorry", "error 502 slow down", "garbage"]);
        assert!(!wrong.is_complete());
    }

    #[test]
    fn errors_and_garbage_are_told_apart() {
        let mut stream = chat(false);
        let text =
            data(&["{\"choices\":[", "5", "hello", r#"{"error":{"message":"no","code":500}}"#, r#"{"error":"flat"}"#]);
        assert_eq!(steps(&mut stream, &text), ["garbage", "garbage", "garbage", "error 502 no", "error 502 flat"]);
        let named = "event: error\ndata: {\"message\":\"named\"}\n\n";
        assert_eq!(steps(&mut stream, named), ["error 502 named"]);
    }

    #[test]
    fn first_content_is_whatever_a_reader_would_act_on() {
        for delta in [r#"{"tool_calls":[{"index":0}]}"#, r#"{"reasoning_content":"hm"}"#, r#"{"refusal":"no"}"#] {
            let mut stream = chat(false);
            let text = data(&[&format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#)]);
            assert_eq!(steps(&mut stream, &text), ["first"], "{delta}");
        }
        for delta in [r#"{"role":"assistant"}"#, r#"{"content":null,"tool_calls":[],"refusal":""}"#, "{}", "null"] {
            let mut stream = chat(false);
            let text = data(&[&format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#)]);
            assert_eq!(steps(&mut stream, &text), ["forward"], "{delta}");
        }
    }
}
