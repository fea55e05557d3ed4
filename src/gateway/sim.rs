//! The simulated provider inside a gateway: started when first used, reached through a real socket like any other.
//!
//! **Protocol.** The first request starts it, and those that come meanwhile wait: a listener is opened and threads are
//! started under the lock, which makes it a [`ChannelLock`]. They wait under their attempt's deadline and cancel token.
//!
//! **Lock order.** Outermost: the table of threads and the watcher's table, both leaves, are taken under it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::build::StartError;
use crate::http::Watcher;
use crate::sim::Sim;
use crate::sync::locks::{ChannelLock, LockError, LockErrorKind, Wait, classes};
use crate::sync::{LockTimes, Threads};
use crate::time::Deadline;
use crate::transport::{
    ConnectionCounts, ConnectionStats, Control, Incoming, Outgoing, Resolver, Settings, Transport, TransportError,
    TransportErrorKind, UreqTransport,
};

/// How long the start of a simulated provider or of the watcher is waited for by a second one who needs it.
const START_WAIT: Duration = Duration::from_secs(5);

/// What is started on demand: the watcher of connections, and the simulated provider on it.
pub(super) struct SimHost {
    threads: Threads,
    /// How long the simulated provider's connection threads are kept without a connection, as all others are.
    thread_idle: Duration,
    started: ChannelLock<Started>,
}

#[derive(Default)]
struct Started {
    watcher: Option<Arc<Watcher>>,
    sim: Option<Sim>,
}

impl SimHost {
    pub(super) fn new(threads: &Threads, thread_idle: Duration, times: LockTimes) -> Self {
        let started = ChannelLock::new(&classes::SIM_HOST, times, Started::default());
        Self { threads: threads.clone(), thread_idle, started }
    }

    /// The watcher, started if it is the first time.
    pub(super) fn watcher(&self) -> Result<Arc<Watcher>, StartError> {
        let mut started =
            self.started.lock(START_WAIT).map_err(|error| StartError::Listen(std::io::Error::other(error)))?;
        self.watcher_in(&mut started)
    }

    fn watcher_in(&self, started: &mut Started) -> Result<Arc<Watcher>, StartError> {
        if let Some(watcher) = &started.watcher {
            return Ok(Arc::clone(watcher));
        }
        let watcher =
            Watcher::start(&self.threads).map_err(|error| StartError::Listen(std::io::Error::other(error)))?;
        started.watcher = Some(Arc::clone(&watcher));
        Ok(watcher)
    }

    /// The simulated provider's address, starting it if it is the first time.
    fn start(&self, control: &Control<'_>) -> Result<SocketAddr, TransportError> {
        let wait = Wait::from(control.deadline).or_cancelled(control.cancel);
        let mut started = self.started.lock(wait).map_err(|error| not_had(&error, control.deadline))?;
        if let Some(sim) = &started.sim {
            return Ok(sim.addr());
        }
        let watcher = self.watcher_in(&mut started).map_err(|error| not_started(&error))?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let sim = Sim::start_with(listen, self.threads.clone(), watcher, self.thread_idle)
            .map_err(|error| not_started(&error))?;
        let addr = sim.addr();
        started.sim = Some(sim);
        Ok(addr)
    }

    /// What the simulated provider counted, if it was used; nothing while it is being started, which is not waited for.
    pub(super) fn stats(&self) -> Option<serde_json::Value> {
        self.started.try_lock().and_then(|started| started.sim.as_ref().map(Sim::stats))
    }

    /// Ends the simulated provider, if it was used; names the threads that did not end.
    pub(super) fn stop(&self, deadline: Deadline) -> Vec<String> {
        let sim = self.started.lock(deadline).ok().and_then(|mut started| started.sim.take());
        sim.map_or_else(Vec::new, |sim| sim.shutdown(deadline))
    }
}

