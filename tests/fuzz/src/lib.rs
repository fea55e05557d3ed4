//! What must hold for any bytes, one function for each reader of a stranger's input; each panics where it does not.
//!
//! Each compares the production code with itself under other circumstances (the same bytes in other pieces, what it wrote
//! read again) and with a second opinion: `httparse`, `serde_json`, or the standard's own words spelled out naively.
//! The files of `http` and `provider` that are private to the library are compiled here by path, as they stand; all else
//! is reached through its public face.

// What the files that are compiled by path know as modules of their own crate.
use sluicegate::{calendar, error, recycle, secret, time, wire};

mod config;
mod frames;
mod http;
mod pieces;
mod provider;
mod sse;
mod stream;
mod url;

pub use config::config;
pub use frames::frames;
pub use http::{chunked, head};
pub use provider::hygiene;
pub use sse::sse;
pub use stream::stream;
pub use url::url;

/// A property: it panics if the bytes show that it does not hold.
pub type Property = fn(&[u8]);

/// Every property, by the name of its target and its folder of seeds.
pub const PROPERTIES: [(&str, Property); 8] = [
    ("head", head),
    ("chunked", chunked),
    ("sse", sse),
    ("stream", stream),
    ("frames", frames),
    ("config", config),
    ("url", url),
    ("hygiene", hygiene),
];
