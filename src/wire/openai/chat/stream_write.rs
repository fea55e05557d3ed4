//! A neutral stream as chat completion chunks.
//!
//! The role comes first, alone; calls of functions are numbered as they come; why it ended is a chunk with an empty delta;
//! the tokens are a chunk without choices, if they were asked for, and then every other chunk has a `usage` that is null.
//! `[DONE]` is written by whoever knows that the stream is over.

use super::answer::{finish_reason, push_usage};
use crate::model::chat::{BlockKind, Delta, Event, Tokens};
use crate::wire::chat::{Meta, push, push_number, push_string};

/// What is written of one stream.
#[derive(Debug)]
pub(crate) struct StreamWriter {
    /// What stands in for a name of the answer's and a model that the provider does not give.
    id: String,
    model: String,
    created: u64,
    stream_usage: bool,
    /// `data: {"id":…,"choices":[`, the same in every event.
    head: Vec<u8>,
    /// Calls of functions that began.
    calls: u64,
    /// The block under way is one of thoughts.
    thinking: bool,
    /// The block under way is a call for which no arguments have come.
    bare_call: bool,
    tokens: Option<Tokens>,
}

impl StreamWriter {
    /// A stream of which nothing is written.
    pub(crate) fn new(meta: Meta<'_>) -> Self {
        let Meta { id, created, model, stream_usage } = meta;
        let mut writer = Self {
            id: id.to_owned(),
            model: model.to_owned(),
            created,
            stream_usage,
            head: Vec::with_capacity(128),
            calls: 0,
            thinking: false,
            bare_call: false,
            tokens: None,
        };
        writer.set_head(None, None);
        writer
    }

