//! What a model answers.

use std::borrow::Cow;

use super::{Block, BlockKind, Delta, Event};

/// A whole answer: one choice, as only one can be asked for where shapes differ.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply<'a> {
    /// The provider's name for it; some have none.
    pub(crate) id: Option<Cow<'a, str>>,
    /// The model that answered, as the provider calls it; where it does not say, its name as it was asked for.
    pub(crate) model: Cow<'a, str>,
    /// Text, thoughts and calls of functions.
    pub(crate) content: Vec<Block<'a>>,
    /// Why it ended.
    pub(crate) stop: Stop,
    /// The text at which it ended, if it was one that was given and the provider says which.
    pub(crate) stop_text: Option<Cow<'a, str>>,
    /// What it took.
    pub(crate) tokens: Option<Tokens>,
}

impl<'a> Reply<'a> {
    /// The same as a stream says it. What no answer is made of is passed over.
    pub(crate) fn into_events(self, emit: &mut dyn FnMut(Event<'a>)) {
        emit(Event::Begin { id: self.id, model: Some(self.model) });
        for block in self.content {
            let (kind, deltas) = match block {
                Block::Text(text) => (BlockKind::Text, [Some(Delta::Text(text)), None]),
                Block::Thinking { text, signature } => {
                    (BlockKind::Thinking, [Some(Delta::Text(text)), signature.map(Delta::Signature)])
                }
                Block::HiddenThinking(data) => (BlockKind::HiddenThinking(data), [None, None]),
                Block::ToolCall { id, name, arguments } => {
                    (BlockKind::ToolCall { id, name }, [Some(Delta::Arguments(arguments)), None])
                }
                Block::Image(_) | Block::Document { .. } | Block::ToolResult { .. } | Block::CacheMark => continue,
            };
            emit(Event::BlockBegin(kind));
            deltas.into_iter().flatten().for_each(|delta| emit(Event::Delta(delta)));
            emit(Event::BlockEnd);
        }
        if let Some(tokens) = self.tokens {
            emit(Event::Tokens(tokens));
        }
        emit(Event::End { stop: self.stop, stop_text: self.stop_text });
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It was at its end.
    End,
    /// At a text that was given.
    Text,
    /// `max_tokens`, or the room that the model has.
    Length,
    /// Functions are to be called.
    Tools,
    /// The model or its provider would not.
    Refused,
    /// The provider has paused it; it may be asked to go on.
    Paused,
}

/// Tokens, as a provider counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Of the request, all of it: what was read from a cache or written to it is among them.
    pub(crate) input: u64,
    /// Of the answer, thoughts among them.
    pub(crate) output: u64,
    /// Of `input`, those that were read from the provider's cache, if it says so.
    pub(crate) cache_read: Option<u64>,
    /// Of `input`, those that were written to the provider's cache, if it says so.
    pub(crate) cache_written: Option<u64>,
    /// Of `output`, those that were thought, if the provider says so.
    pub(crate) thought: Option<u64>,
}

impl From<Tokens> for crate::model::Usage {
    fn from(tokens: Tokens) -> Self {
        Self { input: tokens.input, output: tokens.output }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_answer_is_streamed_block_by_block() {
        let reply = Reply {
            id: None,
            model: "m".into(),
            content: vec![
                Block::Thinking { text: "hm".into(), signature: Some("s".into()) },
                Block::HiddenThinking("x".into()),
                Block::Text("hi".into()),
                Block::CacheMark,
                Block::ToolCall { id: "t".into(), name: "f".into(), arguments: "{}".into() },
            ],
            stop: Stop::Tools,
            stop_text: None,
            tokens: Some(Tokens::default()),
        };
        let mut events = Vec::new();
        reply.into_events(&mut |event| events.push(event));
        let wanted = [
            Event::Begin { id: None, model: Some("m".into()) },
            Event::BlockBegin(BlockKind::Thinking),
            Event::Delta(Delta::Text("hm".into())),
            Event::Delta(Delta::Signature("s".into())),
            Event::BlockEnd,
            Event::BlockBegin(BlockKind::HiddenThinking("x".into())),
            Event::BlockEnd,
            Event::BlockBegin(BlockKind::Text),
            Event::Delta(Delta::Text("hi".into())),
            Event::BlockEnd,
            Event::BlockBegin(BlockKind::ToolCall { id: "t".into(), name: "f".into() }),
            Event::Delta(Delta::Arguments("{}".into())),
            Event::BlockEnd,
            Event::Tokens(Tokens::default()),
            Event::End { stop: Stop::Tools, stop_text: None },
        ];
        assert_eq!(events, wanted);
    }
}
