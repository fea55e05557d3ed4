//! The gateway's own limits, by which a request is let in or refused by its head alone, before its body is read (P11).
//!
//! | limit | what is counted | batch refused | all refused |
//! | --- | --- | --- | --- |
//! | `max_in_flight` | requests of the data plane and those handed over, under way, exactly | from 3/4 of it on | at it |
//! | `max_buffered_bytes` | bodies and whole answers held, exactly | past 3/4 of it | past it |
//! | memory | what of this process is resident, of what it may have ([`limits::memory`]) | past 80 % | past 90 % |
//! | descriptors | those left, of the reserve that connections leave ([`connections`]) | under 3/4 of it | under half of it |
//!
//! **Order.** Idle connections give way first: to whoever wants a slot when there is none, and to whoever is accepted when
//! there is no descriptor. Then batch requests are refused, then everybody; a provider's own `queue_full` comes after that,
//! since it takes a body to know the provider. Connections never take the descriptors that their requests need upstream,
//! nor so many threads that `"auto"` lets more in than could be served, so what is let in is not failed for want of these.
//!
//! **Protocol.** What is counted exactly is taken by one compare-and-swap. Memory and descriptors cost a look into `/proc`,
//! so the watchdog takes a sample once a second; between two of them memory counts what has been taken of the byte budget
//! since. As long as only [`FLOOR`] requests are under way, samples refuse nobody: that would bring nothing back, what an
//! allocator keeps is used again by those who come, and what refuses everybody for ever is no protection.
//!
//! **Invariants.** I2: what a request holds is a [`Place`]. I4: whatever is let in is bounded in number and bytes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::requests::Requests;
use super::snapshot::open_fds_below;
use crate::config::{Config, Kind, Sizing};
use crate::error::{Code, Error};
use crate::http::Limits;
use crate::metrics::{CountGuard, Counter, DrainRate, Gauge, retry_after};
use crate::model::Priority;
use crate::queue::{ByteBudget, Bytes};
use crate::sync::{Role, Threads, limits};

/// Requests under way that no sample refuses.
const FLOOR: u64 = 8;

/// From which share on batch requests are refused, in percent of what is counted exactly.
const BATCH_PERCENT: u64 = 75;

/// From which share of the memory on batch requests are refused, and all, in percent.
const MEMORY_PERCENT: [u64; 2] = [80, 90];

/// What a request is taken to cost beside its bytes, for `max_in_flight: "auto"`: two threads' touched stacks, buffers,
/// sockets. Measured were about 20 KiB a thread with 4,500 requests under way; half of the memory is planned for them.
const BYTES_PER_REQUEST: u64 = 64 << 10;

/// Descriptors that are opened once the data plane listens, and stay: those of its own server, of the admin plane and of
/// the simulated provider.
const OPENED_LATER: u64 = 8;

/// Threads that serve neither a connection nor a provider: accepting, watching, resolving, statistics, the admin plane.
const SERVICE_THREADS: u64 = 16;

/// One of the gateway's own limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    InFlight,
    Bytes,
    Memory,
    Descriptors,
}

impl Limit {
    pub(super) const ALL: [Self; 4] = [Self::InFlight, Self::Bytes, Self::Memory, Self::Descriptors];

    /// Whom an alert concerns.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "max_in_flight",
            Self::Bytes => "max_buffered_bytes",
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
        }
    }
}

/// How many requests each limit has refused: those of interactive and those of batch priority.
pub(super) type Refused = [[u64; 2]; Limit::ALL.len()];

/// What of the process is in use, as the watchdog finds it; `None` where the system does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// Bytes resident.
    pub(super) resident: Option<u64>,
    /// Descriptors that can still be opened.
    pub(super) descriptors_left: Option<u64>,
}

/// How many connections of clients leave a process the descriptors that it needs beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// The most at a time.
    pub most: u64,
    /// How many beyond these may be kept for the moment that it takes to deliver their refusal.
    pub turned_away: u64,
}

