//! Connections to providers: one blocking request and its answer, every stage bounded in time and cancellable.
//!
//! [`Transport`] is all that a provider's worker sees: it sends an [`Outgoing`] under a [`Control`] and reads the
//! [`Incoming`] answer. `UreqTransport` speaks HTTP/1.1 over TCP and TLS; [`MemoryTransport`] answers from a closure, for
//! tests. This module knows nothing of models, keys or retries over providers, and never follows a redirect.
//!
//! **Protocol.** A request takes the connection that came back last from its provider's stack, or a fresh one (`dial`:
//! look-up, the gate on destinations, connect, TLS). The connection (`link`) is attached to the request's cancel token from
//! before it connects until after the answer's end; it goes back to the stack only after a clean end of the body by framing
//! and after the token has let go of it (I3, I9). One that turns out stale, closed by the provider while idle, is replaced
//! by a fresh one once.
//!
//! **Invariants.** I3: what was read of one answer never reaches another, because a connection whose answer has not ended
//! cleanly is closed. I5: connecting, sending, waiting for the head and each read of the body have a deadline. I9: a cancel
//! shuts the socket down, whatever the thread waits for.
//!
//! **Lock order.** A provider's idle connections and the resolver's cache are leaves; sockets are closed outside them.

mod attempt;
mod body;
mod buffers;
mod dial;
mod endpoint;
mod error;
mod gate;
mod link;
mod memory;
mod pool;
mod resolver;
mod socket;
mod stack;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "without_tls.rs"]
mod tls;
mod ureq;

#[doc(hidden)]
pub use self::ureq::{Settings, UreqTransport};
pub use body::Body;
pub use endpoint::BuildError;
pub use error::{TransportError, TransportErrorKind};
#[doc(hidden)]
pub use gate::is_public;
pub use memory::MemoryTransport;
#[doc(hidden)]
pub use resolver::Resolver;
#[doc(hidden)]
pub use stack::ConnectionCounts;
pub use stack::ConnectionStats;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::RequestId;
use crate::sync::CancelToken;
use crate::time::Deadline;

/// A way to one provider.
pub trait Transport: Send + Sync + 'static {
    /// Sends a request and waits for the head of its answer, whatever its status; redirects are answers like others.
    ///
    /// # Errors
    /// If no connection is had, the request cannot be sent, or no head comes in time; and when the request is cancelled.
    fn send(&self, request: &Outgoing<'_>, control: &Control<'_>) -> Result<Incoming, TransportError>;

    /// How many connections there are and were.
    fn connections(&self) -> ConnectionStats;

    /// What that is counted in, for a transport that takes this one's place to go on; none if nothing is counted.
    #[doc(hidden)]
    fn counts(&self) -> Option<Arc<ConnectionCounts>> {
        None
    }

    /// Closes the connections that have been idle for too long.
    fn close_idle(&self);

    /// Closes every idle connection, and from now on each one that a running request gives back: the provider's end, or its
    /// replacement by another configuration. Requests still work, each on a connection of its own.
    fn retire(&self);
}

/// A request to a provider. `Content-Length` and `Host` are the transport's; everything else is said here.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// The method, in capitals. `GET` and `HEAD` are sent without a body.
    pub method: &'static str,
    /// What follows the base URL: path and query, with a leading slash.
    pub path: &'a str,
    /// Names and values, the provider's key among them.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body's bytes.
    pub body: &'a [u8],
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither values nor body: a key stands in the one, a user's words in the other.
        let names: Vec<_> = self.headers.iter().map(|(name, _)| *name).collect();
        f.debug_struct("Outgoing")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("headers", &names)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// What bounds a request.
#[derive(Clone, Copy, Debug)]
pub struct Control<'a> {
    /// Names the request that it is a part of; none of what the gateway asks by itself.
    pub request_id: Option<&'a RequestId>,
    /// Ends it from another thread, in whatever stage it is, until the body has ended or was dropped.
    pub cancel: &'a CancelToken,
    /// By when the answer's head must be there. Each read of the body has a deadline of its own.
    pub deadline: Deadline,
    /// How long look-up, connecting and TLS may take together, if a fresh connection is needed.
    pub connect_timeout: Duration,
}

/// The head of an answer, and its body to be read.
#[derive(Debug)]
pub struct Incoming {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case, in the order of arrival as far as names differ; bytes that are no UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// The rest.
    pub body: Body,
}

impl Incoming {
    /// The first value of the header `name`, which is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