    /// Appends what an event becomes: nothing, or an event here.
    pub(crate) fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Begin { id, model } => {
                self.set_head(id.as_deref(), model.as_deref());
                self.chunk(out, None, |out| push(out, "\"role\":\"assistant\",\"content\":\"\""));
            }
            Event::BlockBegin(BlockKind::ToolCall { id, name }) => {
                let index = self.calls;
                (self.calls, self.bare_call) = (index + 1, true);
                self.chunk(out, None, |out| {
                    push(out, "\"tool_calls\":[{\"index\":");
                    push_number(out, index);
                    push(out, ",\"id\":");
                    push_string(out, id);
                    push(out, ",\"type\":\"function\",\"function\":{\"name\":");
                    push_string(out, name);
                    push(out, ",\"arguments\":\"\"}}]");
                });
            }
            // What only the provider reads has no place here.
            Event::BlockBegin(kind) => self.thinking = matches!(kind, BlockKind::Thinking),
            Event::Delta(Delta::Text(text)) if !text.is_empty() => {
                let key = if self.thinking { "\"reasoning_content\":" } else { "\"content\":" };
                self.chunk(out, None, |out| {
                    push(out, key);
                    push_string(out, text);
                });
            }
            Event::Delta(Delta::Arguments(piece)) if !piece.is_empty() => {
                self.bare_call = false;
                self.arguments(piece, out);
            }
            Event::Delta(_) | Event::Ping => {}
            Event::BlockEnd => {
                // Arguments that are empty become an object: whoever reads them reads JSON.
                if std::mem::take(&mut self.bare_call) {
                    self.arguments("{}", out);
                }
            }
            Event::End { stop, .. } => self.chunk(out, Some(finish_reason(*stop)), |_| {}),
            Event::Tokens(tokens) => self.tokens = Some(*tokens),
        }
    }

    /// Appends what was held back for the end of a stream that came to its end.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        let Some(tokens) = self.tokens.filter(|_| self.stream_usage) else { return };
        out.extend_from_slice(&self.head);
        push(out, "],\"usage\":");
        push_usage(out, &tokens);
        push(out, "}\n\n");
    }

    fn set_head(&mut self, id: Option<&str>, model: Option<&str>) {
        let head = &mut self.head;
        head.clear();
        push(head, "data: {\"id\":");
        push_string(head, id.unwrap_or(&self.id));
        push(head, ",\"object\":\"chat.completion.chunk\",\"created\":");
        push_number(head, self.created);
        push(head, ",\"model\":");
        push_string(head, model.unwrap_or(&self.model));
        push(head, ",\"choices\":[");
    }

    fn arguments(&self, piece: &str, out: &mut Vec<u8>) {
        self.chunk(out, None, |out| {
            push(out, "\"tool_calls\":[{\"index\":");
            push_number(out, self.calls.saturating_sub(1));
            push(out, ",\"function\":{\"arguments\":");
            push_string(out, piece);
            push(out, "}}]");
        });
    }

    fn chunk(&self, out: &mut Vec<u8>, reason: Option<&str>, delta: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(&self.head);
        push(out, "{\"index\":0,\"delta\":{");
        delta(out);
        push(out, "},\"logprobs\":null,\"finish_reason\":");
        match reason {
            // One of our own words.
            Some(reason) => push_string(out, reason),
            None => push(out, "null"),
        }
        push(out, if self.stream_usage { "}],\"usage\":null}\n\n" } else { "}]}\n\n" });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::chat::Stop;

    const META: Meta<'_> = Meta { id: "made", created: 7, model: "a\"sked", stream_usage: true };

    fn written(meta: Meta<'_>, events: &[Event<'_>]) -> Vec<Value> {
        let (mut writer, mut out) = (StreamWriter::new(meta), Vec::new());
        events.iter().for_each(|event| writer.event(event, &mut out));
        writer.finish(&mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        let lines = text.split("\n\n").filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(line.strip_prefix("data: ").expect("data")).expect("JSON")).collect()
    }

    fn begin() -> Event<'static> {
        Event::Begin { id: None, model: None }
    }

    fn tool(id: &'static str) -> Event<'static> {
        Event::BlockBegin(BlockKind::ToolCall { id: id.into(), name: "f".into() })
    }

    fn end() -> Event<'static> {
        Event::End { stop: Stop::Tools, stop_text: None }
    }

    #[test]
    fn a_stream_begins_by_the_role_and_ends_by_the_tokens_if_they_were_asked_for() {
        let tokens = Tokens { input: 5, output: 3, cache_read: Some(2), ..Tokens::default() };
        let events = [
            begin(),
            Event::BlockBegin(BlockKind::Text),
            Event::Delta(Delta::Text("hi".into())),
            Event::Ping,
            Event::BlockEnd,
            Event::Tokens(Tokens::default()),
            end(),
            Event::Tokens(tokens),
        ];
        let chunk = |delta: Value, reason: Value| {
            let choice = json!({"index":0,"delta":delta,"logprobs":null,"finish_reason":reason});
            json!({"id":"made","object":"chat.completion.chunk","created":7,"model":"a\"sked","choices":[choice],"usage":null})
        };
        let usage = json!({"prompt_tokens":5,"completion_tokens":3,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":2}});
        let mut last = chunk(json!({}), json!(null));
        (last["choices"], last["usage"]) = (json!([]), usage);
        let wanted = [
            chunk(json!({"role":"assistant","content":""}), json!(null)),
            chunk(json!({"content":"hi"}), json!(null)),
            chunk(json!({}), json!("tool_calls")),
            last,
        ];
        assert_eq!(written(META, &events), wanted);
        let unasked = written(Meta { stream_usage: false, ..META }, &events);
        assert!(unasked.len() == 3 && unasked.iter().all(|chunk| chunk.get("usage").is_none()));
        assert_eq!(written(META, &events[..2]).len(), 1, "tokens that nobody said are not made up");
    }

    #[test]
    fn the_provider_has_the_last_word_on_names() {
        let chunks = written(META, &[Event::Begin { id: Some("own".into()), model: Some("m".into()) }, end()]);
        assert!(chunks.iter().all(|chunk| chunk["id"] == "own" && chunk["model"] == "m"));
    }

    #[test]
    fn calls_are_numbered_and_never_without_arguments() {
        let more = |piece: &'static str| Event::Delta(Delta::Arguments(piece.into()));
        let events = [
            begin(),
            Event::BlockBegin(BlockKind::Text),
            Event::BlockEnd,
            tool("a"),
            more(""),
            more("{\"x\":"),
            more("1}"),
            Event::BlockEnd,
            tool("b"),
            more(""),
            Event::BlockEnd,
        ];
        let calls: Vec<_> =
            written(META, &events)[1..].iter().map(|c| c["choices"][0]["delta"]["tool_calls"][0].clone()).collect();
        let first = |index: u64, id: &str| json!({"index":index,"id":id,"type":"function","function":{"name":"f","arguments":""}});
        let piece = |index: u64, text: &str| json!({"index":index,"function":{"arguments":text}});
        assert_eq!(calls, [first(0, "a"), piece(0, "{\"x\":"), piece(0, "1}"), first(1, "b"), piece(1, "{}")]);
    }

    #[test]
    fn thoughts_are_told_apart_from_words_and_signatures_are_left_out() {
        let events = [
            begin(),
            Event::BlockBegin(BlockKind::HiddenThinking("x".into())),
            Event::BlockEnd,
            Event::BlockBegin(BlockKind::Thinking),
            Event::Delta(Delta::Text("hm".into())),
            Event::Delta(Delta::Signature("s".into())),
            Event::BlockEnd,
            Event::BlockBegin(BlockKind::Text),
            Event::Delta(Delta::Text("hi".into())),
        ];
        let deltas: Vec<_> = written(META, &events)[1..].iter().map(|c| c["choices"][0]["delta"].clone()).collect();
        assert_eq!(deltas, [json!({"reasoning_content":"hm"}), json!({"content":"hi"})]);
    }
}
