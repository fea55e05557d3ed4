//! The body of an answer: read piece by piece, each read with a deadline of its own.

use std::fmt;

use super::{TransportError, TransportErrorKind};
use crate::time::Deadline;

/// How much is read at once when a body is read whole.
const PIECE: usize = 8 * 1024;

/// Where a body comes from. Dropping it closes its connection, unless 0 was read before.
pub(super) trait Source: Send {
    /// Reads into `buf`, which is not empty; 0 is the clean end.
    fn read(&mut self, buf: &mut [u8], deadline: Deadline) -> Result<usize, TransportError>;
}

/// The body of an answer. Dropping it before its end closes the connection.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::Deadline;
/// use sluicegate::transport::{Body, TransportErrorKind};
///
/// let mut body = Body::from_pieces(["Hel", "lo"].into_iter().map(|piece| Ok(piece.into())));
/// let (mut read, deadline) = (Vec::new(), Deadline::after(Duration::from_secs(1)));
/// body.read_to_end(1024, deadline, &mut read)?;
/// assert_eq!(read, b"Hello");
///
/// let error = Body::from_bytes("Hello").read_to_end(4, deadline, &mut read).expect_err("it is longer");
/// assert_eq!(error.kind, TransportErrorKind::TooLarge);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Body {
    state: State,
    content_length: Option<u64>,
}

enum State {
    Open(Box<dyn Source>),
    Ended,
    Failed,
}

impl Body {
    pub(super) fn new(content_length: Option<u64>, source: Box<dyn Source>) -> Self {
        Self { state: State::Open(source), content_length }
    }

    /// Reads what has come, waiting for the first byte until `deadline`. 0 is the clean end by framing, and an empty `buf`
    /// reads 0 too.
    ///
    /// A body that is framed by the connection's close ends cleanly with it: only the end that its own format has makes it
    /// complete.
    ///
    /// # Errors
    /// [`TransportErrorKind::Timeout`] at the deadline, after which it can be read on: nothing is lost. If it was cancelled,
    /// is cut off or malformed, the connection is closed, and every later read fails.
    pub fn read(&mut self, buf: &mut [u8], deadline: Deadline) -> Result<usize, TransportError> {
        if buf.is_empty() {
            return Ok(0);
        }
        let read = match &mut self.state {
            State::Open(source) => source.read(buf, deadline),
            State::Ended => return Ok(0),
            State::Failed => return Err(TransportError::new(TransportErrorKind::Cut, "reading on after a failure")),
        };
        match &read {
            Ok(0) => self.state = State::Ended,
            Ok(_) => {}
            Err(error) if error.kind == TransportErrorKind::Timeout => {}
            Err(_) => self.state = State::Failed,
        }
        read
    }

    /// Appends the whole body to `into`.
    ///
    /// # Errors
    /// [`TransportErrorKind::TooLarge`] past `limit` bytes, before anything is read if the body's length is known; else as
    /// [`read`](Self::read). `into` holds what came until then.
    pub fn read_to_end(&mut self, limit: usize, deadline: Deadline, into: &mut Vec<u8>) -> Result<(), TransportError> {
        self.read_in_pieces(limit, deadline, into, |_, _| Ok(()))
    }

    /// The same for one who has to find room: before each piece `room` is called with `into` and how long it is about to
    /// become at the most.
    ///
    /// # Errors
    /// As [`read_to_end`](Self::read_to_end), and whatever `room` refuses with; nothing more is to be read then.
    #[doc(hidden)]
    pub fn read_in_pieces<E: From<TransportError>>(
        &mut self,
        limit: usize,
        deadline: Deadline,
        into: &mut Vec<u8>,
        mut room: impl FnMut(&mut Vec<u8>, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = into.len();
        let announced = self.content_length.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if announced.is_some_and(|length| length > limit) {
            self.state = State::Failed;
            return Err(too_large(limit).into());
        }
        loop {
            let filled = into.len();
            let left = limit - (filled - start);
            // One byte more than is left tells an end from an overflow, and all that is announced fits in one read.
            let piece =
                announced.map_or(PIECE, |length| length.saturating_sub(filled - start)).clamp(1, PIECE).min(left + 1);
            room(into, filled + piece)?;
            into.resize(filled + piece, 0);
            let read = self.read(&mut into[filled..], deadline);
            into.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read? {
                0 => return Ok(()),
                n if n > left => {
                    self.state = State::Failed;
                    return Err(too_large(limit).into());
                }
                _ => {}
            }
        }
    }

    /// Its length, if it was announced.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }
}

fn too_large(limit: usize) -> TransportError {
    TransportError::new(TransportErrorKind::TooLarge, format!("the answer is larger than {limit} bytes"))
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Open(_) => "open",
            State::Ended => "ended",
            State::Failed => "failed",
        };
        f.debug_struct("Body").field("state", &state).field("content_length", &self.content_length).finish()
    }
}
