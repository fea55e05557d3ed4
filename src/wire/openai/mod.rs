//! OpenAI's shape, by pass-through: what a client sent and what a provider answered keep their bytes.
//!
//! `parse` finds the few fields that routing needs and where they stand; `encode` splices the upstream's model name in and
//! our own fields out; `decode` looks at an answer for errors and usage; `stream` does so event by event, and knows when a
//! stream is complete; `error` writes the gateway's errors in this shape. `types` are for library users alone: nothing on
//! the gateway's own path builds them.

mod decode;
mod encode;
mod error;
mod parse;
mod stream;
mod types;

pub use decode::{Decoded, decode_chat, is_success};
pub use encode::encode_chat;
pub use error::{error_body, error_body_for, error_event};
pub use parse::parse_chat;
pub use stream::{ChatStream, Step};
pub use types::{ChatChunk, ChatReply, ChatRequest, Content, Message};

/// The event that ends a complete stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";
