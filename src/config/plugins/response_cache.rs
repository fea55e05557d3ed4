//! `plugins`: the settings of `response_cache`.

use crate::config::section::Section;

/// Answers kept for requests that come again.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ResponseCache {}

/// Reads its `config`.
pub(super) fn read(_: &mut Section<'_>) -> ResponseCache {
    ResponseCache {}
}
