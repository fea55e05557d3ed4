//! What concerns the whole process: logging, limits, the futex table, signals.

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use super::args::LogFormat;
use super::output::{json_line, speak_json};
use crate::config::Config;
use crate::gateway::StartError;
use crate::secret::Mask;
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
    let inner = builder.build();
    let finest = inner.filter();
    if log::set_boxed_logger(Box::new(Masking(inner))).is_ok() {
        log::set_max_level(finest);
    }
}

/// What is taken out of every line that is logged, once a configuration is known.
static SECRETS: OnceLock<Mask> = OnceLock::new();

/// Takes the secrets of this configuration out of every line that is logged from here on. Ours hold none; but the HTTP library
/// logs, at its finer levels, what a provider answers, and a provider may echo what it was sent.
pub(super) fn mask_logs(config: &Config) {
    let _ = SECRETS.set(Mask::of(config.secrets()));
}

/// A logger that masks before it logs.
struct Masking(env_logger::Logger);

impl log::Log for Masking {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        !is_dump(metadata) && self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if is_dump(record.metadata()) {
            return;
        }
        match SECRETS.get() {
            Some(mask) if self.0.matches(record) => {
                let text = mask.apply(record.args().to_string());
                self.0.log(
                    &log::Record::builder()
                        .metadata(record.metadata().clone())
                        .module_path(record.module_path())
                        .file(record.file())
                        .line(record.line())
                        .args(format_args!("{text}"))
                        .build(),
                );
            }
            _ => self.0.log(record),
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Keeps what is in memory, keys among it, out of core dumps, and out of reach of other processes of the same user: the
/// kernel then lets only root look into `/proc/PID/mem`, `environ`, `fd` and `maps`, or attach a debugger. The process itself
/// goes on reading its own.
pub(super) fn keep_memory_private() {
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    let done = setrlimit(Resource::Core, no_core).and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = done {
        log::warn!("core dumps cannot be turned off: {error}");
    }
}

/// Whether this is the dump of every byte that is sent, keys among them, and received, sixteen to a line, that the HTTP library
/// makes of its finest level. No mask can be put on that, so that it is never logged.
fn is_dump(metadata: &log::Metadata<'_>) -> bool {
    metadata.level() == log::Level::Trace && metadata.target().starts_with("ureq_proto")
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
