//! The simulated provider inside a gateway: started when first used, reached through a real socket like any other.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::build::StartError;
use crate::http::Watcher;
use crate::sim::Sim;
use crate::sync::Threads;
use crate::sync::locks::{Ranked, classes};
use crate::time::Deadline;
use crate::transport::{
    ConnectionStats, Control, Incoming, Outgoing, Resolver, Settings, Transport, TransportError, TransportErrorKind,
    UreqTransport,
};

/// How long the start of a simulated provider or of the watcher is waited for by a second one who needs it.
const START_WAIT: Duration = Duration::from_secs(5);

/// What is started on demand: the watcher of connections, and the simulated provider on it.
pub(super) struct SimHost {
    threads: Threads,
    /// How long the simulated provider's connection threads are kept without a connection, as all others are.
    thread_idle: Duration,
    started: Ranked<Started>,
}

#[derive(Default)]
struct Started {
    watcher: Option<Arc<Watcher>>,
    sim: Option<Sim>,
}

impl SimHost {
    pub(super) fn new(threads: &Threads, thread_idle: Duration) -> Self {
        let started = Ranked::new(&classes::SIM_HOST, Started::default());
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
    fn start(&self) -> Result<SocketAddr, StartError> {
        let mut started =
            self.started.lock(START_WAIT).map_err(|error| StartError::Listen(std::io::Error::other(error)))?;
        if let Some(sim) = &started.sim {
            return Ok(sim.addr());
        }
        let watcher = self.watcher_in(&mut started)?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let sim = Sim::start_with(listen, self.threads.clone(), watcher, self.thread_idle)
            .map_err(|error| StartError::Listen(std::io::Error::other(error)))?;
        let addr = sim.addr();
        started.sim = Some(sim);
        Ok(addr)
    }

    /// What the simulated provider counted, if it was used.
    pub(super) fn stats(&self) -> Option<serde_json::Value> {
        self.started.lock(START_WAIT).ok().and_then(|started| started.sim.as_ref().map(Sim::stats))
    }

    /// Ends the simulated provider, if it was used; names the threads that did not end.
    pub(super) fn stop(&self, deadline: Deadline) -> Vec<String> {
        let sim = self.started.lock(START_WAIT).ok().and_then(|mut started| started.sim.take());
        sim.map_or_else(Vec::new, |sim| sim.shutdown(deadline))
    }
}

/// A transport that starts the simulated provider at its first request.
pub(super) struct SimTransport {
    host: Arc<SimHost>,
    resolver: Arc<Resolver>,
    settings: Settings,
    inner: std::sync::OnceLock<UreqTransport>,
}

impl SimTransport {
    pub(super) fn new(host: Arc<SimHost>, resolver: Arc<Resolver>, settings: Settings) -> Self {
        Self { host, resolver, settings, inner: std::sync::OnceLock::new() }
    }

    fn inner(&self) -> Result<&UreqTransport, TransportError> {
        if let Some(inner) = self.inner.get() {
            return Ok(inner);
        }
        let failed = |error: &dyn std::fmt::Display| {
            TransportError::new(TransportErrorKind::Connect, format!("the simulated provider did not start: {error}"))
        };
        let addr = self.host.start().map_err(|error| failed(&error))?;
        let settings = Settings { base_url: format!("http://{addr}"), allow_private: true, ..self.settings.clone() };
        let built = UreqTransport::new(settings, Arc::clone(&self.resolver)).map_err(|error| failed(&error))?;
        // Whoever comes second uses the first one's.
        Ok(self.inner.get_or_init(|| built))
    }
}

impl Transport for SimTransport {
    fn send(&self, request: &Outgoing<'_>, control: &Control<'_>) -> Result<Incoming, TransportError> {
        self.inner()?.send(request, control)
    }

    fn connections(&self) -> ConnectionStats {
        self.inner.get().map_or_else(ConnectionStats::default, Transport::connections)
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
