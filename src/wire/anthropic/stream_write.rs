//! A streamed answer, written as the events of Anthropic's shape ("Streaming messages").
//!
//! Each event has its name, and its data says it again as `type`. `message_start` comes before the tokens are known where the
//! provider counts them at the end; `message_delta`, which has all of them, therefore waits for [`StreamWriter::finish`], and
//! clients take its counts for the last word.

use super::words::{call_id, push_count, push_usage, reason_of};
use crate::model::chat::{BlockKind, Delta, Event, Stop, Tokens};
use crate::wire::chat::{Meta, push_string};

/// The state of one stream.
#[derive(Debug)]
pub(crate) struct StreamWriter {
    id: String,
    model: String,
    begun: bool,
    /// Blocks that have begun.
    blocks: u64,
    /// The block under way is one of thoughts, or of anything else.
    open: Option<bool>,
    stop: Stop,
    stop_text: Option<String>,
    tokens: Tokens,
}

impl StreamWriter {
    /// A stream of which nothing is written.
    #[must_use]
    pub(crate) fn new(meta: Meta<'_>) -> Self {
        Self {
            id: meta.id.to_owned(),
            model: meta.model.to_owned(),
            begun: false,
            blocks: 0,
            open: None,
            stop: Stop::End,
            stop_text: None,
            tokens: Tokens::default(),
        }
    }

    /// Adds what `event` says to `out`.
    pub(crate) fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Begin { id, model } => {
                self.begin(id.as_deref(), model.as_deref(), out);
            }
            Event::BlockBegin(kind) => self.block(kind, out),
            Event::Delta(delta) => self.delta(delta, out),
            Event::BlockEnd => self.close(out),
            Event::End { stop, stop_text } => {
                self.stop = *stop;
                self.stop_text = stop_text.as_deref().map(str::to_owned);
            }
            Event::Tokens(tokens) => self.tokens = *tokens,
            Event::Ping => out.extend_from_slice(b"event: ping\ndata: {\"type\":\"ping\"}\n\n"),
        }
    }

    /// Adds what was held back for the end.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        self.begin(None, None, out);
        self.close(out);
        frame("message_delta", out);
        out.extend_from_slice(b",\"delta\":{\"stop_reason\":\"");
        out.extend_from_slice(reason_of(self.stop).as_bytes());
        out.extend_from_slice(b"\",\"stop_sequence\":");
        push_option(self.stop_text.as_deref(), out);
        out.extend_from_slice(b"},\"usage\":");
        push_usage(self.tokens, out);
        end(out);
        frame("message_stop", out);
        end(out);
    }

    fn begin(&mut self, id: Option<&str>, model: Option<&str>, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        frame("message_start", out);
        out.extend_from_slice(b",\"message\":{\"id\":");
        push_string(out, id.unwrap_or(&self.id));
        out.extend_from_slice(b",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
        push_string(out, model.unwrap_or(&self.model));
        out.extend_from_slice(b",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
        push_usage(self.tokens, out);
        out.push(b'}');
        end(out);
    }

    fn block(&mut self, kind: &BlockKind<'_>, out: &mut Vec<u8>) {
        self.begin(None, None, out);
        self.close(out);
        frame("content_block_start", out);
        push_count(b",\"index\":", self.blocks, out);
        out.extend_from_slice(b",\"content_block\":");
        match kind {
            BlockKind::Text => out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"\"}"),
            BlockKind::Thinking => {
                out.extend_from_slice(b"{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}");
            }
            BlockKind::HiddenThinking(data) => {
                out.extend_from_slice(b"{\"type\":\"redacted_thinking\",\"data\":");
                push_string(out, data);
                out.push(b'}');
            }
            BlockKind::ToolCall { id, name } => {
                out.extend_from_slice(b"{\"type\":\"tool_use\",\"id\":");
                push_string(out, &call_id(id));
                out.extend_from_slice(b",\"name\":");
                push_string(out, name);
                out.extend_from_slice(b",\"input\":{}}");
            }
        }
        end(out);
        self.blocks += 1;
        self.open = Some(matches!(kind, BlockKind::Thinking));
    }

    fn delta(&mut self, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let (kind, text): (&[u8], _) = match delta {
            Delta::Text(text) if self.open == Some(true) => (b"{\"type\":\"thinking_delta\",\"thinking\":", text),
            Delta::Text(text) => (b"{\"type\":\"text_delta\",\"text\":", text),
            Delta::Signature(text) => (b"{\"type\":\"signature_delta\",\"signature\":", text),
            Delta::Arguments(text) => (b"{\"type\":\"input_json_delta\",\"partial_json\":", text),
        };
        frame("content_block_delta", out);
        push_count(b",\"index\":", self.blocks.saturating_sub(1), out);
        out.extend_from_slice(b",\"delta\":");
        out.extend_from_slice(kind);
        push_string(out, text);
        out.push(b'}');
        end(out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            frame("content_block_stop", out);
            push_count(b",\"index\":", self.blocks.saturating_sub(1), out);
            end(out);
        }
    }
}

/// Begins an event of this kind; its members follow.
fn frame(kind: &str, out: &mut Vec<u8>) {
    for part in ["event: ", kind, "\ndata: {\"type\":\"", kind, "\""] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Ends it.
fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"}\n\n");
}

/// Writes a string, or null.
pub(super) fn push_option(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => push_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::anthropic::golden;

    const META: Meta<'_> = Meta { id: "msg_made", created: 7, model: "asked", stream_usage: false };

    #[test]
    fn these_are_the_bytes_of_a_stream_whose_tokens_come_last() {
        let mut writer = StreamWriter::new(META);
        let mut out = Vec::new();
        let call = BlockKind::ToolCall { id: "call.1".into(), name: "f".into() };
        for event in [
            Event::Begin { id: Some("chatcmpl-1".into()), model: None },
            Event::Ping,
            Event::BlockBegin(BlockKind::Thinking),
            Event::Delta(Delta::Text("hm".into())),
            Event::Delta(Delta::Signature("sig".into())),
            Event::BlockEnd,
            Event::BlockBegin(BlockKind::HiddenThinking("x".into())),
            Event::BlockEnd,
            Event::BlockBegin(BlockKind::Text),
            Event::Delta(Delta::Text("a\n\"b\"".into())),
            Event::BlockEnd,
            Event::BlockBegin(call),
            Event::Delta(Delta::Arguments("{\"a\":".into())),
            Event::Delta(Delta::Arguments("1}".into())),
            Event::BlockEnd,
            Event::End { stop: Stop::Tools, stop_text: None },
            Event::Tokens(Tokens { input: 12, output: 5, cache_read: Some(4), ..Tokens::default() }),
        ] {
            writer.event(&event, &mut out);
        }
        let held_back = out.len();
        writer.finish(&mut out);
        let wanted = golden::STREAM_WRITTEN;
        assert_eq!(String::from_utf8(out).expect("UTF-8"), wanted, "an id that breaks the rule is mapped");
        assert_eq!(&wanted[held_back..][..20], "event: message_delta");
    }

    #[test]
    fn a_stream_that_says_nothing_is_whole_all_the_same() {
        let mut out = Vec::new();
        StreamWriter::new(META).finish(&mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        assert_eq!(names, ["message_start", "message_delta", "message_stop"]);
        assert!(text.contains(r#""id":"msg_made""#) && text.contains(r#""stop_reason":"end_turn""#), "{text}");
    }
}
