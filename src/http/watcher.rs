//! One thread on epoll for every socket that holds no thread, and for the clients of requests that take long.
//!
//! **Protocol.** A connection that waits is *parked*: it is put into the table first and armed in epoll second, so an
//! event finds it. An event, its expiry, or an eviction takes it out; whoever took it owns it. A request that asks for it is
//! *watched*: it stands in a slab, and only if it is still there after [`PATIENCE`] does the watcher's tick register its
//! socket for the client's leaving. A client's FIN counts as leaving; bytes that arrive do not.
//!
//! **Invariants.** I9: an event carries its connection's number, which is never reused, so that a late one for a closed
//! connection finds nothing, whatever became of its descriptor. A watched request is registered under the lock under which
//! it is taken out, so a registration never comes after its undoing, nor over a later parking. What stays armed in epoll
//! after that says only "this client has left", which stays true for the connection's life, and finds no request. Every
//! registration is one-shot. I4: both tables hold at most one entry a connection.
//!
//! **Lock order.** Both tables are leaves, never held together. Registering calls `epoll_ctl` under one of them: it edits a
//! table of the kernel's, and neither blocks nor locks anything of ours.
//!
//! **Shutdown.** The thread ends when the last handle drops. It holds no connection then: a parked one holds a handle
//! through its server.
//!
//! **Panics.** The thread is a service: it goes on after one, and its tables stand outside it. The connection at which it
//! happened is closed.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::connection::Connection;
use super::parking::{Parked, Parking, Wait};
use super::running::{Running, Watched};
use super::server::StartError;
use crate::sync::locks::classes;
use crate::sync::{CancelReason, CancelToken, Leaf, Role, State, Thread, Threads, threads};
use crate::time::{Deadline, now};

/// How long a request runs before its client is watched.
const PATIENCE: Duration = Duration::from_millis(50);

/// How often requests are looked at that may have run so long: a client that leaves early is noticed at the latest this
/// much after [`PATIENCE`].
const TICK: Duration = Duration::from_millis(25);

/// The longest sleep without anything to wait for; a bound, not a need.
const LONGEST: Duration = Duration::from_secs(60);

/// The most events taken at a time.
const EVENTS: usize = 256;

/// The number that stands for the watcher's own wake-up; connections are numbered from 1.
const WAKE: u64 = 0;

/// How long the last handle waits for the thread.
const JOIN: Duration = Duration::from_secs(1);

/// What a connection's socket is armed for while a request runs.
const GONE: epoll::EventFlags = epoll::EventFlags::RDHUP.union(epoll::EventFlags::HUP).union(epoll::EventFlags::ERR);

/// The handle of the watcher; its last drop ends the thread.
#[derive(Debug)]
pub struct Watcher {
    inner: Arc<Inner>,
    thread: Option<Thread>,
}

#[derive(Debug)]
struct Inner {
    epoll: OwnedFd,
    wake: OwnedFd,
    woken: AtomicBool,
    quit: AtomicBool,
    running: Leaf<Running>,
    parking: Leaf<Table>,
}

#[derive(Debug, Default)]
struct Table {
    parking: Parking,
    /// When the thread wakes by itself.
    planned: Option<Instant>,
}

