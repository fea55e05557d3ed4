//! What a server serves: the trait behind which routes, keys and answers lie, and the request handed to it.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use super::exchange::{Exchange, Finished};
use super::head::Head;
use super::response::Response;
use crate::error::Error;
use crate::recycle::Buffer;

/// Judges and answers requests, on the connections' threads.
pub trait Service: Send + Sync + 'static {
    /// Judges a request by its head, before its body is read or a `100 Continue` sent: route, method, key, load.
    ///
    /// # Errors
    /// The answer, if it is refused. The body is not read then: if there is one, the connection closes after the answer,
    /// unless the answer says that a short one is to be thrown away ([`Response::discard_body`]).
    fn admit(&self, head: &Head, peer: SocketAddr) -> Result<Admission, Response>;

    /// The memory that an admitted request's body is read into, of `announced` bytes if its head says how many.
    fn buffer(&self, announced: Option<u64>) -> Buffer {
        let _ = announced;
        Buffer::default()
    }

    /// Answers a request. Runs on the connection's thread, and may block. Whatever becomes of `exchange`, the client gets
    /// one answer: an exchange that is dropped unanswered, by a panic too, answers 500 and closes (I1).
    fn serve(&self, request: Request, exchange: Exchange) -> Finished;

    /// The answer to what the server itself refuses, before or instead of [`serve`](Self::serve): in the API's shape, with
    /// this `status`, which may be finer than the error's own. `head` is there if it was read, and `hold` is what its
    /// admission holds if it had been admitted: its body was malformed, too long or too slow. Must not block: it may run on
    /// the thread that accepts, or on the watcher.
    fn refusal(&self, head: Option<&Head>, status: u16, error: &Error, hold: Option<Hold>) -> Response;
}

/// What lives as long as a request: guards of slots and counts.
pub type Hold = Box<dyn Any + Send>;

/// Leave to read a request's body and serve it.
#[derive(Default)]
pub struct Admission {
    /// The longest body, if less than the server's limit.
    pub max_body: Option<usize>,
    /// What lives as long as the request. It moves into [`Request::hold`].
    pub hold: Option<Hold>,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("max_body", &self.max_body).finish_non_exhaustive()
    }
}

/// A whole request.
pub struct Request {
    /// Its head.
    pub head: Head,
    /// Its body, the transfer coding taken off.
    pub body: Buffer,
    /// When its first byte was read.
    pub arrived: Instant,
    /// Who sent it.
    pub peer: SocketAddr,
    /// What its admission holds.
    pub hold: Option<Hold>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("head", &self.head).field("body_len", &self.body.len()).finish_non_exhaustive()
    }
}