/// The start failed.
fn not_started(error: &dyn std::fmt::Display) -> TransportError {
    TransportError::new(TransportErrorKind::Connect, format!("the simulated provider did not start: {error}"))
}

/// The start of another request was not waited for to its end.
fn not_had(error: &LockError, deadline: Deadline) -> TransportError {
    let kind = match error.kind {
        LockErrorKind::Cancelled(reason) => TransportErrorKind::Cancelled(reason),
        LockErrorKind::TimedOut if deadline.passed() => TransportErrorKind::Timeout,
        _ => TransportErrorKind::Connect,
    };
    TransportError::new(kind, format!("the start of the simulated provider: {error}"))
}

/// A transport that starts the simulated provider at its first request.
pub(super) struct SimTransport {
    host: Arc<SimHost>,
    resolver: Arc<Resolver>,
    settings: Settings,
    counts: Arc<ConnectionCounts>,
    inner: std::sync::OnceLock<UreqTransport>,
}

impl SimTransport {
    pub(super) fn new(
        host: Arc<SimHost>,
        resolver: Arc<Resolver>,
        settings: Settings,
        counts: Arc<ConnectionCounts>,
    ) -> Self {
        Self { host, resolver, settings, counts, inner: std::sync::OnceLock::new() }
    }

    fn inner(&self, control: &Control<'_>) -> Result<&UreqTransport, TransportError> {
        if let Some(inner) = self.inner.get() {
            return Ok(inner);
        }
        let addr = self.host.start(control)?;
        let settings = Settings { base_url: format!("http://{addr}"), allow_private: true, ..self.settings.clone() };
        let built = UreqTransport::counting(settings, Arc::clone(&self.resolver), Arc::clone(&self.counts))
            .map_err(|error| not_started(&error))?;
        // Whoever comes second uses the first one's.
        Ok(self.inner.get_or_init(|| built))
    }
}

impl Transport for SimTransport {
    fn send(&self, request: &Outgoing<'_>, control: &Control<'_>) -> Result<Incoming, TransportError> {
        self.inner(control)?.send(request, control)
    }

    fn counts(&self) -> Option<Arc<ConnectionCounts>> {
        Some(Arc::clone(&self.counts))
    }

    fn connections(&self) -> ConnectionStats {
        self.counts.stats()
    }

    fn close_idle(&self) {
        if let Some(inner) = self.inner.get() {
            inner.close_idle();
        }
    }

    fn retire(&self) {
        if let Some(inner) = self.inner.get() {
            inner.retire();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{CancelReason, CancelToken};

    const FUSE: Duration = Duration::from_secs(5);

    /// How a request ends that comes while another one starts the simulated provider.
    fn meanwhile(cancel: &CancelToken, limit: Duration) -> TransportErrorKind {
        let threads = Threads::new(64, 1 << 20);
        let host = Arc::new(SimHost::new(&threads, Duration::from_secs(30), LockTimes::DEFAULT));
        let control = Control { request_id: None, cancel, deadline: Deadline::after(limit), connect_timeout: FUSE };
        let starting = host.started.lock(FUSE).expect("free");
        let ended = std::thread::scope(|scope| {
            assert!(scope.spawn(|| host.stats()).join().expect("no panic").is_none(), "statistics do not wait for it");
            scope.spawn(|| host.start(&control)).join().expect("no panic")
        });
        drop(starting);
        assert!(host.watcher().is_ok(), "the lock was given back");
        ended.expect_err("it was not had").kind
    }

    #[test]
    fn a_request_waits_for_the_start_under_its_own_deadline_and_cancel_token() {
        let cancelled = CancelToken::new();
        cancelled.cancel_for(CancelReason::ClientGone);
        assert_eq!(meanwhile(&cancelled, FUSE), TransportErrorKind::Cancelled(CancelReason::ClientGone));
        assert_eq!(meanwhile(&CancelToken::new(), Duration::from_millis(20)), TransportErrorKind::Timeout);
    }
}