impl Watcher {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system refuses a descriptor, or `threads` a thread.
    pub fn start(threads: &Threads) -> Result<Arc<Self>, StartError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(StartError::io)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(StartError::io)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN).map_err(StartError::io)?;
        let inner = Arc::new(Inner {
            epoll,
            wake,
            woken: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            running: Leaf::new(&classes::WATCHER, Running::new()),
            parking: Leaf::new(&classes::WATCHER, Table::default()),
        });
        let own = Arc::clone(&inner);
        // Outside the service's work, so that a panic in the middle loses no event: each is armed for once.
        let mut left = Vec::with_capacity(EVENTS);
        let thread =
            threads.service(Role::Watcher, "watcher", move || own.run(&mut left)).map_err(StartError::Spawn)?;
        Ok(Arc::new(Self { inner, thread: Some(thread) }))
    }

    /// Has `token` cancelled when the client of this connection leaves, once [`PATIENCE`] has passed since `arrived`.
    pub(super) fn watch(&self, connection: &Connection, token: &CancelToken, arrived: Instant) -> Watch {
        let watched = Watched {
            connection: connection.id(),
            socket: Arc::clone(connection.socket()),
            token: token.clone(),
            due: arrived + PATIENCE,
        };
        let (key, asleep) = self.inner.running.lock().insert(watched);
        if asleep {
            self.inner.wake();
        }
        Watch { inner: Arc::clone(&self.inner), key }
    }

    /// Parks a connection until `expiry`.
    pub(super) fn park(&self, mut connection: Box<Connection>, wait: Wait, expiry: Instant) {
        let (id, socket, known) = (connection.id(), Arc::clone(connection.socket()), connection.was_armed());
        let _idle = (!matches!(wait, Wait::Drain { .. })).then(|| connection.server().count_idle());
        let mut table = self.inner.parking.lock();
        table.parking.insert(Parked { connection, wait, expiry, _idle });
        let early = table.planned.is_some_and(|planned| expiry < planned);
        drop(table);
        if early {
            self.inner.wake();
        }
        if let Err(error) = self.inner.arm(&socket, id, epoll::EventFlags::IN | GONE, known) {
            // Without an event it would stay parked until it expires: better closed at once.
            log::warn!("an idle connection cannot be watched, and is closed: {error}");
            drop(self.take(id));
        }
    }

    /// Takes out the parked connection of this server that gives way first: one being closed, if `drains`, or the longest
    /// idle.
    pub(super) fn take_first(&self, server: u64, drains: bool) -> Option<Parked> {
        self.inner.parking.lock().parking.take_first(server, drains)
    }

    /// Takes a parked connection out, if it is still there.
    pub(super) fn take(&self, id: u64) -> Option<Parked> {
        self.inner.parking.lock().parking.take(id)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.inner.quit.store(true, Ordering::Release);
        self.inner.wake();
        if let Some(thread) = self.thread.take() {
            // It ends at its next look at `quit`, in any case.
            let _ = thread.join(Deadline::after(JOIN));
        }
    }
}

/// Keeps a request watched; once it has dropped, no leaving of the client cancels the request any more.
#[derive(Debug)]
#[must_use = "dropping it ends the watch at once"]
pub(super) struct Watch {
    inner: Arc<Inner>,
    key: u32,
}

impl Watch {
    /// Has the client watched from the next tick on, however short the request has run.
    pub(super) fn hurry(&self) {
        self.inner.running.lock().hurry(self.key, now());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let watched = self.inner.running.lock().remove(self.key);
        drop(watched);
    }
}

