//! The shapes that providers speak, as pure functions between bytes and the neutral model.
//!
//! Nothing here reads a clock, opens a socket or keeps a thread. Where a provider speaks the shape that a client asks in, the
//! client's body and the provider's events pass through byte for byte: only what routing and metrics need is looked at, by
//! one strict scan. Else they are translated. Read `json` first (the scanner), then `sse`, then a shape, and `crossing` for
//! which of the two it is and how each goes.

pub(crate) mod base64;
pub(crate) mod json;
pub(crate) mod models;
pub(crate) mod ours;
pub mod passing;
pub(crate) mod percent;
pub(crate) mod pieces;
pub(crate) mod pull;
pub mod sse;
pub(crate) mod turns;

pub(crate) mod chat;
pub mod openai;
pub mod pairs;

pub(crate) mod anthropic;

pub(crate) mod crossing;
mod dialect;

pub use dialect::Dialect;
pub(crate) use dialect::{parse, route};

#[cfg(feature = "bedrock")]
pub(crate) mod bedrock;
#[cfg(feature = "bedrock")]
pub(crate) mod event_stream;
#[cfg(feature = "bedrock")]
pub(crate) mod sigv4;
