//! What the server refuses by itself, before or instead of the service: status, code and words.

use crate::error::{Code, Error};

/// A request that is not served. The connection closes after its answer.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The status to answer with; it may be finer than the code's own.
    pub(super) status: u16,
    /// What is told to the client.
    pub(super) error: Error,
}

impl Refusal {
    fn new(status: u16, code: Code, message: &'static str) -> Self {
        Self { status, error: Error::new(code, message) }
    }

    /// A request that is not what the protocol says.
    pub(super) fn malformed(message: &'static str) -> Self {
        Self::new(400, Code::InvalidRequest, message)
    }

    /// Plain HTTP where TLS is spoken.
    pub(super) fn plain_on_tls() -> Self {
        Self::malformed("this port speaks TLS, and this is plain HTTP: use https")
    }

    /// A head longer than allowed.
    pub(super) fn head_too_large(message: &'static str) -> Self {
        Self::new(431, Code::HeaderTooLarge, message)
    }

    /// A body longer than allowed.
    pub(super) fn body_too_large(most: usize) -> Self {
        Self { status: 413, error: Error::new(Code::BodyTooLarge, format!("the body is longer than {most} bytes")) }
    }

    /// A head or body that did not come in time.
    pub(super) fn too_slow(message: &'static str) -> Self {
        Self::new(408, Code::RequestTimeout, message)
    }

    /// An `Expect` other than `100-continue`.
    pub(super) fn expectation() -> Self {
        Self::new(417, Code::InvalidRequest, "Expect may be 100-continue only")
    }

    /// A method that no server of ours knows.
    pub(super) fn unknown_method() -> Self {
        Self::new(501, Code::MethodNotAllowed, "this method is not implemented")
    }

    /// A body in a transfer coding other than chunked.
    pub(super) fn transfer_coding() -> Self {
        Self::new(501, Code::InvalidRequest, "Transfer-Encoding may be chunked only")
    }

    /// A version other than 1.0 and 1.1.
    pub(super) fn version() -> Self {
        Self::new(505, Code::InvalidRequest, "the version may be HTTP/1.1 or HTTP/1.0 only")
    }

    /// No connection slot or thread for it.
    pub(super) fn busy() -> Self {
        Self::new(503, Code::Overloaded, "too many connections")
    }

    /// Nobody answered: the service panicked, or let the exchange go.
    pub(super) fn unanswered() -> Self {
        Self::new(500, Code::Internal, "the request was not answered")
    }

    /// Whether the client's framing is at fault, as opposed to its speed or our load.
    pub(super) fn is_bad_request(&self) -> bool {
        matches!(self.status, 400 | 413 | 417 | 431 | 501 | 505)
    }
}
