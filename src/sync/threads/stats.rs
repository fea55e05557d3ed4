//! What `/threads` and `/stats` say of threads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::role::Role;
use super::state::State;
use crate::ids::ThreadId;
use crate::metrics::Dist;

/// One thread that has ended.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Ended {
    /// Its number.
    pub id: ThreadId,
    /// Its name.
    pub name: Arc<str>,
    /// Its role.
    pub role: Role,
    /// How long it ran, in microseconds.
    pub lifetime_us: u64,
    /// Whether it ended by a panic.
    pub panicked: bool,
}
/// One row of `/threads`.
#[derive(Clone, Debug, Serialize)]
pub struct ThreadRow {
    /// Its number.
    pub id: ThreadId,
    /// Its name.
    pub name: Arc<str>,
    /// Its role.
    pub role: Role,
    /// What it is doing.
    pub state: State,
    /// For how long, in milliseconds.
    pub state_ms: u64,
    /// Whether it is past the time within which it said it would be done.
    pub stuck: bool,
    /// Whether it waits for its next piece of work, and so is not held up by anything.
    #[serde(skip)]
    pub rests: bool,
    /// How long it is past that time.
    #[serde(skip)]
    pub overdue: Option<Duration>,
}

/// The threads' part of `/stats`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ThreadStats {
    /// Threads there are.
    pub active: u64,
    /// The most there may be.
    pub limit: u64,
    /// The most there ever were.
    pub peak: u64,
    /// Threads ever started.
    pub spawned_total: u64,
    /// Threads that have ended.
    pub finished_total: u64,
    /// Those of them that panicked.
    pub panics_total: u64,
    /// Threads that were not started: the limit, or the system.
    pub refused_total: u64,
    /// Threads that are past the time within which they said they would be done.
    pub stuck: u64,
    /// The same by what they are for.
    pub by_role: BTreeMap<Role, RoleRow>,
    /// The last that have ended.
    pub ended: Vec<Ended>,
}

/// What `/stats` says of one role.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RoleRow {
    /// Threads there are.
    pub active: u64,
    /// Pieces of work that they did.
    pub jobs_total: u64,
    /// How long those that have ended lived, in microseconds.
    pub lifetime_us: Dist,
}
