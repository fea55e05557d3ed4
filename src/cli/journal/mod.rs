//! The log of the binary: lines on stderr, for a person or a machine, which nobody in the gateway ever waits for.
//!
//! **Protocol.** A line is made where it is logged, secrets masked, and goes to stderr at once; in a process that serves it goes into a spool, and
//! a thread of the gateway's writes. A reader that is slow, or a pipe that nobody reads, then costs lines, which are
//! counted and told of, and never a request. Read `repeats` for what becomes of a warning that comes again and again.
//!
//! **Invariants.** I4: so many lines and bytes wait. I6: no lock of ours is taken, since a line may be logged from under any. I10.
//!
//! **Shutdown.** [`flush`] waits a while for what was logged before; every way out of the process calls it. A crash loses what
//! the spool held.

mod repeats;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use log::{Level, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::stdio::stderr;

use super::args::LogFormat;
use super::terminal::for_notes;
use crate::calendar::Timestamp;
use crate::config::Config;
use crate::plugin::builtin::request_log::aside::{self, Form};
use crate::queue::spool::{Outlet, Spool, spool};
use crate::secret::{Mask, Secret};
use crate::sync::threads::{SpawnError, panic_text};
use crate::sync::{Role, Threads};
use crate::time::{Deadline, Stamp, unix_ms};
use repeats::Repeats;

/// What is logged if RUST_LOG does not say.
const DEFAULT_FILTER: &str = "warn,sluicegate::requests=info";

/// Lines that wait for stderr, and their bytes.
const MOST_LINES: usize = 4096;
const MOST_BYTES: usize = 4 << 20;

/// How much is written at once, in bytes, where so much is there.
const BATCH: usize = 32 << 10;

/// How long the last lines have to be written at the end.
const LAST_LINES: Duration = Duration::from_millis(500);

/// How long it is waited for room before it is asked again whether there is a reader.
const LOOK_S: i64 = 1;

/// How many secrets are taken out at most: those of many reloads, the newest of them. What still runs may use an old one.
const MOST_SECRETS: usize = 1024;

/// How lines are written, from the start on.
static FORM: OnceLock<Form> = OnceLock::new();

/// Where they go, once there is a thread that writes them.
static SPOOL: OnceLock<Spool> = OnceLock::new();

/// Lines for which there was no room.
static LOST: AtomicU64 = AtomicU64::new(0);

/// What is taken out of every line that is logged, once a configuration is known.
static SECRETS: ArcSwapOption<Known> = ArcSwapOption::const_empty();

/// Lines of each place of the program.
static REPEATS: Repeats = Repeats::new();

/// The secrets of the configurations that are, and were, in force.
struct Known {
    /// The newest first.
    secrets: Vec<Secret>,
    mask: Mask,
}

/// Starts the log; a second start in one process is ignored.
pub(super) fn start(format: LogFormat) {
    let filter = env_logger::Env::default().default_filter_or(DEFAULT_FILTER);
    let filter = env_logger::Builder::from_env(filter).build();
    let finest = filter.filter();
    let form = match format {
        LogFormat::Json => Form::Json,
        LogFormat::Text => Form::Text { colours: has_colours() },
    };
    if log::set_boxed_logger(Box::new(Journal(filter))).is_ok() && FORM.set(form).is_ok() {
        log::set_max_level(finest);
        std::panic::set_hook(Box::new(|panic| tell_of_panic(panic.payload(), panic.location())));
    }
}

/// Whether stderr shows colours: on a terminal, unless the environment says otherwise (<https://no-color.org>).
fn has_colours() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match std::env::var("RUST_LOG_STYLE").as_deref() {
        Ok("always") => true,
        Ok("never") => false,
        _ => {
            !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb") && stderr().is_terminal()
        }
    }
}

/// From here on a thread of the gateway's writes what is logged.
pub(super) fn spool_by(threads: &Threads) -> Result<(), SpawnError> {
    let (own, drain) = spool(MOST_LINES, MOST_BYTES);
    let mut writer = Writer::default();
    threads.service(Role::Watchdog, "log", move || drain.run(&mut writer))?;
    // One that was there before goes on.
    let _ = SPOOL.set(own);
    Ok(())
}

/// Waits for a while until what was logged before is written.
pub(super) fn flush() {
    if let Some(spool) = SPOOL.get() {
        spool.flush(Deadline::after(LAST_LINES));
    }
}

