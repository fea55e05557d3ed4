//! The events of a streamed answer, written as ConverseStream's frames.
//!
//! Source: "ConverseStreamOutput" in the Amazon Bedrock API reference: only a call's block is begun by a frame of its own, and
//! the tokens come behind the end.

use super::output::{List, blob, call_id, number};
use super::reply::{reason_of, usage_and_metrics};
use crate::model::chat::{BlockKind, Delta, Event, Tokens};
use crate::wire::chat::{Meta, push, push_string};
use crate::wire::event_stream::{Kind, write};

/// The state of one stream.
#[derive(Debug)]
pub(crate) struct StreamWriter {
    /// The number of the block under way, or of the next.
    index: u64,
    /// What that block is.
    open: Option<Open>,
    tokens: Option<Tokens>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    thinking: bool,
    /// Something of it was written: a block of which nothing comes takes no number.
    told: bool,
}

impl StreamWriter {
    /// A stream of which nothing has been written. It has a place for nothing of what is told beside an answer.
    pub(crate) fn new(_meta: Meta<'_>) -> Self {
        Self { index: 0, open: None, tokens: None }
    }

    /// Appends the frames for an event.
    pub(crate) fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Begin { .. } => frame("messageStart", out, |out| push(out, "{\"role\":\"assistant\"}")),
            Event::BlockBegin(kind) => self.begin(kind, out),
            Event::Delta(delta) => self.delta(delta, out),
            Event::BlockEnd => {
                if self.open.take().is_some_and(|open| open.told) {
                    let index = self.index;
                    self.index += 1;
                    frame("contentBlockStop", out, |out| {
                        push(out, "{\"contentBlockIndex\":");
                        number(out, &index);
                        push(out, "}");
                    });
                }
            }
            Event::End { stop, .. } => frame("messageStop", out, |out| {
                push(out, "{\"stopReason\":");
                push_string(out, reason_of(*stop));
                push(out, "}");
            }),
            Event::Tokens(tokens) => self.tokens = Some(*tokens),
            Event::Ping => {}
        }
    }

    /// Appends what stands behind the end: the tokens, if they were told.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(tokens) = self.tokens.take() {
            frame("metadata", out, |out| {
                push(out, "{");
                usage_and_metrics(tokens, out);
                push(out, "}");
            });
        }
    }

    fn begin(&mut self, kind: &BlockKind<'_>, out: &mut Vec<u8>) {
        let told = matches!(kind, BlockKind::ToolCall { .. } | BlockKind::HiddenThinking(_));
        self.open = Some(Open { thinking: matches!(kind, BlockKind::Thinking), told });
        match kind {
            BlockKind::Text | BlockKind::Thinking => {}
            BlockKind::HiddenThinking(data) => {
                self.delta_of(out, |out| {
                    push(out, "{\"reasoningContent\":");
                    member(out, "redactedContent", &blob(data));
                    push(out, "}");
                });
            }
            BlockKind::ToolCall { id, name } => {
                let index = self.index;
                frame("contentBlockStart", out, |out| {
                    push(out, "{\"contentBlockIndex\":");
                    number(out, &index);
                    push(out, ",\"start\":{\"toolUse\":{");
                    let mut list = List::new();
                    list.text(out, "name", name);
                    list.text(out, "toolUseId", &call_id(id));
                    push(out, "}}}");
                });
            }
        }
    }

    fn delta(&mut self, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let Some(open) = &mut self.open else { return };
        open.told = true;
        let thinking = open.thinking;
        self.delta_of(out, |out| match delta {
            Delta::Text(text) if !thinking => member(out, "text", text),
            Delta::Arguments(text) => {
                push(out, "{\"toolUse\":");
                member(out, "input", text);
                push(out, "}");
            }
            Delta::Text(text) => {
                push(out, "{\"reasoningContent\":");
                member(out, "text", text);
                push(out, "}");
            }
            Delta::Signature(text) => {
                push(out, "{\"reasoningContent\":");
                member(out, "signature", text);
                push(out, "}");
            }
        });
    }

    fn delta_of(&self, out: &mut Vec<u8>, delta: impl FnOnce(&mut Vec<u8>)) {
        frame("contentBlockDelta", out, |out| {
            push(out, "{\"contentBlockIndex\":");
            number(out, &self.index);
            push(out, ",\"delta\":");
            delta(out);
            push(out, "}");
        });
    }
}

fn frame(name: &str, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    write(Kind::Event, name, out, payload);
}

/// Appends an object of one text.
fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    push(out, "{");
    List::new().text(out, name, value);
    push(out, "}");
}
