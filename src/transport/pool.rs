//! A provider's connections: taken for a request, given back after it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::TransportError;
use super::attempt::Attempt;
use super::buffers::Buffers;
use super::dial::Dialer;
use super::endpoint::Endpoint;
use super::link::Link;
use super::stack::{ConnectionCounts, ConnectionStats, Stack};
use crate::time::now;

/// The connections of one provider.
pub(super) struct Pool {
    dialer: Dialer,
    stack: Stack<(Link, Buffers)>,
    figures: Arc<ConnectionCounts>,
}

impl Pool {
    pub(super) fn new(dialer: Dialer, max_idle: usize, idle_timeout: Duration, figures: Arc<ConnectionCounts>) -> Self {
        Self { dialer, stack: Stack::new(max_idle, idle_timeout, &figures), figures }
    }

    /// An idle connection that is still good, else a fresh one; bound to `attempt`'s cancel token.
    pub(super) fn take(&self, attempt: &Attempt) -> Result<(Link, Buffers), TransportError> {
        if !attempt.fresh {
            while let Some(((link, buffers), since)) = self.stack.pop(now()) {
                match link.begin(&attempt.cancel)? {
                    Some(link) => {
                        self.figures.reused.inc();
                        return Ok((link, buffers));
                    }
                    None => {
                        self.figures.stale.inc();
                        // A provider that closed this one has closed those that were idle for longer.
                        self.stack.close_older(since);
                    }
                }
            }
        }
        Ok((self.dialer.dial(attempt, &self.figures)?, Buffers::default()))
    }

    /// Takes a connection back whose answer has ended cleanly.
    pub(super) fn give_back(&self, link: Link, mut buffers: Buffers) {
        if let Some(link) = link.end() {
            buffers.shrink();
            self.stack.push((link, buffers), now());
        }
    }

    /// Counts a connection that was found closed only when a request was on it.
    pub(super) fn count_stale(&self) {
        self.figures.stale.inc();
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.dialer.endpoint
    }

    pub(super) fn counts(&self) -> Arc<ConnectionCounts> {
        Arc::clone(&self.figures)
    }

    pub(super) fn stats(&self) -> ConnectionStats {
        self.figures.stats()
    }

    pub(super) fn sweep(&self) {
        self.stack.sweep(now());
    }

    pub(super) fn retire(&self) {
        self.stack.retire();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("endpoint", &format_args!("{}", self.dialer.endpoint))
            .field("connections", &self.stats())
            .finish_non_exhaustive()
    }
}
