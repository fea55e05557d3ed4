//! The built-in plugins, each small and configured in `plugins`.

mod accounting;
mod rate_limit;
mod redaction;
mod request_log;
mod response_cache;

use std::sync::Arc;

use super::Plugin;
use crate::config::plugins::Plugin as Settings;

/// The plugin that is set so.
pub(crate) fn make(settings: &Settings) -> Arc<dyn Plugin> {
    match settings {
        Settings::RequestLog(settings) => Arc::new(request_log::RequestLog::new(settings)),
        Settings::ResponseCache(settings) => Arc::new(response_cache::ResponseCache::new(settings)),
        Settings::Redaction(settings) => Arc::new(redaction::Redaction::new(settings)),
        Settings::RateLimit(settings) => Arc::new(rate_limit::RateLimit::new(settings)),
        Settings::Accounting(settings) => Arc::new(accounting::Accounting::new(settings)),
    }
}
