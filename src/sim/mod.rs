//! The simulated provider: a real HTTP server on loopback whose model names choose its behaviour.
//!
//! It speaks OpenAI's shapes (chat and text completions, responses, embeddings, models) and Anthropic's (messages, and what one
//! would take), so that the whole path of a request is exercised without a network or a key. What it does follows from the
//! request alone, but for the few words that count calls or time since a name's first use; it never draws at random. It
//! knows nothing of gateways.
//!
//! The words are those of the interface; a name with another one is answered 404, which lists them. What it saw is shown:
//!
//! * `GET /sim/stats`: `requests`, `in_flight`, `peak`, `aborted_by_peer` (answers whose reader left before they were
//!   whole), `connections` (accepted so far), `connections_open`, and `models`: for each name `requests`, `answered`,
//!   `failed`, `aborted_by_peer`, `in_flight`, `first_ms` and `times_ms` (arrivals, in milliseconds since the start; the
//!   last 256), `service_us` with `mean` and `max`.
//! * `GET /sim/last`: the last request as it arrived: `method`, `path`, `headers` (keys as digests), `body`, `body_bytes`,
//!   `truncated` (only 64 KiB are kept), `utf8`. `GET /sim/last/body`: that body's bytes.
//!
//! Where a word leaves it open: a name without `lorem`, `json` or `tool` echoes. `slow` comes before everything, errors too.
//! `gap` and `ttft` make a whole answer take as long as its stream would. `cut` and `stall` break an answer at the latest
//! before its end, so that it is never complete. `garbage` is an event more, no token less.
//!
//! Read `words` first, then `service`, `play`.

mod anthropic;
mod content;
mod figures;
mod openai;
mod play;
mod reply;
mod request;
mod responses;
mod service;
mod words;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use self::service::SimService;
use crate::error::{Code, Error, Result};
use crate::http::{Limits, Server, Watcher};
use crate::sync::locks::classes;
use crate::sync::{Quit, Role, Slot, Threads};
use crate::time::Deadline;

/// More than any gateway in front of it opens: what is to be tested is the gateway's limit.
const MAX_CONNECTIONS: usize = 32_768;

/// A running simulated provider. Dropping it stops it, without waiting.
#[derive(Debug)]
pub struct Sim {
    addr: SocketAddr,
    service: Arc<SimService>,
    /// First of the two: what waits ends, and then the server stops.
    quit: Quit,
    server: Arc<Slot<Server>>,
}

impl Sim {
    /// Models that are worth listing; any name made of its words is one.
    pub const MODELS: &'static [&'static str] = &words::SAMPLES;

    /// Whether `name` is made of its words.
    #[must_use]
    pub fn has_model(name: &str) -> bool {
        words::Behaviour::parse(name).is_ok()
    }

    /// Serves on `listen`; port 0 takes a free one.
    ///
    /// # Errors
    /// If the address cannot be listened on, or there is no thread to be had.
    pub fn start(listen: SocketAddr, threads: Threads, watcher: Arc<Watcher>) -> Result<Self> {
        Self::start_with(listen, threads, watcher, Limits::default().thread_idle_timeout)
    }

    /// The same with threads that end once they have had no connection for `thread_idle`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(
        listen: SocketAddr,
        threads: Threads,
        watcher: Arc<Watcher>,
        thread_idle: Duration,
    ) -> Result<Self> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            let message = format!("the simulated provider cannot serve on {listen}: {error}");
            Error::new(Code::Internal, message).with_source(error)
        };
        let listener = TcpListener::bind(listen).map_err(|error| failed(error.into()))?;
        let quit = Quit::new();
        let service = Arc::new(SimService::new(quit.watch()));
        // A role of its own: its connections are the gateway's to a provider, and no clients'.
        let limits = Limits {
            role: Role::Sim,
            max_connections: MAX_CONNECTIONS,
            thread_idle_timeout: thread_idle,
            ..Limits::default()
        };
        let server = Server::start(listener, limits, threads, watcher, Arc::<SimService>::clone(&service), "sim")
            .map_err(|error| failed(error.into()))?;
        let addr = server.local_addr();
        let server = Arc::new(Slot::new(&classes::SIM, server));
        service.served_by(Arc::downgrade(&server));
        Ok(Self { addr, service, quit, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What `GET /sim/stats` shows.
    #[must_use]
    pub fn stats(&self) -> serde_json::Value {
        self.service.stats()
    }

    /// Ends what waits, lets the rest finish until `deadline`, and gives the names of what did not end.
    #[must_use = "it names what did not end"]
    pub fn shutdown(mut self, deadline: Deadline) -> Vec<String> {
        self.quit.signal();
        self.server.take().map(|server| server.shutdown(deadline)).unwrap_or_default()
    }
}
