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
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use sluicegate::Gateway;
/// use sluicegate::testing::{Canned, Script};
/// use sluicegate::transport::{ConnectionStats, Control, Incoming, Outgoing, Transport, TransportError};
///
/// /// Counts what goes another way.
/// struct Counted<T>(T, AtomicUsize);
///
/// impl<T: Transport> Transport for Counted<T> {
///     fn send(&self, request: &Outgoing<'_>, control: &Control<'_>) -> Result<Incoming, TransportError> {
///         self.1.fetch_add(1, Ordering::Relaxed);
///         self.0.send(request, control)
///     }
///
///     fn connections(&self) -> ConnectionStats {
///         self.0.connections()
///     }
///
///     fn close_idle(&self) {
///         self.0.close_idle();
///     }
///
///     fn retire(&self) {
///         self.0.retire();
///     }
/// }
///
/// let way = Arc::new(Counted(Script::new().then(Canned::text("fine")), AtomicUsize::new(0)));
/// let gateway = Gateway::builder().transport("p", Arc::clone(&way) as _).build()?;
/// assert_eq!(gateway.ask("p/m", "How are you?")?, "fine");
/// assert_eq!(way.1.load(Ordering::Relaxed), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use std::sync::Arc;
/// use sluicegate::Gateway;
/// use sluicegate::serde_json::json;
/// use sluicegate::transport::{Body, Incoming, MemoryTransport};
///
/// let mirror = MemoryTransport::new(|request, _| {
///     let said = format!("{} {}, {} bytes", request.method, request.path, request.body.len());
///     let body = json!({ "choices": [{ "message": { "content": said } }] }).to_string();
///     Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_bytes(body) })
/// });
/// let gateway = Gateway::builder().transport("p", Arc::new(mirror)).build()?;
/// assert!(gateway.ask("p/m", "Hello")?.starts_with("POST /v1/chat/completions, "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use sluicegate::transport::{MemoryTransport, TransportError, TransportErrorKind};
/// use sluicegate::{Code, Gateway, ProviderSetup};
///
/// // Nothing ever comes: the caller or the deadline ends it.
/// let silent = MemoryTransport::new(|_, control| {
///     let _ = control.cancel.channel().recv_deadline(control.deadline.instant());
///     let kind = control.cancel.reason().map_or(TransportErrorKind::Timeout, TransportErrorKind::Cancelled);
///     Err(TransportError::new(kind, "nothing came"))
/// });
/// let hasty = ProviderSetup::openai_compatible("p", "http://unused.invalid").max_retries(0).check_on_start(false);
/// let hasty = hasty.request_timeout(Duration::from_millis(20));
/// let gateway = Gateway::builder().provider(hasty).transport("p", Arc::new(silent)).build()?;
/// assert_eq!(gateway.ask("p/m", "Hello").expect_err("nothing came").code(), Code::UpstreamTimeout);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use std::sync::Arc;
/// use sluicegate::transport::{Body, Incoming, MemoryTransport};
/// use sluicegate::{Code, Gateway, ProviderSetup};
///
/// let page = || Incoming {
///     status: 200,
///     headers: vec![("content-type".to_owned(), "text/html".to_owned())],
///     body: Body::from_bytes("<html>"),
/// };
/// assert_eq!(page().header("content-type"), Some("text/html"));
///
/// // A login page where a provider should be.
/// let once = ProviderSetup::openai_compatible("p", "http://unused.invalid").max_retries(0).check_on_start(false);
/// let login = MemoryTransport::new(move |_, _| Ok(page()));
/// let gateway = Gateway::builder().provider(once).transport("p", Arc::new(login)).build()?;
/// assert_eq!(gateway.ask("p/m", "Hello").expect_err("no JSON").code(), Code::UpstreamBadResponse);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
