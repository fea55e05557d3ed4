//! Sluicegate: an LLM gateway and a library for synchronous Rust callers, built on OS threads and bounded channels.
//!
//! ```
//! let gateway = sluicegate::Gateway::from_env()?;
//! let answer = gateway.ask("sim/echo", "Hello")?;
//! assert_eq!(answer, "Hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! That is a whole program: no key, no server, no async runtime. `sim` is a provider that is simulated inside the process; with
//! `OPENAI_API_KEY` set, `openai/gpt-4o-mini` works in its place.
//!
//! **For whom.** For command-line tools, batch jobs, game servers, plug-in hosts: programs that are written as ordinary blocking
//! Rust and want to call language models with queues, limits, retries, fallbacks and streams, and to know what is going on. A
//! call that waits is a thread that waits, so it is not for ten thousand calls at once from one process; for some hundreds it is.
//!
//! **The guide:** [first steps](#first-steps) · [how it works](#how-it-works) · [asking](#asking) · [streams](#streams) ·
//! [options](#options) · [many at once](#many-at-once) · [cancelling](#cancelling) · [errors](#errors) ·
//! [configuration](#configuration) · [when there is too much](#when-there-is-too-much) · [plugins](#plugins) ·
//! [providers of your own](#providers-of-your-own) · [testing your program](#testing-your-program) ·
//! [serving HTTP](#serving-http) · [figures](#figures) · [the end](#the-end) · [your process](#your-process) ·
//! [features](#features) · [what is promised](#what-is-promised) · [how it is built](#how-it-is-built)
//!
//! # First steps
//!
//! The crate is not published: name the folder where you have cloned it. Without its default [features](#features) it leaves the
//! command line out; `tls` is what reaches providers by `https`.
//!
//! ```toml
//! [dependencies]
//! sluicegate = { path = "../sluicegate", default-features = false, features = ["tls"] }
//! ```
//!
//! Then a conversation, streamed to the terminal:
//!
//! ```
//! use sluicegate::{ChatRequest, Gateway, Message};
//!
//! let gateway = Gateway::from_env()?;
//! let request = ChatRequest::to("sim/echo")
//!     .with_message(Message::system("Answer in one sentence."))
//!     .with_message(Message::user("What is a sluice gate?"));
//! for chunk in gateway.chat_stream(&request)? {
//!     print!("{}", chunk?.text());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The folder `examples` of the crate has a program for each thing that this guide speaks of, and each runs without a key:
//! `cargo run --example repl`.
//!
//! # How it works
//!
//! ```text
//!  your threads           the gateway                                        threads of the gateway
//!  ┌────────┐   ┌──────────────────────────────┐   ┌ provider "openai" ──────────────────┐
//!  │ chat() │ ─▶│ plugins ─▶ plan ─▶ attempts  │ ─▶│ places ─▶ queue ─▶ workers ─▶ HTTP  │ ─▶ api.openai.com
//!  └────────┘   │            1. target         │   └─────────────────────────────────────┘
//!      ▲        │            2. fallback …     │   ┌ provider "local" ───────────────────┐
//!      └────────│ answer, or one error         │ ─▶│ places ─▶ queue ─▶ workers ─▶ HTTP  │ ─▶ 127.0.0.1:11434
//!               └──────────────────────────────┘   └─────────────────────────────────────┘
//! ```
//!
//! - A **[`Gateway`]** is a handle: `Clone + Send + Sync`, and all clones are one gateway. One for a program is the usual number.
//! - A **provider** has a name, and workers (threads), a bounded queue, connections, keys and time limits of its own: one
//!   provider's trouble stays its own. A model is named `provider/model`.
//! - A provider has as many **places** as workers and queue together. Who finds none waits, or is refused, as its
//!   [policy](#when-there-is-too-much) says.
//! - A request has a **plan**: the model that was asked for, or the targets of an alias, then its **fallbacks**. Each target gets
//!   an **attempt** and, where that can help, retries; then the next one has its turn. It can help after 5xx, 408, 429 and 529, a
//!   refused key, a broken connection and a time-out; any other 4xx is the request's own fault and ends it at once.
//! - The only thread of yours that waits is the one that calls, and **every wait has a limit**.
//!
//! # Asking
//!
//! [`Gateway::ask`] is the short form: text in, text out. [`Gateway::chat`] takes a [`ChatRequest`] and gives a [`ChatReply`],
//! [`Gateway::embed`] gives vectors. What has no name in these types is not lost: any field of the API can be set, and the
//! answer is there as it came. [`Gateway::raw`] and [`Gateway::raw_stream`] take and give bytes. [`Gateway::models`] says which models
//! are known, and [`Gateway::refresh_models`] asks the providers for theirs.
//!
//! ```
//! # use sluicegate::{ChatRequest, Gateway};
//! # let gateway = Gateway::from_env()?;
//! let request = ChatRequest::new("sim/lorem-12", "Hello").with_temperature(0.2).with("service_tier", "flex");
//! let reply = gateway.chat(&request)?;
//! println!("{} ({:?})", reply.text(), reply.usage);
//! assert_eq!(reply.finish_reason(), Some("stop"));
//! assert_eq!(reply.raw["choices"][0]["message"]["role"], "assistant");
//! println!("{} answered after {} attempts", reply.served().provider, reply.served().attempts);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A chat goes to a provider of Anthropic's shape, too: it is translated, and so is the answer. What such a provider has no place
//! for is refused with [`Code::Unsupported`], which names the field, or left out where it is a hint: then the header
//! `x-sluicegate-dropped` of what [`Gateway::raw`] gives names it. `raw` takes a message in Anthropic's shape as well, by
//! [`Operation::Messages`](model::Operation::Messages), for a provider of either.
//!
//! A model that calls functions of yours gets [`Tool`]s with the request, and its [`ToolCall`]s are answered by messages, until
//! it answers in words. The same goes for a stream: [`ChatStream::collect_reply`] has the calls put together.
//!
//! ```
//! use sluicegate::serde_json::json;
//! use sluicegate::{ChatRequest, Gateway, Message, Tool};
//!
//! let gateway = Gateway::from_env()?;
//! let time = Tool::function("time", "The time in a city", json!({ "type": "object", "properties": { "city": { "type": "string" } } }));
//! let mut request = ChatRequest::new("sim/tool", "What time is it in Oslo?").with_tools([time]);
//! let answer = loop {
//!     let reply = gateway.chat(&request)?;
//!     if reply.tool_calls().is_empty() {
//!         break reply.text().to_owned();
//!     }
//!     request.messages.push(reply.message());
//!     for call in reply.tool_calls() {
//!         request.messages.push(Message::tool(call.id, "12:30"));
//!     }
//! };
//! assert_eq!(answer, "12:30");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Streams
//!
//! [`Gateway::chat_stream`] waits until the stream begins and gives an iterator, whose items are chunks or, once at the end, an
//! error: a short answer is never taken for a whole one. Drop the iterator, and the call ends at the provider, too.
//! [`ChatStream::collect_reply`] makes a whole answer of it, what was taken before included; [`ChatStream::served`] says who
//! gives it and whether that was a fallback.
//!
//! ```
//! # use sluicegate::{ChatRequest, Code, Gateway};
//! # let gateway = Gateway::from_env()?;
//! // The connection breaks after two tokens.
//! let mut text = String::new();
//! let mut error = None;
//! for chunk in gateway.chat_stream(&ChatRequest::new("sim/lorem-100+cut-2", "Hello"))? {
//!     match chunk {
//!         Ok(chunk) => text.push_str(chunk.text()),
//!         Err(broken) => error = Some(broken),
//!     }
//! }
//! assert_eq!(text.split_whitespace().count(), 2);
//! assert_eq!(error.map(|error| error.code()), Some(Code::StreamCut));
//!
//! // Enough after the first chunk.
//! let mut stream = gateway.chat_stream(&ChatRequest::new("sim/lorem-100+gap-10ms", "Hello"))?;
//! let first = stream.next().transpose()?;
//! drop(stream);
//! # assert!(first.is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Options
//!
//! What goes with a call beside its request stands in [`CallOptions`], and [`Gateway::with`] gives the same calls with them.
//!
//! ```
//! use std::time::Duration;
//! use sluicegate::{CallOptions, Gateway};
//!
//! let gateway = Gateway::from_env()?;
//! let options = CallOptions::new().deadline(Duration::from_secs(20)).fallbacks(["sim/echo"]).tag("job", "nightly");
//! assert_eq!(gateway.with(&options).ask("sim/fail-503", "Hello")?, "Hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A deadline bounds the call whole: waits, attempts, pauses, fallbacks, and a stream to its end. Without one its stages are
//! bounded, each by a limit of the provider's: `wait_timeout` (5 s) for a worker, `default_request_timeout_in_seconds` (120 s)
//! for an attempt, `first_token_timeout` and `stream_idle_timeout_in_seconds` (60 s each) for a stream. Work that nobody waits
//! for goes with [`Priority::Batch`]: it leaves the workers to the rest.
//!
//! # Many at once
//!
//! Lend one gateway to as many threads as you like; each blocks in its own call. Or leave the threads to the gateway:
//! [`Gateway::map_unordered`] and [`Gateway::map_ordered`] send what an iterator gives, so many at a time, and
//! [`Gateway::submit`] sends one and gives a [`Handle`] to wait on, look at, put into a `select!` or cancel.
//!
//! ```
//! # use sluicegate::{ChatRequest, Gateway};
//! # let gateway = Gateway::from_env()?;
//! let prompts = ["one", "two", "three", "four"];
//! let mut answers = vec![None; prompts.len()];
//! for (number, reply) in gateway.map_unordered(prompts.map(|prompt| ("sim/echo", prompt)), 2) {
//!     // One that fails leaves the others alone.
//!     answers[number] = reply.ok().map(|reply| reply.text().to_owned());
//! }
//! assert_eq!(answers[2].as_deref(), Some("three"));
//!
//! let handle = gateway.submit(&ChatRequest::new("sim/echo+slow-20ms", "Hello"))?;
//! // … something else meanwhile …
//! assert_eq!(handle.wait()?.text(), "Hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! For a batch take `map_unordered` and put the answers in order by their numbers, as above: a request that is tried again holds
//! `map_ordered` up, whose window then fills. [`CallOptions::until`] bounds the whole of it. A model that fails five times in a
//! row, retries counted, is left alone for ten seconds, and its requests go to their fallbacks meanwhile ([`BreakerSetup`]).
//!
//! # Cancelling
//!
//! Dropping a stream, a handle or a map ends what it stands for, up to the provider, which hears of it by its connection. A
//! blocking call is cancelled from another thread by its [`CancelToken`], and then fails with
//! [`Code::ClientClosed`]. A token stays cancelled; until then it may go with one call after the other.
//!
//! ```
//! use std::thread;
//! use sluicegate::{CallOptions, CancelReason, CancelToken, Code, Gateway};
//!
//! let gateway = Gateway::from_env()?;
//! let token = CancelToken::new();
//! let calls = gateway.with(CallOptions::new().cancel(token.clone()));
//! thread::scope(|scope| {
//!     let waiting = scope.spawn(|| calls.ask("sim/hang", "Hello"));
//!     token.cancel();
//!     let error = waiting.join().expect("no panic").expect_err("it never answers");
//!     assert_eq!(error.code(), Code::ClientClosed);
//! });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Errors
//!
//! There is one [`Error`]. Decide by its [`code`](Error::code), its [`origin`](Error::origin) and its [`retry`](Error::retry),
//! never by its words. When you see it, the gateway has tried again and elsewhere as far as that could help;
//! [`attempts`](Error::attempts) lists what it tried, refusals of a circuit breaker among it. Where several targets failed, it is
//! the first target's: the last error that its provider gave, or else its own.
//!
//! | [`retry`](Error::retry) | [`Code`]s | What to do |
//! | --- | --- | --- |
//! | `No` | `InvalidRequest`, `ModelNotFound`, `Unsupported`, `Unauthorized`, `Forbidden`; `UpstreamError` with most of 4xx | Mend the request: [`param`](Error::param) names the field, [`upstream_answer`](Error::upstream_answer) the provider's own words. |
//! | `No` | `CredentialsExhausted` | The provider refuses every key: look at the configuration. |
//! | `No` | `ClientClosed`, `ClientTooSlow` | Nothing: it was cancelled, or a stream was not read for too long. |
//! | `After` | `QueueFull`, `RequestDropped`, `QueueTimeout`, `ResourceTimeout`, `Overloaded`, `RateLimited`; `UpstreamError` with 429 | There is too much at the moment. Come again after that time, or name a fallback. |
//! | `After` | `CircuitOpen` | The provider has failed so often that it is left alone. The same. |
//! | `After` | `ShuttingDown` | This gateway is ending; not with this one. |
//! | `Now` | `UpstreamConnectError`, `UpstreamTimeout`, `FirstTokenTimeout`, `UpstreamBadResponse`; `UpstreamError` with 5xx | The provider is in trouble. Later, or elsewhere. |
//! | `Now` | `StreamCut`, `StreamIdleTimeout`, `StreamTooLong` | A stream broke off after it began; what came is a part. |
//! | `Now` | `Internal` | A defect, of the gateway's or of a plugin; the log and the events have it under the [`request_id`](Error::request_id). |
//!
//! ```
//! use sluicegate::error::{Origin, Retry};
//! # use sluicegate::{Code, Gateway};
//! # let gateway = Gateway::from_env()?;
//!
//! let error = gateway.ask("sim/fail-429-after-20s", "Hello").expect_err("it is told to wait for longer than a call does");
//! assert_eq!((error.code(), error.status(), error.origin()), (Code::UpstreamError, 429, Origin::Provider));
//! match error.retry() {
//!     Retry::No => println!("no use: {error}"),
//!     Retry::After(time) => println!("in {time:?}: {error}"),
//!     Retry::Now => println!("later, or elsewhere: {error}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Configuration
//!
//! - [`Gateway::from_env`] offers every provider whose variable is set, such as `OPENAI_API_KEY`, and `sim`.
//! - [`Gateway::from_config`] reads a file of JSON, the same that the binary `sluicegate` takes.
//! - [`Gateway::builder`] says the same by setters, adds to a file, and takes what only a program can bring: plugins, custom
//!   providers, transports.
//!
//! Whichever way, everything that is wrong is told at once, each thing with its place and what would be right.
//!
//! ```
//! use std::time::Duration;
//! use sluicegate::{AliasSetup, Concurrency, Gateway, Policy, ProviderSetup};
//!
//! let gateway = Gateway::builder()
//!     .provider(
//!         ProviderSetup::sim("sim")
//!             .concurrency(Concurrency::between(2, 8))
//!             .buffer_size(64)
//!             .policy(Policy::Error)
//!             .request_timeout(Duration::from_secs(30)),
//!     )
//!     .provider(ProviderSetup::openai_compatible("local", "http://127.0.0.1:11434").check_on_start(false))
//!     .alias(AliasSetup::new("smart", "sim/fail-503").fallback("sim/echo"))
//!     .build()?;
//! assert_eq!(gateway.ask("smart", "Hello")?, "Hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Gateway::reload`] brings another configuration into force while requests go on, [`Gateway::reread`] the same source again.
//!
//! # When there is too much
//!
//! A provider's queue is bounded, and its `policy` says what becomes of a request that finds no place:
//!
//! | `queue.policy` | The request | Good for |
//! | --- | --- | --- |
//! | `block` | waits for a place, within `wait_timeout` (`QueueTimeout`) | batch jobs, tools: the default |
//! | `error` | fails at once (`QueueFull`), or goes to its fallbacks | callers that can go elsewhere |
//! | `drop` | fails at once (`RequestDropped`), and its fallbacks are not asked | load that is worth nothing when it is late |
//! | `drop_oldest` | takes the place of the one that has waited longest (`RequestDropped`) | callers who want the newest answer |
//!
//! `cargo run --example policies` shows them side by side.
//!
//! # Plugins
//!
//! A [`Plugin`](plugin::Plugin) sees each request before it goes to a provider and each answer before the caller has it. It may
//! change both, answer by itself, or refuse. One that fails or panics harms no request but as it chose.
//!
//! ```
//! use sluicegate::plugin::{Context, Flow, Plugin, PluginError, Request};
//! # use sluicegate::Gateway;
//!
//! /// Keeps everybody to one model.
//! struct OneModel(&'static str);
//!
//! impl Plugin for OneModel {
//!     fn name(&self) -> &str {
//!         "one_model"
//!     }
//!
//!     fn pre(&self, request: &mut Request<'_>, _: &mut Context<'_>) -> Result<Flow, PluginError> {
//!         request.set_model(self.0);
//!         Ok(Flow::Continue)
//!     }
//! }
//!
//! let gateway = Gateway::builder().plugin(OneModel("sim/echo")).build()?;
//! assert_eq!(gateway.ask("sim/fail-500", "Hello")?, "Hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! See the module [`plugin`] for the order of hooks, for streams event by event, and for what happens when one fails. Built-in
//! plugins are named under `plugins` in a configuration, or by [`Builder::builtin_plugin`](gateway::Builder::builtin_plugin).
//!
//! # Providers of your own
//!
//! A [`CustomProvider`] is a provider that the program itself is: a model in the process, a table of answers, a protocol that
//! the gateway lacks. It is asked on workers of its own, behind a queue, limits and a breaker like any other, and retries and
//! fallbacks go by the status of its errors.
//!
//! ```
//! use sluicegate::custom::{CallContext, CustomProvider, ProviderError};
//! use sluicegate::{ChatRequest, Gateway, ProviderReply};
//!
//! struct Shout;
//!
//! impl CustomProvider for Shout {
//!     fn chat(&self, request: &ChatRequest, _: &CallContext<'_>) -> Result<ProviderReply, ProviderError> {
//!         let last = request.messages.last().ok_or_else(|| ProviderError::new(400, "nothing was said"))?;
//!         Ok(ProviderReply::text(last.text().to_uppercase()))
//!     }
//! }
//!
//! let gateway = Gateway::builder().custom_provider("shout", Shout).build()?;
//! assert_eq!(gateway.ask("shout/any", "hello")?, "HELLO");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Testing your program
//!
//! In the module [`testing`] is a provider that answers by a script, behind the whole of the gateway: what your program does
//! with a 429, a stream that is cut or a provider that hangs is seen in milliseconds.
//!
//! ```
//! use std::sync::Arc;
//! use sluicegate::testing::{Canned, Script};
//! use sluicegate::{ChatRequest, Code, Gateway};
//!
//! let script = Script::new().then(Canned::text("fine")).then(Canned::stream(["so", " far"]).cut_after(1));
//! let gateway = Gateway::builder().transport("model", Arc::new(script.clone())).build()?;
//!
//! assert_eq!(gateway.ask("model/any", "How are you?")?, "fine");
//! let cut = gateway.chat_stream(&ChatRequest::new("model/any", "Go on"))?.last().expect("an error at its end");
//! assert_eq!(cut.expect_err("it was cut").code(), Code::StreamCut);
//! assert_eq!(script.requests()[0].body["messages"][0]["content"], "How are you?");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The simulated provider is good for trying out by hand: its model's name says how it behaves, `sim/slow-2s`, `sim/fail-503`,
//! `sim/cut-5`, `sim/hang`; an unknown word gets the list of all.
//!
//! # Serving HTTP
//!
//! [`front::Front`] puts the data plane of the binary on a gateway of your program: OpenAI's routes, for whatever client.
//!
//! ```
//! # #[cfg(feature = "front")] {
//! use std::time::Duration;
//! use sluicegate::front::Front;
//! # use sluicegate::Gateway;
//!
//! let gateway = Gateway::from_env()?;
//! let front = Front::start(&gateway, "127.0.0.1:0".parse()?)?;
//! println!("base URL: http://{}/v1", front.addr());
//! // …
//! front.stop_accepting();
//! gateway.shutdown(Duration::from_secs(30));
//! let stragglers = front.shutdown(Duration::from_secs(5));
//! assert!(stragglers.is_empty());
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Figures
//!
//! [`Gateway::stats`] is everything that the gateway counts, typed and ready to be written as JSON; [`Gateway::events`] has the
//! last things that happened; [`Gateway::health`] is a short summary.
//!
//! ```
//! # use sluicegate::Gateway;
//! # let gateway = Gateway::from_env()?;
//! gateway.ask("sim/echo", "Hello")?;
//! let stats = gateway.stats();
//! let sim = &stats.providers["sim"];
//! println!("{} of {} answered", stats.requests.succeeded_total, stats.requests.received_total);
//! println!("waited {} µs, took {} µs (p99)", sim.queue.wait_us.p99, sim.jobs.service_us.p99);
//! assert_eq!(sim.jobs.succeeded_total, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The end
//!
//! [`Gateway::shutdown`] takes nothing new, waits for what is under way as long as you say, cuts the rest, joins its threads, and
//! [reports](ShutdownReport). Dropping the last clone does the same within half a second, from whatever thread.
//!
//! ```
//! # use std::time::Duration;
//! # use sluicegate::{Code, Gateway};
//! # let gateway = Gateway::from_env()?;
//! let report = gateway.shutdown(Duration::from_secs(30));
//! assert_eq!((report.cut, report.stragglers.len()), (0, 0));
//! assert_eq!(gateway.ask("sim/echo", "Hello").expect_err("it has ended").code(), Code::ShuttingDown);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Your process
//!
//! The library is a guest in it:
//!
//! - It starts threads: the workers of each provider, which go when there is nothing to do, and a handful of services. All have
//!   a name, are counted and limited (`threads.max`), and are gone after the end.
//! - It opens connections to providers, and a listener only where you start one.
//! - It installs no signal handler, panic hook, logger or allocator, and changes neither limits nor environment. What it has to
//!   say goes to the crate `log`.
//! - It never ends the process. A panic in a plugin, or in its own worker, is caught and becomes that one request's error.
//! - It writes no prompt, answer or key to the log.
//!
//! # Features
//!
//! | feature | what it brings |
//! | --- | --- |
//! | none | the gateway for callers in this process: pools, queues, fallbacks, streams, plugins and providers of your own, the simulated provider, `http://` |
//! | `tls` | `https://` to providers, and `server.tls`: rustls and ring. Without it such a URL is an error that names the feature |
//! | `bedrock` | Amazon Bedrock: its shapes, its signatures and the frames of its streams |
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
//! Of other crates its interface names [`serde_json::Value`] and `crossbeam_channel::Receiver`, both of which it exports, and
//! serde's `Serialize` and `Deserialize`: a new major version of one of these is one of this library.
//!
//! # How it is built
//!
//! For those who read or change the code. Modules lie in layers, and each uses only those above it in this list; a test holds the tree to it. Those that this
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
#[doc(hidden)]
pub mod calendar;
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
pub use error::{Code, Error, Origin, Result, Retry};
pub use gateway::{
    CallOptions, Calls, ChatStream, Gateway, Handle, MapOrdered, MapUnordered, RawEvent, RawStream, ReloadError,
    ShutdownReport, StartError,
};
pub use ids::{RequestId, Trace};
pub use model::{Priority, Served, Usage};
pub use sync::{CancelReason, CancelToken};
pub use time::Deadline;
pub use wire::openai::{
    ChatChunk, ChatReply, ChatRequest, Choice, Content, EmbedReply, EmbedRequest, Message, ProviderReply, Tool,
    ToolCall, ToolCallDelta,
};
pub use {crossbeam_channel, serde_json};
