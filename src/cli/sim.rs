//! `sim`: the simulated provider alone, until a signal.

use std::time::Duration;

use super::args::Sim;
use super::output::{Failure, advice, result};
use super::process::{self, Signals};
use crate::gateway::StartError;
use crate::http::Watcher;
use crate::sync::{Threads, limits};
use crate::time::Deadline;

/// How long answers under way may take to end.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// Stack of each thread, in bytes.
const STACK: usize = if cfg!(debug_assertions) { 2 << 20 } else { 256 << 10 };

pub(super) fn run(command: &Sim) -> Result<(), Failure> {
    process::raise_limits();
    let (limit, set_by) = limits::derive();
    let threads = Threads::limited(limit, set_by, STACK);
    let signals = Signals::listen(&threads)?;
    let watcher = Watcher::start(&threads).map_err(StartError::from)?;
    let sim = crate::sim::Sim::start(command.listen, threads, watcher).map_err(|error| {
        let system = std::error::Error::source(&error).and_then(|source| source.downcast_ref());
        Failure::Job(format!("{}{}", error.message(), system.map_or("", advice)))
    })?;
    let addr = sim.addr();
    result(&format!("simulated provider  http://{addr}\nstatistics          http://{addr}/sim/stats\n"))?;
    let _ = signals.channel().recv();
    match sim.shutdown(Deadline::after(CLOSE_WAIT)) {
        stragglers if stragglers.is_empty() => Ok(()),
        stragglers => Err(Failure::Job(format!("threads that did not end: {}", stragglers.join(", ")))),
    }
}
