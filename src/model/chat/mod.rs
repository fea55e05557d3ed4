//! A chat that belongs to no provider: what every interface is read into and every provider's shape is written from.
//!
//! A shape's reader borrows from the text that it reads, and its writer writes bytes: nothing here is serialised by itself.
//! What the neutral chat has no place for stands in [`Request::rest`], and a writer decides what becomes of it: what is a
//! mere hint is left out and named ([`Lost`]), anything else is refused by its name. Whoever asks in the shape that the
//! provider speaks never comes here: those bytes pass through.

mod event;
mod names;
mod reply;
mod request;

use std::borrow::Cow;

use crate::error::{Code, Error};

pub(crate) use event::{BlockKind, Delta, Event};
pub(crate) use names::Names;
pub(crate) use reply::{Reply, Stop, Tokens};
pub(crate) use request::{Choice, Effort, Format, LEAST_BUDGET, Message, Request, Rest, Role, Tool};

/// A piece of a message.
///
/// JSON inside (`input`, a schema) is kept as the text that was sent: it is checked to be JSON by whoever reads it, and copied
/// by whoever writes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Block<'a> {
    /// Words.
    Text(Cow<'a, str>),
    /// A picture.
    Image(Source<'a>),
    /// A document, with its name if it has one.
    Document {
        /// Where it is.
        source: Source<'a>,
        /// What it is called.
        name: Option<Cow<'a, str>>,
    },
    /// A function of the caller's that the model calls.
    ToolCall {
        /// What its result refers to.
        id: Cow<'a, str>,
        /// The function.
        name: Cow<'a, str>,
        /// The arguments: the text of a JSON object. Models write it, so that a reader passes on what is none as it is
        /// where its shape has it as a string; a writer whose shape has an object makes `{}` of what is empty and
        /// refuses what is none.
        arguments: Cow<'a, str>,
    },
    /// What a function came to.
    ToolResult {
        /// The call that it belongs to.
        id: Cow<'a, str>,
        /// Text and pictures.
        content: Vec<Block<'a>>,
        /// The function failed.
        failed: bool,
    },
    /// What a model thought before it spoke, with the provider's signature, without which the same provider does not take
    /// it back.
    Thinking {
        /// The words.
        text: Cow<'a, str>,
        /// The provider's own.
        signature: Option<Cow<'a, str>>,
    },
    /// The same, for the provider's eyes alone.
    HiddenThinking(Cow<'a, str>),
    /// What is before this may be cached by the provider: a mark in the order of the blocks.
    CacheMark,
}

impl Block<'_> {
    /// Whether it is a thought that its provider takes back.
    pub(crate) fn is_sealed(&self) -> bool {
        match self {
            Self::Thinking { signature, .. } => signature.as_deref().is_some_and(|signature| !signature.is_empty()),
            Self::HiddenThinking(_) => true,
            _ => false,
        }
    }
}

/// Where the bytes of a picture or a document are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source<'a> {
    /// Here, in base64.
    Data {
        /// What they are, as `image/png`.
        media_type: Cow<'a, str>,
        /// The base64.
        data: Cow<'a, str>,
    },
    /// At an address, for the provider to fetch.
    Url(Cow<'a, str>),
    /// Words of a document that is plain text.
    Text(Cow<'a, str>),
}

/// What a writer has left out, because it was a hint that its shape has no place for: the names, as the caller's shape calls
/// them, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost(Vec<String>);

impl Lost {
    /// Notes that a hint was left out.
    pub(crate) fn hint(&mut self, name: &str) {
        if !self.0.iter().any(|known| known == name) {
            self.0.push(name.to_owned());
        }
    }

    /// The names, in the order in which they were met.
    pub(crate) fn names(&self) -> &[String] {
        &self.0
    }
}

/// The refusal of what a provider's shape cannot express.
///
/// `field` is as the caller's shape calls it; `shape` is the provider's, as people call it: `Anthropic's messages`.
pub(crate) fn unsupported(field: &str, shape: &str) -> Error {
    let text = format!("{field:?} cannot be expressed in {shape}, which this provider speaks; leave it out");
    Error::new(Code::Unsupported, text).with_param(field.to_owned())
}
