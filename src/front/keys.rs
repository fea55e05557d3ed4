//! The gateway's keys: whether a request carries one, and which models it may name then.
//!
//! What a request carries is made a digest first and compared with that of every key, in constant time and whatever it
//! was, so that a wrong, a malformed and a missing key take one way and get one answer (P7).

use std::net::SocketAddr;

use crate::config::{Scope, Server};
use crate::error::{Code, Error};
use crate::gateway::Strangers;
use crate::http::{Head, client_address, sent_key};
use crate::time::now;

/// What a request may name; everything if `server` has no keys. For any route, before its body is read.
///
/// # Errors
/// [`Code::Unauthorized`], with `Retry-After` if its address failed too often; then the connection should close.
pub(super) fn check(server: &Server, strangers: &Strangers, head: &Head, peer: SocketAddr) -> Result<Scope, Error> {
    if server.keys.is_empty() {
        return Ok(Scope::default());
    }
    let digests = server.keys.iter().map(|key| &key.digest);
    if let Some(key) = sent_key(head).find_in(digests).and_then(|at| server.keys.get(at)) {
        return Ok(key.scope.clone());
    }
    let text = "the gateway key is missing or wrong; send it as Authorization: Bearer <key>";
    let error = Error::new(Code::Unauthorized, text);
    Err(match strangers.failed(client_address(head, peer, &server.trusted_proxies), now()) {
        Some(after) => error.with_retry_after(after),
        None => error,
    })
}
