//! Every thread of a gateway: named, numbered, limited, watched, and ended by joining.
//!
//! **Protocol.** [`Threads::spawn`] runs one piece of work; its panic is caught, logged with the thread's name, counted,
//! and told to the owner as the thread's end. [`Threads::service`] runs work that must go on: a panic is caught, counted,
//! and the work is begun again on the same thread. Past the limit a spawn is an error, never a panic; the last few threads
//! below it are kept for those who replace workers and for those who look after the gateway.
//!
//! **Shutdown.** A thread's `done` channel closes when its work is over; joining waits for that under a deadline, so that
//! a straggler is reported by name instead of blocking the one who waits.
//!
//! **Lock order.** The table of threads is a leaf. Read `state` for what a thread says of itself, `stats` for what is told of it.

mod role;
mod state;
mod stats;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

pub use role::Role;
pub use state::{State, StateGuard, enter};
pub use stats::{Ended, RoleRow, ThreadRow, ThreadStats};

use super::locks::{Leaf, classes};
use crate::ids::ThreadId;
use crate::metrics::{CountGuard, Counter, Gauge, Histogram};
use crate::time::{Deadline, micros_of, now};
use state::Entry;

/// How many ended threads are remembered.
const ENDED_KEPT: usize = 256;

/// Stack sizes told apart, and by how much, in bytes: together the reach of a second-level cache's sets.
const STACK_COLOURS: u64 = 31;
const STACK_PAGE: usize = 4096;

/// The pause before a service that panicked begins again, so that one that panics at once does not spin.
const RESTART_PAUSE: Duration = Duration::from_millis(10);

/// What the owner of a thread is told about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThreadEvent {
    /// It runs.
    Spawned(ThreadId),
    /// It ended, by panic or not.
    Ended {
        /// Which.
        id: ThreadId,
        /// Whether by a panic.
        panicked: bool,
    },
}

/// Why a thread was not started.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnError {
    /// The limit is reached.
    Limit {
        /// The limit.
        limit: u64,
    },
    /// The operating system refused.
    Os(std::io::Error),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { limit } => write!(f, "the limit of {limit} threads is reached (threads.max)"),
            Self::Os(error) => write!(f, "the operating system refused a thread: {error}"),
        }
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Limit { .. } => None,
            Self::Os(error) => Some(error),
        }
    }
}
#[derive(Default)]
struct RoleFigures {
    active: Arc<Gauge>,
    jobs: Counter,
    lifetime: Histogram,
}

struct Registry {
    limit: u64,
    stack: usize,
    next: AtomicU64,
    active: Arc<Gauge>,
    table: Leaf<Table>,
    roles: [RoleFigures; Role::ALL.len()],
    spawned: Counter,
    finished: Counter,
    panics: Counter,
    refused: Counter,
}

#[derive(Default)]
struct Table {
    live: BTreeMap<ThreadId, Arc<Entry>>,
    ended: VecDeque<Ended>,
}

/// The threads of one gateway. Cheap to clone.
#[derive(Clone)]
pub struct Threads(Arc<Registry>);

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("active", &self.0.active.get()).field("limit", &self.0.limit).finish()
    }
}

impl Threads {
    /// A registry that runs at most `limit` threads at a time, each with `stack` bytes.
    #[must_use]
    pub fn new(limit: u64, stack: usize) -> Self {
        Self(Arc::new(Registry {
            limit,
            stack,
            next: AtomicU64::new(1),
            active: Arc::default(),
            table: Leaf::new(&classes::THREADS, Table::default()),
            roles: Default::default(),
            spawned: Counter::new(),
            finished: Counter::new(),
            panics: Counter::new(),
            refused: Counter::new(),
        }))
    }

