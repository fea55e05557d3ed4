//! Every thread of a gateway: named, numbered, limited, watched, and ended by joining.
//!
//! **Protocol.** [`Threads::spawn`] runs one piece of work; its panic is caught, logged with the thread's name, counted,
//! and told to the owner as the thread's end. [`Threads::service`] runs work that must go on: a panic is caught, counted,
//! and the work is begun again on the same thread, after a pause that grows while it panics again and again. Past the limit
//! a spawn is an error, never a panic; the last few threads below it are kept for those who replace workers and for those
//! who look after the gateway, and a few for connections, however many workers there are.
//!
//! **Shutdown.** A thread's `done` channel closes when its work is over; joining waits for that under a deadline, so that
//! a straggler is reported by name instead of blocking the one who waits. A service that pauses after a panic is woken by
//! whoever joins it.
//!
//! **Lock order.** The table of threads is a leaf. Read `state` for what a thread says of itself, `panics` for what becomes
//! of its panics, `stats` for what is told of it.

mod handle;
mod panics;
mod role;
mod state;
mod stats;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

pub use handle::Thread;
pub use panics::{PanicNote, count_panic, note_panic, panic_text};
pub(crate) use panics::{brief, let_go};
pub use role::Role;
pub use state::{Due, GRACE, ROUND, Rest, State, StateGuard, count_job, due, enter, rest, round};
pub use stats::{Ended, RoleRow, ThreadRow, ThreadStats};

use super::locks::{Leaf, classes};
use crate::ids::ThreadId;
use crate::metrics::{CountGuard, Counter, Gauge, Histogram};
use crate::time::{Backoff, Stamp, micros_of, now};
use panics::Panics;
use state::Entry;

/// How many ended threads are remembered.
const ENDED_KEPT: usize = 256;

/// Stack sizes told apart, and by how much, in bytes: together the reach of a second-level cache's sets.
const STACK_COLOURS: u64 = 31;
const STACK_PAGE: usize = 4096;

/// The pause before a service that panicked begins again, so that one that panics at once does not spin. Without jitter:
/// there is nobody whom it would meet.
const RESTART: Backoff = Backoff { initial: Duration::from_millis(10), max: Duration::from_secs(1) };

/// How long a service must have run for its next panic to count as a first one.
pub const STEADY: Duration = Duration::from_secs(60);

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
        /// What sets it, and is to be raised for more.
        set_by: &'static str,
    },
    /// The operating system refused.
    Os(std::io::Error),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { limit, set_by } => {
                write!(f, "the limit of {limit} threads is reached; it is set by {set_by}")
            }
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
    /// Jobs of threads that have ended; those that run count their own. Written under the table's lock.
    jobs: Counter,
    lifetime: Histogram,
}

struct Registry {
    limit: u64,
    set_by: &'static str,
    stack: usize,
    next: AtomicU64,
    active: Arc<Gauge>,
    table: Leaf<Table>,
    roles: [RoleFigures; Role::ALL.len()],
    /// Whether some threads are kept for the role.
    served: [AtomicBool; Role::ALL.len()],
    spawned: Counter,
    finished: Counter,
    refused: Counter,
    panics: Arc<Panics>,
}

impl Registry {
    /// How many threads there may be for one more of this role. Read without a lock: of many that start at once, one or
    /// two may take what others would have kept, for which there is room above them.
    fn share_of(&self, role: Role) -> u64 {
        let active = |role: Role| self.roles[role as usize].active.get();
        let kept = Role::ALL
            .into_iter()
            .filter(|other| *other != role && self.served[*other as usize].load(Ordering::Relaxed));
        let kept = kept.map(|other| other.floor(self.limit).saturating_sub(active(other))).sum();
        role.share_of(self.limit, active(role), kept)
    }
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
    /// A registry that runs at most `limit` threads at a time, each with `stack` bytes, as `threads.max` says.
    #[must_use]
    pub fn new(limit: u64, stack: usize) -> Self {
        Self::limited(limit, "threads.max", stack)
    }

