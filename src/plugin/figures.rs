//! What is counted of one plugin: `plugins.<name>` in `/stats`.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::metrics::{Counter, Dist, Histogram};

/// The counters of a plugin; they go on through a reload that keeps its name.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) calls: Counter,
    pub(super) errors: Counter,
    pub(super) panics: Counter,
    pub(super) short_circuits: Counter,
    pre_us: Histogram,
    post_us: Histogram,
}

impl Figures {
    pub(super) fn note_pre(&self, took: Duration) {
        self.pre_us.record_micros(took);
    }

    pub(super) fn note_post(&self, took: Duration) {
        self.post_us.record_micros(took);
    }

    pub(super) fn stats(&self, own: Option<Value>) -> PluginStats {
        PluginStats {
            calls_total: self.calls.get(),
            errors_total: self.errors.get(),
            panics_total: self.panics.get(),
            short_circuits_total: self.short_circuits.get(),
            pre_us: self.pre_us.dist().unwrap_or_default(),
            post_us: self.post_us.dist().unwrap_or_default(),
            own,
        }
    }
}

/// `plugins.<name>` in `/stats`.
///
/// ```
/// use sluicegate::Gateway;
/// use sluicegate::plugin::Plugin;
/// use sluicegate::serde_json::{Value, json};
///
/// /// Knows some names.
/// struct Names(Vec<&'static str>);
///
/// impl Plugin for Names {
///     fn name(&self) -> &str {
///         "names"
///     }
///
///     fn stats(&self) -> Option<Value> {
///         Some(json!({ "known": self.0.len() }))
///     }
/// }
///
/// let gateway = Gateway::builder().plugin(Names(vec!["Ada", "Grace"])).build()?;
/// gateway.ask("sim/echo", "Hello")?;
/// let names = &gateway.stats().plugins["names"];
/// assert_eq!((names.calls_total, names.errors_total, names.panics_total), (1, 0, 0));
/// assert_eq!(names.own, Some(json!({ "known": 2 })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PluginStats {
    /// Requests whose `pre` was called.
    pub calls_total: u64,
    /// Hooks that failed.
    pub errors_total: u64,
    /// Hooks that panicked.
    pub panics_total: u64,
    /// Requests that it answered or refused itself, over HTTP included.
    pub short_circuits_total: u64,
    /// How long its `pre` took, without what it waited for.
    pub pre_us: Dist,
    /// How long its `post` took; for a stream with all its events.
    pub post_us: Dist,
    /// Figures of its own, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<Value>,
}