    /// How many run now.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.0.active.get()
    }

    /// The most that may run at a time.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Runs `work` on a thread of its own.
    ///
    /// # Errors
    /// If the limit is reached or the operating system refuses; `work` is dropped then.
    pub fn spawn(&self, role: Role, name: &str, work: impl FnOnce() + Send + 'static) -> Result<Thread, SpawnError> {
        self.start(role, name, None, work)
    }

    /// Like [`spawn`](Self::spawn), and tells `owner` of the thread's start and end.
    ///
    /// An event that finds `owner` full is lost: an owner that must not miss one makes its channel as deep as the number
    /// of threads it starts, twice.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn spawn_owned(
        &self,
        role: Role,
        name: &str,
        owner: Sender<ThreadEvent>,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<Thread, SpawnError> {
        self.start(role, name, Some(owner), work)
    }

    /// Runs `work` on a thread of its own, again after each panic, until it returns.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn service(
        &self,
        role: Role,
        name: &str,
        mut work: impl FnMut() + Send + 'static,
    ) -> Result<Thread, SpawnError> {
        let registry = Arc::clone(&self.0);
        let label = name.to_owned();
        self.start(role, name, None, move || {
            while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut work)) {
                registry.note_panic(&label, &*panic);
                std::thread::park_timeout(RESTART_PAUSE);
            }
        })
    }

    fn start(
        &self,
        role: Role,
        name: &str,
        owner: Option<Sender<ThreadEvent>>,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<Thread, SpawnError> {
        let registry = &self.0;
        let Some(count) = registry.active.enter_below(role.share_of(registry.limit)) else {
            registry.refused.inc();
            return Err(SpawnError::Limit { limit: registry.limit });
        };
        let id = ThreadId(registry.next.fetch_add(1, Ordering::Relaxed));
        let entry = Arc::new(Entry::new(id, name, role));
        let (done, done_signal) = bounded::<Infallible>(0);
        let life = Life {
            role_count: registry.roles[role as usize].active.enter(),
            count,
            registry: Arc::clone(registry),
            entry: Arc::clone(&entry),
            panicked: false,
            done,
            owner: Owner { events: owner, last: None },
        };
        registry.table.lock().live.insert(id, Arc::clone(&entry));
        // The name is cut because Linux takes 15 bytes of it; the whole one stands in the table.
        let short: String = name.chars().filter(|c| *c != '\0').collect();
        #[expect(clippy::disallowed_methods, reason = "this is the home of thread starts")]
        let spawned =
            std::thread::Builder::new().name(short).stack_size(registry.stack + colour(id)).spawn(move || {
                let mut life = life;
                state::adopt(&life.entry);
                life.entry.enter(State::Running);
                life.owner.tell(ThreadEvent::Spawned(life.entry.id));
                if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                    life.panicked = true;
                    life.registry.note_panic(&life.entry.name, &*panic);
                }
            });
        match spawned {
            Ok(handle) => {
                registry.spawned.inc();
                Ok(Thread { id, name: Arc::clone(&entry.name), done: done_signal, handle: Some(handle) })
            }
            Err(error) => {
                // `life` went with the closure: its drop has taken the entry out again.
                registry.refused.inc();
                Err(SpawnError::Os(error))
            }
        }
    }

    /// Counts one job done by the current thread's role.
    pub fn count_job(&self, role: Role) {
        self.0.roles[role as usize].jobs.inc();
    }

    /// Every thread that runs now.
    #[must_use]
    pub fn list(&self) -> Vec<ThreadRow> {
        let live: Vec<_> = self.0.table.lock().live.values().cloned().collect();
        let now = now();
        live.iter().map(|entry| entry.row(now)).collect()
    }

    /// The threads' part of `/stats`.
    #[must_use]
    pub fn stats(&self) -> ThreadStats {
        let registry = &self.0;
        ThreadStats {
            active: registry.active.get(),
            limit: registry.limit,
            peak: registry.active.peak(),
            spawned_total: registry.spawned.get(),
            finished_total: registry.finished.get(),
            panics_total: registry.panics.get(),
            refused_total: registry.refused.get(),
            stuck: None,
            by_role: Role::ALL
                .into_iter()
                .map(|role| {
                    let figures = &registry.roles[role as usize];
                    let row = RoleRow {
                        active: figures.active.get(),
                        jobs_total: figures.jobs.get(),
                        lifetime_us: figures.lifetime.dist().unwrap_or_default(),
                    };
                    (role, row)
                })
                .collect(),
            ended: registry.table.lock().ended.iter().cloned().collect(),
        }
    }
}