/// Takes the secrets of this configuration, and of those before it, out of every line that is logged from here on. Ours hold
/// none; but the HTTP library logs, at its finer levels, what a provider answers, and a provider may echo what it was sent.
pub(super) fn mask(config: &Config) {
    let mut secrets: Vec<_> = config.secrets().collect();
    for old in SECRETS.load().iter().flat_map(|known| &known.secrets) {
        if !secrets.contains(old) && secrets.len() < MOST_SECRETS {
            secrets.push(old.clone());
        }
    }
    let mask = Mask::of(secrets.iter().cloned());
    SECRETS.store(Some(Arc::new(Known { secrets, mask })));
}

/// Writes a line for a person: `text`, or what it says to a machine.
pub(super) fn say(level: Level, message: &str, text: &str) {
    put(match form() {
        Form::Json => json_line(level, "sluicegate", message),
        // It may quote what a provider said.
        Form::Text { .. } => format!("{}\n", for_notes(text)),
    });
}

fn form() -> Form {
    FORM.get().copied().unwrap_or(Form::Text { colours: false })
}

/// Sends a line on its way; `false` if there is no room for it.
fn put(line: String) -> bool {
    let Some(spool) = SPOOL.get() else {
        write(line.as_bytes());
        return true;
    };
    let has_room = spool.put(line.into_bytes());
    if !has_room {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
    has_room
}

/// The program's logger.
struct Journal(env_logger::Logger);

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !is_dump(metadata) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if is_dump(record.metadata()) || !self.0.matches(record) {
            return;
        }
        let request = aside::line();
        // Who asks for the finer levels wants all of them.
        let is_bounded = request.is_none() && record.level() <= Level::Info && SPOOL.get().is_some();
        if is_bounded && !REPEATS.admit(record.target(), record.line().unwrap_or_default(), Stamp::now().micros()) {
            return;
        }
        let line = match (form(), request) {
            (Form::Json, None) => json_line(record.level(), record.target(), &masked(record.args().to_string())),
            (Form::Json, Some(bodies)) => json_request(record, bodies),
            (form @ Form::Text { colours }, request) => {
                let mut line = head(record.level(), colours);
                match request {
                    None => {
                        let _ = write!(line, "{}: ", record.target());
                        push_plain(&mut line, &masked(record.args().to_string()));
                    }
                    Some(true) => line += &aside::written_as(form, || masked(record.args().to_string())),
                    Some(false) => aside::written_as(form, || {
                        let _ = write!(line, "{}", record.args());
                    }),
                }
                line + "\n"
            }
        };
        if !put(line) && request.is_some() {
            aside::refuse();
        }
    }

    fn flush(&self) {
        flush();
    }
}

/// Whether this is the dump of every byte that is sent, keys among them, and received, sixteen to a line, that the HTTP library
/// makes of its finest level. No mask can be put on that, so that it is never logged.
fn is_dump(metadata: &Metadata<'_>) -> bool {
    metadata.level() == Level::Trace && metadata.target().starts_with("ureq_proto")
}

/// A text without secrets.
fn masked(text: String) -> String {
    match &*SECRETS.load() {
        Some(known) => known.mask.apply(text),
        None => text,
    }
}

/// Time and level, as every line for a person begins.
fn head(level: Level, colours: bool) -> String {
    let mut line = String::with_capacity(256);
    let (colour, plain) = match (colours, level) {
        (true, Level::Error) => ("\x1b[1;31m", "\x1b[0m"),
        (true, Level::Warn) => ("\x1b[33m", "\x1b[0m"),
        (true, _) => ("\x1b[2m", "\x1b[0m"),
        (false, _) => ("", ""),
    };
    let _ = write!(line, "{} {colour}{level:<5}{plain} ", Timestamp::at(unix_ms()).as_str());
    line
}