/// A request's place among those under way, and its bytes among those held, until it drops.
#[derive(Debug)]
#[must_use = "dropping it gives the place back at once"]
pub struct Place {
    _count: CountGuard,
    bytes: Bytes,
}

impl Place {
    /// The body has been read, and is `bytes` long: less than it counted for, if its head did not say how long.
    pub fn settle(&mut self, bytes: usize) {
        self.bytes.shrink(bytes as u64);
    }

    /// The body was compressed, and takes `more` than what was read.
    pub fn absorb(&mut self, more: Bytes) {
        self.bytes.absorb(more);
    }
}

/// The limits and what is taken of them.
pub(super) struct Load {
    under_way: Arc<Gauge>,
    most: u64,
    set_by: &'static str,
    bytes: ByteBudget,
    memory: Option<(u64, &'static str)>,
    reserve: u64,
    resident: AtomicU64,
    /// What was held of the byte budget when the memory was looked at.
    held_then: AtomicU64,
    descriptors_left: AtomicU64,
    refused: [[Counter; 2]; Limit::ALL.len()],
    drain_rate: DrainRate,
    /// Requests refused between the last two looks: those who will come again.
    refused_lately: AtomicU64,
    requests: Arc<Requests>,
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load")
            .field("under_way", &self.under_way.get())
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

impl Load {
    /// The limits of `config`, as far as it leaves them open by what `threads` and the system allow.
    pub(super) fn new(config: &Config, threads: &Threads, bytes: ByteBudget, requests: &Arc<Requests>) -> Self {
        let memory = limits::memory();
        let (most, set_by) = match config.server.max_in_flight {
            Some(most) => (most as u64, "server.max_in_flight"),
            None => auto(threads.share_of(Role::Conn), workers(config), config.providers.len() as u64, memory),
        };
        let reserve = nofile().map_or(0, reserve);
        log::info!("at most {most} requests at a time, set by {set_by}; memory: {memory:?}");
        Self {
            under_way: Arc::default(),
            most,
            set_by,
            bytes,
            memory,
            reserve,
            resident: AtomicU64::new(0),
            held_then: AtomicU64::new(0),
            descriptors_left: AtomicU64::new(u64::MAX),
            refused: Default::default(),
            drain_rate: DrainRate::default(),
            refused_lately: AtomicU64::new(0),
            requests: Arc::clone(requests),
        }
    }

    /// The most requests of the data plane that may be under way.
    pub(super) fn most(&self) -> u64 {
        self.most
    }

    /// Lets a request in whose head announces so many bytes, or says why not.
    pub(super) fn admit(&self, priority: Priority, announced: u64) -> Result<Place, Error> {
        self.try_admit(priority, announced).map_err(|limit| self.refuse(limit, priority))
    }

    /// The same, for whoever comes again: a refusal is neither counted nor told.
    pub(super) fn try_admit(&self, priority: Priority, announced: u64) -> Result<Place, Limit> {
        let most = mark(self.most, priority);
        let count = self.under_way.enter_below(most).ok_or(Limit::InFlight)?;
        if self.under_way.get() > FLOOR {
            self.check_samples(priority, announced)?;
        }
        Ok(Place { _count: count, bytes: self.try_take_bytes(priority, announced)? })
    }

    /// `bytes` of the budget, if there is room for them.
    pub(super) fn take_bytes(&self, priority: Priority, bytes: u64) -> Result<Bytes, Error> {
        self.try_take_bytes(priority, bytes).map_err(|limit| self.refuse(limit, priority))
    }

    fn try_take_bytes(&self, priority: Priority, bytes: u64) -> Result<Bytes, Limit> {
        let most = mark(self.bytes.limit(), priority);
        self.bytes.try_take_below(bytes, most).ok_or(Limit::Bytes)
    }

    fn check_samples(&self, priority: Priority, announced: u64) -> Result<(), Limit> {
        let since = self.bytes.held().saturating_sub(self.held_then.load(Relaxed));
        let used = self.resident.load(Relaxed).saturating_add(since).saturating_add(announced);
        if self.memory.is_some_and(|(most, _)| is_short_of_memory(used, most, priority)) {
            return Err(Limit::Memory);
        }
        if self.descriptors_left.load(Relaxed) < descriptors_wanted(self.reserve, priority) {
            return Err(Limit::Descriptors);
        }
        Ok(())
    }

    /// Counts that `limit` has refused a request, and says so.
    pub(super) fn refuse(&self, limit: Limit, priority: Priority) -> Error {
        self.refused[limit as usize][priority as usize].inc();
        let batch = if priority == Priority::Batch { "; batch requests are refused first" } else { "" };
        let text = format!("{}{batch}", self.explain(limit));
        Error::new(Code::Overloaded, text).with_retry_after(self.come_again())
    }

    /// What it means that a limit is reached.
    pub(super) fn explain(&self, limit: Limit) -> String {
        match limit {
            Limit::InFlight if self.set_by == "server.max_in_flight" => {
                format!("of {} requests at a time (server.max_in_flight) too many are under way already", self.most)
            }
            Limit::InFlight => {
                format!(
                    "of {} requests at a time (server.max_in_flight, set by {}) too many are under way already",
                    self.most, self.set_by
                )
            }
            Limit::Bytes => {
                "too many bytes of requests and answers are held already (server.max_buffered_bytes)".to_owned()
            }
            Limit::Memory => {
                let (most, set_by) = self.memory.unwrap_or_default();
                format!("the gateway uses too much of its {} MiB of memory ({set_by})", most >> 20)
            }
            Limit::Descriptors => "too few descriptors are left (ulimit -n)".to_owned(),
        }
    }

    /// When one who is refused should come again: all who were refused lately want a place, too.
    fn come_again(&self) -> Duration {
        retry_after(self.refused_lately.load(Relaxed), self.drain_rate.get())
    }

    /// Takes note of what the system says.
    pub(super) fn note(&self, sample: Sample) {
        self.held_then.store(self.bytes.held(), Relaxed);
        self.resident.store(sample.resident.unwrap_or(0), Relaxed);
        self.descriptors_left.store(sample.descriptors_left.unwrap_or(u64::MAX), Relaxed);
    }

    /// Takes note of how fast places come free, and how many were refused since the last look.
    pub(super) fn note_drain(&self, per_second: Option<f64>, refused: u64) {
        self.drain_rate.set(per_second);
        self.refused_lately.store(refused, Relaxed);
    }

    /// How many requests each limit has refused so far.
    pub(super) fn refused(&self) -> Refused {
        self.refused.each_ref().map(|limit| limit.each_ref().map(Counter::get))
    }

    /// How many requests that had been let in have ended.
    pub(super) fn freed(&self) -> u64 {
        self.requests.ended_inside()
    }
}

/// How much of `most` a request of this priority may use; never nothing.
fn mark(most: u64, priority: Priority) -> u64 {
    match priority {
        Priority::Interactive => most,
        // Less than `most`, so it fits again.
        Priority::Batch => ((u128::from(most) * u128::from(BATCH_PERCENT) / 100) as u64).max(1),
    }
}

fn is_short_of_memory(used: u64, most: u64, priority: Priority) -> bool {
    let percent = MEMORY_PERCENT[usize::from(priority == Priority::Interactive)];
    u128::from(used) * 100 > u128::from(most) * u128::from(percent)
}

fn descriptors_wanted(reserve: u64, priority: Priority) -> u64 {
    match priority {
        Priority::Interactive => reserve / 2,
        Priority::Batch => reserve - reserve / 4,
    }
}

/// The most workers that all providers together may have.
fn workers(config: &Config) -> u64 {
    let most = config.providers.iter().map(|provider| match provider.sizing {
        Sizing::Given => provider.concurrency,
        Sizing::Auto { most, .. } => most,
    });
    most.map(|most| most as u64).sum()
}

/// `max_in_flight: "auto"`: what threads and memory allow, and what sets it.
///
/// Each request under way holds its connection's thread while it waits, and beside that a worker's while it runs. So of the
/// threads that connections may use, those of all workers are taken off, and the services', at most half of them; an eighth
/// of what is left is kept for connections whose requests are just being refused. A stream that runs holds only its
/// worker's, so this errs on the safe side. What it is to be beyond that, [`BYTES_PER_REQUEST`] says.
fn auto(conn_share: u64, workers: u64, providers: u64, memory: Option<(u64, &'static str)>) -> (u64, &'static str) {
    let others = workers.saturating_add(SERVICE_THREADS + providers).min(conn_share / 2);
    let left = conn_share - others;
    let by_threads = ((left - left / 8).max(1), "the limit of threads");
    let by_memory = memory.map(|(most, set_by)| ((most / 2 / BYTES_PER_REQUEST).max(1), set_by));
    by_memory.into_iter().chain([by_threads]).min().unwrap_or(by_threads)
}

/// The limit of this process' descriptors, if there is one.
pub(super) fn nofile() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Descriptors that clients' connections leave to everything else that may come: the admin plane, look-ups, files.
fn reserve(limit: u64) -> u64 {
    (limit / 8).clamp(8, 64)
}

/// How many connections clients may have, if descriptors set it: as many as leave each of their requests one for its own
/// connection upstream. Those open now are taken, and [`OPENED_LATER`] will be.
pub(super) fn connections(config: &Config) -> Option<Connections> {
    let in_process =
        |provider: &crate::config::Provider| provider.kind == Kind::Sim && provider.network.base_url.is_empty();
    // The simulated provider of this process holds the other end of its connections, too.
    let each = if config.providers.iter().any(in_process) { 2 } else { 1 };
    let limit = nofile()?;
    let open = open_fds_below(limit)? + OPENED_LATER;
    let most = slots_of(limit, open, workers(config), each);
    Some(Connections { most, turned_away: (reserve(limit) / 2).min(Limits::MAX_TURNED_AWAY) })
}

/// There are never more connections upstream than workers, nor than clients that ask.
fn slots_of(limit: u64, open: u64, workers: u64, each: u64) -> u64 {
    let rest = limit.saturating_sub(open + reserve(limit));
    rest.saturating_sub(workers.saturating_mul(each)).max(rest / (1 + each)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn load(most: u64, bytes: u64) -> Load {
        let config = format!(r#"{{ "server": {{ "max_in_flight": {most} }} }}"#);
        let config = Config::from_json(&config, &|_| None).expect("a configuration");
        let threads = Threads::new(64, 1 << 20);
        Load {
            memory: Some((1000, "the test")),
            ..Load::new(&config, &threads, ByteBudget::new(bytes), &Arc::default())
        }
    }

    #[test]
    fn batch_is_refused_first_and_what_is_let_in_is_counted_exactly() {
        let load = load(8, 1000);
        let admit = |priority| load.admit(priority, 10);
        let held: Vec<_> = (0..6).map(|_| admit(Priority::Batch).expect("below the mark")).collect();
        let error = admit(Priority::Batch).expect_err("at the mark");
        assert_eq!((error.code(), error.retry_after()), (Code::Overloaded, Some(Duration::from_secs(1))));
        let rest: Vec<_> = (0..2).map(|_| admit(Priority::Interactive).expect("below the limit")).collect();
        assert!(admit(Priority::Interactive).is_err() && admit(Priority::Batch).is_err());
        assert_eq!(load.refused()[Limit::InFlight as usize], [1, 2]);
        drop((held, rest));
        assert_eq!((load.under_way.get(), load.bytes.held()), (0, 0));
    }

    #[test]
    fn a_mark_is_three_quarters_and_never_nothing() {
        for (most, batch) in [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (100, 75), (1 << 30, (1 << 30) / 4 * 3)] {
            assert_eq!(mark(most, Priority::Batch), batch, "{most}");
            assert_eq!(mark(most, Priority::Interactive), most);
        }
        assert!(mark(u64::MAX, Priority::Batch) < u64::MAX);
    }

    #[test]
    fn bytes_are_refused_to_batch_first_and_give_the_place_back() {
        let load = load(100, 1000);
        let held = load.admit(Priority::Interactive, 700).expect("room");
        assert!(load.admit(Priority::Batch, 100).is_err());
        let mut more = load.admit(Priority::Interactive, 300).expect("room");
        assert!(load.admit(Priority::Interactive, 1).is_err());
        assert_eq!((load.refused()[Limit::Bytes as usize], load.under_way.get()), ([1, 1], 2));
        more.settle(100);
        assert_eq!(load.bytes.held(), 800);
        drop(held);
    }

    #[test]
    fn memory_counts_what_was_taken_since_the_sample_and_refuses_nobody_below_the_floor() {
        let load = load(100, 10_000);
        let held: Vec<_> = (0..FLOOR).map(|_| load.admit(Priority::Interactive, 0).expect("room")).collect();
        let note = |resident| load.note(Sample { resident: Some(resident), descriptors_left: None });
        note(700);
        assert!(load.admit(Priority::Batch, 101).is_err() && load.admit(Priority::Interactive, 201).is_err());
        let more = load.admit(Priority::Interactive, 200).expect("90 % of it");
        assert!(load.admit(Priority::Interactive, 1).is_err(), "what was taken meanwhile counts");
        drop(more);
        note(5000);
        assert!(load.admit(Priority::Interactive, 0).is_err());
        drop(held);
        assert!(load.admit(Priority::Batch, 0).is_ok(), "refusing the last ones brings nothing back");
        assert_eq!(load.refused()[Limit::Memory as usize], [3, 1]);
    }

    #[test]
    fn descriptors_that_run_short_are_kept_for_those_who_are_in() {
        let load = Load { reserve: 64, ..load(100, 1000) };
        let _held: Vec<_> = (0..FLOOR).map(|_| load.admit(Priority::Interactive, 0).expect("room")).collect();
        for (left, batch, all) in [(48, true, true), (47, false, true), (32, false, true), (31, false, false)] {
            load.note(Sample { resident: None, descriptors_left: Some(left) });
            assert_eq!(load.admit(Priority::Batch, 0).is_ok(), batch, "{left}");
            assert_eq!(load.admit(Priority::Interactive, 0).is_ok(), all, "{left}");
        }
    }

    #[test]
    fn auto_is_what_threads_and_memory_allow() {
        let by = |share, workers, memory| auto(share, workers, 1, memory);
        assert_eq!(by(16_094, 64, None), (14_012, "the limit of threads"));
        assert_eq!(by(16_094, 64, Some((512 * MIB, "the cgroup"))), (4096, "the cgroup"));
        assert_eq!(by(28, 64, None).0, 13, "workers are counted as at most half");
        assert_eq!(by(1, 1, Some((1, "tiny"))).0, 1);
    }

    #[test]
    fn connections_leave_descriptors_for_what_their_requests_need() {
        for (limit, open, workers, each, slots) in [
            (20_000, 30, 64, 1, 19_842),
            (1024, 30, 64, 2, 802),
            (64, 24, 64, 1, 16),
            (64, 24, 64, 2, 10),
            (16, 20, 8, 1, 1),
        ] {
            let found = slots_of(limit, open, workers, each);
            assert_eq!(found, slots, "{limit} descriptors");
            assert!(slots == 1 || open + found + found.min(workers) * each + reserve(limit) <= limit);
        }
    }
}
