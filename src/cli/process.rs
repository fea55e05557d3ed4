//! What concerns the whole process: logging, limits, the futex table, signals.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, bounded};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::args::LogFormat;
use super::output::{json_line, speak_json};
use crate::config::Config;
use crate::gateway::StartError;
use crate::secret::{Mask, Secret};
use crate::sync::{Role, State, Threads, threads};

/// What is logged if RUST_LOG does not say.
const DEFAULT_FILTER: &str = "warn,sluicegate::requests=info";

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
static SECRETS: ArcSwapOption<Known> = ArcSwapOption::const_empty();

/// The secrets of the configurations that are, and were, in force.
struct Known {
    /// The newest first.
    secrets: Vec<Secret>,
    mask: Mask,
}

/// How many secrets are taken out at most: those of many reloads, the newest of them. What still runs may use an old one.
const MOST_SECRETS: usize = 1024;

/// Takes the secrets of this configuration, and of those before it, out of every line that is logged from here on. Ours hold
/// none; but the HTTP library logs, at its finer levels, what a provider answers, and a provider may echo what it was sent.
pub(super) fn mask_logs(config: &Config) {
    let mut secrets: Vec<_> = config.secrets().collect();
    for old in SECRETS.load().iter().flat_map(|known| &known.secrets) {
        if !secrets.contains(old) && secrets.len() < MOST_SECRETS {
            secrets.push(old.clone());
        }
    }
    let mask = Mask::of(secrets.iter().cloned());
    SECRETS.store(Some(Arc::new(Known { secrets, mask })));
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
        match &*SECRETS.load() {
            Some(known) if self.0.matches(record) => {
                let text = known.mask.apply(record.args().to_string());
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

/// The signals that ask for an end: the first begins the drain, the second ends at once; and, where it is listened for, the
/// one that asks for a reload.
pub(super) struct Signals {
    ends: Receiver<()>,
    reloads: Receiver<()>,
}

impl Signals {
    /// Listens for SIGINT and SIGTERM on a thread of the gateway.
    pub(super) fn listen(threads: &Threads) -> Result<Self, StartError> {
        Self::listen_for(threads, &[SIGINT, SIGTERM])
    }

    /// Listens for SIGHUP, too.
    pub(super) fn listen_with_reloads(threads: &Threads) -> Result<Self, StartError> {
        Self::listen_for(threads, &[SIGINT, SIGTERM, SIGHUP])
    }

    fn listen_for(threads: &Threads, which: &[i32]) -> Result<Self, StartError> {
        let mut signals = signal_hook::iterator::Signals::new(which).map_err(StartError::Listen)?;
        let (end, ends) = bounded(2);
        let (reload, reloads) = bounded(1);
        threads.service(Role::Watchdog, "signals", move || {
            let _resting = threads::rest(State::Io, Duration::MAX);
            for signal in signals.forever() {
                // A third end finds its channel full; two are all that is listened to. A reload that is asked for while
                // another one waits to begin is that one.
                let _ = if signal == SIGHUP { reload.try_send(()) } else { end.try_send(()) };
            }
        })?;
        Ok(Self { ends, reloads })
    }

    /// The channel that asks for an end.
    pub(super) fn channel(&self) -> &Receiver<()> {
        &self.ends
    }

    /// The channel that asks for a reload.
    pub(super) fn reloads(&self) -> &Receiver<()> {
        &self.reloads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_an_older_configuration_are_masked_still() {
        for key in ["sk-process-one", "sk-process-two"] {
            let text = format!(
                r#"{{ "providers": {{ "p": {{ "kind": "openai", "keys": [{{ "value": "{key}" }}],
                "network_config": {{ "base_url": "http://127.0.0.1:1" }} }} }} }}"#
            );
            mask_logs(&Config::from_json(&text, &|_| None).expect("a configuration"));
        }
        let known = SECRETS.load_full().expect("some");
        let masked = known.mask.apply("sk-process-one and sk-process-two".to_owned());
        assert!(!masked.contains("process"), "{masked}");
    }
}
