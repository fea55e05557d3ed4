//! The built-in plugins, each small and configured in `plugins`.

mod accounting;
mod rate_limit;
mod redaction;
pub(crate) mod request_log;
mod response_cache;
mod used;
mod who;

use std::sync::Arc;

use super::{Plugin, PluginError};
use crate::config::plugins::Plugin as Settings;
use crate::events::Events;
use crate::sync::{QuitSignal, Threads};

/// The plugin that is set so; what it has to tell of goes to `events`, and what it does by
/// itself is done by `threads`. `end` is given when the gateway ends.
///
/// # Errors
/// If what it needs is not to be had, as a file that cannot be opened.
pub(crate) fn make(
    settings: &Settings,
    events: &Events,
    threads: &Threads,
    end: &QuitSignal,
) -> Result<Arc<dyn Plugin>, PluginError> {
    Ok(match settings {
        Settings::RequestLog(settings) => Arc::new(request_log::RequestLog::new(settings, events, threads, end)?),
        Settings::ResponseCache(settings) => Arc::new(response_cache::ResponseCache::new(settings)),
        Settings::Redaction(settings) => Arc::new(redaction::Redaction::new(settings)?),
        Settings::RateLimit(settings) => Arc::new(rate_limit::RateLimit::new(settings)),
        Settings::Accounting(settings) => Arc::new(accounting::Accounting::new(settings, events)?),
    })
}
