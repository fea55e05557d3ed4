//! A server around a closure, for the clients of `client`.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate::Error;
use sluicegate::http::{
    Admission, ConnectionStats, Exchange, Finished, Head, Hold, Limits, Request, Response, Server, Service, Watcher,
};
use sluicegate::sync::Threads;
use sluicegate::time::{Deadline, now};

pub(super) use crate::client::{Answer, Client};

/// No test waits longer for what must come.
pub(super) const FUSE: Duration = Duration::from_secs(5);

type Serve = dyn Fn(Request, Exchange) -> Finished + Send + Sync;

struct Closure(Box<Serve>);

impl Service for Closure {
    fn admit(&self, head: &Head, _peer: SocketAddr) -> Result<Admission, Response> {
        match head.path() {
            "/forbidden" => Err(Response::new(403).body("no", "text/plain")),
            "/small" => Ok(Admission { max_body: Some(10), hold: None }),
            "/admit-panics" => panic!("on purpose"),
            _ => Ok(Admission::default()),
        }
    }

    fn serve(&self, request: Request, exchange: Exchange) -> Finished {
        (self.0)(request, exchange)
    }

    fn refusal(&self, _head: Option<&Head>, status: u16, error: &Error, _hold: Option<Hold>) -> Response {
        Response::new(status).body(error.code().as_str(), "text/plain")
    }
}

/// A service around a closure.
pub(super) fn closure(serve: impl Fn(Request, Exchange) -> Finished + Send + Sync + 'static) -> impl Service {
    Closure(Box::new(serve))
}

/// Answers with the body; an empty one with the method and the path.
pub(super) fn echo(request: Request, exchange: Exchange) -> Finished {
    let body = if request.body.is_empty() {
        format!("{} {}", request.head.method(), request.head.path()).into()
    } else {
        request.body
    };
    exchange.respond(Response::new(200).body(body, "text/plain"))
}

/// A server, its watcher and its threads.
pub(super) struct House {
    pub(super) threads: Threads,
    pub(super) server: Option<Server>,
    pub(super) addr: SocketAddr,
}

impl House {
    pub(super) fn new(limits: Limits, serve: impl Fn(Request, Exchange) -> Finished + Send + Sync + 'static) -> Self {
        Self::with_threads(limits, 1000, serve)
    }

    pub(super) fn with_threads(
        limits: Limits,
        threads: u64,
        serve: impl Fn(Request, Exchange) -> Finished + Send + Sync + 'static,
    ) -> Self {
        let threads = Threads::new(threads, 256 << 10);
        let watcher = Watcher::start(&threads).expect("a watcher");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let service = Arc::new(closure(serve));
        let server = Server::start(listener, limits, threads.clone(), watcher, service, "test").expect("a server");
        let addr = server.local_addr();
        Self { threads, server: Some(server), addr }
    }

    pub(super) fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    pub(super) fn stats(&self) -> ConnectionStats {
        self.server.as_ref().expect("it runs").stats()
    }

    /// Ends it; everything must be over by then.
    pub(super) fn close(mut self) {
        let left = self.server.take().expect("it runs").shutdown(Deadline::after(FUSE));
        assert!(left.is_empty(), "{left:?}");
        eventually("every thread has ended", || self.threads.active() == 0);
    }
}

/// Polls until `what` holds.
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let fuse = Deadline::after(FUSE);
    while !holds() {
        assert!(!fuse.passed(), "it never came to pass: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// How long `work` takes.
pub(super) fn timed<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let start: Instant = now();
    let result = work();
    (result, now() - start)
}

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
