//! What is refused before a body is read: a wrong key, an overloaded or a draining gateway.
//!
//! The limits themselves are the gateway's (`gateway::load`); here stands what of a head they are asked with.
//!
//! **Invariants.** I2: what an admitted request holds (its count, its bytes) is guards in one value, which travels with it.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Scope;
use crate::error::{Code, Error};
use crate::gateway::{Gateway, Phase, Place, RequestGuard};
use crate::http::Head;
use crate::ids::RequestId;
use crate::model::Timing;
use crate::time::now;

use super::keys::{self, Client};
use super::{priority, request_id};

/// Who may come in.
#[derive(Debug)]
pub(super) struct Door {
    max_body: u64,
}

/// What an admitted request holds until it ends.
#[derive(Debug)]
pub(super) struct Admitted(Option<Parts>);

/// The parts of an [`Admitted`]. Field order is drop order: when a request is over, its place is free.
#[derive(Debug)]
pub(super) struct Parts {
    /// Its place among the requests under way, and its bytes among those held.
    pub(super) held: Place,
    pub(super) request_id: RequestId,
    /// Which models its key may name.
    pub(super) scope: Scope,
    /// The name of its key.
    pub(super) key: Option<Arc<str>>,
    pub(super) guard: RequestGuard,
}

impl Admitted {
    pub(super) fn open(mut self) -> Parts {
        match self.0.take() {
            Some(parts) => parts,
            None => unreachable!("an admission is opened once, and by value"),
        }
    }

    /// The server refused the rest of the request, whose id this gives.
    pub(super) fn refuse(self, error: &Error) -> RequestId {
        let Parts { mut guard, request_id, .. } = self.open();
        guard.fail(error);
        request_id
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(mut parts) = self.0.take() {
            parts.guard.fail(&Error::new(Code::ClientClosed, "the client left before its request was whole"));
        }
    }
}

impl Door {
    pub(super) fn new(gateway: &Gateway) -> Self {
        Self { max_body: gateway.config().server.max_body_bytes as u64 }
    }

    /// Whose request it is, by the configuration in force.
    ///
    /// # Errors
    /// As [`keys::check`].
    pub(super) fn client(&self, gateway: &Gateway, head: &Head, peer: SocketAddr) -> Result<Client, Error> {
        gateway.with_config(|config| keys::check(&config.server, gateway.strangers(), head, peer))
    }

    /// Lets a request in, or says why not. It is counted either way.
    pub(super) fn admit(&self, gateway: &Gateway, head: &Head, peer: SocketAddr) -> Result<Admitted, Error> {
        let mut guard = gateway.begin(now());
        let request_id = request_id(head);
        match self.client(gateway, head, peer).and_then(|client| Ok((client, self.judge(gateway, head)?))) {
            Ok((Client { scope, key }, held)) => Ok(Admitted(Some(Parts { guard, scope, key, request_id, held }))),
            Err(error) => {
                let mut error = error.with_request_id(&request_id);
                // Not for a wrong key: how long it took is nobody's business then (P7).
                if error.code() == Code::Overloaded {
                    error = error.with_spent(Timing::default().spent(guard.arrived(), now()));
                }
                guard.fail(&error);
                Err(error)
            }
        }
    }

    fn judge(&self, gateway: &Gateway, head: &Head) -> Result<Place, Error> {
        if gateway.phase() >= Phase::Draining {
            return Err(Error::new(Code::ShuttingDown, "the gateway is shutting down"));
        }
        // A priority that is none is refused with the other headers, once the request is in.
        gateway.admit(priority(head).unwrap_or_default(), self.announced(head))
    }

    /// How many bytes of body to count: one that comes in chunks can be as long as any may be, until it is read. What is
    /// longer than any may be is refused by the server, unread: it takes none, and is no matter of load.
    fn announced(&self, head: &Head) -> u64 {
        match head.header("content-length") {
            Some(length) => length.parse().ok().filter(|length| *length <= self.max_body).unwrap_or(0),
            None if head.header("transfer-encoding").is_some() => self.max_body,
            None => 0,
        }
    }
}
