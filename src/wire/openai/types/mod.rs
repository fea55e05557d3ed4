//! Typed requests and answers for library users. What they don't name is kept: unknown fields live in `extra` or `raw`.
//!
//! `request` and `message` are what is sent, `reply` and `chunk` what comes back, whole or streamed; `assembly` makes the
//! first of the second, and `embed` is both for embeddings.

mod assembly;
mod chunk;
mod embed;
mod message;
mod reply;
mod request;

use serde_json::Value;

pub(crate) use assembly::Assembly;
pub use chunk::{ChatChunk, ToolCallDelta};
pub use embed::{EmbedReply, EmbedRequest};
pub use message::{Content, Message};
pub use reply::{ChatReply, Choice, ToolCall};
pub use request::{ChatRequest, Tool};

use crate::error::{Code, Error};
use crate::model::Usage;

fn from_json<'a, T: serde::Deserialize<'a>>(text: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|error| {
        let what = if error.is_data() {
            "the provider's answer is not what its protocol says"
        } else {
            "the provider's answer is no JSON"
        };
        Error::new(Code::UpstreamBadResponse, what).with_source(error)
    })
}

fn usage(raw: &Value) -> Option<Usage> {
    let usage = raw.get("usage")?.as_object()?;
    let number = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
    Some(Usage { input: number("prompt_tokens"), output: number("completion_tokens") })
}
