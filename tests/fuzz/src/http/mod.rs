//! The request's head and the chunked body: the files of `http` that judge them, and what must hold of those.

#![allow(dead_code, unreachable_pub, reason = "a part of a module: what uses the rest is not here")]

#[path = "../../../../src/http/chunked.rs"]
mod chunked;
#[path = "../../../../src/http/framing.rs"]
mod framing;
#[path = "../../../../src/http/head.rs"]
mod head;
#[path = "../../../../src/http/refusal.rs"]
mod refusal;
#[path = "../../../../src/http/response.rs"]
mod response;

mod answers;
mod bodies;
mod heads;

pub(crate) use answers::response_head;
pub use bodies::chunked;
pub use heads::head;
pub(crate) use response::Response;
