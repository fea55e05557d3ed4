//! What threads are for.

use serde::Serialize;

/// The most threads that are kept from connections, half of them from workers, too.
const MAX_RESERVE: u64 = 32;

fn reserve(limit: u64) -> u64 {
    (limit / 8).min(MAX_RESERVE)
}

/// What a thread is for.
///
/// ```
/// use sluicegate::stats::Role;
///
/// let gateway = sluicegate::Gateway::from_env()?;
/// gateway.ask("sim/echo", "Hello")?;
/// let threads = gateway.stats().threads;
/// for (role, row) in &threads.by_role {
///     println!("{}: {} threads", role.as_str(), row.active);
/// }
/// assert!(threads.by_role[&Role::Worker].active >= 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the explanation")]
#[non_exhaustive]
pub enum Role {
    Accept,
    Conn,
    Worker,
    Resolver,
    Supervisor,
    Stats,
    Watchdog,
    Watcher,
    Admin,
    Sim,
    Runner,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 11] = [
        Self::Accept,
        Self::Conn,
        Self::Worker,
        Self::Resolver,
        Self::Supervisor,
        Self::Stats,
        Self::Watchdog,
        Self::Watcher,
        Self::Admin,
        Self::Sim,
        Self::Runner,
    ];

    /// How many of `limit` threads there may be for one more of this role to start, if so many of its own run and so many
    /// are kept for others that do not. Connections and requests that were handed over are the first to be refused and workers the second, so that a worker
    /// can always be replaced, and whoever looks after the gateway always finds a thread.
    pub(super) fn share_of(self, limit: u64, own: u64, kept: u64) -> u64 {
        let reserve = reserve(limit);
        match self {
            Self::Conn | Self::Sim if own >= self.floor(limit) => limit - reserve - kept,
            Self::Conn | Self::Sim => limit - reserve / 2,
            Self::Runner => limit - reserve - kept,
            Self::Worker => limit - reserve / 2 - kept,
            _ => limit,
        }
    }

    /// How many threads are kept for this role once it has somebody to serve: workers that stream hold no connection's
    /// thread, and could else take them all, so that not even a refusal could be said.
    pub(super) fn floor(self, limit: u64) -> u64 {
        match self {
            Self::Conn => reserve(limit),
            Self::Sim => reserve(limit) / 2,
            _ => 0,
        }
    }

    /// The role's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Conn => "conn",
            Self::Worker => "worker",
            Self::Resolver => "resolver",
            Self::Supervisor => "supervisor",
            Self::Stats => "stats",
            Self::Watchdog => "watchdog",
            Self::Watcher => "watcher",
            Self::Admin => "admin",
            Self::Sim => "sim",
            Self::Runner => "runner",
        }
    }
}
