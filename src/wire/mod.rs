//! The shapes that providers speak, as pure functions between bytes and the neutral model.
//!
//! Nothing here reads a clock, opens a socket or keeps a thread. A body that a client sent, and every event that an
//! OpenAI-compatible provider sent, pass through byte for byte: only what routing and metrics need is looked at, by one
//! strict scan. Read `json` first (the scanner), then `sse`, then a shape.

pub(crate) mod base64;
pub(crate) mod json;
pub mod passing;
pub mod sse;

#[allow(dead_code)]
pub(crate) mod chat;
pub mod openai;
