//! Everything that `/stats` says, put together from those who know: the interface's section 5, in its whole shape.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Serialize;

use super::samples::ProviderSample;
use super::{Inner, Phase, RequestStats};
use crate::events::{Alert, Event};
use crate::http::ConnectionStats;
use crate::plugin::PluginStats;
use crate::provider::{Pools, Provider, ProviderStats};
#[cfg(feature = "front")]
use crate::sync::Role;
use crate::sync::locks::{self, LockStats};
use crate::sync::threads::{State, ThreadRow, ThreadStats};
use crate::time::now;

/// What `/stats` says: everything that a gateway counts. [`Gateway::stats`](super::Gateway::stats) takes one.
///
/// Names that end in `_total` only grow; `_us` and `_ns` are whole microseconds and nanoseconds, and a
/// [`Dist`](crate::metrics::Dist) is how such times are spread. `None`, in JSON `null`, is a value that is not known. At rest
/// the sums hold: `received = succeeded + failed + cancelled`, and for a provider
/// `submitted = completed + dropped + rejected + timed_out + abandoned`.
///
/// ```
/// let gateway = sluicegate::Gateway::from_env()?;
/// gateway.ask("sim/echo", "Hello")?;
///
/// let stats = gateway.stats();
/// assert_eq!((stats.requests.received_total, stats.requests.succeeded_total), (1, 1));
/// assert_eq!(stats.providers["sim"].queue.completed_total, 1);
/// assert_eq!(serde_json::to_value(&stats)?["phase"], "running");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The crate's version.
    pub version: &'static str,
    /// How long the gateway has been there, in seconds.
    pub uptime_s: u64,
    /// Where it stands in its life.
    pub phase: Phase,
    /// What became of all requests.
    pub requests: RequestStats,
    /// How many requests ended with an error, by its code.
    pub errors: BTreeMap<&'static str, u64>,
    /// The last things that happened, oldest first.
    pub events: Vec<Event>,
    /// How many things have happened in all, by kind.
    pub events_total: BTreeMap<&'static str, u64>,
    /// Each provider, by its name.
    pub providers: BTreeMap<String, ProviderStats>,
    /// The objects that are used again: channels, jobs, buffers.
    pub pools: Pools,
    /// The gateway's threads.
    pub threads: ThreadStats,
    /// The locks, of this whole process.
    pub locks: LockStats,
    /// Threads that are held up now.
    pub blocked: Blocked,
    /// The data plane's connections, in `GET /stats` of the binary; a program that runs a front end of its own asks that.
    pub connections: Option<ConnectionStats>,
    /// This process, as the operating system sees it.
    pub process: Process,
    /// Each plugin, by its name.
    pub plugins: BTreeMap<String, PluginStats>,
    /// What is wrong now.
    pub alerts: Vec<Alert>,
    /// The threads by what they are for and what they do, as `/metrics` has them.
    #[cfg(feature = "front")]
    #[serde(skip)]
    pub(crate) thread_states: BTreeMap<(Role, State), u64>,
}

/// How many threads are held up in the middle of a piece of work, on what, and the longest of them for how long; 0 if none
/// is. A worker without a job, a connection's thread without a connection and a service between its rounds wait by nature
/// and are not counted.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Blocked {
    /// Threads that wait for another thread.
    pub channel: u64,
    /// Threads that wait for a lock.
    pub lock: u64,
    /// Threads that wait for a socket or a file.
    pub io: u64,
    /// How long the one that has waited longest has, in milliseconds.
    pub oldest_ms: u64,
}

/// What the operating system says of this process; `null` where it says nothing.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Process {
    /// Memory that is resident.
    pub rss_bytes: Option<u64>,
    /// Processor time ever used, in microseconds.
    pub cpu_us: Option<u64>,
    /// Descriptors that are open.
    pub open_fds: Option<u64>,
    /// The most descriptors that may be open; `null` where there is no limit, too.
    pub max_fds: Option<u64>,
    /// Threads of any kind.
    pub threads: Option<u64>,
    /// When it started, in milliseconds since the Unix epoch.
    pub started_at_ms: Option<u64>,
}

