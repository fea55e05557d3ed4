//! Secrets and personal data taken out of what goes to providers.

use crate::config::plugins::Redaction as Settings;
use crate::plugin::Plugin;

/// Secrets and personal data taken out of what goes to providers.
#[derive(Debug)]
pub(crate) struct Redaction {}

impl Redaction {
    pub(crate) fn new(_: &Settings) -> Self {
        Self {}
    }
}

impl Plugin for Redaction {
    fn name(&self) -> &str {
        "redaction"
    }
}
