//! What threads are for.

use serde::Serialize;

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the explanation")]
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
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 10] = [
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
    ];

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
        }
    }
}
