//! What is refused before a body is read: a wrong key, an overloaded or a draining gateway.
//!
//! **Invariants.** I2: what an admitted request holds (its count, its bytes) is guards in one value, which travels with it.

use std::sync::Arc;

use crate::error::{Code, Error};
use crate::gateway::{Gateway, Phase, RequestGuard};
use crate::http::Head;
use crate::ids::RequestId;
use crate::metrics::{CountGuard, Gauge};
use crate::queue::Bytes;
use crate::secret::Digest;
use crate::time::now;

use super::request_id;

/// Who may come in, and how many.
#[derive(Debug)]
pub(super) struct Door {
    keys: Vec<Digest>,
    max_in_flight: u64,
    max_body: u64,
    in_flight: Arc<Gauge>,
}

/// What an admitted request holds until it ends.
#[derive(Debug)]
pub(super) struct Admitted(Option<Parts>);

/// The parts of an [`Admitted`]. Field order is drop order: when a request is over, its place is free.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) held: Held,
    pub(super) request_id: RequestId,
    pub(super) guard: RequestGuard,
}

/// Its place among the requests under way, and its bytes among those buffered.
#[derive(Debug)]
pub(super) struct Held {
    _place: CountGuard,
    bytes: Bytes,
}

impl Held {
    /// The body has been read, and is `bytes` long: less than it counted for, if its head did not say how long.
    pub(super) fn settle(&mut self, bytes: usize) {
        self.bytes.shrink(bytes as u64);
    }

    /// The body was compressed, and takes `more` than what was read.
    pub(super) fn absorb(&mut self, more: Bytes) {
        self.bytes.absorb(more);
    }
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
        let server = &gateway.config().server;
        // Each waiting request holds a thread, so more than there may be threads cannot be under way.
        let derived = gateway.threads().limit();
        Self {
            keys: server.keys.iter().map(|key| key.digest.clone()).collect(),
            max_in_flight: server.max_in_flight.map_or(derived, |max| max as u64),
            max_body: server.max_body_bytes as u64,
            in_flight: Arc::default(),
        }
    }

    /// Lets a request in, or says why not. It is counted either way.
    pub(super) fn admit(&self, gateway: &Gateway, head: &Head) -> Result<Admitted, Error> {
        let mut guard = gateway.begin(now());
        let request_id = request_id(head);
        match self.judge(gateway, head) {
            Ok(held) => Ok(Admitted(Some(Parts { guard, request_id, held }))),
            Err(error) => {
                let error = error.with_request_id(&request_id);
                guard.fail(&error);
                Err(error)
            }
        }
    }

    fn judge(&self, gateway: &Gateway, head: &Head) -> Result<Held, Error> {
        self.check_key(head)?;
        if gateway.phase() >= Phase::Draining {
            return Err(Error::new(Code::ShuttingDown, "the gateway is shutting down"));
        }
        let place = self.in_flight.enter_below(self.max_in_flight).ok_or_else(|| {
            let text = format!("{} requests are under way already (server.max_in_flight)", self.max_in_flight);
            Error::new(Code::Overloaded, text)
        })?;
        let bytes = gateway.take_bytes(self.announced(head))?;
        Ok(Held { _place: place, bytes })
    }

    /// How many bytes of body to count: one that comes in chunks can be as long as any may be, until it is read.
    fn announced(&self, head: &Head) -> u64 {
        match head.header("content-length") {
            Some(length) => length.parse().unwrap_or(0),
            None if head.header("transfer-encoding").is_some() => self.max_body,
            None => 0,
        }
    }

    /// One answer for a key that is wrong, malformed or missing: nothing tells them apart (P7).
    pub(super) fn check_key(&self, head: &Head) -> Result<(), Error> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let bearer = head.header("authorization").and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        let sent = bearer.or_else(|| head.header("x-api-key")).or_else(|| head.header("api-key")).unwrap_or("");
        match Digest::of(sent.as_bytes()).find_in(&self.keys) {
            Some(_) => Ok(()),
            None => {
                let text = "the gateway key is missing or wrong; send it as Authorization: Bearer <key>";
                Err(Error::new(Code::Unauthorized, text))
            }
        }
    }
}
