//! The gateway's keys: whether a request carries one, and which models it may name then.
//!
//! What a request carries is made a digest first and compared with that of every key, in constant time and whatever it
//! was, so that a wrong, a malformed and a missing key take one way and get one answer (P7).
//!
//! Without keys the gateway serves whoever reaches it, but no page of another site that a browser beside it shows: a POST of
//! plain text is one for which browsers ask nobody, and would spend a provider's money for any page on the web.

use std::net::SocketAddr;
use std::sync::Arc;

use super::cors::Cors;
use crate::config::{Scope, Server};
use crate::error::{Code, Error};
use crate::gateway::Strangers;
use crate::http::{Head, client_address, is_from_another_site, sent_key};
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
/// [`Code::Forbidden`] for another site's page where there are no keys.
pub(super) fn check(server: &Server, strangers: &Strangers, head: &Head, peer: SocketAddr) -> Result<Client, Error> {
    if server.keys.is_empty() {
        return if is_from_another_site(head) && Cors::new(&server.cors_origins).admitted(head).is_none() {
            let text = "the request comes from another site's page; name its origin in server.cors_origins, or give the \
                        gateway keys (server.keys)";
            Err(Error::new(Code::Forbidden, text))
        } else {
            Ok(Client::default())
        };
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