pub(super) fn take(inner: &Inner) -> Snapshot {
    let mut requests = inner.requests.stats();
    requests.max_in_flight = inner.load.most();
    requests.buffered_bytes = inner.bytes.held();
    let (house, going) = (inner.house.load_full(), inner.retired.providers());
    let shown = |provider: &Provider| (provider.name().to_string(), provider.stats());
    let mut providers: Vec<_> = house.providers.iter().map(|provider| shown(provider)).collect();
    // One that was removed stays to be seen until its last work is done.
    for going in &going {
        if !providers.iter().any(|(name, _)| **name == **going.name()) {
            providers.push(shown(going));
        }
    }
    drop((house, going));
    let threads = inner.threads.list();
    let samples: Vec<_> = providers.iter().map(|(name, stats)| (name.as_str(), ProviderSample::of(stats))).collect();
    if let Some(rates) = inner.samples.rates(now(), inner.requests.ended(), &samples) {
        requests.throughput_per_s = Some(rates.requests_per_s);
        for ((_, stats), (throughput, error_rate)) in providers.iter_mut().zip(rates.providers) {
            stats.queue.throughput_per_s = Some(throughput);
            stats.jobs.error_rate = error_rate;
        }
    }
    Snapshot {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: now().saturating_duration_since(inner.started).as_secs(),
        phase: inner.phase(),
        requests,
        errors: inner.requests.errors(),
        events: inner.events.list(),
        events_total: inner.events.totals(),
        providers: providers.into_iter().collect(),
        pools: inner.stock.stats(),
        threads: inner.threads.stats(),
        locks: locks::stats(),
        blocked: blocked(&threads),
        connections: None,
        process: process(),
        plugins: inner.plugins.stats(),
        alerts: inner.events.alerts(),
        #[cfg(feature = "front")]
        thread_states: threads.iter().fold(BTreeMap::new(), |mut counts, row| {
            *counts.entry((row.role, row.state)).or_default() += 1;
            counts
        }),
    }
}

fn blocked(threads: &[ThreadRow]) -> Blocked {
    let mut blocked = Blocked::default();
    for row in threads.iter().filter(|row| !row.rests) {
        let count = match row.state {
            State::WaitingChannel => &mut blocked.channel,
            State::WaitingLock => &mut blocked.lock,
            State::Io => &mut blocked.io,
            State::Created | State::Running | State::Finished => continue,
        };
        *count += 1;
        blocked.oldest_ms = blocked.oldest_ms.max(row.state_ms);
    }
    blocked
}

/// Reads `/proc`; on a system without one everything is unknown.
fn process() -> Process {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let cpu_us = u64::try_from(cpu.tv_sec).ok().zip(u64::try_from(cpu.tv_nsec).ok());
    Process {
        rss_bytes: resident(),
        cpu_us: cpu_us.map(|(s, ns)| s * 1_000_000 + ns / 1000),
        open_fds: open_fds(),
        max_fds: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        threads: field("Threads"),
        started_at_ms: *STARTED_AT_MS.get_or_init(started_at_ms),
    }
}

/// It does not change, and is read out of two files.
static STARTED_AT_MS: OnceLock<Option<u64>> = OnceLock::new();

/// When this process started, if the system tells: so many ticks after it itself did.
fn started_at_ms() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in brackets, which may have brackets and spaces; the start is the 22nd.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let of_system = std::fs::read_to_string("/proc/stat").ok()?;
    let booted = of_system.lines().find_map(|line| line.strip_prefix("btime "))?;
    let booted: u64 = booted.trim().parse().ok()?;
    Some(booted * 1000 + ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// How much memory of this process is resident, in bytes, if the system tells.
pub(super) fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// How many descriptors this process has open, if the system tells.
pub(super) fn open_fds() -> Option<u64> {
    open_fds_below(u64::MAX)
}

/// How many of the descriptors below `limit` are taken. Whoever started this process may have left it some beyond its
/// limit: these take nobody's place.
pub(super) fn open_fds_below(limit: u64) -> Option<u64> {
    let number = |name: std::ffi::OsString| name.to_str()?.parse::<u64>().ok();
    let taken = std::fs::read_dir("/proc/self/fd").ok()?.flatten().filter_map(|fd| number(fd.file_name()));
    // The listing itself holds one.
    Some((taken.filter(|fd| *fd < limit).count() as u64).saturating_sub(1))
}
