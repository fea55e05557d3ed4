//! Limits for each gateway key.

use crate::config::plugins::RateLimit as Settings;
use crate::plugin::Plugin;

/// Limits for each gateway key.
#[derive(Debug)]
pub(crate) struct RateLimit {}

impl RateLimit {
    pub(crate) fn new(_: &Settings) -> Self {
        Self {}
    }
}

impl Plugin for RateLimit {
    fn name(&self) -> &str {
        "rate_limit"
    }
}
