//! Tokens and costs by a price table, with budgets.

use crate::config::plugins::Accounting as Settings;
use crate::plugin::Plugin;

/// Tokens and costs by a price table, with budgets.
#[derive(Debug)]
pub(crate) struct Accounting {}

impl Accounting {
    pub(crate) fn new(_: &Settings) -> Self {
        Self {}
    }
}

impl Plugin for Accounting {
    fn name(&self) -> &str {
        "accounting"
    }
}
