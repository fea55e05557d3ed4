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
//! # Features
//!
//! | feature | what it brings |
//! | --- | --- |
//! | none | the gateway for callers in this process: pools, queues, fallbacks, streams, plugins and providers of your own, the simulated provider, `http://` |
//! | `tls` | `https://` to providers, and `server.tls`: rustls and ring. Without it such a URL is an error that names the feature |
//! | `front` | the data plane and the admin plane for other processes: [`front`], [`admin`], and the thread that takes [`stats`] |
//! | `plugins` | the built-in plugins; the trait for your own is always there |
//! | `cli` | the binary; with all of the above. The default |
//!
//! A library user who calls providers wants `default-features = false, features = ["tls"]`.
//!
//! # What is promised
//!
//! Versions follow [Semantic Versioning](https://semver.org). What is covered is every item that this documentation shows, with
//! its signature; the keys of the configuration; the names in `/stats`, of which [`stats::Snapshot`] is made; routes, headers
//! and error codes. What is `#[non_exhaustive]` grows in minor versions, and a new key, name, route or header is no break.
//! Not covered are modules that this documentation does not show, which are public for this project's own tests, benchmarks
//! and tools; the words of messages, logs, `Debug` and `Display`; and defaults, which are told of in the changelog when they
//! change. The oldest Rust that compiles it stands in `Cargo.toml`; a newer one is asked for in a minor version, and never one
//! that is younger than six months.
//!
//! Of other crates' types its interface names [`serde_json::Value`] and [`crossbeam_channel::Receiver`], and implements serde's
//! `Serialize`: a new major version of one of these is one of this library.
//!
//! # How it is built
//!
//! Modules lie in layers, and each uses only those above it in this list; a test holds the tree to it. Those that this
//! documentation does not show are in the source.
//!
//! | layer | modules |
//! | --- | --- |
//! | 0 | [`error`], `time`, `ids`, `secret`, `metrics`: no thread, no socket |
//! | 1 | `sync`: ranked locks, threads, quit, cancel; `net`: a socket with deadlines |
//! | 2 | `recycle`, `queue`, [`config`], [`model`], [`events`] |
//! | 3 | `wire`: bytes and shapes, pure; [`transport`]: to providers; `http`: the server's machinery |
//! | 4 | `provider`: a pool of workers, one attempt per job |
//! | 5 | [`custom`], [`plugin`], `route`, `sim`, [`testing`] |
//! | 6 | [`gateway`] |
//! | 7 | [`stats`], [`front`], [`admin`] |
//! | 8 | `cli` |

pub mod config;
pub mod custom;
pub mod error;
pub mod events;
pub mod gateway;
pub mod model;
pub mod plugin;
pub mod stats;
pub mod testing;
pub mod transport;

#[cfg(feature = "front")]
pub mod admin;
#[cfg(feature = "front")]
pub mod front;

// Public for this repository's tests, benchmarks and tools, and no promise to anybody else.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod http;
#[doc(hidden)]
pub mod ids;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod net;
#[doc(hidden)]
pub mod provider;
#[doc(hidden)]
pub mod queue;
#[doc(hidden)]
pub mod recycle;
#[doc(hidden)]
pub mod route;
#[doc(hidden)]
pub mod secret;
#[doc(hidden)]
pub mod sim;
#[doc(hidden)]
pub mod sync;
#[doc(hidden)]
pub mod time;
#[doc(hidden)]
pub mod wire;

pub use config::{
    AliasSetup, BreakerSetup, Concurrency, Config, GatewayKeySetup, KeySetup, Policy, ProviderSetup, RateLimitSetup,
    ScalingSetup, Strategy, StreamGarbage, StreamRecovery,
};
pub use custom::CustomProvider;
pub use error::{Code, Error, Result};
pub use gateway::{
    CallOptions, Calls, ChatStream, Gateway, Handle, MapOrdered, MapUnordered, RawEvent, RawStream, ReloadError,
    ShutdownReport, StartError,
};
pub use ids::RequestId;
pub use sync::{CancelReason, CancelToken};
pub use time::Deadline;
pub use wire::openai::{
    ChatChunk, ChatReply, ChatRequest, Choice, Content, EmbedReply, EmbedRequest, Message, ProviderReply, Tool, ToolCall,
    ToolCallDelta,
};
pub use {crossbeam_channel, serde_json};
