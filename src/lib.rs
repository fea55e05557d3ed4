//! Sluicegate: an LLM gateway and a library for synchronous Rust callers, built on OS threads and bounded channels.

pub mod error;
pub mod ids;
pub mod metrics;
pub mod secret;
pub mod time;

pub mod net;
pub mod sync;

pub mod config;
pub mod events;
pub mod model;
pub mod queue;
pub mod recycle;

pub mod http;
pub mod transport;
pub mod wire;

pub mod provider;

pub mod route;
pub mod sim;

pub mod gateway;

pub mod admin;
pub mod front;
pub mod stats;

#[cfg(feature = "cli")]
pub mod cli;

pub use error::{Code, Error, Result};
