//! What concerns the whole process: logging, limits, the futex table, signals.

use std::io::Write as _;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::args::LogFormat;
use super::output::{json_line, speak_json};
use crate::gateway::StartError;
use crate::sync::{Role, State, Threads, threads};

/// What is logged if RUST_LOG does not say.
const DEFAULT_FILTER: &str = "warn";

/// Starts the logger; a second start in one process is ignored.
pub(super) fn start_logging(format: LogFormat) {
    let mut builder = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(DEFAULT_FILTER));
    if format == LogFormat::Json {
        builder.format(|out, record| {
            writeln!(out, "{}", json_line(record.level(), record.target(), &record.args().to_string()))
        });
        speak_json();
        // The standard hook writes plain lines, which whoever parses the others would stumble over.
        std::panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current();
            log::error!("thread {} {panic}", thread.name().unwrap_or("without a name"));
        }));
    }
    let _ = builder.try_init();
}

/// Raises the limit on open descriptors to what the system allows: one per connection, on both sides.
pub(super) fn raise_limits() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        log::warn!("the limit on open descriptors stays at {:?}: {error}", limit.current);
    }
}

/// Each signal that asks for an end: the first begins the drain, the second ends at once.
pub(super) struct Signals(Receiver<()>);

impl Signals {
    /// Listens for SIGINT and SIGTERM on a thread of the gateway.
    pub(super) fn listen(threads: &Threads) -> Result<Self, StartError> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(StartError::Listen)?;
        let (send, received) = bounded(2);
        threads.service(Role::Watchdog, "signals", move || {
            let _resting = threads::rest(State::Io, Duration::MAX);
            for _ in signals.forever() {
                // A third signal finds the channel full; two are all that is listened to.
                let _ = send.try_send(());
            }
        })?;
        Ok(Self(received))
    }

    /// The channel that says so.
    pub(super) fn channel(&self) -> &Receiver<()> {
        &self.0
    }
}
