//! What a model answers.

use std::borrow::Cow;

use super::Block;

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
