//! An upstream whose every answer is scripted: HTTP/1.1 over std sockets, which notes who came when, with which key, and
//! who left before the answer was whole.
//!
//! A script says from a request's model and number what becomes of it. What is no chat is none of it: `GET` is answered
//! with an empty list of models, and counted for itself.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate::sync::{Role, Thread, Threads};
use sluicegate::time::{Deadline, now};

use crate::house::{DONE, FUSE, STOP, reply, word};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// An answer with a status, further headers and a JSON body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// A stream of these pieces, which then ends as its framing says, or breaks off.
    Stream(Vec<String>, Ending),
    /// Bytes that need be no HTTP; then the connection ends.
    Raw(String),
    /// The connection ends without an answer.
    Close,
    /// The same by a reset.
    Reset,
    /// Nothing comes until the other side leaves.
    Hang,
}

/// How a scripted stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Clean,
    Cut,
}

impl Act {
    /// A good answer, streamed if that was asked for.
    pub(crate) fn good(asked: &Asked) -> Self {
        if asked.streamed {
            Self::Stream(vec![word("well"), STOP.to_owned(), DONE.to_owned()], Ending::Clean)
        } else {
            Self::Answer(200, Vec::new(), reply("well"))
        }
    }

    /// An error in OpenAI's shape.
    pub(crate) fn error(status: u16, code: Option<&str>, headers: Vec<(&'static str, String)>) -> Self {
        let error = json!({ "message": "as the script says", "type": "scripted", "param": null, "code": code });
        Self::Answer(status, headers, json!({ "error": error }).to_string())
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) model: String,
    /// How many came for this model before.
    pub(crate) number: usize,
    pub(crate) streamed: bool,
    /// What `Authorization` says behind `Bearer`.
    pub(crate) key: Option<String>,
    pub(crate) at: Instant,
    /// Whether its sender left before its answer was whole.
    pub(crate) aborted: bool,
}

type Script = dyn Fn(&Asked) -> Act + Send + Sync;

#[derive(Default)]
struct Log {
    asked: Vec<Asked>,
    numbers: HashMap<String, usize>,
}

struct Shared {
    script: Box<Script>,
    log: Mutex<Log>,
    /// Requests that are no chat: checks of health.
    checks: Mutex<Vec<Instant>>,
    /// A socket of each open connection, to be shut down at the end.
    open: Mutex<HashMap<usize, TcpStream>>,
    in_flight: AtomicUsize,
    stop: AtomicBool,
}

/// A scripted upstream; it ends when it is dropped.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    threads: Threads,
    listening: Option<Thread>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic under it")
}

impl Upstream {
    pub(crate) fn start(script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            log: Mutex::default(),
            checks: Mutex::default(),
            open: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let threads = Threads::new(4096, 512 * 1024);
        let (served, spawning) = (Arc::clone(&shared), threads.clone());
        let listening = threads.spawn(Role::Accept, "upstream", move || {
            for (number, stream) in listener.incoming().enumerate() {
                if served.stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&served);
                let connection = move || {
                    if let Ok(kept) = stream.try_clone() {
                        held(&shared.open).insert(number, kept);
                        shared.serve(stream);
                        held(&shared.open).remove(&number);
                    }
                };
                spawning.spawn(Role::Conn, "upstream-conn", connection).expect("room for a thread");
            }
        });
        Self { addr, shared, threads, listening: Some(listening.expect("room for a thread")) }
    }

    /// Every chat request for which `wanted` holds, in the order of arrival.
    pub(crate) fn asked(&self, wanted: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        held(&self.shared.log).asked.iter().filter(|asked| wanted(asked)).cloned().collect()
    }

    /// When its health was asked for.
    pub(crate) fn checks(&self) -> Vec<Instant> {
        held(&self.shared.checks).clone()
    }

    /// Requests that are being answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Acquire)
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        held(&self.shared.open).len()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.addr);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join(Deadline::after(FUSE));
        }
        let until = Deadline::after(FUSE);
        while self.threads.active() > 0 && !until.passed() {
            held(&self.shared.open).values().for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

impl Shared {
    /// Answers one connection's requests until either side ends it.
    fn serve(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut ahead = Vec::new();
        while let Some((head, body)) = next_request(&mut stream, &mut ahead) {
            if head.starts_with("GET ") {
                held(&self.checks).push(now());
                let list = json!({ "object": "list", "data": [] }).to_string();
                if !write_answer(&mut stream, 200, &[], &list) {
                    return;
                }
                continue;
            }
            self.in_flight.fetch_add(1, Ordering::AcqRel);
            let (index, asked) = self.arrive(&head, &body);
            let act = (self.script)(&asked);
            let (goes_on, aborted) = play(&mut stream, act);
            held(&self.log).asked[index].aborted = aborted;
            self.in_flight.fetch_sub(1, Ordering::AcqRel);
            if !goes_on {
                return;
            }
        }
    }

    fn arrive(&self, head: &str, body: &[u8]) -> (usize, Asked) {
        let at = now();
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let model = body["model"].as_str().unwrap_or_default().to_owned();
        let key = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).map(str::to_owned);
        let mut log = held(&self.log);
        let number = log.numbers.entry(model.clone()).or_default();
        let asked = Asked { model, number: *number, streamed: body["stream"] == json!(true), key, at, aborted: false };
        *number += 1;
        log.asked.push(asked.clone());
        (log.asked.len() - 1, asked)
    }
}

/// The next request's head in lower case names and its body, or `None` if the connection has ended.
fn next_request(stream: &mut TcpStream, ahead: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let mut piece = [0; 16 << 10];
    loop {
        if let Some(end) = ahead.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&ahead[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            let whole = end + 4 + length.unwrap_or(0);
            if ahead.len() >= whole {
                let body = ahead[end + 4..whole].to_vec();
                ahead.drain(..whole);
                return Some((head, body));
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(n) => ahead.extend_from_slice(&piece[..n]),
        }
    }
}

/// Plays an answer; whether the connection goes on, and whether the other side left early.
fn play(stream: &mut TcpStream, act: Act) -> (bool, bool) {
    match act {
        Act::Answer(status, headers, body) => (write_answer(stream, status, &headers, &body), false),
        Act::Stream(pieces, ending) => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunks = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len()));
            for text in std::iter::once(head.to_owned()).chain(chunks) {
                if stream.write_all(text.as_bytes()).is_err() {
                    return (false, true);
                }
            }
            match ending {
                Ending::Clean => (stream.write_all(b"0\r\n\r\n").is_ok(), false),
                Ending::Cut => (end(stream), false),
            }
        }
        Act::Raw(text) => {
            let _ = stream.write_all(text.as_bytes());
            (end(stream), false)
        }
        Act::Close => (end(stream), false),
        Act::Reset => {
            // With no time to linger, the end of the socket is a reset.
            let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            (false, false)
        }
        Act::Hang => (false, left(stream)),
    }
}

fn end(stream: &TcpStream) -> bool {
    let _ = stream.shutdown(Shutdown::Both);
    false
}

/// Waits until the other side leaves.
fn left(stream: &mut TcpStream) -> bool {
    let mut piece = [0; 1024];
    while matches!(stream.read(&mut piece), Ok(n) if n > 0) {}
    true
}

fn write_answer(stream: &mut TcpStream, status: u16, headers: &[(&'static str, String)], body: &str) -> bool {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\n{lines}content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).is_ok()
}
