//! A line for each request at its end, in a file or the program's log.
//!
//! It hears of what has come as far as the plugins: a request without a good key, without JSON or for a model that is not
//! there has no line. Standing first among the plugins it sees each answer last, as the caller gets it; standing behind
//! `redaction` it sees bodies as the provider does. Read `line` for what stands in a line, `text` for how a person reads it,
//! `sample` for who has one where there are too many, `file` and `aside` for where it goes.
//!
//! **Protocol.** A file is written by a thread of its own, to which lines go through a spool: neither a worker nor a
//! client's thread waits for a disk. The program's log is the `log` crate's; that of the binary is spooled likewise.
//!
//! **Invariants.** I10: bodies stand in a line only if the configuration says so, headers and keys' values never. I4: so many
//! lines and bytes wait to be written; what finds no room is left out, counted and told. A write that fails costs the line
//! and not the request. No lock is held while anything is written (I6).
//!
//! **Shutdown.** The last of the plugin ends the thread behind the last line, and waits for it for a while where the gateway
//! ends. After a reload nobody waits: the last of the plugin is then with a request that has to be answered. A process that ends
//! without dropping it flushes it.

#[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "the binary's logger alone asks for what is here"))]
pub(crate) mod aside;
mod file;
mod line;
mod sample;
mod text;

use std::sync::Arc;
use std::time::Duration;

use log::Level;
use serde_json::{Value, json};

use crate::calendar::Timestamp;
use crate::config::plugins::RequestLog as Settings;
use crate::events::Events;
use crate::metrics::Counter;
use crate::plugin::{Context, Event, EventHook, Flow, Outcome, Plugin, PluginError, Request};
use crate::queue::spool::{Outlet, Spool, spool};
use crate::sync::locks::{Leaf, classes};
use crate::sync::{QuitSignal, Role, Thread, Threads};
use crate::time::{Deadline, Stamp, now, unix_ms};
use file::LogFile;
use line::{Asked, Ended, Line};
use sample::{Kind, LeftOut, Sampler};

/// What lines are called in the program's log.
pub(crate) const TARGET: &str = "sluicegate::requests";

/// Lines that wait for their file, and their bytes.
const MOST_LINES: usize = 4096;
const MOST_BYTES: usize = 4 << 20;

/// How long the last lines have to be written at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How often a trouble that comes and goes is told of.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A line for each request.
#[derive(Debug)]
pub(crate) struct RequestLog {
    file: Option<Filing>,
    /// How many bytes of a body stand in a line.
    bodies: Option<usize>,
    slow_after: Duration,
    sampler: Leaf<Sampler>,
    written: Arc<Written>,
}

/// What became of lines.
#[derive(Debug, Default)]
struct Written {
    written: Counter,
    failed: Counter,
}

/// The words of a stream as they go by, up to a bound. The hook that hears them writes, the request's end reads.
type Heard = Arc<Leaf<Vec<u8>>>;

/// What is kept of a request until its end.
struct Kept {
    asked: Asked,
    heard: Option<Heard>,
}

impl RequestLog {
    /// # Errors
    /// If the file cannot be opened, or there is no thread that writes it.
    pub(crate) fn new(
        settings: &Settings,
        events: &Events,
        threads: &Threads,
        end: &QuitSignal,
    ) -> Result<Self, PluginError> {
        let written = Arc::<Written>::default();
        let open = |path: &std::path::PathBuf| {
            let file = LogFile::open(path).map_err(|error| format!("{} (path): {error}", path.display()))?;
            Filing::start(file, events.clone(), Arc::clone(&written), threads, end.clone())
        };
        Ok(Self {
            file: settings.path.as_ref().map(open).transpose()?,
            bodies: settings.bodies,
            slow_after: settings.slow_after,
            sampler: Leaf::new(&classes::REQUEST_LOG_SAMPLER, Sampler::new(settings.max_lines_per_s as u64)),
            written,
        })
    }

    /// Whether a line of this level goes anywhere.
    fn is_read(&self, level: Level) -> bool {
        self.file.is_some() || log::log_enabled!(target: TARGET, level)
    }

    /// Writes a line; `false` if there is no room for it.
    #[must_use = "what found no room is to be told of"]
    fn write(&self, level: Level, line: &impl Said) -> bool {
        match &self.file {
            Some(file) => file.spool.put((line.json() + "\n").into_bytes()),
            None => {
                let log = || log::log!(target: TARGET, level, "{}", Shown(line));
                let taken = aside::offer(self.bodies.is_some(), log);
                if taken {
                    self.written.written.inc();
                }
                taken
            }
        }
    }

    /// Tells of what was left out; what finds no room is told later.
    fn tell(&self, left_out: Option<LeftOut>) {
        if let Some(left_out) = left_out
            && !self.write(Level::Warn, &left_out)
        {
            self.sampler.lock().untold(left_out);
        }
    }
}

