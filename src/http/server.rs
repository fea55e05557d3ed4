//! A listening server: what its connections share, and the handle by which it is started, watched and ended.
//!
//! **Invariants.** I2: each connection holds a [`Stay`], which gives back its slot and its place in the table. I1: a
//! connection for which there is no slot or no thread is answered 503 and closed, and counted.
//!
//! **Lock order.** The table of connections is a leaf.
//!
//! **Shutdown.** [`Server::stop_accepting`] closes the listener and the idle connections; requests under way are answered
//! with `Connection: close`. [`Server::shutdown`] then waits for the connections, until its deadline, and cuts the rest.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::Serialize;

use super::accept::Acceptor;
use super::certificates::Certificates;
use super::connection::Connection;
use super::crew::{self, Crew};
use super::head::Head;
use super::limits::Limits;
use super::refusal::Refusal;
use super::response::Response;
use super::service::{Hold, Service};
use super::watcher::Watcher;
use crate::metrics::{CountGuard, Counter, Gauge};
use crate::sync::locks::classes;
use crate::sync::threads::{SpawnError, note_panic, panic_text};
use crate::sync::{Leaf, Threads};
use crate::time::Deadline;

/// How many idle connections are looked at for one that can give way; those that have just got a request cannot.
const EVICTION_TRIES: usize = 16;

/// How long a connection that was cut may take to end.
const CUT_GRACE: Duration = Duration::from_millis(250);

/// How long stopping waits for the thread that accepts.
const STOP_GRACE: Duration = Duration::from_secs(1);

static SERVERS: AtomicU64 = AtomicU64::new(1);
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// Why a server or the watcher did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The system refused a descriptor, or the listener is of no use.
    Io(io::Error),
    /// There was no thread to be had.
    Spawn(SpawnError),
}

impl StartError {
    pub(super) fn io(error: impl Into<io::Error>) -> Self {
        Self::Io(error.into())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the system refused a socket or a descriptor: {error}"),
            Self::Spawn(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Spawn(error) => Some(error),
        }
    }
}

/// The connections' part of `/stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Connections there are.
    pub open: u64,
    /// Those of them that hold no thread: between requests, or in the middle of a slow head.
    pub idle: u64,
    /// Connections ever taken in.
    pub accepted_total: u64,
    /// Connections turned away for want of a slot or a thread.
    pub refused_total: u64,
    /// Heads that did not come in time, or handshakes of TLS.
    pub header_timeouts_total: u64,
    /// Requests refused for what they are: malformed, too long, of an unknown version or method; handshakes of TLS that
    /// failed.
    pub bad_requests_total: u64,
}

#[derive(Debug, Default)]
struct Figures {
    open: Arc<Gauge>,
    turned_away: Arc<Gauge>,
    idle: Arc<Gauge>,
    accepted: Counter,
    refused: Counter,
    header_timeouts: Counter,
    bad_requests: Counter,
}

#[derive(Debug)]
struct Table {
    open: HashMap<u64, (SocketAddr, Weak<TcpStream>)>,
    /// Each connection holds a clone, so the other end hears when the last one is over. Gone at shutdown.
    alive: Option<Sender<Infallible>>,
}

/// What the connections of one server share.
pub(super) struct Shared {
    number: u64,
    limits: Limits,
    /// TLS is spoken if there are any.
    certificates: Option<Arc<Certificates>>,
    watcher: Arc<Watcher>,
    service: Arc<dyn Service>,
    crew: Crew,
    figures: Figures,
    stopping: AtomicBool,
    table: Leaf<Table>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("number", &self.number).field("crew", &self.crew).finish_non_exhaustive()
    }
}

/// A connection's stay: its slot and its place in the table, until it drops.
#[derive(Debug)]
pub(super) struct Stay {
    id: u64,
    server: Arc<Shared>,
    _slot: CountGuard,
    _alive: Option<Sender<Infallible>>,
}

impl Stay {
    pub(super) fn server(&self) -> &Arc<Shared> {
        &self.server
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let gone = self.server.table.lock().open.remove(&self.id);
        drop(gone);
    }
}