/// What a thread's stack is longer than asked for, so that stacks do not all begin at the same place of the cache.
///
/// Stacks are mapped one below the other; of equal size, a power of two, they would put the same variable of every thread
/// into the same few cache sets.
fn colour(id: ThreadId) -> usize {
    (id.0 % STACK_COLOURS) as usize * STACK_PAGE
}

impl Registry {
    fn note_panic(&self, name: &str, panic: &(dyn std::any::Any + Send)) {
        self.panics.inc();
        log::error!("thread {name} panicked: {}", panic_text(panic));
    }
}

/// The words of a panic, as far as it has any.
#[must_use]
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

/// A running thread's guards. Field order is drop order: `done` closes when everything is counted, and the owner hears of
/// the end after that, so that one who looks at `done` because of it finds it closed.
struct Life {
    role_count: CountGuard,
    count: CountGuard,
    registry: Arc<Registry>,
    entry: Arc<Entry>,
    panicked: bool,
    done: Sender<Infallible>,
    owner: Owner,
}

/// Whoever wants to hear of a thread's start and end; the last word is said when this drops.
struct Owner {
    events: Option<Sender<ThreadEvent>>,
    last: Option<ThreadEvent>,
}

impl Owner {
    fn tell(&self, event: ThreadEvent) {
        if let Some(events) = &self.events {
            // Lost if the owner is full or gone, as `spawn_owned` says.
            let _ = events.try_send(event);
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(last) = self.last.take() {
            self.tell(last);
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = (&self.role_count, &self.count, &self.done);
        let ran = self.entry.enter(State::Finished) != State::Created;
        let lifetime_us = micros_of(now().saturating_duration_since(self.entry.born));
        let mut table = self.registry.table.lock();
        table.live.remove(&self.entry.id);
        if !ran {
            return;
        }
        if table.ended.len() == ENDED_KEPT {
            table.ended.pop_front();
        }
        table.ended.push_back(Ended {
            id: self.entry.id,
            name: Arc::clone(&self.entry.name),
            role: self.entry.role,
            lifetime_us,
            panicked: self.panicked,
        });
        drop(table);
        self.registry.finished.inc();
        self.registry.roles[self.entry.role as usize].lifetime.record(lifetime_us);
        self.owner.last = Some(ThreadEvent::Ended { id: self.entry.id, panicked: self.panicked });
    }
}

/// The owner's handle of a thread.
pub struct Thread {
    id: ThreadId,
    name: Arc<str>,
    done: Receiver<Infallible>,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> ThreadId {
        self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A channel that closes when the thread's work is over.
    #[must_use]
    pub fn done(&self) -> &Receiver<Infallible> {
        &self.done
    }

    /// Whether this is the thread that asks.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.handle.as_ref().is_some_and(|handle| handle.thread().id() == std::thread::current().id())
    }

    /// Waits until the thread is over. A thread that joins itself returns at once: it ends when its caller returns.
    ///
    /// # Errors
    /// If it still runs at the deadline; the handle comes back for another try or a report.
    pub fn join(mut self, deadline: Deadline) -> Result<(), Self> {
        if self.is_current() {
            return Ok(());
        }
        let _waiting = enter(State::WaitingChannel);
        match self.done.recv_deadline(deadline.instant()) {
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => Err(self),
            Ok(_) | Err(crossbeam_channel::RecvTimeoutError::Disconnected) => {
                if let Some(handle) = self.handle.take() {
                    // Its panic was caught and counted inside; what is left to wait for is the stack's unmapping.
                    let _ = handle.join();
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Thread").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUSE: Duration = Duration::from_secs(5);

    fn threads(limit: u64) -> Threads {
        Threads::new(limit, 256 * 1024)
    }

    #[test]
    fn past_the_limit_a_spawn_is_an_error_and_the_place_comes_back() {
        let threads = threads(1);
        let (hold, held) = bounded::<()>(0);
        let first = threads.spawn(Role::Conn, "first", move || assert!(held.recv().is_err())).expect("room for one");
        assert!(matches!(threads.spawn(Role::Conn, "second", || ()), Err(SpawnError::Limit { limit: 1 })));
        drop(hold);
        first.join(Deadline::after(FUSE)).expect("it ends");
        threads.spawn(Role::Conn, "third", || ()).expect("room again").join(Deadline::after(FUSE)).expect("it ends");
        let stats = threads.stats();
        assert_eq!(
            (stats.active, stats.peak, stats.spawned_total, stats.finished_total, stats.refused_total),
            (0, 1, 2, 2, 1)
        );
    }

    #[test]
    fn a_panic_is_caught_counted_and_told_to_the_owner() {
        let threads = threads(4);
        let (tell, told) = bounded(4);
        let thread = threads.spawn_owned(Role::Worker, "dies", tell, || panic!("of its own accord")).expect("room");
        let id = thread.id();
        thread.join(Deadline::after(FUSE)).expect("it ends");
        assert_eq!(told.recv_timeout(FUSE), Ok(ThreadEvent::Spawned(id)));
        assert_eq!(told.recv_timeout(FUSE), Ok(ThreadEvent::Ended { id, panicked: true }));
        assert_eq!(threads.stats().panics_total, 1);
        assert!(threads.stats().ended[0].panicked);
    }

    #[test]
    fn an_owner_that_hears_of_an_end_finds_the_thread_done() {
        let threads = threads(4);
        for _ in 0..500 {
            let (tell, told) = bounded(4);
            let thread = threads.spawn_owned(Role::Worker, "brief", tell, || ()).expect("room");
            while !matches!(told.recv_timeout(FUSE).expect("it is told"), ThreadEvent::Ended { .. }) {}
            assert_eq!(thread.done().try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected));
        }
    }

    #[test]
    fn connections_leave_threads_to_workers_and_both_to_the_rest() {
        let threads = threads(16);
        let (hold, held) = bounded::<Infallible>(0);
        let start = |role| {
            let held = held.clone();
            threads.spawn(role, "held", move || assert!(held.recv().is_err()))
        };
        let running: Vec<_> = [(Role::Conn, 14), (Role::Worker, 1), (Role::Admin, 1)]
            .into_iter()
            .flat_map(|(role, fit)| {
                let running: Vec<_> = (0..fit).map(|_| start(role).expect("its share")).collect();
                assert!(matches!(start(role), Err(SpawnError::Limit { limit: 16 })), "{role:?}");
                running
            })
            .collect();
        drop(hold);
        running.into_iter().for_each(|thread| thread.join(Deadline::after(FUSE)).expect("it ends"));
    }

    #[test]
    fn a_service_goes_on_after_a_panic() {
        let threads = threads(4);
        let mut round = 0;
        let thread = threads
            .service(Role::Stats, "stubborn", move || {
                round += 1;
                assert!(round >= 3, "not yet");
            })
            .expect("room");
        thread.join(Deadline::after(FUSE)).expect("it ends in its third round");
        assert_eq!(threads.stats().panics_total, 2);
    }

    #[test]
    fn a_straggler_is_reported_by_name() {
        let threads = threads(4);
        let (hold, held) = bounded::<()>(0);
        let thread = threads.spawn(Role::Worker, "sim-worker-1", move || assert!(held.recv().is_err())).expect("room");
        let thread = thread.join(Deadline::after(Duration::from_millis(5))).expect_err("it still runs");
        assert_eq!(thread.name(), "sim-worker-1");
        drop(hold);
        thread.join(Deadline::after(FUSE)).expect("it ends");
    }

    #[test]
    fn the_list_shows_what_each_thread_does() {
        let threads = threads(4);
        let (hold, held) = bounded::<()>(0);
        let (ready, is_ready) = bounded::<()>(1);
        let thread = threads
            .spawn(Role::Worker, "waits", move || {
                let _state = enter(State::WaitingChannel);
                ready.send(()).expect("the test listens");
                assert!(held.recv().is_err());
            })
            .expect("room");
        is_ready.recv_timeout(FUSE).expect("it runs");
        assert_eq!(threads.list()[0].state, State::WaitingChannel);
        drop(hold);
        thread.join(Deadline::after(FUSE)).expect("it ends");
        assert!(threads.list().is_empty());
    }
}