impl Plugin for RequestLog {
    fn name(&self) -> &str {
        "request_log"
    }

    fn pre(&self, request: &mut Request<'_>, context: &mut Context<'_>) -> Result<Flow, PluginError> {
        let asked = Asked::of(request.body(), self.bodies);
        context.set(Kept { asked, heard: None });
        Ok(Flow::Continue)
    }

    fn events(&self, context: &mut Context<'_>) -> Option<Box<dyn EventHook>> {
        let most = self.bodies?;
        let heard: Heard = Arc::new(Leaf::new(&classes::REQUEST_LOG, Vec::new()));
        context.get_mut::<Kept>()?.heard = Some(Arc::clone(&heard));
        Some(Box::new(Listener { heard, most }))
    }

    fn post(&self, outcome: &mut Outcome, context: &mut Context<'_>) -> Result<(), PluginError> {
        let kept = context.take::<Kept>();
        let (ended, level) = Ended::of(outcome);
        if !self.is_read(level) {
            return Ok(());
        }
        let took = now().saturating_duration_since(context.arrived());
        let kind = match ended {
            Ended::Succeeded if took < self.slow_after => Kind::Plain,
            Ended::Succeeded => Kind::Slow,
            Ended::Failed | Ended::Cancelled => Kind::Failed,
        };
        let (has_line, left_out) = self.sampler.lock().admit(kind, Stamp::now().micros());
        self.tell(left_out);
        if has_line {
            let heard = kept.as_ref().and_then(|kept| kept.heard.as_ref());
            let heard = heard.map(|heard| std::mem::take(&mut *heard.lock()));
            let asked = kept.map(|kept| kept.asked).unwrap_or_default();
            let line = Line::of(outcome, context, &asked, heard, self.bodies, unix_ms(), took);
            if !self.write(level, &line) {
                self.sampler.lock().refused();
            }
        }
        Ok(())
    }

    /// Asked once a second: a second that is over is told of though no request comes.
    fn stats(&self) -> Option<Value> {
        let (left_out, total) = {
            let mut sampler = self.sampler.lock();
            (sampler.over(Stamp::now().micros()), sampler.total())
        };
        self.tell(left_out);
        Some(json!({
            "written_total": self.written.written,
            "failed_total": self.written.failed,
            "left_out_total": total.sum(),
            "left_out": total,
        }))
    }

    fn flush(&self, until: Deadline) {
        let left_out = self.sampler.lock().rest();
        self.tell(left_out);
        if let Some(file) = &self.file {
            file.spool.flush(until);
        }
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let left_out = self.sampler.lock().rest();
        self.tell(left_out);
    }
}

/// What stands in a line, in its two forms.
trait Said {
    /// An object of JSON.
    fn json(&self) -> String;

    /// A line for a person, behind its time and level.
    fn text(&self, colours: bool, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result;
}

/// A line in the form that whoever logs it asks for.
struct Shown<'a, T>(&'a T);

impl<T: Said> std::fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match aside::form() {
            aside::Form::Json => f.write_str(&self.0.json()),
            aside::Form::Text { colours } => self.0.text(colours, f),
        }
    }
}

impl Said for LeftOut {
    fn json(&self) -> String {
        let time = Timestamp::at(unix_ms());
        json!({ "time": time.as_str(), "left_out": self, "message": self.to_string() }).to_string()
    }

    fn text(&self, _: bool, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// The file, and the thread that writes it. Field order is drop order: the spool's end ends the thread.
struct Filing {
    spool: Spool,
    last: LastLines,
}

impl Filing {
    fn start(
        file: LogFile,
        events: Events,
        written: Arc<Written>,
        threads: &Threads,
        end: QuitSignal,
    ) -> Result<Self, PluginError> {
        let (spool, drain) = spool(MOST_LINES, MOST_BYTES);
        let mut clerk = Clerk { file, events, written, lost: Trouble::default(), astray: Trouble::default() };
        let thread = threads.service(Role::Watchdog, "request log", move || drain.run(&mut clerk))?;
        Ok(Self { spool, last: LastLines { thread: Some(thread), end } })
    }
}

impl std::fmt::Debug for Filing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Filing").field(&self.last.thread).finish()
    }
}

/// Waits for the last lines when it is dropped at the gateway's end.
struct LastLines {
    thread: Option<Thread>,
    end: QuitSignal,
}

impl Drop for LastLines {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take()
            && self.end.given()
            && thread.join(Deadline::after(LAST_LINES)).is_err()
        {
            log::warn!("plugin request_log: the last lines were not written within {LAST_LINES:?}; its disk is slow");
        }
    }
}

/// Writes lines into the file.
struct Clerk {
    file: LogFile,
    events: Events,
    written: Arc<Written>,
    /// Lines cannot be written.
    lost: Trouble,
    /// The path cannot be followed, which costs no line.
    astray: Trouble,
}