impl Inner {
    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // A full counter wakes as well, and nothing else can go wrong with it.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    /// Arms a socket for one event. `known` says that epoll has probably seen it before; a wrong guess costs one call more.
    fn arm(&self, socket: &TcpStream, id: u64, flags: epoll::EventFlags, known: bool) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(id);
        let flags = flags | epoll::EventFlags::ONESHOT;
        if known {
            match epoll::modify(&self.epoll, socket, data, flags) {
                Err(Errno::NOENT) => epoll::add(&self.epoll, socket, data, flags),
                result => result,
            }
        } else {
            match epoll::add(&self.epoll, socket, data, flags) {
                Err(Errno::EXIST) => epoll::modify(&self.epoll, socket, data, flags),
                result => result,
            }
        }
    }

    /// Runs until told to quit. `left` holds what a run that panicked had not come to yet.
    fn run(&self, left: &mut Vec<(u64, epoll::EventFlags)>) {
        let mut events = Vec::with_capacity(EVENTS);
        let mut next_tick = now();
        while !self.quit.load(Ordering::Acquire) {
            if left.is_empty() {
                if let Err(error) = self.wait(&mut events, next_tick) {
                    log::error!("epoll_wait failed: {error}");
                    return;
                }
                // Copied out one by one: the kernel's layout is packed.
                left.extend(events.drain(..).map(|event| (event.data.u64(), event.flags)));
            }
            let _round = threads::round(threads::ROUND);
            threads::count_job();
            while let Some((id, flags)) = left.pop() {
                self.event(id, flags);
            }
            let now = now();
            if now >= next_tick {
                self.register_due(now);
                next_tick = now + TICK;
            }
            self.expire(now);
        }
    }

    /// Sleeps until something is to be done, and takes the events that there are.
    fn wait(&self, events: &mut Vec<epoll::Event>, next_tick: Instant) -> Result<(), Errno> {
        let timeout = self.plan(next_tick);
        let _resting = threads::rest(State::Io, LONGEST);
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// How long to sleep: until the next tick, if one is wanted, or the next expiry.
    fn plan(&self, next_tick: Instant) -> Timespec {
        let now = now();
        let ticks = self.running.lock().wants_tick(now);
        let mut until = now + LONGEST;
        if ticks {
            until = until.min(next_tick.max(now));
        }
        let mut table = self.parking.lock();
        until = until.min(table.parking.next_expiry().unwrap_or(until));
        table.planned = Some(until);
        drop(table);
        let sleep = until.saturating_duration_since(now);
        // A time-out is whole milliseconds to the kernel: rounded up, so that what is waited for has come.
        Timespec { tv_sec: sleep.as_secs().cast_signed(), tv_nsec: i64::from(sleep.subsec_nanos()) }
    }

    fn event(&self, id: u64, flags: epoll::EventFlags) {
        if id == WAKE {
            // Emptied first: whoever finds `woken` set until then is heard in this round, and whoever comes after writes anew.
            // The other way round, what is written in between would be emptied, and nobody would write again.
            let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
            self.woken.swap(false, Ordering::AcqRel);
            return;
        }
        let gone = flags.intersects(GONE);
        let running = self.running.lock();
        if let Some(watched) = running.registered(id) {
            if gone {
                let token = watched.token.clone();
                drop(running);
                token.cancel_for(CancelReason::ClientGone);
            } else {
                // Armed by a parking that was overtaken: bytes that came used up the one shot.
                let _ = self.arm(&watched.socket, id, GONE, true);
            }
            return;
        }
        drop(running);
        let parked = self.parking.lock().parking.take(id);
        if let Some(parked) = parked {
            parked.connection.ready(parked.wait, parked.expiry, gone);
        }
    }

    fn register_due(&self, now: Instant) {
        loop {
            let mut running = self.running.lock();
            let Some(watched) = running.next_due(now) else { return };
            let armed = self.arm(&watched.socket, watched.connection, GONE, false);
            drop(running);
            if let Err(error) = armed {
                // The request goes on unwatched; its own deadline still ends it.
                log::warn!("a client cannot be watched, and its leaving is not seen before its request ends: {error}");
            }
        }
    }

    fn expire(&self, now: Instant) {
        loop {
            let expired = self.parking.lock().parking.take_expired(now);
            let Some(parked) = expired else { return };
            parked.connection.expired(parked.wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wake_up_is_lost_however_many_come_at_once() {
        for _ in 0..20 {
            let threads = Threads::new(10, 2 << 20);
            let watcher = Watcher::start(&threads).expect("a watcher");
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| (0..100_000).for_each(|_| watcher.inner.wake()));
                }
            });
            // The last one: it does not end before it has heard of it.
            drop(watcher);
            let fuse = Deadline::after(Duration::from_secs(5));
            while threads.active() > 0 {
                assert!(!fuse.passed(), "it sleeps on");
                std::thread::yield_now();
            }
        }
    }
}
