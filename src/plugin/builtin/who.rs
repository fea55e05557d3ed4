//! Whose a request is, for the plugins that count by that.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plugin::Context;

/// Whose a request is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Who {
    /// The client with the gateway key of this name.
    Key(String),
    /// Whoever puts this value on it as a tag.
    Tag(String),
    /// One without a key: of the program's own, or of a gateway that has no keys.
    Unkeyed,
    /// All for whom there was no place any more, together.
    Others,
}

impl Who {
    /// The client.
    pub(super) fn client(context: &Context<'_>) -> Self {
        context.key().map_or(Self::Unkeyed, |name| Self::Key(name.to_owned()))
    }

    /// By the tag of this name.
    pub(super) fn tagged(context: &Context<'_>, by_tag: Option<&str>) -> Option<Self> {
        Some(Self::Tag(context.tags().get(by_tag?)?.to_owned()))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(name) => write!(f, "the key {name:?}"),
            Self::Tag(value) => write!(f, "the tag {value:?}"),
            Self::Unkeyed => f.write_str("requests without a key"),
            Self::Others => f.write_str("all who came late"),
        }
    }
}
