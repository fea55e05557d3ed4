//! A line of JSON for each request at its end, in a file or the program's log.
//!
//! It hears of what has come as far as the plugins: a request without a good key, without JSON or for a model that is not
//! there has no line. Standing first among the plugins it sees each answer last, as the caller gets it; standing behind
//! `redaction` it sees bodies as the provider does. Read `line` for what stands in a line, `file` for where it goes.
//!
//! **Invariants.** I10: bodies stand in a line only if the configuration says so, headers and keys' values never. A write
//! that fails costs the line and not the request. No lock is held while anything is written (I6).

mod file;
mod line;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::config::plugins::RequestLog as Settings;
use crate::metrics::Counter;
use crate::plugin::{Context, Event, EventHook, Flow, Outcome, Plugin, PluginError, Request};
use crate::sync::locks::{Leaf, classes};
use crate::time::{now, unix_ms};
use file::LogFile;
use line::{Asked, Line};

/// What lines are called in the program's log.
const TARGET: &str = "sluicegate::requests";

/// A line for each request.
#[derive(Debug)]
pub(crate) struct RequestLog {
    file: Option<LogFile>,
    /// How many bytes of a body stand in a line.
    bodies: Option<usize>,
    written: Counter,
    failed: Counter,
    /// Whether the last write failed: a file system that is full is told of once, not with each request.
    failing: AtomicBool,
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
    /// If the file cannot be opened.
    pub(crate) fn new(settings: &Settings) -> Result<Self, PluginError> {
        let open = |path: &std::path::PathBuf| {
            LogFile::open(path).map_err(|error| format!("{} (path): {error}", path.display()))
        };
        Ok(Self {
            file: settings.path.as_ref().map(open).transpose()?,
            bodies: settings.bodies,
            written: Counter::new(),
            failed: Counter::new(),
            failing: AtomicBool::new(false),
        })
    }

    fn write(&self, line: &Line<'_>) -> Result<(), PluginError> {
        let Some(file) = &self.file else {
            if log::log_enabled!(target: TARGET, log::Level::Info) {
                log::info!(target: TARGET, "{}", serde_json::to_string(line)?);
                self.written.inc();
            }
            return Ok(());
        };
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        match file.append(&text) {
            Ok(()) => {
                self.written.inc();
                self.failing.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                self.failed.inc();
                if self.failing.swap(true, Ordering::Relaxed) {
                    return Ok(());
                }
                Err(format!("lines are lost from here on: {error}").into())
            }
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
        let heard = kept.as_ref().and_then(|kept| kept.heard.as_ref()).map(|heard| std::mem::take(&mut *heard.lock()));
        let asked = kept.map(|kept| kept.asked).unwrap_or_default();
        let took = now().saturating_duration_since(context.arrived());
        self.write(&Line::of(outcome, context, &asked, heard, self.bodies, unix_ms(), took))
    }

    fn stats(&self) -> Option<Value> {
        Some(json!({ "written_total": self.written, "failed_total": self.failed }))
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
