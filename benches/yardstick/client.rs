//! One connection of the load generator: sends a question, reads its answer and checks every byte of it.
//!
//! It is strict where a real client would shrug: another status than 200, a body that differs in one byte or in its
//! length, bytes after the end, or a closed connection are errors, and the run ends.

use std::borrow::Cow;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use memchr::{memchr, memmem};

use crate::Error;
use crate::fixture::Script;

/// How long a connection may take to be made, and a blocking read to bring something.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;

/// A connection and the answer that it waits for.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    reader: Reader,
    /// Since when the present answer is waited for; `None` between two.
    since: Option<Instant>,
    first: Option<Duration>,
}

/// The times of one answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Until the first byte of the body.
    pub(crate) first: Duration,
    /// Until the last.
    pub(crate) whole: Duration,
}

impl Connection {
    /// Connects; `blocking` says whether [`Connection::receive`] waits.
    pub(crate) fn open(addr: SocketAddr, blocking: bool) -> Result<Self, Error> {
        let socket = TcpStream::connect_timeout(&addr, PATIENCE)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nonblocking(!blocking)?;
        Ok(Self { socket, reader: Reader::default(), since: None, first: None })
    }

    /// The socket, to wait for.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether an answer is due.
    pub(crate) fn is_busy(&self) -> bool {
        self.since.is_some()
    }

    /// Sends the question in one write; the answer's time counts from `since`.
    pub(crate) fn send(&mut self, script: &Script, since: Instant) -> Result<(), Error> {
        self.since = Some(since);
        self.first = None;
        let sent = self.socket.write(&script.request)?;
        if sent < script.request.len() {
            return Err(format!("only {sent} bytes of a request fitted into an idle connection").into());
        }
        Ok(())
    }

