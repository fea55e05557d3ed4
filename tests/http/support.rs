//! A server around a closure, and a client that knows just enough HTTP to see what it is told.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate::Error;
use sluicegate::http::{
    Admission, ConnectionStats, Exchange, Finished, Head, Hold, Limits, Request, Response, Server, Service, Watcher,
};
use sluicegate::sync::Threads;
use sluicegate::time::{Deadline, now};

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
        format!("{} {}", request.head.method(), request.head.path()).into_bytes()
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

/// What a client was answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// Whether the body's end was told by its framing.
    pub(super) complete: bool,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

pub(super) struct Client {
    pub(super) socket: TcpStream,
    pub(super) ahead: Vec<u8>,
}

impl Client {
    pub(super) fn connect(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).expect("it listens");
        socket.set_nodelay(true).expect("connected");
        socket.set_read_timeout(Some(FUSE)).expect("connected");
        Self { socket, ahead: Vec::new() }
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.socket.write_all(bytes.as_ref()).expect("it is read");
        self
    }

    /// Sends as far as the server lets it.
    pub(super) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.socket.write_all(bytes.as_ref());
        self
    }

    pub(super) fn finish_sending(&mut self) -> &mut Self {
        self.socket.shutdown(Shutdown::Write).expect("connected");
        self
    }

    /// Reads more; `false` at the end or a reset.
    fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.socket.read(&mut buffer) {
            Ok(n) => {
                self.ahead.extend_from_slice(&buffer[..n]);
                n > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    fn upto(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|window| window == end) {
                return Some(self.ahead.drain(..at + end.len()).collect());
            }
            if !self.more() {
                return None;
            }
        }
    }

    fn exactly(&mut self, n: usize, into: &mut Vec<u8>) -> bool {
        while self.ahead.len() < n {
            if !self.more() {
                into.append(&mut self.ahead);
                return false;
            }
        }
        into.extend(self.ahead.drain(..n));
        true
    }

    /// Reads one answer. `None` if the connection ended before its head was whole.
    pub(super) fn read_answer(&mut self, to_head: bool) -> Option<Answer> {
        let head = String::from_utf8(self.upto(b"\r\n\r\n")?).expect("a head is text");
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
        let status = head[9..12].parse().expect("a status");
        let header = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(|value| value.to_owned()))
        };
        let mut body = Vec::new();
        let complete = if to_head || status < 200 || matches!(status, 204 | 304) {
            true
        } else if let Some(length) = header("content-length") {
            self.exactly(length.parse().expect("a length"), &mut body)
        } else if header("transfer-encoding").as_deref() == Some("chunked") {
            self.chunks(&mut body)
        } else {
            while self.more() {}
            body.append(&mut self.ahead);
            false
        };
        Some(Answer { status, head, body, complete })
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        while let Some(line) = self.upto(b"\r\n") {
            let size = std::str::from_utf8(&line[..line.len() - 2]).expect("a size is text");
            let size = usize::from_str_radix(size, 16).expect("a size");
            let whole = self.exactly(size, body);
            if !whole || !self.exactly(2, &mut Vec::new()) {
                return false;
            }
            if size == 0 {
                return true;
            }
        }
        false
    }

    pub(super) fn answer(&mut self) -> Answer {
        self.read_answer(false).expect("an answer")
    }

    pub(super) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).answer()
    }

    /// Whether the connection ends, without another byte.
    pub(super) fn is_closed(&mut self) -> bool {
        self.ahead.is_empty() && !self.more()
    }

    /// Reads one byte of whatever comes.
    pub(super) fn read_byte(&mut self) -> Option<u8> {
        let mut byte = Vec::new();
        self.exactly(1, &mut byte).then(|| byte[0])
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
