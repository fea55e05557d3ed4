//! A transport that answers from memory, for tests of what stands above.

use std::fmt;

use super::body::Source;
use super::{Body, ConnectionStats, Control, Incoming, Outgoing, Transport, TransportError, TransportErrorKind};
use crate::time::Deadline;

type Answer = dyn Fn(&Outgoing<'_>, &Control<'_>) -> Result<Incoming, TransportError> + Send + Sync;

/// Answers each request by a closure: for tests that a [`Script`](crate::testing::Script) is too little for.
///
/// ```
/// use std::sync::Arc;
/// use sluicegate::transport::{Body, Incoming, MemoryTransport, TransportError, TransportErrorKind};
/// use sluicegate::Gateway;
///
/// let transport = MemoryTransport::new(|request, _| match request.body.len() {
///     0..100 => Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_bytes(r#"{"choices":[]}"#) }),
///     _ => Err(TransportError::new(TransportErrorKind::Tls, "the certificate is another's")),
/// });
/// let gateway = Gateway::builder().transport("p", Arc::new(transport)).build()?;
/// assert_eq!(gateway.ask("p/m", "short")?, "");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MemoryTransport(Box<Answer>);

impl MemoryTransport {
    /// A transport whose every answer `answer` gives; it may block as long as `control` allows.
    pub fn new(
        answer: impl Fn(&Outgoing<'_>, &Control<'_>) -> Result<Incoming, TransportError> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(answer))
    }
}

impl Transport for MemoryTransport {
    fn send(&self, request: &Outgoing<'_>, control: &Control<'_>) -> Result<Incoming, TransportError> {
        match control.cancel.reason() {
            Some(reason) => Err(TransportError::cancelled(reason)),
            None => (self.0)(request, control),
        }
    }

    fn connections(&self) -> ConnectionStats {
        ConnectionStats::default()
    }

    fn close_idle(&self) {}

    fn retire(&self) {}
}

impl fmt::Debug for MemoryTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryTransport")
    }
}

impl Body {
    /// A body of one piece, whose length is announced.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        Self::new(Some(length), Box::new(Pieces { pieces: std::iter::once(Ok(bytes)), rest: Vec::new(), at: 0 }))
    }

    /// A body that comes in pieces. The iterator may block to play a slow provider: what it gives after a read's deadline is
    /// kept for the next read. Its end is the clean end, and an error is where the body breaks off.
    pub fn from_pieces(pieces: impl Iterator<Item = Result<Vec<u8>, TransportError>> + Send + 'static) -> Self {
        Self::new(None, Box::new(Pieces { pieces, rest: Vec::new(), at: 0 }))
    }
}

struct Pieces<I> {
    pieces: I,
    rest: Vec<u8>,
    at: usize,
}

impl<I: Iterator<Item = Result<Vec<u8>, TransportError>> + Send> Source for Pieces<I> {
    fn read(&mut self, buf: &mut [u8], deadline: Deadline) -> Result<usize, TransportError> {
        while self.at == self.rest.len() {
            match self.pieces.next() {
                None => return Ok(0),
                Some(piece) => (self.rest, self.at) = (piece?, 0),
            }
            if deadline.passed() {
                // It came too late for this read; whoever reads on finds it.
                return Err(TransportError::new(TransportErrorKind::Timeout, "nothing came in time"));
            }
        }
        let n = buf.len().min(self.rest.len() - self.at);
        buf[..n].copy_from_slice(&self.rest[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sync::{CancelReason, CancelToken};

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    fn get(transport: &MemoryTransport, cancel: &CancelToken) -> Result<Incoming, TransportError> {
        let request = Outgoing { method: "GET", path: "/v1/models", headers: &[], body: b"" };
        transport.send(
            &request,
            &Control { request_id: None, cancel, deadline: soon(), connect_timeout: Duration::from_secs(1) },
        )
    }

    #[test]
    fn the_closure_sees_the_request_and_its_pieces_are_read_in_order() {
        let transport = MemoryTransport::new(|request, _| {
            assert_eq!((request.method, request.path), ("GET", "/v1/models"));
            let pieces = ["ab", "", "cd"].map(|piece| Ok(piece.into())).into_iter();
            Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_pieces(pieces) })
        });
        let mut whole = Vec::new();
        let mut body = get(&transport, &CancelToken::new()).expect("it answers").body;
        body.read_to_end(100, soon(), &mut whole).expect("it ends");
        assert_eq!(whole, b"abcd");
        assert_eq!(body.read(&mut [0; 4], soon()).expect("it has ended"), 0);
    }

    #[test]
    fn a_cancelled_request_is_not_answered() {
        let transport = MemoryTransport::new(|_, _| panic!("never asked"));
        let cancel = CancelToken::new();
        cancel.cancel_for(CancelReason::ClientGone);
        let error = get(&transport, &cancel).expect_err("it is cancelled");
        assert_eq!(error.kind, TransportErrorKind::Cancelled(CancelReason::ClientGone));
    }

    #[test]
    fn a_piece_that_comes_too_late_for_one_read_is_there_for_the_next() {
        let mut body = Body::from_pieces(std::iter::once(Ok(b"ab".to_vec())));
        let late = body.read(&mut [0; 4], Deadline::after(Duration::ZERO)).expect_err("too late");
        assert_eq!(late.kind, TransportErrorKind::Timeout);
        let mut read = [0; 4];
        assert_eq!(body.read(&mut read, soon()).expect("it is there"), 2);
        assert_eq!(&read[..2], b"ab");
        assert_eq!(body.read(&mut read, soon()).expect("the end"), 0);
    }

    #[test]
    fn a_body_past_its_limit_is_too_large_announced_or_not() {
        for exact in [4, 3] {
            for mut body in [Body::from_bytes(*b"abcd"), Body::from_pieces(std::iter::once(Ok(b"abcd".to_vec())))] {
                let read = body.read_to_end(exact, soon(), &mut Vec::new());
                assert_eq!(read.is_ok(), exact == 4, "limit {exact}: {read:?}");
                assert!(exact == 4 || body.read(&mut [0; 4], soon()).is_err(), "a failed body stays failed");
            }
        }
    }
}
