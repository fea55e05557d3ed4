//! Anthropic's shape, the Messages API: passed through where the client speaks it as well, translated where it does not.
//!
//! **Pass-through**: a client's body is parsed and changed as OpenAI's are (`openai::parse`, `openai::encode`); `decode` looks at a whole answer for errors and usage, `stream` does so event by event. **Translation**, to and from the
//! neutral chat: `read_request` and `write_request`, `reply` for whole answers, `stream_read` and `stream_write` for
//! streamed ones. `words` are what several of these say alike: why an answer ended, what it took, which ids are taken,
//! and how a model is told to think. `error` writes the gateway's own errors.
//!
//! What is written is of the version `2023-06-01` of the API, which has the fields for sampling (`temperature`, `top_p`,
//! `top_k`); the version `2026-10-21` refuses these by their names, whatever the model. What is read may be of either.

mod decode;
#[cfg(feature = "front")]
mod error;
mod read_request;
mod reply;
mod stream;
mod stream_read;
mod stream_write;
mod words;
mod write_request;

#[cfg(test)]
mod golden;

pub(crate) use {
    decode::decode,
    read_request::read_request,
    reply::{read_reply, write_reply},
    stream::EventStream,
    stream_read::StreamReader,
    stream_write::StreamWriter,
    write_request::write_request,
};

#[cfg(feature = "bedrock")]
pub(crate) use words::{effort_of, takes_effort};

#[cfg(feature = "front")]
pub(crate) use error::{error_body, error_event};

/// The version of the API that [`write_request`] writes for, as its header `anthropic-version` names it.
pub(crate) const VERSION: &str = "2023-06-01";