impl Shared {
    /// The server's number: unique in this process.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.certificates.as_ref()
    }

    pub(super) fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    pub(super) fn service(&self) -> &dyn Service {
        &*self.service
    }

    /// Whether no connection is to go on after its answer.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(super) fn count_idle(&self) -> CountGuard {
        self.figures.idle.enter()
    }

    pub(super) fn count_header_timeout(&self) {
        self.figures.header_timeouts.inc();
    }

    pub(super) fn count_bad_request(&self) {
        self.figures.bad_requests.inc();
    }

    /// The service's answer to a refusal; a bare one if the service panics over it.
    pub(super) fn refusal(&self, head: Option<&Head>, refusal: &Refusal, hold: Option<Hold>) -> Response {
        catch_unwind(AssertUnwindSafe(|| self.service.refusal(head, refusal.status, &refusal.error, hold)))
            .unwrap_or_else(|panic| {
                note_panic(format!("answering a refusal: {}", panic_text(&*panic)));
                Response::new(refusal.status)
            })
    }

    /// Takes an accepted socket in: gives it a slot and a thread, or turns it away.
    pub(super) fn welcome(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        if socket.set_nodelay(true).is_err() {
            return;
        }
        match self.slot() {
            Some(slot) => {
                self.figures.accepted.inc();
                Self::dispatch(self.connection(socket, peer, slot));
            }
            None => self.turn_away(socket, peer),
        }
    }

    /// A slot, for which the longest idle connection gives way if need be.
    fn slot(&self) -> Option<CountGuard> {
        let most = self.limits.max_connections as u64;
        loop {
            // Those that were turned away give way first and hold none, so one may not be enough.
            match self.figures.open.enter_below(most) {
                None if self.evict() => {}
                slot => return slot,
            }
        }
    }

    fn turn_away(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        self.figures.refused.inc();
        // Past even these it is cut without a word: the descriptors are for those who have a slot.
        if let Some(slot) = self.figures.turned_away.enter_below(self.limits.max_turned_away) {
            self.connection(socket, peer, slot).turn_away();
        }
    }

    fn connection(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr, slot: CountGuard) -> Box<Connection> {
        let id = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let socket = Arc::new(socket);
        let mut table = self.table.lock();
        table.open.insert(id, (peer, Arc::downgrade(&socket)));
        let alive = table.alive.clone();
        drop(table);
        let stay = Stay { id, server: Arc::clone(self), _slot: slot, _alive: alive };
        Box::new(Connection::new(socket, id, peer, stay))
    }

    /// Has a connection served; if there is no thread for it, it is answered 503 and closed, unless it has sent nothing
    /// that would need one.
    pub(super) fn dispatch(connection: Box<Connection>) {
        let server = Arc::clone(connection.server());
        match crew::dispatch(&server.crew, connection) {
            Ok(()) => {}
            Err(connection) if connection.is_quiet() => connection.park(),
            Err(connection) => {
                server.figures.refused.inc();
                connection.turn_away();
            }
        }
    }

    /// Closes the longest idle connection. `false` if there is none.
    pub(super) fn evict(&self) -> bool {
        for _ in 0..EVICTION_TRIES {
            let Some(parked) = self.watcher.take_first(self.number, true) else { return false };
            if parked.connection.give_way(parked.wait) {
                return true;
            }
        }
        false
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        while let Some(parked) = self.watcher.take_first(self.number, false) {
            parked.connection.give_way(parked.wait);
        }
        self.crew.close();
    }
}

/// A running server. Dropping it stops it, without waiting.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    acceptor: Acceptor,
    name: String,
    addr: SocketAddr,
    over: Receiver<Infallible>,
}

impl Server {
    /// Serves `service` on `listener`, in plain HTTP. `name` begins the names of its threads.
    ///
    /// # Errors
    /// If the listener is of no use, the system refuses a descriptor, or `threads` a thread.
    pub fn start(
        listener: TcpListener,
        limits: Limits,
        threads: Threads,
        watcher: Arc<Watcher>,
        service: Arc<dyn Service>,
        name: &str,
    ) -> Result<Self, StartError> {
        Self::secured(listener, limits, None, threads, watcher, service, name)
    }

    /// The same in TLS, if there are `certificates`. A handshake counts as a part of its connection's first head: it has the
    /// time of one, and holds a thread only while something comes.
    ///
    /// # Errors
    /// If the listener is of no use, the system refuses a descriptor, or `threads` a thread.
    pub fn secured(
        listener: TcpListener,
        limits: Limits,
        certificates: Option<Arc<Certificates>>,
        threads: Threads,
        watcher: Arc<Watcher>,
        service: Arc<dyn Service>,
        name: &str,
    ) -> Result<Self, StartError> {
        let addr = listener.local_addr().map_err(StartError::Io)?;
        threads.keep_for(limits.role);
        let (alive, over) = bounded(0);
        let shared = Arc::new(Shared {
            number: SERVERS.fetch_add(1, Ordering::Relaxed),
            crew: Crew::new(
                &classes::LISTENER,
                &format!("{name}-conn"),
                limits.role,
                threads.clone(),
                limits.thread_idle_timeout,
                crew::run,
            ),
            limits,
            certificates,
            watcher,
            service,
            figures: Figures::default(),
            stopping: AtomicBool::new(false),
            table: Leaf::new(&classes::LISTENER, Table { open: HashMap::new(), alive: Some(alive) }),
        });
        let acceptor = Acceptor::start(listener, Arc::clone(&shared), &threads, &format!("{name}-accept"))?;
        Ok(Self { shared, acceptor, name: name.to_owned(), addr, over })
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the listener and the idle connections. What is under way goes on, and its connection closes with its answer.
    pub fn stop_accepting(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.acceptor.stop(Deadline::after(STOP_GRACE));
        self.shared.stop();
    }

    /// Stops, waits for the connections until `deadline`, and cuts those that are left. Gives the names of those that are
    /// still held by somebody then.
    #[must_use = "it names what did not end"]
    pub fn shutdown(self, deadline: Deadline) -> Vec<String> {
        self.stop_accepting();
        let alive = self.shared.table.lock().alive.take();
        drop(alive);
        if self.ends_by(deadline) {
            return Vec::new();
        }
        let sockets: Vec<_> =
            self.shared.table.lock().open.values().filter_map(|(_, socket)| socket.upgrade()).collect();
        for socket in sockets {
            // A socket that is not connected any more is as good as cut.
            let _ = socket.shutdown(Shutdown::Both);
        }
        if self.ends_by(Deadline::after(CUT_GRACE)) {
            return Vec::new();
        }
        let table = self.shared.table.lock();
        table.open.iter().map(|(id, (peer, _))| format!("{} connection {id} of {peer}", self.name)).collect()
    }

    fn ends_by(&self, deadline: Deadline) -> bool {
        self.over.recv_deadline(deadline.instant()) != Err(RecvTimeoutError::Timeout)
    }

    /// Its figures.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        let figures = &self.shared.figures;
        ConnectionStats {
            open: figures.open.get(),
            idle: figures.idle.get(),
            accepted_total: figures.accepted.get(),
            refused_total: figures.refused.get(),
            header_timeouts_total: figures.header_timeouts.get(),
            bad_requests_total: figures.bad_requests.get(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.acceptor.tell();
        self.shared.stop();
    }
}
