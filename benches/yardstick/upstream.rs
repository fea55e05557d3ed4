//! The upstream: a provider that costs next to nothing, in a process of its own so that its CPU is counted apart.
//!
//! A blocking thread per connection, one read and one write per request, answers made beforehand. Each event of a stream
//! is a chunk and a send of its own, the head going out with the first. It knows the one model and says 400 to any
//! other, so a target that answers from anywhere else or forwards the wrong name does not pass for a fast one.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use memchr::memmem;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::Error;
use crate::fixture::{self, GAP_FIELD, MODEL, STREAM_FIELD};

/// The longest request taken, head and body.
const MAX_REQUEST: usize = 64 * 1024;

/// Everything that is ever sent.
struct Answers {
    /// Head and body of the whole answer.
    chat: Vec<u8>,
    /// The pieces of the stream, one send each.
    stream: Vec<Vec<u8>>,
    models: Vec<u8>,
    refusal: Vec<u8>,
    /// What a body must begin with.
    opening: String,
}

/// Listens on a free port of loopback, prints the address, and serves until this program's parent ends.
pub(crate) fn run() -> Result<(), Error> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?);
    let answers = Arc::new(Answers::new());
    loop {
        let (socket, _) = listener.accept()?;
        let answers = Arc::clone(&answers);
        // A connection that fails is the other side's doing, which will notice: it misses its answer.
        thread::Builder::new().stack_size(64 * 1024).spawn(move || drop(serve(socket, &answers)))?;
    }
}

impl Answers {
    fn new() -> Self {
        let fixed = |status: &str, body: &str| {
            let length = body.len();
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
                .into_bytes()
        };
        let events = fixture::events();
        let last = events.len() - 1;
        let stream = events.iter().enumerate().map(|(number, event)| {
            let head = if number == 0 {
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
                 transfer-encoding: chunked\r\n\r\n"
            } else {
                ""
            };
            let end = if number == last { "0\r\n\r\n" } else { "" };
            format!("{head}{:x}\r\n{event}\r\n{end}", event.len()).into_bytes()
        });
        Self {
            chat: fixed("200 OK", &fixture::chat_answer()),
            stream: stream.collect(),
            models: fixed(
                "200 OK",
                &format!("{{\"object\":\"list\",\"data\":[{{\"id\":\"{MODEL}\",\"object\":\"model\"}}]}}"),
            ),
            refusal: fixed(
                "400 Bad Request",
                "{\"error\":{\"message\":\"not what the yardstick asks\",\"type\":\"invalid_request_error\"}}",
            ),
            opening: format!("{{\"model\":\"{MODEL}\","),
        }
    }
}

/// Answers one connection's requests until it closes.
fn serve(mut socket: TcpStream, answers: &Answers) -> Result<(), Error> {
    socket.set_nodelay(true)?;
    let head_end = memmem::Finder::new(b"\r\n\r\n");
    let stream_field = memmem::Finder::new(STREAM_FIELD);
    let mut buffer = vec![0; MAX_REQUEST];
    let mut filled = 0;
    loop {
        let (head, total) = loop {
            if let Some(end) = head_end.find(&buffer[..filled]) {
                let head = end + 4;
                let total = head + content_length(&buffer[..head])?;
                if filled >= total {
                    break (head, total);
                }
            }
            let read = socket.read(&mut buffer[filled..])?;
            if read == 0 {
                return Ok(());
            }
            filled += read;
        };
        let body = &buffer[head..total];
        if buffer.starts_with(b"GET ") {
            socket.write_all(&answers.models)?;
        } else if !body.starts_with(answers.opening.as_bytes()) {
            socket.write_all(&answers.refusal)?;
        } else if stream_field.find(body).is_some() {
            let gap = gap(body);
            for (number, piece) in answers.stream.iter().enumerate() {
                if number > 0 && !gap.is_zero() {
                    // Half to one and a half of it, so that streams which began together do not stay in step.
                    thread::sleep(gap.mul_f64(0.5 + fastrand::f64()));
                }
                socket.write_all(piece)?;
            }
        } else {
            socket.write_all(&answers.chat)?;
        }
        buffer.copy_within(total..filled, 0);
        filled -= total;
    }
}

/// The length of the body that `head` announces; requests in chunks are not expected from anybody here.
fn content_length(head: &[u8]) -> Result<usize, Error> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(head)?;
    match request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length")) {
        Some(header) => Ok(std::str::from_utf8(header.value)?.trim().parse()?),
        None => Ok(0),
    }
}

/// The rest between two events that the request asks for.
fn gap(body: &[u8]) -> Duration {
    let digits = memmem::find(body, GAP_FIELD.as_bytes()).map_or(&[][..], |at| &body[at + GAP_FIELD.len()..]);
    let micros = digits.iter().take_while(|byte| byte.is_ascii_digit());
    Duration::from_micros(micros.fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0')))
}
