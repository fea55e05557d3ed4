//! Answers kept for requests that come again.

use crate::config::plugins::ResponseCache as Settings;
use crate::plugin::Plugin;

/// Answers kept for requests that come again.
#[derive(Debug)]
pub(crate) struct ResponseCache {}

impl ResponseCache {
    pub(crate) fn new(_: &Settings) -> Self {
        Self {}
    }
}

impl Plugin for ResponseCache {
    fn name(&self) -> &str {
        "response_cache"
    }
}
