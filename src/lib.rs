//! Sluicegate: an LLM gateway and a library for synchronous Rust callers, built on OS threads and bounded channels.
//!
//! A call is three blocking lines; no async runtime is in the tree, and the caller's own thread is the only one that
//! waits:
//!
//! ```
//! let gateway = sluicegate::Gateway::from_env()?;
//! let answer = gateway.ask("sim/echo", "Hello")?;
//! println!("{answer}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Gateway::chat`] takes a typed [`ChatRequest`], [`Gateway::chat_stream`] gives an iterator of chunks, which ends the call
//! at the provider when it is dropped, and [`Gateway::shutdown`] drains:
//!
//! ```
//! # use std::time::Duration;
//! # use sluicegate::{ChatRequest, Gateway};
//! # let gateway = Gateway::from_env()?;
//! let request = ChatRequest::new("sim/lorem-5", "Hello");
//! let reply = gateway.chat(&request)?;
//! let mut text = String::new();
//! for chunk in gateway.chat_stream(&request)? {
//!     text.push_str(chunk?.text());
//! }
//! assert_eq!(text, reply.text());
//! let report = gateway.shutdown(Duration::from_secs(30));
//! assert_eq!((report.cut, report.stragglers.len()), (0, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The model `sim/echo` is served by a simulated provider inside the process; with
//! `OPENAI_API_KEY` set, `openai/gpt-4o-mini` is served too. A file gives everything else: [`Gateway::from_config`].
//!
//! The library changes nothing of its host process: signals, limits, allocator, panic hook and logger are the binary's
//! business.
//!
//! # How it is built
//!
//! Modules lie in layers, and each uses only those above it in this list; a test holds the tree to it.
//!
//! | layer | modules |
//! | --- | --- |
//! | 0 | [`error`], [`time`], [`ids`], [`secret`], [`metrics`]: no thread, no socket |
//! | 1 | [`sync`]: ranked locks, threads, quit, cancel; [`net`]: a socket with deadlines |
//! | 2 | [`recycle`], [`queue`], [`config`], [`model`], [`events`] |
//! | 3 | [`wire`]: bytes and shapes, pure; [`transport`]: to providers; [`http`]: the server's machinery |
//! | 4 | [`provider`]: a pool of workers, one attempt per job |
//! | 5 | [`route`], [`sim`] |
//! | 6 | [`gateway`] |
//! | 7 | [`stats`], [`front`], [`admin`] |
//! | 8 | `cli` |

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

pub mod plugin;

pub mod route;
pub mod sim;

pub mod gateway;

#[cfg(feature = "front")]
pub mod admin;
#[cfg(feature = "front")]
pub mod front;
#[cfg(feature = "front")]
pub mod stats;

#[cfg(feature = "cli")]
pub mod cli;

pub use config::Config;
pub use error::{Code, Error, Result};
pub use gateway::{CallOptions, ChatStream, Gateway, ReloadError, ShutdownReport, StartError};
pub use wire::openai::{ChatChunk, ChatReply, ChatRequest, Message};
