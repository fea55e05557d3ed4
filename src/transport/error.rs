//! Why a request to a provider failed: the stage, in words that name the destination and never a secret.

use std::error::Error;
use std::fmt;

use crate::sync::CancelReason;

/// In which stage, and how, a request failed.
///
/// ```
/// use std::sync::Arc;
/// use sluicegate::transport::{MemoryTransport, TransportError, TransportErrorKind};
/// use sluicegate::{Code, Gateway, ProviderSetup};
///
/// // How the stages of a failure come to the caller.
/// let code = |kind: TransportErrorKind| {
///     let broken = MemoryTransport::new(move |_, _| Err(TransportError::new(kind, "it broke")));
///     let once = ProviderSetup::openai_compatible("p", "http://unused.invalid").max_retries(0).check_on_start(false);
///     let gateway = Gateway::builder().provider(once).transport("p", Arc::new(broken)).build()?;
///     Ok::<_, sluicegate::StartError>(gateway.ask("p/m", "Hello").err().map(|error| error.code()))
/// };
/// assert_eq!(code(TransportErrorKind::Connect)?, Some(Code::UpstreamConnectError));
/// assert_eq!(code(TransportErrorKind::Timeout)?, Some(Code::UpstreamTimeout));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// The provider's name has no address, or none was learned.
    Resolve,
    /// The destination is not allowed by the configuration.
    Refused,
    /// No connection was had: refused, reset, unreachable.
    Connect,
    /// Look-up, connecting and TLS took longer than they may.
    ConnectTimeout,
    /// The provider's certificate or its TLS is not to be trusted.
    Tls,
    /// The request was not sent whole, and nothing was answered.
    Send,
    /// The connection was closed without a byte of answer.
    NoAnswer,
    /// The deadline passed.
    Timeout,
    /// The request was cancelled.
    Cancelled(CancelReason),
    /// The request or the answer is not HTTP/1.1.
    Protocol,
    /// The connection ended in the middle of the answer.
    Cut,
    /// The answer is larger than was allowed.
    TooLarge,
}

/// Why a request failed.
///
/// ```
/// use sluicegate::transport::{Body, TransportError, TransportErrorKind};
///
/// // A body that breaks off.
/// let cut = TransportError::new(TransportErrorKind::Cut, "the peer reset the connection");
/// let mut body = Body::from_pieces([Ok(b"Hel".to_vec()), Err(cut)].into_iter());
/// let (mut read, deadline) = (Vec::new(), std::time::Duration::from_secs(1).into());
/// let error = body.read_to_end(1024, deadline, &mut read).expect_err("it breaks off");
/// assert_eq!((error.kind, error.message.as_str()), (TransportErrorKind::Cut, "the peer reset the connection"));
/// assert_eq!(read, b"Hel");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct TransportError {
    /// In which stage, and how.
    pub kind: TransportErrorKind,
    /// In words for a person; names host and port, never a header or a body.
    pub message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    /// Closed without a byte of answer on a connection used before: worth one try on a fresh one.
    stale: bool,
}

impl TransportError {
    /// An error of `kind` that says `message`.
    #[must_use]
    pub fn new(kind: TransportErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, stale: false }
    }

    /// A request's end by its cancel token.
    pub(crate) fn cancelled(reason: CancelReason) -> Self {
        Self::new(TransportErrorKind::Cancelled(reason), format!("cancelled: {reason:?}"))
    }

    /// `doing` failed because of `source`.
    pub(super) fn because(
        kind: TransportErrorKind,
        doing: impl fmt::Display,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        Self { kind, message: format!("{doing}: {source}"), source: Some(source), stale: false }
    }

    pub(super) fn on_reused(mut self, reused: bool) -> Self {
        self.stale = reused;
        self
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for TransportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
