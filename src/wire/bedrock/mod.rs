//! Amazon Bedrock's shapes: Converse and its stream, to and from a chat of no provider's shape, and by pass-through; what goes
//! to a model in its own shape by InvokeModel passes through, or is read as Claude's.
//!
//! The model and whether the answer is streamed stand in the path, of which `path` knows. Streams are frames of
//! [`event_stream`](super::event_stream), and requests are signed by [`sigv4`](super::sigv4). `content` reads the blocks of a
//! message and `output` writes them; `request` and `encode` are of what is asked, `reply`, `reader` and `writer` of what is
//! answered; `invoke` is of requests in Claude's own shape, `judge` looks at what passes through, and `error` has AWS's errors.

mod content;
mod encode;
#[cfg_attr(not(feature = "front"), expect(dead_code, reason = "only the data plane has clients"))]
mod error;
mod input;
mod invoke;
mod judge;
mod model;
mod output;
#[cfg_attr(not(feature = "front"), expect(dead_code, reason = "only the data plane has clients"))]
mod path;
mod reader;
mod reply;
mod request;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use encode::write_request;
#[cfg(feature = "front")]
pub(crate) use error::{error_body, error_event, error_name};
pub(crate) use invoke::{InvokeWriter, read_chunk, read_invoke, write_chunk};
pub(crate) use judge::{FrameStream, decode, parse};
#[cfg(feature = "front")]
pub(crate) use path::operation;
pub(crate) use path::{check_model, path};
pub(crate) use reader::StreamReader;
pub(crate) use reply::{read_reply, write_reply};
pub(crate) use request::read_request;
pub(crate) use writer::StreamWriter;

/// What a stream of frames is, as its header says it.
pub(crate) const STREAM_TYPE: &str = "application/vnd.amazon.eventstream";

/// The header that names what went wrong.
#[cfg(feature = "front")]
pub(crate) const ERROR_TYPE: &str = "x-amzn-errortype";
