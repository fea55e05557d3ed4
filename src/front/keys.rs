//! The gateway's keys: whether a request carries one, and which models it may name then.
//!
//! What a request carries is made a digest first and compared with that of every key, in constant time and whatever it
//! was, so that a wrong, a malformed and a missing key take one way and get one answer (P7).

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{Scope, Server};
use crate::error::{Code, Error};
use crate::gateway::Strangers;
use crate::http::{Head, client_address, sent_key};
use crate::time::now;

/// Whose request it is.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// Which models it may name; everything where the gateway has no keys.
    pub(super) scope: Scope,
    /// The name of its key.
    pub(super) key: Option<Arc<str>>,
}

/// Whose request it is, and what it may name; everything if `server` has no keys. For any route, before its body is read.
///
/// # Errors
/// [`Code::Unauthorized`], with `Retry-After` if its address failed too often; then the connection should close.
pub(super) fn check(server: &Server, strangers: &Strangers, head: &Head, peer: SocketAddr) -> Result<Client, Error> {
    if server.keys.is_empty() {
        return Ok(Client::default());
    }
    let digests = server.keys.iter().map(|key| &key.digest);
    if let Some(key) = sent_key(head).find_in(digests).and_then(|at| server.keys.get(at)) {
        return Ok(Client { scope: key.scope.clone(), key: Some(Arc::clone(&key.name)) });
    }
    let text = "the gateway key is missing or wrong; send it as Authorization: Bearer <key>";
    let error = Error::new(Code::Unauthorized, text);
    Err(match strangers.failed(client_address(head, peer, &server.trusted_proxies), now()) {
        Some(after) => error.with_retry_after(after),
        None => error,
    })
}
