//! A line for each request, in a file or the log.

use crate::config::plugins::RequestLog as Settings;
use crate::plugin::Plugin;

/// A line for each request, in a file or the log.
#[derive(Debug)]
pub(crate) struct RequestLog {}

impl RequestLog {
    pub(crate) fn new(_: &Settings) -> Self {
        Self {}
    }
}

impl Plugin for RequestLog {
    fn name(&self) -> &str {
        "request_log"
    }
}
