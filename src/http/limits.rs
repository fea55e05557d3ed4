//! The bounds within which connections are served, in number, bytes and time.

use std::time::Duration;

use crate::config::Config;
use crate::sync::Role;

/// How long a quiet connection keeps its thread before it is parked. A closed loop's next request comes within it, so
/// such a client never pays for a hand-over; it costs a thread at most this long.
pub(super) const LINGER: Duration = Duration::from_millis(5);

/// How long a connection that is being closed may take to hear of it, while what it still sends is thrown away.
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(2);

/// How much a connection that is being closed may still send before it is cut. A body refused by its length is often on
/// its way already; cutting it at once would take the answer from the client with it.
pub(super) const DRAIN_BYTES: usize = 8 << 20;

/// How many connections beyond the limit may be kept for the moment that it takes to deliver their refusal.
pub(super) const MAX_TURNED_AWAY: u64 = 64;

/// Which of the process's descriptors may be connections of a server: those numbered below `below`; `kept` are kept from it,
/// without which no request that has come in could be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The first number that is not its connections'.
    pub below: u64,
    /// How many there are from there on.
    pub kept: u64,
}

impl Descriptors {
    /// All there are.
    pub const ALL: Self = Self { below: u64::MAX, kept: u64::MAX };
}

/// What a server allows: the `server` section of the configuration.
#[derive(Clone, Debug)]
pub struct Limits {
    /// What its connections' threads are for: [`Role::Conn`] leaves some threads to every other role.
    pub role: Role,
    /// The most connections at a time.
    pub max_connections: usize,
    /// The descriptors that its connections may have.
    pub descriptors: Descriptors,
    /// The longest body of a request, in bytes.
    pub max_body_bytes: usize,
    /// The longest head of a request, in bytes, its request line and final blank line included.
    pub max_header_bytes: usize,
    /// How long a head may take, from its first byte.
    pub header_timeout: Duration,
    /// How long a body may take, from the end of its head.
    pub body_timeout: Duration,
    /// How long a connection may be silent between requests.
    pub idle_timeout: Duration,
    /// How long writing one answer, or all of one stream, may be stalled by the client.
    pub write_timeout: Duration,
    /// How long a connection thread without a connection is kept.
    pub thread_idle_timeout: Duration,
}

impl Limits {
    /// The limits that the configuration sets; connections' threads are of `role`.
    #[must_use]
    pub fn of(config: &Config, role: Role) -> Self {
        let server = &config.server;
        Self {
            role,
            max_connections: server.max_connections,
            descriptors: Descriptors::ALL,
            max_body_bytes: server.max_body_bytes,
            max_header_bytes: server.max_header_bytes,
            header_timeout: server.header_timeout,
            body_timeout: server.body_timeout,
            idle_timeout: server.idle_timeout,
            write_timeout: server.write_timeout,
            thread_idle_timeout: config.threads.idle_timeout,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            role: Role::Conn,
            max_connections: 8192,
            descriptors: Descriptors::ALL,
            max_body_bytes: 32 << 20,
            max_header_bytes: 32 << 10,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            thread_idle_timeout: Duration::from_secs(30),
        }
    }
}
