//! Amazon Bedrock's shapes: Converse and its stream, to and from a chat of no provider's shape, and by pass-through; what goes
//! to a model in its own shape by InvokeModel passes through alone.
//!
//! The model and whether the answer is streamed stand in the path: [`Action`]. Streams are frames of
//! [`event_stream`](super::event_stream), and requests are signed by [`sigv4`](super::sigv4). `content` reads the blocks of a
//! message and `output` writes them; `request` and `encode` are of what is asked, `reply`, `reader` and `writer` of what is
//! answered; `judge` looks at what passes through, and `error` has AWS's errors.

mod content;
mod encode;
mod error;
mod input;
mod judge;
mod model;
mod output;
mod path;
mod reader;
mod reply;
mod request;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use encode::write_request;
pub(crate) use error::{error_body, error_event, error_name};
pub(crate) use judge::{FrameStream, decode, parse};
pub(crate) use path::Action;
pub(crate) use reader::StreamReader;
pub(crate) use reply::{read_reply, write_reply};
pub(crate) use request::read_request;
pub(crate) use writer::StreamWriter;
