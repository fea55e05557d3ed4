//! What the shapes share when a chat is translated from one to another.

use crate::error::Error;

/// What an answer is told with beside its words, where its provider does not say it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta<'a> {
    /// The name of the answer, where the provider gives it none.
    pub(crate) id: &'a str,
    /// When it was made, in seconds since the Unix epoch.
    pub(crate) created: u64,
    /// The model, as it was asked for.
    pub(crate) model: &'a str,
    /// Whether a stream says its tokens; shapes that always do ignore it.
    pub(crate) stream_usage: bool,
}

/// What a reader of streams made of one event.
#[derive(Debug)]
pub(crate) enum Read {
    /// Nothing: a comment, or a ping.
    Nothing,
    /// The answer went on.
    More {
        /// By something that a reader would show or act on: text, a thought, a call of a function.
        content: bool,
    },
    /// The shape's own end. Nothing comes after it.
    Done,
    /// It is not what the shape says: no JSON object.
    Garbage,
    /// The provider says that it failed.
    Failed(Error),
}
