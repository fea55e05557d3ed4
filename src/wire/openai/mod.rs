//! OpenAI's shapes, by pass-through: what a client sent and what a provider answered keep their bytes.
//!
//! An [`Operation`] chooses everything that differs between them, and each of these takes it: [`route`] says where it goes,
//! `parse` finds the few fields that routing needs and where they stand, `decode` looks at an answer for errors and usage,
//! `stream` does so event by event and knows when a stream is complete. What is alike for all is `encode`, which splices
//! the upstream's model name in and our own fields out, and `error`, which writes the gateway's errors in this shape.
//! `responses` reads the events of the one shape that has no choices. `types` are for library users alone: nothing on the
//! gateway's own path builds them. `make` puts such answers together for whoever takes a provider's place.

pub(crate) mod chat;
mod decode;
mod encode;
mod error;
mod make;
mod parse;
mod responses;
mod stream;
mod types;

pub(crate) use decode::has_choices;
pub(in crate::wire) use decode::{INSIDE_OK, judge_status, upstream_error};
pub use decode::{decode, is_success};
#[cfg(feature = "bedrock")]
pub(in crate::wire) use decode::{quote, shorten};
pub use encode::encode;
pub(crate) use encode::splice;
pub use error::{error_body, error_event};
pub use make::ProviderReply;
pub(crate) use make::{Made, error_object, framed, stream_end};

pub use parse::{fallbacks, parse, parse_chat};
pub use stream::{EventStream, Step};
pub(crate) use types::Assembly;
pub use types::{
    ChatChunk, ChatReply, ChatRequest, Choice, Content, EmbedReply, EmbedRequest, Message, Tool, ToolCall,
    ToolCallDelta,
};

use crate::model::Operation;

/// The event that ends a complete stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// Where an operation lives behind a provider's version prefix; `None` for one of another shape.
#[must_use]
pub fn route(operation: &Operation) -> Option<&'static str> {
    match operation {
        Operation::ChatCompletions => Some("/chat/completions"),
        Operation::Completions => Some("/completions"),
        Operation::Embeddings => Some("/embeddings"),
        Operation::Responses => Some("/responses"),
        _ => None,
    }
}
