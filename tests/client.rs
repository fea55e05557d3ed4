//! A client that knows just enough HTTP to see exactly what it is told, and how that ends.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::house::FUSE;

/// What a client was answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Whether the body's end was told by its framing.
    pub(crate) complete: bool,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    pub(crate) ahead: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).expect("it listens");
        socket.set_nodelay(true).expect("connected");
        socket.set_read_timeout(Some(FUSE)).expect("connected");
        Self { socket, ahead: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.socket.write_all(bytes.as_ref()).expect("it is read");
        self
    }

    /// Sends as far as the server lets it.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.socket.write_all(bytes.as_ref());
        self
    }

    pub(crate) fn finish_sending(&mut self) -> &mut Self {
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

    /// Reads until `text` has come, and leaves it to be read.
    pub(crate) fn wait_for(&mut self, text: &str) -> &mut Self {
        while !self.ahead.windows(text.len()).any(|window| window == text.as_bytes()) {
            assert!(self.more(), "the connection ended before {text:?}: {:?}", String::from_utf8_lossy(&self.ahead));
        }
        self
    }

    /// Reads one answer. `None` if the connection ended before its head was whole.
    pub(crate) fn read_answer(&mut self, to_head: bool) -> Option<Answer> {
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

    pub(crate) fn answer(&mut self) -> Answer {
        self.read_answer(false).expect("an answer")
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).answer()
    }

    /// Whether the connection ends, without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.ahead.is_empty() && !self.more()
    }

    /// Reads one byte of whatever comes.
    pub(crate) fn read_byte(&mut self) -> Option<u8> {
        let mut byte = Vec::new();
        self.exactly(1, &mut byte).then(|| byte[0])
    }
}
