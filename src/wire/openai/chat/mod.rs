//! OpenAI's chat completions and the neutral chat, in both directions.
//!
//! Read `read_request` first, and `read_message` after it: what a client may send, what of it is a hint, and what is kept to
//! be refused. `write_request` is the way back, `reply` has both ways of a whole answer, `stream_read` and `stream_write` one
//! way each of a streamed one. `pull` takes values out of JSON. The shape is that of "Create chat completion", "The chat
//! completion object" and "The chat completion chunk object" in OpenAI's API reference, with what servers that resemble it add
//! where their documentation says so. Whoever asks in this shape a provider that speaks it never comes here.

mod answer;
mod pull;
mod read_message;
mod read_request;
mod reply;
mod stream_read;
mod stream_write;
#[cfg(test)]
mod tests;
mod write_request;

pub(crate) use read_request::read_request;
pub(crate) use reply::{read_reply, write_reply};
pub(crate) use stream_read::StreamReader;
pub(crate) use stream_write::StreamWriter;
pub(crate) use write_request::write_request;

/// What people call it.
const SHAPE: &str = "OpenAI's chat completions";