    /// Reads once; the times, when the answer is whole and right.
    pub(crate) fn receive(&mut self, script: &Script, scratch: &mut [u8]) -> Result<Option<Times>, Error> {
        let read = match self.socket.read(scratch) {
            Ok(0) => return Err("the target closed a connection".into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(since) = self.since else { return Err("bytes that nobody asked for".into()) };
        let done = self.reader.feed(&scratch[..read], &script.answer)?;
        let elapsed = since.elapsed();
        if self.reader.matched > 0 || done {
            self.first.get_or_insert(elapsed);
        }
        if !done {
            return Ok(None);
        }
        self.reader = Reader::default();
        self.since = None;
        Ok(Some(Times { first: self.first.unwrap_or(elapsed), whole: elapsed }))
    }
}

/// Asks once on a connection of its own, and waits for the answer.
pub(crate) fn ask(addr: SocketAddr, script: &Script) -> Result<Times, Error> {
    let mut connection = Connection::open(addr, true)?;
    let mut scratch = vec![0; MAX_HEAD];
    connection.send(script, Instant::now())?;
    loop {
        if let Some(times) = connection.receive(script, &mut scratch)? {
            return Ok(times);
        }
    }
}

/// The status of a GET, or `None` if nobody answers.
pub(crate) fn status(addr: SocketAddr, path: &str) -> Option<u16> {
    let mut socket = TcpStream::connect_timeout(&addr, PATIENCE).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(socket, "GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    socket.take(MAX_HEAD as u64).read_to_string(&mut answer).ok()?;
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Takes an answer apart as it comes in, and compares its body with the expected one.
#[derive(Debug, Default)]
struct Reader {
    state: State,
    /// What has come of a head or of a chunk's size line, when it did not come in one piece.
    kept: Vec<u8>,
    /// Bytes of the body seen, all of them right.
    matched: usize,
}

/// Which byte is expected next.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Head,
    /// This many bytes of a body of known length.
    Sized(usize),
    ChunkSize,
    /// This many bytes of a chunk, its line's end included.
    Chunk(usize),
    /// The line after the last chunk.
    End,
    Done,
}

impl Reader {
    /// Takes `bytes` in; true when the answer is whole.
    fn feed(&mut self, mut bytes: &[u8], expected: &[u8]) -> Result<bool, Error> {
        while !bytes.is_empty() {
            self.state = match self.state {
                State::Head => {
                    match self.take_until(&mut bytes, |text| memmem::find(text, b"\r\n\r\n").map(|at| at + 4))? {
                        Some(head) => framing(&head, expected.len())?,
                        None => return Ok(false),
                    }
                }
                State::Sized(left) => {
                    let taken = left.min(bytes.len());
                    self.compare(&bytes[..taken], expected)?;
                    bytes = &bytes[taken..];
                    if left == taken { State::Done } else { State::Sized(left - taken) }
                }
                State::ChunkSize => match self.take_line(&mut bytes)? {
                    Some(line) => {
                        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                        match usize::from_str_radix(std::str::from_utf8(digits.trim_ascii())?, 16)? {
                            0 => State::End,
                            size => State::Chunk(size + 2),
                        }
                    }
                    None => return Ok(false),
                },
                State::Chunk(left) => {
                    let taken = left.min(bytes.len());
                    let data = taken.min(left.saturating_sub(2));
                    self.compare(&bytes[..data], expected)?;
                    bytes = &bytes[taken..];
                    if left == taken { State::ChunkSize } else { State::Chunk(left - taken) }
                }
                State::End => match self.take_line(&mut bytes)? {
                    Some(line) if line.trim_ascii().is_empty() => State::Done,
                    Some(_) => return Err("a trailer after the last chunk".into()),
                    None => return Ok(false),
                },
                State::Done => return Err("bytes after the end of an answer".into()),
            };
        }
        if !matches!(self.state, State::Done) {
            return Ok(false);
        }
        if self.matched < expected.len() {
            return Err(format!("an answer of {} bytes instead of {}", self.matched, expected.len()).into());
        }
        Ok(true)
    }

    fn compare(&mut self, bytes: &[u8], expected: &[u8]) -> Result<(), Error> {
        if expected.get(self.matched..self.matched + bytes.len()) != Some(bytes) {
            let (got, at) = (String::from_utf8_lossy(bytes), self.matched);
            return Err(format!("a wrong answer from byte {at} on: {got}").into());
        }
        self.matched += bytes.len();
        Ok(())
    }

    fn take_line<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, Error> {
        self.take_until(bytes, |text| memchr(b'\n', text).map(|at| at + 1))
    }

    /// Cuts off what `end` finds the end of, together with what was kept of it; keeps what is there if it is not whole.
    fn take_until<'a>(
        &mut self,
        bytes: &mut &'a [u8],
        end: impl Fn(&[u8]) -> Option<usize>,
    ) -> Result<Option<Cow<'a, [u8]>>, Error> {
        // Nearly always it stands whole in what was read, and nothing is copied.
        if self.kept.is_empty()
            && let Some(end) = end(bytes)
        {
            let (taken, rest) = bytes.split_at(end);
            *bytes = rest;
            return Ok(Some(Cow::Borrowed(taken)));
        }
        let before = self.kept.len();
        if before > MAX_HEAD {
            return Err("the head of an answer has no end".into());
        }
        self.kept.extend_from_slice(bytes);
        let Some(end) = end(&self.kept) else {
            *bytes = &[];
            return Ok(None);
        };
        *bytes = &bytes[end - before..];
        let mut taken = std::mem::take(&mut self.kept);
        taken.truncate(end);
        Ok(Some(Cow::Owned(taken)))
    }
}

/// How the body of the answer with this head is framed. Anything but a 200 that stays open is an error.
fn framing(head: &[u8], expected: usize) -> Result<State, Error> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(head)?;
    let text = || String::from_utf8_lossy(head).trim_end().replace("\r\n", " | ");
    if response.code != Some(200) {
        return Err(format!("a wrong answer: {}", text()).into());
    }
    let mut state = None;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = std::str::from_utf8(header.value)?.trim().parse::<usize>()?;
            if length != expected {
                return Err(format!("an answer of {length} bytes instead of {expected}").into());
            }
            state = Some(State::Sized(length));
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            state = Some(State::ChunkSize);
        } else if header.name.eq_ignore_ascii_case("connection") && header.value.eq_ignore_ascii_case(b"close") {
            return Err(format!("the target will not keep the connection: {}", text()).into());
        }
    }
    state.ok_or_else(|| format!("an answer without a length: {}", text()).into())
}
