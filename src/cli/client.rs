//! A client of a gateway's own planes: what `stats` reads with, what `demo` and its callers speak through,
//! and what `bench` loads with.

use std::time::Duration;

use crate::sync::{CancelToken, Threads};
use crate::time::Deadline;
use crate::transport::{
    BuildError, ConnectionStats, Control, Incoming, Outgoing, Resolver, Settings, Transport as _, TransportError,
    UreqTransport,
};

/// How long the head of an answer may take, and then its body, if it is read whole.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// The largest answer read whole, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// How many connections are kept for the next request.
const MAX_IDLE: usize = 16;

/// HTTP to one address.
#[derive(Debug)]
pub(super) struct Client(UreqTransport);

/// An answer read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Client {
    /// A client of `base_url`; a name in it is looked up on a thread of `threads`.
    pub(super) fn new(base_url: &str, threads: &Threads) -> Result<Self, BuildError> {
        Self::keeping(MAX_IDLE, base_url, threads)
    }

    /// The same that keeps so many connections for the next requests.
    pub(super) fn keeping(max_idle: usize, base_url: &str, threads: &Threads) -> Result<Self, BuildError> {
        let settings = Settings {
            base_url: base_url.trim_end_matches('/').to_owned(),
            idle_connection_timeout: Duration::from_secs(30),
            max_idle,
            ca_cert_pem: None,
            allow_private: true,
        };
        UreqTransport::new(settings, Resolver::start(threads)).map(Self)
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) fn open(
        &self,
        method: &'static str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Incoming, TransportError> {
        self.open_within(WAIT, &CancelToken::new(), &Outgoing { method, path, headers, body })
    }

    /// The same within a time of the caller's own, and as long as he does not cancel it.
    pub(super) fn open_within(
        &self,
        wait: Duration,
        cancel: &CancelToken,
        request: &Outgoing<'_>,
    ) -> Result<Incoming, TransportError> {
        let control = Control { request_id: None, cancel, deadline: Deadline::after(wait), connect_timeout: wait };
        self.0.send(request, &control)
    }

    /// How many connections there are and were.
    pub(super) fn connections(&self) -> ConnectionStats {
        self.0.connections()
    }

    /// Sends a request and reads its answer.
    pub(super) fn send(
        &self,
        method: &'static str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, TransportError> {
        let Incoming { status, headers, body: mut incoming } = self.open(method, path, headers, body)?;
        let mut body = Vec::new();
        incoming.read_to_end(MAX_ANSWER, Deadline::after(WAIT), &mut body)?;
        Ok(Answer { status, headers, body })
    }
}

impl Answer {
    /// The first value of the header `name`, which is given in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