    /// A registry whose `limit` is set by something else, which is named to whoever reaches it.
    #[must_use]
    pub fn limited(limit: u64, set_by: &'static str, stack: usize) -> Self {
        Self(Arc::new(Registry {
            limit,
            set_by,
            stack,
            next: AtomicU64::new(1),
            active: Arc::default(),
            table: Leaf::new(&classes::THREADS, Table::default()),
            roles: Default::default(),
            served: Default::default(),
            spawned: Counter::new(),
            finished: Counter::new(),
            refused: Counter::new(),
            panics: Arc::new(Panics::new()),
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

    /// How many may run at a time for one more of this role to start, while none are kept for others but the reserve.
    #[must_use]
    pub fn share_of(&self, role: Role) -> u64 {
        role.share_of(self.0.limit, u64::MAX, 0)
    }

    /// What sets the limit, and is to be raised for more threads.
    #[must_use]
    pub fn limit_set_by(&self) -> &'static str {
        self.0.set_by
    }

    /// Has `listener` called at each panic, on the thread that panicked. The first one that is given stays.
    pub fn on_panic(&self, listener: impl Fn(&PanicNote) + Send + Sync + 'static) {
        self.0.panics.listen(Box::new(listener));
    }

    /// The panics of the last `within`, oldest first; the last 64 are remembered.
    #[must_use]
    pub fn recent_panics(&self, now: Instant, within: Duration) -> Vec<PanicNote> {
        self.0.panics.recent(now, within)
    }

    /// Keeps some threads for this role from now on: there is somebody for it to serve.
    pub fn keep_for(&self, role: Role) {
        self.0.served[role as usize].store(true, Ordering::Relaxed);
    }

    /// Has the next round of a thread of this role panic: for tests of what becomes of it.
    #[cfg(debug_assertions)]
    pub fn inject_panic(&self, role: Role) {
        self.0.panics.ask(role);
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
        self.start(role, name, None, move || {
            let mut failures = 0;
            loop {
                let begun = now();
                let Err(panic) = catch_unwind(AssertUnwindSafe(&mut work)) else { return };
                if now().saturating_duration_since(begun) >= STEADY {
                    failures = 0;
                }
                let pause = RESTART.delay(failures, 1.0);
                failures += 1;
                note_panic(format!("{}; it goes on in {pause:?}", panic_text(&*panic)));
                drop(panic);
                let _resting = rest(State::WaitingChannel, pause);
                // Ends early for whoever joins it, which is welcome.
                std::thread::park_timeout(pause);
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
        let Some(count) = registry.active.enter_below(registry.share_of(role)) else {
            registry.refused.inc();
            return Err(SpawnError::Limit { limit: registry.limit, set_by: registry.set_by });
        };
        let id = ThreadId(registry.next.fetch_add(1, Ordering::Relaxed));
        let entry = Arc::new(Entry::new(id, name, role, Arc::clone(&registry.panics)));
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
                life.entry.begin();
                life.owner.tell(ThreadEvent::Spawned(life.entry.id));
                if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                    life.panicked = true;
                    note_panic(panic_text(&*panic));
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

    /// Every thread that runs now.
    #[must_use]
    pub fn list(&self) -> Vec<ThreadRow> {
        let live: Vec<_> = self.0.table.lock().live.values().cloned().collect();
        let now_us = Stamp::now().micros();
        live.iter().map(|entry| entry.row(now_us)).collect()
    }

    /// The threads' part of `/stats`.
    #[must_use]
    pub fn stats(&self) -> ThreadStats {
        let registry = &self.0;
        let (now_us, mut stuck, mut jobs) = (Stamp::now().micros(), 0, [0; Role::ALL.len()]);
        let table = registry.table.lock();
        // Under the lock under which an ending thread's jobs go over to its role, so that none is missed or counted twice.
        for entry in table.live.values() {
            stuck += u64::from(entry.overdue(now_us).is_some());
            jobs[entry.role as usize] += entry.jobs();
        }
        for (jobs, figures) in jobs.iter_mut().zip(&registry.roles) {
            *jobs += figures.jobs.get();
        }
        let ended = table.ended.iter().cloned().collect();
        drop(table);
        let row = |role: Role| {
            let figures = &registry.roles[role as usize];
            let lifetime_us = figures.lifetime.dist().unwrap_or_default();
            (role, RoleRow { active: figures.active.get(), jobs_total: jobs[role as usize], lifetime_us })
        };
        ThreadStats {
            active: registry.active.get(),
            limit: registry.limit,
            peak: registry.active.peak(),
            spawned_total: registry.spawned.get(),
            finished_total: registry.finished.get(),
            panics_total: registry.panics.total.get(),
            refused_total: registry.refused.get(),
            stuck,
            by_role: Role::ALL.into_iter().map(row).collect(),
            ended,
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
        let ran = self.entry.finish();
        let lifetime_us = micros_of(now().saturating_duration_since(self.entry.born));
        let mut table = self.registry.table.lock();
        table.live.remove(&self.entry.id);
        self.registry.roles[self.entry.role as usize].jobs.add(self.entry.jobs());
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

#[cfg(test)]
mod tests;