/// Puts a message behind it: further lines of it are indented, so that none can pass for a line of the log, and what would
/// steer a terminal is escaped.
fn push_plain(line: &mut String, message: &str) {
    for c in message.trim_end().chars() {
        match c {
            '\n' => line.push_str("\n    "),
            '\t' => line.push(c),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
}

/// A line for a machine.
fn json_line(level: Level, target: &str, message: &str) -> String {
    let unix_ms = unix_ms();
    let time = Timestamp::at(unix_ms);
    let line = serde_json::json!({
        "at_ms": unix_ms, "time": time.as_str(), "level": level.as_str(), "target": target, "message": message,
    });
    line.to_string() + "\n"
}

/// A request's line for a machine: the plugin's object, whose fields stand beside those of every line. It begins with the time.
fn json_request(record: &Record<'_>, bodies: bool) -> String {
    let mut line = String::with_capacity(768);
    let _ =
        write!(line, "{{\"at_ms\":{},\"level\":\"{}\",\"target\":\"{}\",", unix_ms(), record.level(), record.target());
    let begins = line.len();
    // Bodies may hold what a provider echoed; in anything else of the line a secret could only be put by who knows it.
    if bodies {
        line += &masked(record.args().to_string());
    } else {
        let _ = write!(line, "{}", record.args());
    }
    if line[begins..].starts_with('{') {
        line.remove(begins);
    }
    line + "\n"
}

/// Tells of a panic as every line is told, since the standard hook would wait for stderr, and write no JSON. On the main
/// thread, whose panic ends the process, what was logged before is written first.
fn tell_of_panic(payload: &(dyn std::any::Any + Send), at: Option<&std::panic::Location<'_>>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let mut message = panic_message(name, payload, at);
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        let _ = write!(message, "\n{backtrace}");
    }
    let mut text = match form() {
        Form::Text { colours } => head(Level::Error, colours),
        Form::Json => String::new(),
    };
    push_plain(&mut text, &message);
    say(Level::Error, &message, &text);
    if name == "main" {
        flush();
    }
}

/// What is told of a panic, whose text may hold whatever was at hand.
fn panic_message(name: &str, payload: &(dyn std::any::Any + Send), at: Option<&std::panic::Location<'_>>) -> String {
    let at = at.map(|at| format!(" at {at}")).unwrap_or_default();
    format!("thread {name} panicked{at}: {}", masked(panic_text(payload).to_owned()))
}

/// Writes lines to stderr in batches.
#[derive(Default)]
struct Writer {
    batch: Vec<u8>,
}

impl Writer {
    fn note(&mut self, message: &str) {
        let line = match form() {
            Form::Json => json_line(Level::Warn, module_path!(), message),
            Form::Text { colours } => format!("{}{}: {message}\n", head(Level::Warn, colours), module_path!()),
        };
        self.line(line.as_bytes());
    }

    fn write(&mut self) {
        if !self.batch.is_empty() {
            write(&self.batch);
            self.batch.clear();
            self.batch.shrink_to(BATCH);
        }
    }
}

impl Outlet for Writer {
    fn line(&mut self, line: &[u8]) {
        self.batch.extend_from_slice(line);
        if self.batch.len() >= BATCH {
            self.write();
        }
    }

    fn rest(&mut self) {
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.note(&format!("{lost} lines of the log were left out: whoever reads stderr was too slow for them"));
        }
        let repeated = REPEATS.left_out(Stamp::now().micros());
        if repeated > 0 {
            let (most, seconds) = (repeats::MOST, repeats::WINDOW_S);
            self.note(&format!(
                "{repeated} lines were left out that said again what others said: {most} in {seconds} s are written of each kind"
            ));
        }
        self.write();
    }
}

/// Writes all of it to stderr, past the lock of the standard library's: whoever waits here must not keep others from
/// anything. If nobody reads any more, or it is closed, there is nobody to tell.
fn write(mut bytes: &[u8]) {
    use rustix::io::Errno;
    while !bytes.is_empty() {
        match rustix::io::write(stderr(), bytes) {
            Ok(0) => return,
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Somebody who has it, too, has made it one that does not wait.
            Err(Errno::AGAIN) => {
                let wait = rustix::time::Timespec { tv_sec: LOOK_S, tv_nsec: 0 };
                let _ = poll(&mut [PollFd::new(&stderr(), PollFlags::OUT)], Some(&wait));
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_an_older_configuration_are_masked_still_and_in_a_panic_too() {
        for key in ["sk-process-one", "sk-process-two"] {
            let text = format!(
                r#"{{ "providers": {{ "p": {{ "kind": "openai", "keys": [{{ "value": "{key}" }}],
                "network_config": {{ "base_url": "http://127.0.0.1:1" }} }} }} }}"#
            );
            mask(&Config::from_json(&text, &|_| None).expect("a configuration"));
        }
        let masked = masked("sk-process-one and sk-process-two".to_owned());
        assert!(!masked.contains("process"), "{masked}");
        let panic = panic_message("main", &"no header of sk-process-one", None);
        assert!(panic.starts_with("thread main panicked: no header of ") && !panic.contains("process"), "{panic}");
    }

    #[test]
    fn no_message_passes_for_a_line_of_the_log_or_steers_a_terminal() {
        let mut line = String::new();
        push_plain(&mut line, "one\n2026-01-01T00:00:00.000Z ERROR forged\r\x1b[2J\u{9b}1m\ttwo\n");
        assert_eq!(line, "one\n    2026-01-01T00:00:00.000Z ERROR forged\\r\\u{1b}[2J\\u{9b}1m\ttwo");
    }
}
