//! The gateway's keys: whether a request carries one, and which models it may name then.
//!
//! What a request carries is made a digest first and compared with that of every key, in constant time and whatever it
//! was, so that a wrong, a malformed and a missing key take one way and get one answer (P7).

use std::net::SocketAddr;

use crate::config::{AddressRange, Scope, Server};
use crate::error::{Code, Error};
use crate::gateway::Strangers;
use crate::http::{Head, client_address, sent_key};
use crate::secret::Digest;
use crate::time::now;

/// The keys, and what counts those who have none.
#[derive(Debug)]
pub(super) struct Keys {
    digests: Vec<Digest>,
    /// What each of them may use.
    scopes: Vec<Scope>,
    trusted_proxies: Vec<AddressRange>,
    strangers: Strangers,
}

impl Keys {
    pub(super) fn new(server: &Server, strangers: Strangers) -> Self {
        Self {
            digests: server.keys.iter().map(|key| key.digest.clone()).collect(),
            scopes: server.keys.iter().map(|key| key.scope.clone()).collect(),
            trusted_proxies: server.trusted_proxies.clone(),
            strangers,
        }
    }

    /// What a request may name; everything if the gateway has no keys. For any route, before its body is read.
    ///
    /// # Errors
    /// [`Code::Unauthorized`], with `Retry-After` if its address failed too often; then the connection should close.
    pub(super) fn check(&self, head: &Head, peer: SocketAddr) -> Result<Scope, Error> {
        if self.digests.is_empty() {
            return Ok(Scope::default());
        }
        if let Some(scope) = sent_key(head).find_in(&self.digests).and_then(|at| self.scopes.get(at)) {
            return Ok(scope.clone());
        }
        let text = "the gateway key is missing or wrong; send it as Authorization: Bearer <key>";
        let error = Error::new(Code::Unauthorized, text);
        Err(match self.strangers.failed(client_address(head, peer, &self.trusted_proxies), now()) {
            Some(after) => error.with_retry_after(after),
            None => error,
        })
    }
}
