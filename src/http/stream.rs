//! An answer written piece by piece, from whatever thread: chunk framing, stalls added up, and the connection's way back.
//!
//! **Invariants.** P5: only `finish` writes the last chunk. A stream that is aborted or dropped ends without it; to a client
//! of HTTP/1.0, which knows no chunks, the connection is reset instead. P3: the time for which writing is stalled by the
//! client is added up over the stream, and bounded as a whole: a client that reads a byte in a while holds nobody for long.
//! The kernel's send buffer is the only buffer.

use std::io::Write as _;
use std::time::Duration;

use super::connection::Connection;
use super::input::KEPT;
use super::response::{Ending, Response};
use super::watcher::Watch;
use crate::time::unix_ms;

/// Why a stream takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The client has gone.
    Gone,
    /// The client read too slowly for too long in all.
    TooSlow,
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gone => "the client has gone",
            Self::TooSlow => "the client read too slowly for too long",
        })
    }
}

impl std::error::Error for SendError {}

/// Owns the connection while a stream runs; may move to any thread. Dropping it is [`abort`](Self::abort).
#[derive(Debug)]
pub struct StreamWriter {
    /// Gone once the stream is over.
    connection: Option<Box<Connection>>,
    watch: Option<Watch>,
    /// What goes out next; holds the head until the first bytes come.
    out: Vec<u8>,
    ending: Ending,
    bodiless: bool,
    close: bool,
    /// How long the client may still stall.
    patience: Duration,
    failed: Option<SendError>,
}

impl StreamWriter {
    pub(super) fn new(
        mut connection: Option<Box<Connection>>,
        watch: Option<Watch>,
        head: &Response,
        ending: Ending,
        bodiless: bool,
        close: bool,
    ) -> Self {
        let mut out = connection.as_mut().map(|connection| connection.lend()).unwrap_or_default();
        head.write_head(ending, close, unix_ms() / 1000, &mut out);
        let patience = connection.as_ref().map_or(Duration::ZERO, |c| c.server().limits().write_timeout);
        Self { connection, watch, out, ending, bodiless, close, patience, failed: None }
    }

    /// Writes `bytes` as one chunk, in one write, the first together with the head. An empty piece writes only the head.
    ///
    /// # Errors
    /// If the client has gone, or has stalled the stream longer than `write_timeout` in all; from then on every call says
    /// so, and the stream can only be dropped.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.push(bytes);
        self.flush()
    }

    /// Ends the stream. The connection serves its next request, from whatever thread this is.
    pub fn finish(mut self) {
        self.end();
    }

    /// Like a [`send`](Self::send) and then [`finish`](Self::finish), in one write.
    pub fn finish_with(mut self, bytes: &[u8]) {
        self.push(bytes);
        self.end();
    }

    /// Ends the stream without its last chunk, after what was sent: the client sees that it was cut.
    pub fn abort(self) {
        drop(self);
    }

    fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.bodiless {
            return;
        }
        match self.ending {
            Ending::Chunks => {
                // Writing to memory cannot fail.
                let _ = write!(self.out, "{:x}\r\n", bytes.len());
                self.out.extend_from_slice(bytes);
                self.out.extend_from_slice(b"\r\n");
            }
            Ending::Close | Ending::Length => self.out.extend_from_slice(bytes),
        }
    }

    fn flush(&mut self) -> Result<(), SendError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let Some(connection) = &mut self.connection else { return Err(SendError::Gone) };
        let sent = connection.send(&self.out, &[], &mut self.patience);
        self.out.clear();
        self.out.shrink_to(KEPT);
        self.failed = sent.err();
        sent
    }

    fn end(&mut self) {
        if self.ending == Ending::Chunks && !self.bodiless {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
        let sent = self.flush();
        self.watch = None;
        if sent.is_err() {
            return;
        }
        let Some(mut connection) = self.connection.take() else { return };
        connection.give_back(std::mem::take(&mut self.out));
        connection.answered();
        if self.close { connection.close(false) } else { connection.resume() }
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.watch = None;
        if let Some(connection) = self.connection.take() {
            let reset = self.ending == Ending::Close || self.failed == Some(SendError::TooSlow);
            if reset { connection.reset() } else { connection.close(false) }
        }
    }
}
