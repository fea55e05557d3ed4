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

/// What a server allows: the `server` section of the configuration.
#[derive(Clone, Debug)]
pub struct Limits {
    /// What its connections' threads are for: [`Role::Conn`] leaves some threads to every other role.
    pub role: Role,
    /// The most connections at a time.
    pub max_connections: usize,
    /// How many connections beyond these may be kept for the moment that it takes to deliver their refusal.
    pub max_turned_away: u64,
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
    /// The most that are ever kept beyond the limit, and the default.
    pub const MAX_TURNED_AWAY: u64 = 64;

    /// The limits that the configuration sets; connections' threads are of `role`.
    #[must_use]
    pub fn of(config: &Config, role: Role) -> Self {
        let server = &config.server;
        Self {
            role,
            max_connections: server.max_connections,
            max_turned_away: Self::MAX_TURNED_AWAY,
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
            max_turned_away: Self::MAX_TURNED_AWAY,
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