impl Clerk {
    fn tell(&self, text: String) {
        log::warn!("plugin request_log: {text}");
        self.events.push("plugin", "request_log", text);
    }
}

impl Outlet for Clerk {
    fn line(&mut self, line: &[u8]) {
        let now = Stamp::now();
        match self.file.follow(now) {
            Some(Err(error)) if self.astray.is_news(now) => {
                let stays = "its path cannot be opened anew, and lines go to the file that was there";
                self.tell(format!("{stays}: {error}"));
            }
            Some(Ok(())) => self.astray.end(),
            Some(Err(_)) | None => {}
        }
        match self.file.append(line) {
            Ok(()) => {
                self.written.written.inc();
                self.lost.end();
            }
            Err(error) => {
                self.written.failed.inc();
                if self.lost.is_news(now) {
                    self.tell(format!("lines are lost from here on: {error}"));
                }
            }
        }
    }

    fn rest(&mut self) {}
}

/// A trouble that is told of once while it lasts; one that comes and goes, as where a disk is all but full, once in a while.
#[derive(Debug, Default)]
struct Trouble {
    is_told: bool,
    /// When it was last told of.
    told: Option<Stamp>,
}

impl Trouble {
    /// It is there: whether that is to be told.
    fn is_news(&mut self, now: Stamp) -> bool {
        let since = |told: Stamp| Duration::from_micros(now.micros().saturating_sub(told.micros()));
        let is_news = !self.is_told && self.told.is_none_or(|told| since(told) >= TELL_EVERY);
        if is_news {
            (self.is_told, self.told) = (true, Some(now));
        }
        is_news
    }

    /// It is not there any more.
    fn end(&mut self) {
        self.is_told = false;
    }
}

/// Hears the events of one stream.
struct Listener {
    heard: Heard,
    most: usize,
}

impl EventHook for Listener {
    fn event(&mut self, event: &mut Event<'_>) -> Result<(), PluginError> {
        let mut heard = self.heard.lock();
        let room = self.most.saturating_sub(heard.len());
        let separator: &[u8] = if heard.is_empty() { b"" } else { b"\n" };
        heard.extend(separator.iter().chain(event.data()).take(room));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{TryRecvError, bounded};

    use super::*;
    use crate::sync::Quit;

    #[test]
    fn a_trouble_is_told_once_while_it_lasts_and_seldom_where_it_comes_and_goes() {
        // Stamps count from the first that is taken, which may be one of these.
        let begun = now() + TELL_EVERY;
        let at = |tenths: u32| Stamp::at(begun + TELL_EVERY * tenths / 10);
        let mut lasting = Trouble::default();
        assert_eq!((0..100).filter(|n| lasting.is_news(at(*n))).collect::<Vec<_>>(), [0]);
        let mut flipping = Trouble::default();
        let is_told = |n: &u32| {
            flipping.end();
            flipping.is_news(at(*n))
        };
        assert_eq!((0..30).filter(is_told).collect::<Vec<_>>(), [0, 10, 20]);
        assert!(flipping.is_news(at(30)) && !flipping.is_news(at(45)), "what stays is told of in the end");
    }

    #[test]
    fn a_flush_has_every_line_and_what_was_left_out_in_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("requests.log");
        let slow_after = Duration::from_secs(30);
        let settings = Settings { path: Some(path.clone()), bodies: None, max_lines_per_s: 1000, slow_after };
        let (threads, quit) = (Threads::new(8, 1 << 20), Quit::new());
        let log = RequestLog::new(&settings, &Events::default(), &threads, &quit.watch()).expect("it opens");
        for count in 1..100 {
            let left_out = LeftOut { failed: count, ..LeftOut::default() };
            log.sampler.lock().untold(left_out);
            log.flush(Deadline::after(Duration::from_secs(5)));
            let lines = std::fs::read_to_string(&path).expect("it is there");
            assert_eq!(lines.lines().count() as u64, count, "{lines}");
        }
    }

    #[test]
    fn the_last_lines_are_waited_for_at_the_gateways_end_and_not_before() {
        let (threads, mut quit) = (Threads::new(8, 1 << 20), Quit::new());
        let last = |end| {
            let (open, gate) = bounded::<()>(1);
            let work = move || gate.recv().unwrap_or_default();
            let thread = threads.spawn(Role::Watchdog, "request log", work).expect("room");
            let done = thread.done().clone();
            (open, done, LastLines { thread: Some(thread), end })
        };
        let (_open, done, lines) = last(quit.watch());
        let begun = now();
        drop(lines);
        assert!(now().saturating_duration_since(begun) < LAST_LINES / 2, "it was waited for");
        assert_eq!(done.try_recv(), Err(TryRecvError::Empty), "it goes on");
        quit.signal();
        let (open, done, lines) = last(quit.watch());
        drop(open);
        drop(lines);
        assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected), "it is over");
    }
}
