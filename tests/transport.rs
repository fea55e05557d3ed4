//! A provider's connections against peers of std sockets: what they reuse, bound, cancel and refuse.

mod answers;
mod cancelling;
pub(crate) mod limits;
mod peer;
mod reuse;
mod secure;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sluicegate::sync::{CancelToken, Threads};
use sluicegate::time::Deadline;
use sluicegate::transport::{
    Control, Incoming, Outgoing, Resolver, Settings, Transport as _, TransportError, TransportErrorKind, UreqTransport,
};

/// What every wait in these tests ends at the latest with, which is a failure.
const FUSE: Duration = Duration::from_secs(5);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn fuse() -> Deadline {
    Deadline::after(FUSE)
}

fn threads() -> Threads {
    Threads::new(256, 256 * 1024)
}

fn settings(base_url: impl Into<String>) -> Settings {
    Settings {
        base_url: base_url.into(),
        idle_connection_timeout: Duration::from_secs(30),
        max_idle: 64,
        ca_cert_pem: None,
        allow_private: false,
    }
}

fn build(settings: Settings) -> UreqTransport {
    UreqTransport::new(settings, Resolver::start(&threads())).expect("good settings")
}

fn to(address: SocketAddr) -> UreqTransport {
    build(settings(format!("http://{address}")))
}

fn to_name(settings: Settings, addresses: &'static [&'static str]) -> UreqTransport {
    let resolver = Resolver::with_lookup(&threads(), move |_| {
        Ok(addresses.iter().map(|address| address.parse().expect("an address")).collect())
    });
    UreqTransport::new(settings, resolver).expect("good settings")
}

/// One call, with what bounds it.
#[derive(Clone)]
struct Call {
    cancel: CancelToken,
    head: Duration,
    connect: Duration,
    body: Arc<[u8]>,
}

impl Call {
    fn new() -> Self {
        Self { cancel: CancelToken::new(), head: FUSE, connect: FUSE, body: Arc::from(*b"{}") }
    }

    fn send(&self, transport: &UreqTransport) -> Result<Incoming, TransportError> {
        let request = Outgoing {
            method: "POST",
            path: "/v1/chat/completions",
            headers: &[("authorization", "Bearer sk-canary"), ("content-type", "application/json")],
            body: &self.body,
        };
        let deadline = Deadline::after(self.head);
        transport.send(
            &request,
            &Control { request_id: None, cancel: &self.cancel, deadline, connect_timeout: self.connect },
        )
    }

    /// Sends, and reads the whole answer.
    fn text(&self, transport: &UreqTransport) -> Result<String, TransportError> {
        whole(self.send(transport)?)
    }

    fn failure(&self, transport: &UreqTransport) -> TransportErrorKind {
        let error = self.text(transport).expect_err("it must fail");
        assert!(!error.to_string().contains("canary"), "{error}");
        error.kind
    }
}

fn whole(mut answer: Incoming) -> Result<String, TransportError> {
    let mut body = Vec::new();
    answer.body.read_to_end(64 << 20, fuse(), &mut body)?;
    Ok(String::from_utf8(body).expect("text"))
}

/// Sends and reads the whole answer of one that must succeed.
fn ask(transport: &UreqTransport) -> String {
    Call::new().text(transport).expect("it is answered")
}
