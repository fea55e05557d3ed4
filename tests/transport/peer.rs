//! A provider played by a script: each connection runs it on a thread of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, bounded};
use sluicegate::sync::{Role, Thread};

use super::{FUSE, fuse, threads};

/// A listening peer; dropping it ends its listening.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// The number of each connection, as it is accepted.
    pub(super) accepted: Receiver<usize>,
    stop: Arc<AtomicBool>,
    listening: Option<Thread>,
}

/// A peer whose connection number `n`, from 0, runs `script`.
pub(super) fn peer(script: impl Fn(usize, Caller) + Send + Sync + 'static) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listening(listener, script)
}

/// A peer on a listener that exists already.
pub(super) fn listening(listener: TcpListener, script: impl Fn(usize, Caller) + Send + Sync + 'static) -> Peer {
    let address = listener.local_addr().expect("bound");
    let (tell, accepted) = bounded(100_000);
    let (stop, script, threads) = (Arc::new(AtomicBool::new(false)), Arc::new(script), threads());
    let stopped = Arc::clone(&stop);
    let accepting = threads.clone();
    let listening = threads.spawn(Role::Accept, "peer", move || {
        for (number, stream) in listener.incoming().enumerate() {
            if stopped.load(Ordering::Acquire) {
                return;
            }
            let stream = stream.expect("a connection");
            stream.set_nodelay(true).expect("a live socket");
            stream.set_read_timeout(Some(FUSE)).expect("a live socket");
            tell.try_send(number).expect("room for its number");
            let script = Arc::clone(&script);
            accepting
                .spawn(Role::Conn, "caller", move || script(number, Caller { stream }))
                .expect("room for a thread");
        }
    });
    Peer { address, accepted, stop, listening: Some(listening.expect("room for a thread")) }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join(fuse());
        }
    }
}

/// One connection, as its peer sees it.
pub(super) struct Caller {
    pub(super) stream: TcpStream,
}

/// A request as it came.
pub(super) struct Request {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// In how many reads it came.
    pub(super) reads: usize,
}

impl Caller {
    /// The next request, or `None` if the connection has ended.
    pub(super) fn request(&mut self) -> Option<Request> {
        let (mut bytes, mut reads, mut piece) = (Vec::new(), 0, [0; 64 * 1024]);
        loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8(bytes[..end].to_vec()).expect("a head of text");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
                if bytes.len() >= end + 4 + length {
                    assert_eq!(bytes.len(), end + 4 + length, "more than one request");
                    return Some(Request { head, body: bytes.split_off(end + 4), reads });
                }
            }
            match self.stream.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(n) => bytes.extend_from_slice(&piece[..n]),
            }
            reads += 1;
        }
    }

    /// Reads the head of a request and leaves its body where it is.
    pub(super) fn head_only(&mut self) {
        let (mut seen, mut byte) = (Vec::new(), [0]);
        while !seen.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte).expect("a head");
            seen.push(byte[0]);
        }
    }

    pub(super) fn say(&mut self, text: &str) {
        // Whoever left does not hear it.
        let _ = self.stream.write_all(text.as_bytes());
    }

    /// Answers with a body of announced length.
    pub(super) fn answer(&mut self, body: &str) {
        self.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    }

    /// Answers every request with the connection's number until the connection ends.
    pub(super) fn answer_all(&mut self, number: usize) {
        while self.request().is_some() {
            self.answer(&number.to_string());
        }
    }

    /// Whether the other side ends the connection before the fuse.
    pub(super) fn is_left(&mut self) -> bool {
        let mut piece = [0; 4096];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}
