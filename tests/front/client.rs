//! A client that knows just enough HTTP to see exactly what it is told, and how that ends.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::house::FUSE;

pub(super) struct Client {
    socket: TcpStream,
    ahead: Vec<u8>,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// With names in lower case.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// Whether the body's end was told by its framing.
    pub(super) complete: bool,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The gateway's own code of an error.
    pub(super) fn code(&self) -> String {
        self.json()["sluicegate"]["code"].as_str().expect("a code").to_owned()
    }

    /// The data of a stream's events.
    pub(super) fn events(&self) -> Vec<&str> {
        self.text().lines().filter_map(|line| line.strip_prefix("data: ")).collect()
    }

    /// The text of a stream's words.
    pub(super) fn words(&self) -> String {
        let chunks = self.events().into_iter().filter_map(|data| serde_json::from_str::<Value>(data).ok());
        chunks.filter_map(|chunk| chunk.pointer("/choices/0/delta/content")?.as_str().map(str::to_owned)).collect()
    }

    /// The last event of a stream, which must be an error; its code.
    pub(super) fn last_error(&self) -> String {
        let last = self.events().last().map(|data| serde_json::from_str::<Value>(data).expect("JSON"));
        let last = last.expect("an event");
        assert!(last["error"]["message"].is_string(), "{last}");
        last["sluicegate"]["code"].as_str().expect("a code").to_owned()
    }
}

impl Client {
    pub(super) fn connect(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).expect("it listens");
        socket.set_nodelay(true).expect("connected");
        socket.set_read_timeout(Some(FUSE)).expect("connected");
        Self { socket, ahead: Vec::new() }
    }

    pub(super) fn raw(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.socket.write_all(bytes.as_ref()).expect("it is read");
        self
    }

    /// Sends a request; `headers` are whole lines.
    pub(super) fn send(&mut self, method: &str, path: &str, headers: &[&str], body: &str) -> &mut Self {
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        self.raw(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}{length}\r\n{body}"))
    }

    pub(super) fn chat(&mut self, headers: &[&str], body: &str) -> &mut Self {
        self.send("POST", "/v1/chat/completions", headers, body)
    }

    pub(super) fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], "").answer()
    }

    /// Lets the kernel hold only little for this client, so that it is slow soon.
    pub(super) fn small_window(addr: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a socket");
        socket.connect(&addr.into()).expect("it listens");
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(FUSE)).expect("connected");
        Self { socket, ahead: Vec::new() }
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
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

    /// Reads until `text` has come, and leaves it to be read.
    pub(super) fn wait_for(&mut self, text: &str) -> &mut Self {
        while !self.ahead.windows(text.len()).any(|window| window == text.as_bytes()) {
            assert!(self.more(), "the connection ended before {text:?}: {:?}", String::from_utf8_lossy(&self.ahead));
        }
        self
    }

    pub(super) fn answer(&mut self) -> Answer {
        let head = self.upto(b"\r\n\r\n").expect("an answer");
        let head = String::from_utf8(head).expect("a head is text");
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
        let status = head[9..12].parse().expect("a status");
        let mut answer = Answer { status, head, body: Vec::new(), complete: true };
        if let Some(length) = answer.header("content-length").map(|length| length.parse().expect("a length")) {
            answer.complete = self.exactly(length, &mut answer.body);
        } else {
            assert_eq!(answer.header("transfer-encoding"), Some("chunked"), "{}", answer.head);
            answer.complete = self.chunks(&mut answer.body);
        }
        answer
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

    /// Whether the connection ends, without another byte.
    pub(super) fn is_closed(&mut self) -> bool {
        self.ahead.is_empty() && !self.more()
    }
}
