//! The gateway that the demo shows, and the callers that speak to it over its sockets.

use std::time::Duration;

use serde_json::{Value, json};

use super::held;
use crate::cli::client::{Answer, Client, WAIT};
use crate::cli::output::Failure;
use crate::cli::planes::Planes;
use crate::config::Config;
use crate::gateway::{Gateway, ShutdownReport};
use crate::sync::Threads;
use crate::time::{Deadline, now};
use crate::transport::Incoming;
use crate::wire::openai::{ChatChunk, ChatRequest};
use crate::wire::sse::Decoder;

/// Where chat is asked for.
const CHAT: &str = "/v1/chat/completions";

/// What a caller says of its body.
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// How long the planes may take to close.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// The largest event of a stream, in bytes.
const MAX_EVENT: usize = 1 << 20;

/// A running gateway with both its planes, and clients of them. Nothing below takes a short cut through the process.
#[derive(Debug)]
pub(super) struct House {
    gateway: Gateway,
    planes: Planes,
    data: Client,
    admin: Client,
}

/// A stream that is being read.
pub(super) struct Stream {
    incoming: Incoming,
    decoder: Decoder,
    began: std::time::Instant,
}

/// What came of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Streamed {
    /// Events, without the end mark.
    pub(super) events: usize,
    /// Whether the end mark came.
    pub(super) done: bool,
    /// When the first event came, and when the last, since the request was sent.
    pub(super) first: Duration,
    pub(super) took: Duration,
}

impl House {
    /// Two pools small enough to be filled by a handful of callers, one that grows with them, and one whose provider is down.
    pub(super) fn start() -> Result<Self, Failure> {
        let pool = |concurrency: usize, places: usize, policy: &str| {
            json!({
                "kind": "sim", "queue": { "policy": policy },
                "concurrency_and_buffer_size": { "concurrency": concurrency, "buffer_size": places },
            })
        };
        let mut elastic = pool(24, 100, "block");
        elastic["concurrency_and_buffer_size"]["min_concurrency"] = json!(2);
        elastic["scaling"] = json!({ "min_interval": "100ms" });
        let mut down = pool(1, 1, "block");
        down["network_config"] = json!({ "max_retries": 1, "retry_backoff_initial": 20 });
        let config = json!({
            "server": { "listen": "127.0.0.1:0", "admin": "127.0.0.1:0" },
            "providers": { "sim": pool(2, 2, "block"), "strict": pool(1, 1, "error"), "elastic": elastic, "down": down },
            "aliases": { "answer": { "targets": [{ "model": "down/fail-503" }], "fallbacks": ["sim/echo"] } },
        });
        let config = Config::from_json(&config.to_string(), &|_| None)?;
        let gateway = Gateway::builder().config(config).build()?;
        let planes = Planes::start(&gateway)?;
        // The addresses are numbers, so the clients need no thread for looking names up.
        let threads = Threads::new(1, 256 << 10);
        let client = |addr: std::net::SocketAddr| {
            Client::new(&format!("http://{addr}"), &threads).map_err(|error| Failure::Job(error.to_string()))
        };
        Ok(Self { data: client(planes.front.addr())?, admin: client(planes.admin.addr())?, gateway, planes })
    }

    /// Where the planes listen.
    pub(super) fn addresses(&self) -> String {
        format!("data plane http://{}, admin plane http://{}", self.planes.front.addr(), self.planes.admin.addr())
    }

    /// A request to the data plane.
    pub(super) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.data.send("GET", path, &[], &[]).map_err(lost)
    }

    /// A chat call, answered whole; and how long it took.
    pub(super) fn chat(&self, model: &str) -> Result<(Duration, Answer), Failure> {
        let start = now();
        let body = ChatRequest::new(model, "Hello").to_body(false);
        let answer = self.data.send("POST", CHAT, JSON, &body).map_err(lost)?;
        Ok((now().saturating_duration_since(start), answer))
    }

    /// A chat call whose stream has begun.
    pub(super) fn stream(&self, model: &str) -> Result<Stream, Failure> {
        let began = now();
        let body = ChatRequest::new(model, "Hello").to_body(true);
        let incoming = self.data.open("POST", CHAT, JSON, &body).map_err(lost)?;
        held(incoming.status == 200, || format!("a stream began with status {}", incoming.status))?;
        Ok(Stream { incoming, decoder: Decoder::new(MAX_EVENT), began })
    }

    /// A page of the admin plane.
    pub(super) fn page(&self, path: &str) -> Result<Value, Failure> {
        let answer = self.admin.send("GET", path, &[], &[]).map_err(lost)?;
        serde_json::from_slice(&answer.body).map_err(|error| Failure::Job(format!("{path} gave no JSON: {error}")))
    }

    /// Tells the gateway, by its admin plane, to take nothing new.
    pub(super) fn drain(&self) -> Result<(), Failure> {
        let answer = self.admin.send("POST", "/drain", &[("x-sluicegate-admin", "1")], &[]).map_err(lost)?;
        held(answer.status == 202, || format!("the drain was answered with status {}", answer.status))
    }

    /// Ends the gateway; names the threads that did not end among the rest.
    pub(super) fn shutdown(self) -> ShutdownReport {
        let Self { gateway, planes, .. } = self;
        let mut report = gateway.shutdown(CLOSE_WAIT);
        report.stragglers.extend(planes.close(Deadline::after(CLOSE_WAIT)));
        report
    }
}

impl Stream {
    /// A header of its answer.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.incoming.header(name)
    }

    /// Reads it to its end; `heard` gets each piece of text as it comes.
    pub(super) fn read(mut self, mut heard: impl FnMut(&str) -> Result<(), Failure>) -> Result<Streamed, Failure> {
        let mut streamed = Streamed { events: 0, done: false, first: Duration::ZERO, took: Duration::ZERO };
        let mut buffer = [0; 4096];
        loop {
            let n = self.incoming.body.read(&mut buffer, Deadline::after(WAIT)).map_err(lost)?;
            streamed.took = now().saturating_duration_since(self.began);
            if n == 0 {
                return Ok(streamed);
            }
            self.decoder.push(&buffer[..n]);
            while let Some(event) = self.decoder.next() {
                let event = event.map_err(|error| Failure::Job(error.to_string()))?;
                if event.is_comment {
                    continue;
                }
                if event.data == b"[DONE]" {
                    streamed.done = true;
                    continue;
                }
                if streamed.events == 0 {
                    streamed.first = streamed.took;
                }
                streamed.events += 1;
                heard(ChatChunk::from_data(event.data)?.text())?;
            }
        }
    }
}

fn lost(error: impl std::fmt::Display) -> Failure {
    Failure::Job(format!("a request was not answered: {error}"))
}
