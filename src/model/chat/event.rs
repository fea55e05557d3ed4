//! What a streamed answer is made of.

use std::borrow::Cow;

use super::{Stop, Tokens};

/// The next thing that a streamed answer says.
///
/// A reader gives them in this order, whatever its provider does: one `Begin`; then blocks, each begun before its deltas and
/// ended before the next begins, numbered from 0 without a gap; then one `End`. `Tokens` may come anywhere, more than once:
/// the last one says all. A provider that interleaves calls of functions has each told as a block of its own: the reader
/// keeps what comes for a later block until the earlier one ends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event<'a> {
    /// The answer begins.
    Begin {
        /// The provider's name for it.
        id: Option<Cow<'a, str>>,
        /// The model that answers.
        model: Option<Cow<'a, str>>,
    },
    /// A block begins.
    BlockBegin(BlockKind<'a>),
    /// More of the block that has begun last.
    Delta(Delta<'a>),
    /// That block has ended.
    BlockEnd,
    /// The answer has ended, and why.
    End {
        /// Why.
        stop: Stop,
        /// The text at which it did, if it was one that was given and the provider says which.
        stop_text: Option<Cow<'a, str>>,
    },
    /// What it has taken so far.
    Tokens(Tokens),
    /// Nothing but that the provider is there.
    Ping,
}

/// What a block is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum BlockKind<'a> {
    /// Words.
    Text,
    /// Thoughts.
    Thinking,
    /// Thoughts for the provider's eyes alone, whole.
    HiddenThinking(Cow<'a, str>),
    /// A call of a function, whose arguments follow.
    ToolCall {
        /// What its result refers to.
        id: Cow<'a, str>,
        /// The function.
        name: Cow<'a, str>,
    },
}

/// More of a block.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Delta<'a> {
    /// Of words, or of thoughts.
    Text(Cow<'a, str>),
    /// The signature of thoughts.
    Signature(Cow<'a, str>),
    /// Of arguments, a piece of the text of a JSON object.
    Arguments(Cow<'a, str>),
}
