//! The admin plane: statistics, configuration and threads for operators, on a listener and threads of its own.
//!
//! A request passes two houses. The guard stands on our own HTTP server: it reads, checks and authenticates the whole
//! request and only then hands it, completed, over a private Unix socket to the pages, which `tiny_http` serves. Facing
//! clients itself, `tiny_http` 0.12 can be made to abort, leak or hang the process (see the architecture's decisions);
//! behind the guard it sees one small well-formed request per connection. At the root stands the `dashboard`, a page in a browser
//! that reads the others.

mod dashboard;
mod guard;
mod pages;
mod tiny;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crate::gateway::{Gateway, StartError};
use crate::http::{Limits, Server};
use crate::stats::Stats;
use crate::sync::Role;
use crate::time::Deadline;

/// The most connections that operators have open at once.
const MAX_CONNECTIONS: usize = 64;

/// The longest body of an admin request, in bytes.
const MAX_BODY: usize = 64 << 10;

/// The admin plane of a gateway. Field order is drop order: the listener goes before what it hands requests to.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use sluicegate::Gateway;
/// use sluicegate::admin::Admin;
/// use sluicegate::stats::Stats;
///
/// let gateway = Gateway::from_env()?;
/// let stats = Arc::new(Stats::start(&gateway, Box::new(|_| {}))?);
/// let admin = Admin::start(&gateway, "127.0.0.1:0".parse()?, stats)?;
/// println!("http://{}/stats", admin.addr());
///
/// gateway.shutdown(Duration::from_secs(30));
/// assert!(admin.shutdown(Duration::from_secs(5)).is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Admin {
    server: Server,
    pages: tiny::Backend,
}

impl Admin {
    /// Listens on `listen` and tells about `gateway` there.
    ///
    /// # Errors
    /// If the address cannot be listened on, or a thread cannot be started.
    pub fn start(gateway: &Gateway, listen: SocketAddr, stats: Arc<Stats>) -> Result<Self, StartError> {
        let listener = TcpListener::bind(listen).map_err(|error| {
            StartError::Listen(std::io::Error::new(error.kind(), format!("{listen} (server.admin): {error}")))
        })?;
        let bound = listener.local_addr().map_err(StartError::Listen)?;
        let pages = pages::Pages::new(gateway.clone(), stats);
        let backend = tiny::Backend::start(gateway.threads(), Arc::new(pages))?;
        let config = gateway.config();
        let own = Limits::of(&config, Role::Admin);
        let limits = Limits { max_connections: MAX_CONNECTIONS, max_body_bytes: MAX_BODY, ..own };
        let guard = guard::Guard::new(backend.path(), bound, gateway.clone());
        let server =
            Server::start(listener, limits, gateway.threads().clone(), gateway.watcher()?, Arc::new(guard), "admin")?;
        Ok(Self { server, pages: backend })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Ends it; names the threads that did not end in time.
    pub fn shutdown(self, deadline: impl Into<Deadline>) -> Vec<String> {
        let deadline = deadline.into();
        let mut stragglers = self.server.shutdown(deadline);
        stragglers.extend(self.pages.shutdown(deadline));
        stragglers
    }
}
