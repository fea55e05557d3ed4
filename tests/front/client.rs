//! What the planes' tests ask of a client beyond plain HTTP: chat requests, events, the gateway's codes.

use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

pub(super) use crate::client::{Answer, Client};
use crate::house::FUSE;

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The gateway's own code of an error.
    pub(crate) fn code(&self) -> String {
        self.json()["sluicegate"]["code"].as_str().expect("a code").to_owned()
    }

    /// The data of a stream's events.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.text().lines().filter_map(|line| line.strip_prefix("data: ")).collect()
    }

    /// The text of a stream's words.
    pub(crate) fn words(&self) -> String {
        let chunks = self.events().into_iter().filter_map(|data| serde_json::from_str::<Value>(data).ok());
        chunks.filter_map(|chunk| chunk.pointer("/choices/0/delta/content")?.as_str().map(str::to_owned)).collect()
    }

    /// The last event of a stream, which must be an error; its code.
    pub(crate) fn last_error(&self) -> String {
        let last = self.events().last().map(|data| serde_json::from_str::<Value>(data).expect("JSON"));
        let last = last.expect("an event");
        assert!(last["error"]["message"].is_string(), "{last}");
        last["sluicegate"]["code"].as_str().expect("a code").to_owned()
    }
}

impl Client {
    /// Sends a request; `headers` are whole lines.
    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &[&str], body: &str) -> &mut Self {
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}{length}\r\n{body}"))
    }

    pub(crate) fn chat(&mut self, headers: &[&str], body: &str) -> &mut Self {
        self.ask("POST", "/v1/chat/completions", headers, body)
    }

    /// Lets the kernel hold only little for this client, so that it is slow soon.
    pub(crate) fn small_window(addr: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a socket");
        socket.connect(&addr.into()).expect("it listens");
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(FUSE)).expect("connected");
        Self { socket, ahead: Vec::new() }
    }
}
